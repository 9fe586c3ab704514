#include "fs/store/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/scope.h"
#include "fs/store/file_impl.h"
#include "fs/store/store_impl.h"

#define CHUNK (1u << 20)
#define ATTRIBUTES_MAX 65536
#define BESIDE_TRIES 100

/* A directory that is being gone through. */
struct frame {
	struct frame *up;
	struct store_dir *from, *to, *to_parent;
	struct store_iter *iter;
	uint64_t cookie;
	struct stat st;
	char *path;		/* of then */
	char name[STORE_NAME_MAX + 1];	/* of now, in to_parent */
};

struct restore {
	struct store *from, *to;
	struct restore_options opt;
	struct restore_counts counts;
	struct frame *top;
	struct file *in, *out;	/* the file under way, in directory `dir` under `name` */
	struct store_dir *dir;
	char name[STORE_NAME_MAX + 1], *path, *target;
	struct stat st;
	uint64_t at;
	struct subjects *above;	/* labels that what is restored had of directories above it, and has not where it goes */
	uint8_t *buf;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void lost(struct restore *r, const char *path, int error)
{
	r->counts.lost++;
	r->opt.lost(path, error, error == -EBADMSG ? store_damage_word() : "", r->opt.arg);
}

/* Says that this one thing does not come back; the rest may. */
static bool is_loss(int error)
{
	return error == -ENOKEY || error == -EBADMSG || error == -ENAMETOOLONG || error == -EIO;
}

/* Who is not root keeps what he may give. */
static int forgiven(int error)
{
	return error == -EPERM && geteuid() != 0 ? 0 : error;
}

static char *join(const char *path, const char *name)
{
	char *joined = NULL;

	return asprintf(&joined, "%s%s%s", path, *path ? "/" : "", name) < 0 ? NULL : joined;
}

/* ---- attributes ---- */

static int copy_acls(struct store_dir *from, const char *name, struct store_dir *to, const char *new_name)
{
	static const char *const acls[] = {"system.posix_acl_access", "system.posix_acl_default"};
	uint8_t value[4096];
	int n, e = 0;

	for (size_t i = 0; i < ARRAY_SIZE(acls) && e == 0; i++) {
		n = store_acl_get(from, name, acls[i], value, sizeof(value));
		if (n > 0)
			e = forgiven(store_acl_set(to, new_name, acls[i], value, (size_t)n, 0));
	}
	return e;
}

static int copy_file_attributes(struct restore *r)
{
	char names[ATTRIBUTES_MAX];
	int n = file_listxattr(r->in, names, sizeof(names)), e = n < 0 ? n : 0;

	for (const char *a = names; e == 0 && a < names + n; a += strlen(a) + 1) {
		int size = file_getxattr(r->in, a, r->buf, CHUNK);

		e = size < 0 ? size : file_setxattr(r->out, a, r->buf, (size_t)size, 0);
	}
	if (e == 0)
		e = file_inherit_subjects(r->out, r->in, false);
	if (e == 0 && !r->top)
		e = file_add_subjects(r->out, r->above);
	return e;
}

static int copy_dir_attributes(struct restore *r, const struct frame *f)
{
	char names[ATTRIBUTES_MAX];
	int n = store_listxattr(f->from, NULL, names, sizeof(names)), e = n < 0 ? n : 0;

	for (const char *a = names; e == 0 && a < names + n; a += strlen(a) + 1) {
		int size = store_getxattr(f->from, NULL, a, r->buf, CHUNK);

		e = size < 0 ? size : store_setxattr(f->to, NULL, a, r->buf, (size_t)size, 0);
	}
	if (e == 0)
		e = dir_add_subjects(f->to, f->from->own);
	if (e == 0 && !f->up)
		e = dir_add_subjects(f->to, r->above);
	return e;
}

static int finish_dir(struct restore *r, const struct frame *f)
{
	const struct timespec times[2] = {f->st.st_atim, f->st.st_mtim};
	int e = copy_dir_attributes(r, f);

	if (is_loss(e)) {
		lost(r, f->path, e);
		e = 0;
	}
	if (e == 0)
		e = forgiven(store_chown(f->to_parent, f->name, f->st.st_uid, f->st.st_gid));
	if (e == 0)
		e = copy_acls(f->from, NULL, f->to, NULL);
	if (e == 0)
		e = store_chmod(f->to_parent, f->name, f->st.st_mode & 07777);
	if (e == 0)
		e = store_dir_sync(f->to);
	return e == 0 ? store_utimens(f->to_parent, f->name, times) : e;
}

/* ---- files ---- */

static void close_file(struct restore *r)
{
	file_close(r->in);
	file_close(r->out);
	store_dir_unref(r->dir);
	free(r->path);
	r->in = r->out = NULL;
	r->dir = NULL;
	r->path = NULL;
}

/* A part of a file is no file. */
static int give_up_file(struct restore *r, int error)
{
	int e;

	lost(r, r->path, error);
	file_close(take_ptr(&r->out));
	e = store_unlink(r->dir, r->name);
	close_file(r);
	return e;
}

/* Before it has a header: retention goes on counting from when it did. */
static void keep_origin(struct restore *r)
{
	struct leaf_index leaf;
	uint16_t class, day;

	file_origin(r->in, &leaf, &class, &day);
	if (leaf.class == 0)
		return;
	pthread_rwlock_wrlock(&r->out->lock);
	if (!r->out->has_header) {
		r->out->h.rec.origin_class = class;
		r->out->h.rec.origin_day = day;
	}
	pthread_rwlock_unlock(&r->out->lock);
}

static int finish_file(struct restore *r)
{
	const struct timespec times[2] = {r->st.st_atim, r->st.st_mtim};
	int e = copy_file_attributes(r);

	if (is_loss(e))
		return give_up_file(r, e);
	if (e == 0 && file_size(r->out) < file_size(r->in))
		e = file_truncate(r->out, file_size(r->in));
	if (e == 0)
		e = forgiven(file_chown(r->out, r->st.st_uid, r->st.st_gid));
	if (e == 0)
		e = file_chmod(r->out, r->st.st_mode & 07777);
	if (e == 0)
		e = file_sync(r->out, false);
	if (e == 0)
		e = file_flush(r->out);
	if (e == 0)
		e = file_utimens(r->out, times);
	if (e < 0)
		return e;
	r->counts.files++;
	r->counts.bytes += file_size(r->in);
	close_file(r);
	return 0;
}

static int copy_chunk(struct restore *r)
{
	int64_t data = file_seek(r->in, r->at, SEEK_DATA);
	ssize_t n, put;

	if (data == -ENXIO)
		return finish_file(r);
	if (data < 0)
		return give_up_file(r, (int)data);
	r->at = (uint64_t)data;
	n = file_read(r->in, r->buf, CHUNK, r->at);
	if (n < 0)
		return give_up_file(r, (int)n);
	if (n == 0)
		return finish_file(r);
	put = file_write(r->out, r->buf, (size_t)n, r->at);
	if (put == -ENOKEY)
		return give_up_file(r, -ENOKEY); /* it lived on in another class; its own is destroyed */
	if (put < 0)
		return (int)put;
	r->at += (uint64_t)put;
	return 0;
}

static int begin_file(struct restore *r, struct store_dir *from, const char *name, const struct stat *st,
	struct store_dir *to, const char *new_name, const char *path)
{
	struct file *in = NULL;
	struct stat made;
	int e = file_open(from, name, &in);

