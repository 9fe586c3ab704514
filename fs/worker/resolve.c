#include "fs/worker/resolve.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/types.h>

#include "common/scope.h"
#include "fs/store/file.h"

#define STRIPES 64u
#define DIRS_MAX 256u /* open directories kept: a descriptor each */

DEFINE_SCOPED(struct store_dir *, store_dir_unref)

struct resolver {
	struct store *store;
	struct inode_table *inodes;
	pthread_mutex_t stripes[STRIPES];
	pthread_mutex_t dirs_lock;
	struct inode *newest, *oldest;
	unsigned dirs;
};

static void inode_gone(struct inode *i, void *arg)
{
	resolve_dir_drop(arg, i);
}

int resolve_new(struct store *s, struct inode_table *t, struct resolver **ret)
{
	struct resolver *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->store = s;
	b->inodes = t;
	for (unsigned n = 0; n < STRIPES; n++)
		pthread_mutex_init(&b->stripes[n], NULL);
	pthread_mutex_init(&b->dirs_lock, NULL);
	inode_table_on_free(t, inode_gone, b);
	*ret = b;
	return 0;
}

void resolve_free(struct resolver *b)
{
	if (!b)
		return;
	while (b->oldest)
		resolve_dir_drop(b, b->oldest);
	for (unsigned n = 0; n < STRIPES; n++)
		pthread_mutex_destroy(&b->stripes[n]);
	pthread_mutex_destroy(&b->dirs_lock);
	free(b);
}

static pthread_mutex_t *stripe_lock(struct resolver *b, const struct inode *i)
{
	pthread_mutex_t *m = &b->stripes[i->index % STRIPES];

	pthread_mutex_lock(m);
	return m;
}

/* ---- directories; the list is under dirs_lock ---- */

static void list_remove(struct resolver *b, struct inode *i)
{
	*(i->lru_prev ? &i->lru_prev->lru_next : &b->newest) = i->lru_next;
	*(i->lru_next ? &i->lru_next->lru_prev : &b->oldest) = i->lru_prev;
	i->lru_prev = i->lru_next = NULL;
}

static void list_add(struct resolver *b, struct inode *i)
{
	i->lru_next = b->newest;
	*(b->newest ? &b->newest->lru_prev : &b->oldest) = i;
	b->newest = i;
}

static struct store_dir *cache_take_out(struct resolver *b, struct inode *i)
{
	struct store_dir *d = i->dir;

	if (!d)
		return NULL;
	list_remove(b, i);
	i->dir = NULL;
	b->dirs--;
	return d;
}

void resolve_dir_drop(struct resolver *b, struct inode *dir)
{
	struct store_dir *d;

	pthread_mutex_lock(&b->dirs_lock);
	d = cache_take_out(b, dir);
	pthread_mutex_unlock(&b->dirs_lock);
	store_dir_unref(d);
}

static struct store_dir *cache_get(struct resolver *b, struct inode *i)
{
	struct store_dir *d = NULL;

	pthread_mutex_lock(&b->dirs_lock);
	if (i->dir) {
		d = store_dir_ref(i->dir);
		if (b->newest != i) {
			list_remove(b, i);
			list_add(b, i);
		}
	}
	pthread_mutex_unlock(&b->dirs_lock);
	return d;
}

static void cache_put(struct resolver *b, struct inode *i, struct store_dir *d)
{
	struct store_dir *old = NULL;

	pthread_mutex_lock(&b->dirs_lock);
	if (!i->dir) {
		i->dir = store_dir_ref(d);
		list_add(b, i);
		b->dirs++;
		if (b->dirs > DIRS_MAX)
			old = cache_take_out(b, b->oldest);
	}
	pthread_mutex_unlock(&b->dirs_lock);
	store_dir_unref(old);
}

static int dir_open(struct resolver *b, struct inode *dir, struct store_dir **ret)
{
	scoped(store_dir_unrefp) struct store_dir *parent = NULL;
	const char *name;
	int r;

	if (dir->index == INODE_ROOT)
		return store_dir_root(b->store, ret);
	r = resolve_name(b, dir, &parent, &name);
	if (r < 0)
		return r;
	return store_dir_open(parent, name, ret);
}

/* Recursion is as deep as the tree: a frame is small, and a path has at most 4096 bytes per step of the
 * kernel, but a deep tree can be walked step by step; so the depth is bounded here. */
