/* What stands at an entry: which leaf opens it, what class and day it is of. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>

#include "common/scope.h"
#include "fs/store/backing.h"
#include "fs/store/survey_impl.h"

static int look_file(struct survey *v, struct item *i)
{
	scoped(key32_wipe) struct key32 wrap = {0};
	scoped(key32_wipe) struct key32 content = {0};
	scoped(close_fdp) int fd = -1;
	uint8_t head[HEADER_BYTES];
	struct header h;
	size_t n;
	int r;

	fd = backing_open(i->dir->fd, i->entry, O_RDONLY);
	if (fd < 0)
		return fd;
	if (fstat(fd, &i->st) < 0)
		return -errno;
	if (i->st.st_size == 0)
		return -ENODATA;
	r = backing_read(fd, head, sizeof(head), 0, &n);
	if (r < 0)
		return r;
	if (n < sizeof(head))
		return -EBADMSG;
	if (sodium_is_zero(head, sizeof(head)))
		return -ENODATA;
	if (header_peek(head, &h) < 0)
		return -EBADMSG;
	i->leaf = h.leaf;
	r = keytree_derive(v->store->tree, h.leaf, KEY_USE_WRAP, &wrap);
	if (r == 0)
		r = header_open(head, &wrap, &h, &content);
	if (r < 0)
		return r;
	i->class = h.rec.origin_class;
	i->day = h.rec.origin_day;
	memcpy(i->id, h.id.b, sizeof(i->id));
	i->line = header_line(&h);
	if (v->opt->subject)
		survey_whose_file(v, fd, &content, i);
	if (v->opt->mode == SURVEY_LABELS)
		survey_labels_file(v, fd, &content, i);
	return 0;
}

/* Its leaf stands there in clear: only what opens under it says that it is its own. */
static int look_link(struct survey *v, struct item *i)
{
	char target[LINK_TARGET_MAX + 1];
	int r = link_leaf(i->dir, i->entry, &i->leaf);

	if (r == 0 && !keytree_holds(v->store->tree, i->leaf))
		r = -ENOKEY;
	if (r == 0)
		r = link_read(i->dir, i->entry, target);
	i->class = i->leaf.class;
	i->day = i->leaf.day;
	return r;
}

/* What somebody with the disk copied to where it is to be erased is no second name of it: else its key would go. */
static int is_at_its_place(const struct item *i)
{
	char name[NAME_MAX_BYTES + 1];
	struct file *f;
	int r = file_open_entry(i->dir, i->entry, &f);

	if (r < 0)
		return r;
	file_close(f);
	/* Of several links no place is known, but a name of this directory only this directory's key makes. */
	return dir_entry_name(i->dir, i->entry, name);
}

/* Under the lock for names.  -ENODATA: it has no key. */
int survey_look(struct survey *v, struct item *i)
{
	if (fstatat(i->dir->fd, i->entry, &i->st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	for (size_t k = 0; k < v->opt->keep_n; k++)
		i->kept |= v->keep[k] == i->st.st_ino;
	if (S_ISDIR(i->st.st_mode)) {
		i->kind = 'd';
		return 0;
	}
	i->kind = S_ISREG(i->st.st_mode) ? 'f' : S_ISLNK(i->st.st_mode) ? 'l' : 'o';
	if (v->linking && i->st.st_nlink < 2)
		return -ENODATA;
	if (v->opt->subject)
		i->whose = survey_whose_dir(v, i->dir);
	if (i->kind == 'f') {
		int r = look_file(v, i);
		bool taken = v->opt->subject ? i->whose != 0 : v->opt->mode == SURVEY_ERASE;

		return r == 0 && !v->second && taken ? is_at_its_place(i) : r;
	}
	if (v->opt->subject && i->st.st_nlink > 1)
		survey_whose_linked(v, i);
	return i->kind == 'l' ? look_link(v, i) : -ENODATA;
}