	if (e < 0) {
		lost(r, path, e);
		return 0;
	}
	r->in = in;
	r->path = strdup(path);
	e = file_create(to, new_name, 0600, &r->out, &made);
	if (e < 0 || !r->path) {
		close_file(r);
		return e < 0 ? e : -ENOMEM;
	}
	r->dir = store_dir_ref(to);
	snprintf(r->name, sizeof(r->name), "%s", new_name);
	r->st = *st;
	r->at = 0;
	keep_origin(r);
	return copy_acls(from, name, to, new_name);
}

/* ---- other things ---- */

static int restore_link(struct restore *r, struct store_dir *from, const char *name, const struct stat *st,
	struct store_dir *to, const char *new_name, const char *path)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	char target[LINK_TARGET_MAX + 1];
	struct stat made;
	int e = store_readlink(from, name, target, sizeof(target));

	if (e < 0) {
		lost(r, path, e);
		return 0;
	}
	e = store_symlink(to, new_name, target, &made);
	if (e == 0)
		e = forgiven(store_chown(to, new_name, st->st_uid, st->st_gid));
	if (e < 0)
		return e;
	r->counts.files++;
	return store_utimens(to, new_name, times);
}

static int restore_special(struct restore *r, const char *new_name, const struct stat *st, struct store_dir *to)
{
	struct stat made;
	int e = store_mknod(to, new_name, st->st_mode, 0, &made);

	if (e == 0)
		e = forgiven(store_chown(to, new_name, st->st_uid, st->st_gid));
	r->counts.files += e == 0;
	return e;
}

static void frame_free(struct frame *f)
{
	store_iter_free(f->iter);
	store_dir_unref(f->from);
	store_dir_unref(f->to);
	store_dir_unref(f->to_parent);
	free(f->path);
	free(f);
}
DEFINE_SCOPED(struct frame *, frame_free)

