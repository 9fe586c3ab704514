/* Subjects of files and directories: one more attribute, whose name no program can say. */
#include <errno.h>
#include <string.h>

#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

int subjects_read(const struct xattr_owner *o, struct subjects **ret)
{
	uint8_t bytes[SUBJECTS_STORED_MAX];
	int n = xattr_get(o, SUBJECTS_ATTR, bytes, sizeof(bytes));

	*ret = NULL;
	if (n == -ENODATA)
		return 0;
	if (n == -ERANGE)
		return store_damage("xattr");
	if (n < 0)
		return n;
	n = subjects_decode(bytes, (size_t)n, ret);
	return n == -EBADMSG ? store_damage("xattr") : n;
}

static int write_them(const struct xattr_owner *o, const struct subjects *s)
{
	uint8_t bytes[SUBJECTS_STORED_MAX];
	int r;

	if (subjects_is_empty(s)) {
		r = xattr_remove(o, SUBJECTS_ATTR);
		return r == -ENODATA ? 0 : r;
	}
	return xattr_set(o, SUBJECTS_ATTR, bytes, subjects_encode(s, bytes), 0);
}

/* One of them, or all of `more`. */
struct change {
	const char *id;
	size_t n;
	bool remove;
	const struct subjects *more;
};

/* *s: as it is now.  1: changed. */
static int apply(const struct xattr_owner *o, const struct change *c, struct subjects **s)
{
	int r = subjects_read(o, s), changed;

	if (r < 0)
		return r;
	if (c->more)
		changed = subjects_add_all(s, c->more, SUBJECTS_BYTES_MAX);
	else if (c->remove)
		changed = *s && subjects_remove(*s, c->id, c->n);
	else
		changed = subjects_add(s, c->id, c->n, SUBJECTS_BYTES_MAX);
	if (changed <= 0)
		return changed;
	r = write_them(o, *s);
	return r < 0 ? r : 1;
}

/* ---- directories ---- */

static void owner_of(const struct store_dir *d, struct xattr_keys *keys, struct xattr_owner *ret)
{
	xattr_keys_of_dir(&d->keys->name, keys);
	ret->fd = d->fd;
	ret->keys = keys;
	place_dir_bytes(&d->id, ret->id);
}

int dir_all_subjects(const struct store_dir *d, struct subjects **ret)
{
	scoped(subjects_freep) struct subjects *all = NULL;
	int r = subjects_add_all(&all, d->above, SUBJECTS_UNION_MAX);

	if (r >= 0)
		r = subjects_add_all(&all, d->own, SUBJECTS_UNION_MAX);
	if (r < 0)
		return r;
	*ret = take_ptr(&all);
	return 0;
}

int dir_load_subjects(struct store_dir *d, const struct store_dir *parent)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	struct xattr_owner o;
	int r = parent ? dir_all_subjects(parent, &d->above) : 0;

	if (r < 0)
		return r;
	d->bad_subjects = parent && parent->bad_subjects;
	owner_of(d, &keys, &o);
	r = subjects_read(&o, &d->own);
	if (r != -EBADMSG)
		return r;
	d->bad_subjects = true; /* what is in it can be read; a search says that it does not know whose it is */
	return 0;
}

int store_dir_subjects(const struct store_dir *d, struct subjects **own, struct subjects **above)
{
	scoped(subjects_freep) struct subjects *mine = NULL, *others = NULL;
	int r = d->bad_subjects ? store_damage("xattr") : subjects_add_all(&mine, d->own, SUBJECTS_UNION_MAX);

	if (r >= 0)
		r = subjects_add_all(&others, d->above, SUBJECTS_UNION_MAX);
	if (r < 0)
		return r;
	*own = take_ptr(&mine);
	*above = take_ptr(&others);
	return 0;
}

bool store_dir_is_labelled(const struct store_dir *d)
{
	return !subjects_is_empty(d->own) || !subjects_is_empty(d->above);
}

