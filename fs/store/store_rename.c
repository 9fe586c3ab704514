/* Renames.  Everything that must be true in the new place is written before the one renameat2 that moves;
 * what was true only in the old place goes after it.  A crash anywhere leaves two places that both fit. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

struct end { /* one of the two names */
	struct store_dir *dir;
	const char *text;
	struct name_entry name;
	bool there;
	struct stat st;
	struct file *file;
	struct store_dir *sub; /* when it is a directory that moves */
	struct timespec modified; /* sub's time, which our entries in it must not change */
	struct link_side side;
};

static void end_done(struct end *e)
{
	file_close(e->file);
	store_dir_unref(e->sub);
}

static int end_init(struct end *e, struct store_dir *d, const char *name)
{
	int r;

	e->dir = d;
	e->text = name;
	r = name_seal(&d->keys->name, name, &e->name);
	if (r < 0)
		return r;
	e->there = fstatat(d->fd, e->name.entry, &e->st, AT_SYMLINK_NOFOLLOW) == 0;
	if (!e->there && errno != ENOENT)
		return -errno;
	return 0;
}

/* Makes `e` fit the place of `to` as well. */
static int prepare_move(struct end *e, const struct end *to)
{
	const char *entry = e->name.entry, *new_entry = to->name.entry;
	int r;

	if (S_ISREG(e->st.st_mode)) {
		r = file_open_entry(e->dir, entry, &e->file);
		if (r == 0)
			r = subjects_stick(e->dir, to->dir, NULL, e->file);
		return r < 0 ? r : file_move(e->file, e->dir, entry, to->dir, new_entry);
	}
	if (S_ISDIR(e->st.st_mode)) {
		r = dir_open_entry(e->dir, entry, &e->sub);
		if (r < 0)
			return r;
		e->modified = e->st.st_mtim;
		r = subjects_stick(e->dir, to->dir, e->sub, NULL);
		if (r < 0)
			return r;
		return dir_write_id(e->sub->fd, DIR_ID_NEW, &to->dir->keys->place, &e->sub->id, new_entry);
	}
	if (!S_ISLNK(e->st.st_mode))
		return 0;
	r = link_side_of(e->dir, entry, &e->side);
	return r < 0 ? r : link_side_copy(&e->side, e->dir, to->dir);
}

static void put_time_back(struct end *e)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, e->modified};

	(void)futimens(e->sub->fd, times);
}

static void finish_move(struct end *e, const struct end *to)
{
	mode_t mode;

	if (e->sub) {
		backing_relax(e->sub->fd, &mode);
		/* When it fails, the next opening does it. */
		(void)renameat(e->sub->fd, DIR_ID_NEW, e->sub->fd, DIR_ID);
		put_time_back(e);
		backing_restore(e->sub->fd, mode);
	}
	if (!dir_is(e->dir, to->dir))
		link_side_drop(&e->side, e->dir);
}

static void undo_move(struct end *e, const struct end *to)
{
	mode_t mode;

	if (e->sub) {
		backing_relax(e->sub->fd, &mode);
		(void)unlinkat(e->sub->fd, DIR_ID_NEW, 0);
		put_time_back(e);
		backing_restore(e->sub->fd, mode);
	}
	if (!dir_is(e->dir, to->dir))
		link_side_drop(&e->side, to->dir);
}

static int check_kinds(const struct end *from, const struct end *to, unsigned flags)
{
	bool dir = S_ISDIR(from->st.st_mode);

	if (!from->there)
		return -ENOENT;
	if (flags == RENAME_EXCHANGE)
		return to->there ? 0 : -ENOENT;
	if (!to->there)
		return 0;
	if (flags == RENAME_NOREPLACE)
		return -EEXIST;
	if (dir && !S_ISDIR(to->st.st_mode))
		return -ENOTDIR;
	return !dir && S_ISDIR(to->st.st_mode) ? -EISDIR : 0;
}

