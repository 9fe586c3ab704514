/* A store with a little of everything, the tools of somebody who edits it, and verdicts. */
#ifndef COFFER_MALICE_FIXTURE_H
#define COFFER_MALICE_FIXTURE_H

#include "check_fixture.h"

#include <linux/falloc.h>

#define MAX 24000
#define BIG (3 * SECTOR_DATA + 500)
#define LONG "a name of more than one hundred and sixty bytes, which is why it is hashed, and why the sealed text " \
	     "of it stands in a symlink beside the entry that it belongs to, and not in the entry"
#define FAR 2000

enum kind { FILE_KIND, LINK_KIND, DIR_KIND };

static const struct object {
	const char *path;
	enum kind kind;
	size_t n;
	bool synced;
	const char *attr; /* value of user.a and user.b */
} objects[] = {
	{"one", FILE_KIND, 100},
	{"two", FILE_KIND, 100},
	{"big", FILE_KIND, BIG},
	{"big2", FILE_KIND, BIG},
	{"synced", FILE_KIND, BIG, true},
	{"holes", FILE_KIND, 5 * SECTOR_DATA}, /* sectors 1 and 2 are holes */
	{"linked", FILE_KIND, 200},
	{"also", FILE_KIND, 200}, /* the same file */
	{"empty", FILE_KIND, 0},
	{"attr", FILE_KIND, 10, false, "value"},
	{"attr2", FILE_KIND, 10, false, "other"},
	{LONG, FILE_KIND, 50},
	{"link", LINK_KIND, 30},
	{"link2", LINK_KIND, 31},
	{"far", LINK_KIND, FAR},
	{"dir", DIR_KIND},
	{"dir2", DIR_KIND},
	{"dir/inner", FILE_KIND, 100},
	{"dir2/inner", FILE_KIND, 300},
	{"dir2/sub", DIR_KIND},
	{"dir2/sub/deep", FILE_KIND, 60},
};

struct malice {
	struct fixture *x;
	struct found check;
	struct check_recorded recorded[64];
	char old[64]; /* beside the store: an older copy of it */
	const char *name, *outcome, *fsck;
	char where[64]; /* which byte, for messages */
};

/* ---- what is in the store ---- */

static inline void content(const struct object *o, char *buf)
{
	uint8_t seed[32] = {0};

	snprintf((char *)seed, sizeof(seed), "%.30s", strcmp(o->path, "also") == 0 ? "linked" : o->path);
	randombytes_buf_deterministic(buf, o->n, seed);
	if (strcmp(o->path, "holes") == 0)
		memset(buf + SECTOR_DATA, 0, 2 * SECTOR_DATA);
	if (o->kind == LINK_KIND)
		for (size_t i = 0; i < o->n; i++)
			buf[i] = (char)('a' + (buf[i] & 15));
	buf[o->n] = 0;
}

static inline const struct object *object(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++)
		if (strcmp(objects[i].path, path) == 0)
			return &objects[i];
	fail_msg("no object %s", path);
	return NULL;
}

/* The directory that `path` is in; *ret_name is its last part. */
static inline int parent_of(struct malice *m, const char *path, struct store_dir **ret, const char **ret_name)
{
	struct store_dir *d = store_dir_ref(m->x->root), *next;
	const char *slash;
	char part[256];
	int r;

	for (; (slash = strchr(path, '/')); path = slash + 1) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		r = store_dir_open(d, part, &next);
		store_dir_unref(d);
		if (r < 0)
			return r;
		d = next;
	}
	*ret = d;
	*ret_name = path;
	return 0;
}

/* As the book would have it. */
static inline void take_record(struct malice *m, struct file *f)
{
	struct check_recorded *r = &m->recorded[m->check.opt.recorded_n];
	char text[VERSION_TEXT];

	r->size = (int64_t)file_version(f, text);
	if (!text[0])
		return;
	file_id(f, &r->file);
	assert_int_equal(version_parse(text, &r->version), 0);
	r->time = (int64_t)++m->check.opt.recorded_n;
}