static int make_dir(struct restore *r, struct frame *f)
{
	bool labelled = false;
	struct stat made;
	uint16_t class = store_dir_class(f->from, &labelled);
	int e = store_mkdir(f->to_parent, f->name, 0700, &made);

	if (e == 0)
		e = store_dir_open(f->to_parent, f->name, &f->to);
	if (e == 0 && labelled)
		e = store_dir_set_class(f->to, class);
	r->counts.directories += e == 0;
	return e;
}

/* Goes into it; what is in it follows. */
static int begin_dir(struct restore *r, struct store_dir *from, const char *name, const struct stat *st,
	struct store_dir *to, const char *new_name, const char *path)
{
	scoped(frame_freep) struct frame *f = calloc(1, sizeof(*f));
	int e;

	if (!f)
		return -ENOMEM;
	f->path = strdup(path);
	f->st = *st;
	f->to_parent = store_dir_ref(to);
	snprintf(f->name, sizeof(f->name), "%s", new_name);
	e = f->path ? store_dir_open(from, name, &f->from) : -ENOMEM;
	if (is_loss(e)) {
		lost(r, path, e);
		return 0;
	}
	if (e == 0)
		e = store_iter_new(f->from, &f->iter);
	if (e == 0)
		e = make_dir(r, f);
	if (e < 0)
		return e;
	f->up = r->top;
	r->top = take_ptr(&f);
	return 0;
}

static int restore_entry(struct restore *r, struct store_dir *from, const char *name, struct store_dir *to,
	const char *new_name, const char *path)
{
	struct stat st;
	int e = store_lookup(from, name, &st);

	if (e < 0) {
		lost(r, path, e);
		return 0;
	}
	if (S_ISDIR(st.st_mode))
		return begin_dir(r, from, name, &st, to, new_name, path);
	if (S_ISREG(st.st_mode))
		return begin_file(r, from, name, &st, to, new_name, path);
	if (S_ISLNK(st.st_mode))
		return restore_link(r, from, name, &st, to, new_name, path);
	return restore_special(r, new_name, &st, to);
}

struct next_entry {
	char name[STORE_NAME_MAX + 1];
	uint64_t cookie;
	bool have;
};

static int take_one(const struct store_entry *e, void *arg)
{
	struct next_entry *n = arg;

	if (n->have)
		return 1;
	snprintf(n->name, sizeof(n->name), "%s", e->name);
	n->cookie = e->cookie;
	n->have = true;
	return 0;
}

static int step_dir(struct restore *r)
{
	scoped(freep) char *path = NULL;
	struct frame *f = r->top;
	struct next_entry next = {0};
	unsigned damaged = 0;
	int e = store_iter_read(f->iter, f->cookie, take_one, &next, &damaged);

	for (; damaged > 0; damaged--)
		lost(r, NULL, -EBADMSG);
	if (e < 0)
		return e;
	if (next.have) {
		f->cookie = next.cookie;
		path = join(f->path, next.name);
		return path ? restore_entry(r, f->from, next.name, f->to, next.name, path) : -ENOMEM;
	}
	e = finish_dir(r, f);
	r->top = f->up;
	frame_free(f);
	return e;
}

int restore_step(struct restore *r, unsigned ms)
{
	uint64_t until = now_ms() + ms;
	int e = 0;

	while (e == 0 && (r->out || r->top) && now_ms() < until)
		e = r->out ? copy_chunk(r) : step_dir(r);
	if (e < 0)
		return e;
	return r->out || r->top ? 1 : 0;
}

/* ---- its beginning ---- */

/* The directory of the last part of `path`, and that part.  `like`: missing ones are made, as those of then are. */
static int find_parent(struct store *s, const char *path, struct store *like, struct store_dir **ret, char name[STORE_NAME_MAX + 1])
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL, *model = NULL;
	struct stat st;
	int e = store_dir_root(s, &d);

	if (e == 0 && like)
		e = store_dir_root(like, &model);
	for (size_t n; e == 0 && *path; path += n) {
		struct store_dir *below = NULL, *below_model = NULL;

		n = strcspn(path, "/");
		if (n == 0 || n > STORE_NAME_MAX || (path[n] && !path[n + 1]))
			return n > STORE_NAME_MAX ? -ENAMETOOLONG : -EINVAL;
		snprintf(name, STORE_NAME_MAX + 1, "%.*s", (int)n, path);
		if (!path[n])
			break;
		n++;
		if (model)
			e = store_dir_open(model, name, &below_model);
		if (e == 0)
			e = store_dir_open(d, name, &below);
		if (e == -ENOENT && model && store_lookup(model, name, &st) == 0) {
			e = store_mkdir(d, name, st.st_mode & 07777, &(struct stat){0});
			if (e == 0)
				e = forgiven(store_chown(d, name, st.st_uid, st.st_gid));
			if (e == 0)
				e = store_dir_open(d, name, &below);
		}
		store_dir_unref(d);
		store_dir_unref(model);
		d = below;
		model = below_model;
	}
	if (e == 0)
		*ret = take_ptr(&d);
	return e;
}