static int exchange(struct end *from, struct end *to)
{
	int r;

	r = prepare_move(from, to);
	if (r == 0)
		r = prepare_move(to, from);
	if (r == 0 && from->file && to->file)
		r = file_inherit_subjects(from->file, to->file, true);
	if (r == 0 &&
		renameat2(from->dir->fd, from->name.entry, to->dir->fd, to->name.entry, RENAME_EXCHANGE) < 0)
		r = -errno;
	if (r < 0) {
		undo_move(from, to);
		undo_move(to, from);
		return r;
	}
	finish_move(from, to);
	finish_move(to, from);
	return 0;
}

/* Opens what is replaced, as far as it matters afterwards. */
static int prepare_replaced(struct end *from, struct end *to, struct dir_removal *removal)
{
	int r;

	if (!to->there)
		return 0;
	if (S_ISDIR(to->st.st_mode))
		return dir_prepare_removal(to->dir, to->name.entry, removal);
	if (S_ISLNK(to->st.st_mode))
		return link_side_of(to->dir, to->name.entry, &to->side);
	if (!from->file || !S_ISREG(to->st.st_mode) || to->st.st_size == 0)
		return 0;
	r = file_open_entry(to->dir, to->name.entry, &to->file);
	if (r == -EBADMSG || r == -ENOKEY)
		return 0; /* damaged or destroyed: replacing it is the cure, there is nothing to inherit */
	if (r == 0)
		r = file_inherit(from->file, to->file);
	return r < 0 ? r : file_inherit_subjects(from->file, to->file, false);
}

static void note_backup(struct end *from, struct end *to)
{
	struct subjects *subjects = NULL;
	struct header_record origin;
	uint64_t line;

	pthread_rwlock_rdlock(&from->file->lock);
	origin = from->file->h.rec;
	line = header_line(&from->file->h);
	pthread_rwlock_unlock(&from->file->lock);
	origin.line = store_is_held(from->dir->store, line) ? line : 0;
	(void)file_subjects(from->file, &subjects);
	tunnel_note(from->dir, from->text, from->name.entry, to->dir, to->text, &origin, subjects);
}

static int replace(struct end *from, struct end *to, unsigned flags)
{
	struct dir_removal removal = {.fd = -1};
	int r;

	r = dir_write_side(to->dir, &to->name);
	if (r == 0)
		r = prepare_move(from, to);
	if (r == 0)
		r = prepare_replaced(from, to, &removal);
	if (r == 0 && renameat2(from->dir->fd, from->name.entry, to->dir->fd, to->name.entry, flags) < 0)
		r = -errno;
	if (r < 0) {
		dir_undo_removal(&removal);
		undo_move(from, to);
		return r;
	}
	dir_removal_done(&removal);
	if (from->file)
		note_backup(from, to);
	finish_move(from, to);
	link_side_drop(&to->side, to->dir);
	if (to->file && to->st.st_nlink == 1)
		to->file->nameless = true; /* names change one at a time: nobody else looks at this now */
	dir_drop_side(from->dir, from->name.entry);
	return 0;
}

int store_rename(
	struct store_dir *d, const char *name, struct store_dir *to_dir, const char *new_name, unsigned flags)
{
	scoped(end_done) struct end from = {0};
	scoped(end_done) struct end to = {0};
	int r;

	if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE)
		return -EINVAL;
	r = end_init(&from, d, name);
	if (r == 0)
		r = end_init(&to, to_dir, new_name);
	if (r == 0)
		r = check_kinds(&from, &to, flags);
	if (r < 0)
		return r;
	if (to.there && from.st.st_ino == to.st.st_ino)
		return 0; /* two names of one file: POSIX does nothing */
	atomic_fetch_add(&d->store->renames, 1);
	r = flags == RENAME_EXCHANGE ? exchange(&from, &to) : replace(&from, &to, flags);
	atomic_fetch_add(&d->store->renames, 1);
	return r;
}