static inline void make_file(struct malice *m, struct store_dir *d, const char *name, const struct object *o)
{
	char buf[MAX];
	struct stat st;
	struct file *f;

	content(o, buf);
	assert_int_equal(file_create(d, name, 0644, &f, &st), 0);
	if (o->n > 0)
		assert_int_equal(file_write(f, buf, o->n, 0), o->n);
	if (strcmp(name, "holes") == 0) {
		assert_int_equal(file_allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SECTOR_DATA,
					 2 * SECTOR_DATA),
			0);
		assert_int_equal(file_write(f, buf, 1, 0), 1);
	}
	if (o->attr) {
		assert_int_equal(file_setxattr(f, "user.a", o->attr, strlen(o->attr), 0), 0);
		assert_int_equal(file_setxattr(f, "user.b", o->attr, strlen(o->attr), 0), 0);
	}
	if (o->synced)
		assert_int_equal(file_sync(f, false), 0);
	take_record(m, f);
	file_close(f);
}

static inline void fill(struct malice *m)
{
	const struct object *o;
	struct store_dir *d = NULL;
	const char *name = NULL;
	char buf[MAX];
	struct stat st;

	for (o = objects; o < objects + ARRAY_SIZE(objects); o++) {
		assert_int_equal(parent_of(m, o->path, &d, &name), 0);
		content(o, buf);
		if (o->kind == DIR_KIND)
			assert_int_equal(store_mkdir(d, name, 0755, &st), 0);
		else if (o->kind == LINK_KIND)
			assert_int_equal(store_symlink(d, name, buf, &st), 0);
		else if (strcmp(name, "also") == 0)
			assert_int_equal(store_link(d, "linked", d, name), 0);
		else
			make_file(m, d, name, o);
		store_dir_unref(d);
	}
}

/* ---- verdicts ---- */

static inline const char *word_of(const char *when, int r, char out[64])
{
	if (r == -ENOENT)
		return "gone";
	if (r == -ENOKEY)
		snprintf(out, 64, "%s: destroyed", when);
	else if (r == -EBADMSG)
		snprintf(out, 64, "%s: %s", when, store_damage_word());
	else
		snprintf(out, 64, "%s: %s", when, strerror(-r));
	return out;
}

static inline const char *judge_attrs(struct file *f, const struct object *o, char out[64])
{
	static const char *const names[] = {"user.a", "user.b", NULL};
	char list[256], value[64];
	int r;

	r = file_listxattr(f, list, sizeof(list));
	if (r < 0)
		return word_of("read", r, out);
	for (const char *const *n = names; o->attr && *n; n++) {
		r = file_getxattr(f, *n, value, sizeof(value));
		if (r == -ENODATA)
			return "old";
		if (r < 0)
			return word_of("read", r, out);
		if ((size_t)r != strlen(o->attr) || memcmp(value, o->attr, (size_t)r) != 0)
			return "old";
	}
	return "right";
}

/* Sector by sector: what is beside a damaged one must be right. */
static inline const char *judge_content(struct file *f, const struct object *o, char out[64])
{
	const char *verdict = "right";
	char buf[MAX], got[SECTOR_DATA];
	uint64_t at;
	ssize_t n;

	content(o, buf);
	if (file_size(f) != o->n)
		return "old";
	for (at = 0; at < o->n; at += SECTOR_DATA) {
		n = file_read(f, got, sizeof(got), at);
		if (n < 0)
			verdict = word_of("read", (int)n, out);
		else if (memcmp(got, buf + at, (size_t)n) != 0)
			return "old";
	}
	return verdict;
}

static inline const char *judge_file(struct store_dir *d, const char *name, const struct object *o, char out[64])
{
	char target[4096];
	const char *verdict;
	struct file *f;
	int r;

	r = file_open(d, name, &f);
	if (r == -EINVAL || r == -EISDIR)
		return "old"; /* something else stands there */
	if (r == -ELOOP)
		return word_of("read", store_readlink(d, name, target, sizeof(target)), out);
	if (r < 0)
		return word_of("open", r, out);
	verdict = judge_content(f, o, out);
	if (strcmp(verdict, "right") == 0)
		verdict = judge_attrs(f, o, out);
	file_close(f);
	return verdict;
}

static inline int see(const struct store_entry *e, void *arg)
{
	const char **wanted = arg;

	if (strcmp(e->name, *wanted) == 0)
		*wanted = "";
	return 0;
}

static inline bool is_listed(struct store_dir *d, const char *name)
{
	struct store_iter *i;
	unsigned damaged;

	assert_int_equal(store_iter_new(d, &i), 0);
	assert_int_equal(store_iter_read(i, 0, see, &name, &damaged), 0);
	store_iter_free(i);
	return *name == 0;
}