static int dir_change(struct store_dir *d, const struct change *c)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	scoped(subjects_freep) struct subjects *now = NULL;
	struct xattr_owner o;
	int r;

	owner_of(d, &keys, &o);
	r = apply(&o, c, &now);
	if (r > 0) {
		subjects_free(d->own);
		d->own = take_ptr(&now);
	}
	return r;
}

int store_dir_subject_set(struct store_dir *d, const char *id, size_t n, bool remove)
{
	const struct change c = {.id = id, .n = n, .remove = remove};

	return subject_id_ok(id, n) ? dir_change(d, &c) : -EINVAL;
}

int dir_add_subjects(struct store_dir *d, const struct subjects *s)
{
	const struct change c = {.more = s};
	int r = subjects_is_empty(s) ? 0 : dir_change(d, &c);

	return r < 0 ? r : 0;
}

/* ---- files ---- */

int file_subjects(struct file *f, struct subjects **ret)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	struct xattr_owner o;
	int r = 0;

	*ret = NULL;
	pthread_rwlock_rdlock(&f->lock);
	if (f->has_header) {
		file_xattr_owner(f, &keys, &o);
		r = subjects_read(&o, ret);
	}
	pthread_rwlock_unlock(&f->lock);
	return r;
}

static int file_change(struct file *f, const struct change *c)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	scoped(subjects_freep) struct subjects *now = NULL;
	struct xattr_owner o;
	int r;

	pthread_rwlock_wrlock(&f->lock);
	/* An attribute needs no descriptor that may write: what is read-only there moves, too, and must not lose a label. */
	if (f->has_header || c->remove)
		r = 0;
	else
		r = f->writable ? file_need_header(f, 0) : -EROFS;
	if (r == 0 && f->has_header) {
		file_xattr_owner(f, &keys, &o);
		r = apply(&o, c, &now);
	}
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_subject_set(struct file *f, const char *id, size_t n, bool remove)
{
	const struct change c = {.id = id, .n = n, .remove = remove};

	return subject_id_ok(id, n) ? file_change(f, &c) : -EINVAL;
}

int file_add_subjects(struct file *f, const struct subjects *s)
{
	const struct change c = {.more = s};
	int r = subjects_is_empty(s) ? 0 : file_change(f, &c);

	return r < 0 ? r : 0;
}

int file_inherit_subjects(struct file *f, struct file *replaced, bool both)
{
	scoped(subjects_freep) struct subjects *theirs = NULL, *ours = NULL;
	int r = file_subjects(replaced, &theirs);

	if (r == 0 && both)
		r = file_subjects(f, &ours);
	if (r == -EBADMSG)
		return 0; /* replacing it is the cure, there is nothing to inherit */
	if (r == 0)
		r = file_add_subjects(f, theirs);
	return r == 0 ? file_add_subjects(replaced, ours) : r;
}

/* ---- what leaves a directory ---- */

int subjects_missing(const struct store_dir *from, const struct store_dir *to, struct subjects **ret)
{
	scoped(subjects_freep) struct subjects *there = NULL, *lost = NULL;
	const struct subjects *const sets[] = {from->above, from->own};
	size_t n;
	const char *id;
	int r = dir_all_subjects(to, &there);

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		for (size_t at = 0; r >= 0 && subjects_next(sets[i], &at, &id, &n);)
			if (!subjects_has(there, id, n))
				r = subjects_add(&lost, id, n, SUBJECTS_UNION_MAX);
	if (r < 0)
		return r;
	*ret = take_ptr(&lost);
	return 0;
}

int subjects_stick(const struct store_dir *d, const struct store_dir *to, struct store_dir *sub, struct file *f)
{
	scoped(subjects_freep) struct subjects *lost = NULL;
	int r;

	if (!store_dir_is_labelled(d) || dir_is(d, to))
		return 0;
	r = subjects_missing(d, to, &lost);
	if (r < 0 || !lost)
		return r;
	if (f)
		return file_add_subjects(f, lost);
	return sub ? dir_add_subjects(sub, lost) : 0;
}