#define DEPTH_MAX 2048

static int depth_check(struct resolver *b, const struct inode *dir)
{
	unsigned depth = 0;

	for (const struct dentry *d = inode_name(b->inodes, dir); d; d = inode_name(b->inodes, d->parent)) {
		if (++depth > DEPTH_MAX)
			return -ENAMETOOLONG;
	}
	return 0;
}

int resolve_dir(struct resolver *b, struct inode *dir, struct store_dir **ret)
{
	struct store_dir *d;
	int r;

	if (!S_ISDIR(atomic_load(&dir->mode)))
		return -ENOTDIR;
	d = cache_get(b, dir);
	if (!d) {
		r = depth_check(b, dir);
		if (r == 0)
			r = dir_open(b, dir, &d);
		if (r < 0)
			return r;
		cache_put(b, dir, d);
	}
	*ret = d;
	return 0;
}

int resolve_name(struct resolver *b, struct inode *i, struct store_dir **ret, const char **ret_name)
{
	const struct dentry *d = inode_name(b->inodes, i);
	int r;

	if (!d)
		return -ESTALE;
	r = resolve_dir(b, d->parent, ret);
	if (r == 0)
		*ret_name = d->name;
	return r;
}

/* ---- files ---- */

/* What has no name any more is as it was, with no links. */
static int stat_gone(const struct inode *i, int r, struct stat *ret)
{
	if (r != -ESTALE || !i->last)
		return r;
	*ret = *i->last;
	ret->st_mode = atomic_load(&i->mode);
	return 0;
}

int resolve_stat(struct resolver *b, struct inode *i, struct stat *ret)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	mode_t mode = atomic_load(&i->mode);
	pthread_mutex_t *m;
	const char *name;
	int r;

	if (S_ISDIR(mode)) {
		r = resolve_dir(b, i, &d);
		return r < 0 ? stat_gone(i, r, ret) : store_dir_stat(d, ret);
	}
	/* The stripe: so that the file is not between closed and its size written where the name shows it. */
	m = stripe_lock(b, i);
	if (i->file) {
		r = file_stat(i->file, ret);
	} else {
		r = resolve_name(b, i, &d, &name);
		if (r == 0)
			r = store_lookup(d, name, ret);
	}
	pthread_mutex_unlock(m);
	return r < 0 ? stat_gone(i, r, ret) : r;
}

int resolve_file_get(struct resolver *b, struct inode *i, struct file **ret)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	pthread_mutex_t *m;
	const char *name;
	int r = 0;

	if (!S_ISREG(atomic_load(&i->mode)))
		return S_ISDIR(atomic_load(&i->mode)) ? -EISDIR : -EINVAL;
	m = stripe_lock(b, i);
	if (!i->file) {
		r = resolve_name(b, i, &d, &name);
		if (r == 0)
			r = file_open(d, name, &i->file);
	}
	if (r == 0) {
		i->file_users++;
		i->written = true;
		*ret = i->file;
	}
	pthread_mutex_unlock(m);
	return r;
}

struct file *resolve_file_peek(struct resolver *b, struct inode *i)
{
	pthread_mutex_t *m = stripe_lock(b, i);
	struct file *f = i->file;

	if (f)
		i->file_users++;
	pthread_mutex_unlock(m);
	return f;
}

struct file *resolve_file_adopt(struct resolver *b, struct inode *i, struct file *f)
{
	pthread_mutex_t *m = stripe_lock(b, i);

	if (i->file)
		file_close(f);
	else
		i->file = f;
	i->file_users++;
	i->written = true;
	f = i->file;
	pthread_mutex_unlock(m);
	return f;
}

bool resolve_file_put(struct resolver *b, struct inode *i)
{
	pthread_mutex_t *m = stripe_lock(b, i);
	bool last = --i->file_users == 0;

	if (last) {
		file_close(i->file);
		i->file = NULL;
	}
	pthread_mutex_unlock(m);
	return last;
}

void resolve_dirs_drop(struct resolver *b)
{
	struct store_dir *d = NULL;

	do {
		pthread_mutex_lock(&b->dirs_lock);
		d = b->oldest ? cache_take_out(b, b->oldest) : NULL;
		pthread_mutex_unlock(&b->dirs_lock);
		store_dir_unref(d);
	} while (d);
}