/* A name that is free: this one, or one beside it. */
static int find_free(struct restore *r, struct store_dir *d, char name[STORE_NAME_MAX + 1])
{
	char wanted[STORE_NAME_MAX + 1];
	struct stat st;
	int e = store_lookup(d, name, &st);

	snprintf(wanted, sizeof(wanted), "%s", name);
	for (unsigned i = 1; e == 0 && i <= BESIDE_TRIES; i++) {
		char number[16] = "";

		if (r->opt.to)
			return -EEXIST;
		if (i > 1)
			snprintf(number, sizeof(number), "-%u", i);
		if (snprintf(name, STORE_NAME_MAX + 1, "%s%s%s", wanted, r->opt.beside, number) > STORE_NAME_MAX)
			return -ENAMETOOLONG;
		e = store_lookup(d, name, &st);
	}
	return e == -ENOENT ? 0 : e == 0 ? -EEXIST : e;
}

static char *target_of(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');
	char *target = NULL;

	return asprintf(&target, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name) < 0 ? NULL : target;
}

/* All of it: into a new directory in the root. */
static int begin_all(struct restore *r)
{
	scoped(store_dir_unrefp) struct store_dir *root = NULL;
	scoped(frame_freep) struct frame *f = calloc(1, sizeof(*f));
	int e = f ? store_dir_root(r->to, &root) : -ENOMEM;

	if (e < 0)
		return e;
	snprintf(f->name, sizeof(f->name), "%s", r->opt.to ? r->opt.to : "share");
	e = strchr(f->name, '/') ? -EINVAL : find_free(r, root, f->name);
	f->to_parent = take_ptr(&root);
	f->path = strdup("");
	r->target = strdup(f->name);
	if (e == 0)
		e = f->path && r->target ? store_dir_root(r->from, &f->from) : -ENOMEM;
	if (e == 0)
		e = store_dir_stat(f->from, &f->st);
	if (e == 0)
		e = store_iter_new(f->from, &f->iter);
	if (e == 0)
		e = make_dir(r, f);
	if (e == 0)
		r->top = take_ptr(&f);
	return e;
}

static int begin(struct restore *r)
{
	scoped(store_dir_unrefp) struct store_dir *from = NULL, *to = NULL;
	const char *target = r->opt.to ? r->opt.to : r->opt.path;
	char name[STORE_NAME_MAX + 1] = "", new_name[STORE_NAME_MAX + 1] = "";
	struct stat st;
	int e;

	if (!*r->opt.path)
		return begin_all(r);
	e = find_parent(r->from, r->opt.path, NULL, &from, name);
	if (e == 0)
		e = store_lookup(from, name, &st);
	if (e == 0)
		e = find_parent(r->to, target, r->opt.to ? NULL : r->from, &to, new_name);
	if (e == 0)
		e = find_free(r, to, new_name);
	if (e == 0)
		e = subjects_missing(from, to, &r->above);
	if (e < 0)
		return e;
	r->target = target_of(target, new_name);
	return r->target ? restore_entry(r, from, name, to, new_name, r->opt.path) : -ENOMEM;
}

int restore_new(struct store *from, struct store *to, const struct restore_options *o, struct restore **ret)
{
	struct restore *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	r->from = from;
	r->to = to;
	r->opt = *o;
	r->buf = malloc(CHUNK);
	e = r->buf ? begin(r) : -ENOMEM;
	if (e < 0) {
		restore_free(r);
		return e;
	}
	*ret = r;
	return 0;
}

void restore_counts(const struct restore *r, struct restore_counts *ret)
{
	*ret = r->counts;
}

const char *restore_target(const struct restore *r)
{
	return r->target && r->counts.files + r->counts.directories > 0 ? r->target : "";
}

void restore_free(struct restore *r)
{
	if (!r)
		return;
	if (r->out) { /* broken off: a part of a file is no file */
		file_close(take_ptr(&r->out));
		(void)store_unlink(r->dir, r->name);
		close_file(r);
	}
	for (struct frame *f = r->top, *up; f; f = up) {
		up = f->up;
		frame_free(f);
	}
	if (r->buf)
		sodium_memzero(r->buf, CHUNK);
	free(r->buf);
	subjects_free(r->above);
	free(r->target);
	free(r);
}