static inline const char *judge(struct malice *m, const char *path, char out[64])
{
	const struct object *o = object(path);
	const char *name, *verdict = "right";
	char buf[MAX], got[4096];
	struct store_dir *d, *sub;
	int r;

	r = parent_of(m, path, &d, &name);
	if (r < 0)
		return word_of("open", r, out);
	content(o, buf);
	if (o->kind == FILE_KIND) {
		verdict = judge_file(d, name, o, out);
	} else if (o->kind == LINK_KIND) {
		r = store_readlink(d, name, got, sizeof(got));
		verdict = r < 0 ? word_of("read", r, out) : strcmp(got, buf) == 0 ? "right" : "old";
	} else {
		r = store_dir_open(d, name, &sub);
		verdict = r < 0 ? word_of("open", r, out) : "right";
		if (r == 0)
			store_dir_unref(sub);
	}
	if (strcmp(verdict, "right") == 0 && !is_listed(d, name))
		verdict = "list: name";
	store_dir_unref(d);
	return verdict;
}

/* "one, two": each word once, in the order of the alphabet. */
static inline const char *found_words(const struct found *c, char out[256])
{
	const char *words[FOUND_MAX], *w;
	unsigned n = 0, i, k;

	for (i = 0; i < c->n; i++) {
		w = c->at[i].what;
		for (k = n; k > 0 && strcmp(words[k - 1], w) > 0; k--)
			words[k] = words[k - 1];
		words[k] = w;
		n++;
	}
	out[0] = 0;
	for (i = 0; i < n; i++)
		if (i == 0 || strcmp(words[i], words[i - 1]) != 0)
			snprintf(out + strlen(out), 256 - strlen(out), "%s%s", out[0] ? ", " : "", words[i]);
	return out[0] ? out : "-";
}

static inline void expect_text(const struct malice *m, const char *what, const char *path, const char *got, const char *want)
{
	if (strcmp(got, want) != 0)
		fail_msg("\"%s\"%s: %s of %s is \"%s\"; doc/FORMAT.md says \"%s\"", m->name, m->where, what, path, got,
			want);
}

/* The target alone: for many small changes. */
static inline void verdict_of_one(struct malice *m, const char *path)
{
	char out[64], words[256];

	expect_text(m, "the verdict", path, judge(m, path, out), m->outcome);
	m->check.opt.only = path;
	m->check.opt.by_name = true;
	check_run(m->x, &m->check);
	m->check.opt.only = NULL;
	if (m->check.result == -ENOENT) {
		check_run(m->x, &m->check);
		assert_int_equal(m->check.result, 0);
	}
	expect_text(m, "the check", path, found_words(&m->check, words), m->fsck);
}

/* All of the store, as a worker sees it that starts now: the targets (one or two; below a directory everything) are as
 * the table says, everything else is right. */
static inline void verdict(struct malice *m, const char *a, const char *b)
{
	const struct object *o;
	char out[64], words[256];
	bool target;

	fixture_reopen(m->x);
	check_run(m->x, &m->check);
	assert_int_equal(m->check.result, 0);
	expect_text(m, "the check", "all", found_words(&m->check, words), m->fsck);
	for (o = objects; o < objects + ARRAY_SIZE(objects); o++) {
		target = (a && strncmp(o->path, a, strlen(a)) == 0 && strchr("/", o->path[strlen(a)])) ||
			 (b && strncmp(o->path, b, strlen(b)) == 0 && strchr("/", o->path[strlen(b)]));
		expect_text(m, "the verdict", o->path, judge(m, o->path, out), target ? m->outcome : "right");
	}
}

/* ---- the editor's tools ---- */

/* "entry/entry" below the store's folder. */
static inline const char *backing(struct malice *m, const char *path)
{
	static char out[4][1024];
	static unsigned next;
	char *to = out[next++ % 4];
	struct name_entry n;
	struct store_dir *parent = NULL;
	const char *name = NULL;
	char whole[600];
	size_t at = 0;

	to[0] = 0;
	snprintf(whole, sizeof(whole), "%s", path);
	for (char *slash = strchr(whole, '/');; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = 0;
		assert_int_equal(parent_of(m, whole, &parent, &name), 0);
		assert_int_equal(name_seal(&parent->keys->name, name, &n), 0);
		at += (size_t)snprintf(to + at, 1024 - at, "%s%s", at ? "/" : "", n.entry);
		store_dir_unref(parent);
		if (!slash)
			break;
		*slash = '/';
	}
	return to;
}

static inline int open_backing(struct malice *m, const char *path)
{
	int fd = openat(m->x->fd, backing(m, path), O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static inline void flip_at(int fd, off_t at)
{
	uint8_t c;

	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= (uint8_t)(1 << (at * 5 % 8)); /* another bit each time */
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
}

static inline void flip_each(struct malice *m, const char *path, off_t from, off_t to)
{
	int fd = open_backing(m, path);

	for (off_t at = from; at < to; at++) {
		snprintf(m->where, sizeof(m->where), ", byte %lld", (long long)at);
		flip_at(fd, at);
		if (at == from)
			verdict(m, path, strcmp(path, "linked") == 0 ? "also" : NULL);
		verdict_of_one(m, path);
		flip_at(fd, at);
	}
	close(fd);
}

static inline void copy_range(int from, off_t from_at, int to, off_t to_at, size_t n)
{
	uint8_t *b = malloc(n);

	assert_int_equal(pread(from, b, n, from_at), n);
	assert_int_equal(pwrite(to, b, n, to_at), n);
	free(b);
}

static inline void swap_range(int a, off_t a_at, int b, off_t b_at, size_t n)
{
	uint8_t *x = malloc(n), *y = malloc(n);

	assert_int_equal(pread(a, x, n, a_at), n);
	assert_int_equal(pread(b, y, n, b_at), n);
	assert_int_equal(pwrite(a, y, n, a_at), n);
	assert_int_equal(pwrite(b, x, n, b_at), n);
	free(x);
	free(y);
}

static inline void zero_range(int fd, off_t at, size_t n)
{
	uint8_t *b = calloc(1, n);

	assert_int_equal(pwrite(fd, b, n, at), n);
	free(b);
}

static inline void run(struct malice *m, const char *command, const char *a, const char *b)
{
	char text[4096];

	snprintf(text, sizeof(text), "cd '%s' && A='./%s' B='./%s' OLD='../%s' && %s", m->x->path, a ? a : "", b ? b : "",
		m->old, command);
	assert_int_equal(system(text), 0);
}

static inline void swap_entries(struct malice *m, const char *a, const char *b)
{
	run(m, "mv -T \"$A\" ../swap-$$ && mv -T \"$B\" \"$A\" && mv -T ../swap-$$ \"$B\"", a, b);
}

static inline void keep_old(struct malice *m)
{
	run(m, "rm -rf \"$OLD\" && cp -a . \"$OLD\"", NULL, NULL);
}

/* With the book's knowledge of it. */
static inline void rewrite(struct malice *m, const char *path, const char *data, uint64_t at)
{
	struct store_dir *d = NULL;
	const char *name = NULL;
	struct file *f;

	assert_int_equal(parent_of(m, path, &d, &name), 0);
	assert_int_equal(file_open(d, name, &f), 0);
	assert_int_equal(file_write(f, data, strlen(data), at), strlen(data));
	take_record(m, f);
	file_close(f);
	store_dir_unref(d);
}

/* The same content again: newer, and still right. */
static inline void write_again(struct malice *m, const char *path, uint64_t at, size_t n)
{
	char buf[MAX], part[MAX];
	const struct object *o = object(path);
	struct store_dir *d = NULL;
	const char *name = NULL;
	struct file *f;

	content(o, buf);
	memcpy(part, buf + at, n);
	assert_int_equal(parent_of(m, path, &d, &name), 0);
	assert_int_equal(file_open(d, name, &f), 0);
	assert_int_equal(file_write(f, part, n, at), n);
	take_record(m, f);
	file_close(f);
	store_dir_unref(d);
}

static inline void make_older(struct malice *m, const char *path)
{
	rewrite(m, path, "before", 0);
	keep_old(m);
	write_again(m, path, 0, 10);
}

#define SECTOR_AT(i) (HEADER_BYTES + (off_t)(i) * SECTOR_BYTES)

struct malice_case {
	const char *name;
	void (*run)(struct malice *m);
};

extern const struct malice_case malice_tree_cases[];	/* ends with a NULL name */

#endif
