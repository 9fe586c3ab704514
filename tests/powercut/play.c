/* Plays scenarios on a store. */
#include "play_account.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "fs/store/file_impl.h"
#include "rng.h"

#define WORDS_MAX 4
#define TEXT_MAX 512
#define REWRAP_DAY 2000

void play_pattern(uint64_t seed, uint64_t off, uint8_t *buf, size_t n)
{
	uint64_t state, word = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		if (i == 0 || (off + i) % 8 == 0) {
			state = seed * 0x100000001b3u + (off + i) / 8;
			word = rng_next(&state);
		}
		buf[i] = (uint8_t)(word >> ((off + i) % 8 * 8)) | 1; /* never zero */
	}
}

/* ---- paths ---- */

static void expand(const char *part, size_t n, char name[TEXT_MAX])
{
	const char *at = memchr(part, '@', n);
	size_t len = at ? strtoul(at + 1, NULL, 10) : n, given = at ? (size_t)(at - part) : n;

	memset(name, 'x', len);
	memcpy(name, part, given);
	name[len > given ? len : given] = 0;
}

int play_resolve(struct store *s, const char *path, struct store_dir **ret_dir, char name[TEXT_MAX])
{
	struct store_dir *d, *sub;
	const char *slash;
	int r = store_dir_root(s, &d);

	name[0] = 0;
	while (r == 0 && strcmp(path, ".") != 0) {
		slash = strchr(path, '/');
		expand(path, slash ? (size_t)(slash - path) : strlen(path), name);
		if (!slash)
			break;
		r = store_dir_open(d, name, &sub);
		store_dir_unref(d);
		d = r == 0 ? sub : NULL;
		path = slash + 1;
	}
	if (r == 0)
		*ret_dir = d;
	return r;
}

/* ---- operations ---- */

struct call { /* one line, taken apart */
	struct play *p;
	char *verb, *path, *arg[WORDS_MAX - 2];
	unsigned long a, b;
	size_t number, began;
	struct store_dir *dir;
	char name[TEXT_MAX];
};

static int open_for(struct call *c, struct object *o, struct file **ret)
{
	if (o->open) {
		*ret = o->open;
		return 0;
	}
	return file_open(c->dir, c->name, ret);
}

static void close_after(struct object *o, struct file *f)
{
	if (!o->open)
		file_close(f);
}

/* The empty file that stands at the call's path. */
static struct object *new_file(struct call *c)
{
	struct object *o = account_new_object(c->p, 'f', 0640);

	account_new_content(o, 0, c->began);
	account_add(c->p, c->path, o);
	return o;
}

static int do_create(struct call *c)
{
	struct stat st;
	struct file *f;
	int r;

	r = file_create(c->dir, c->name, 0640, &f, &st);
	if (r < 0)
		return r;
	file_close(f);
	new_file(c);
	return 0;
}

static int do_tmpfile(struct call *c)
{
	struct object *o;
	struct stat st;
	struct file *f;
	int r;

	r = file_create_unnamed(c->dir, c->dir, 0640, &f, &st);
	if (r < 0)
		return r;
	o = new_file(c); /* a name that no scenario has: it is not listed */
	o->open = f;
	o->unnamed = true;
	return 0;
}

static int do_linktmp(struct call *c)
{
	struct object *o = account_object(c->p, c->path);
	int r = file_link_unnamed(o->open, c->dir, c->name);

	if (r == 0)
		o->unnamed = false;
	return r;
}

static int do_open(struct call *c)
{
	struct object *o = account_object(c->p, c->path);

	return o->open ? 0 : file_open(c->dir, c->name, &o->open);
}

static int do_close(struct call *c)
{
	struct object *o = account_object(c->p, c->path);

	if (o->open)
		file_close(o->open);
	o->open = NULL;
	if (o->unnamed)
		account_drop(c->p, c->path);
	return 0;
}

static int do_write(struct call *c)
{
	struct object *o = account_object(c->p, c->path);
	bool append = strcmp(c->verb, "append") == 0;
	size_t was = account_latest(o)->size, n = append ? c->a : c->b;
	uint64_t off = append ? was : c->a;
	scoped(freep) uint8_t *buf = play_must(malloc(n + 1));
	struct content *v;
	struct file *f;
	ssize_t r;

	play_pattern(c->number, off, buf, n);
	r = open_for(c, o, &f);
	if (r < 0)
		return (int)r;
	/* The content counts from now on: a part of it may be on disk although the write fails. */
	v = account_new_content(o, off + n > was ? off + n : was, c->began);
	memcpy(v->data + off, buf, n);
	o->sparse |= off > was;
	r = append ? file_append(f, buf, n, &off) : file_write(f, buf, n, off);
	close_after(o, f);
	if (r >= 0 && (size_t)r != n)
		return -ENOSPC; /* a short write: the caller sees how far it came */
	return r < 0 ? (int)r : 0;
}

static int do_truncate(struct call *c)
{
	struct object *o = account_object(c->p, c->path);
	struct file *f;
	int r;

	r = open_for(c, o, &f);
	if (r < 0)
		return r;
	o->sparse |= c->a > account_latest(o)->size;
	account_new_content(o, c->a, c->began);
	r = file_truncate(f, c->a);
	close_after(o, f);
	return r;
}

static int do_fallocate(struct call *c)
{
	struct object *o = account_object(c->p, c->path);
	size_t was = account_latest(o)->size, end = c->a + c->b, size = was;
	bool zeros = c->verb[0] != 'a' && c->verb[0] != 'r';
	struct content *v;
	struct file *f;
	int mode = 0, r;

	if (c->verb[0] == 'p')
		mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	else if (c->verb[0] == 'z')
		mode = FALLOC_FL_ZERO_RANGE;
	else if (c->verb[0] == 'r')
		mode = FALLOC_FL_KEEP_SIZE;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > was)
		size = end;
	r = open_for(c, o, &f);
	if (r < 0)
		return r;
	o->sparse |= zeros || size > was;
	v = account_new_content(o, size, c->began);
	if (zeros && c->a < size)
		memset(v->data + c->a, 0, (end < size ? end : size) - c->a);
	r = file_allocate(f, mode, c->a, c->b);
	close_after(o, f);
	return r;
}

static int do_sync(struct call *c)
{
	struct object *o;
	struct store_dir *d;
	struct file *f;
	int r;

	if (strcmp(c->verb, "fsyncdir") == 0) {
		if (c->name[0] == 0)
			return store_dir_sync(c->dir);
		r = store_dir_open(c->dir, c->name, &d);
		if (r < 0)
			return r;
		r = store_dir_sync(d);
		store_dir_unref(d);
		return r;
	}
	o = account_object(c->p, c->path);
	r = open_for(c, o, &f);
	if (r < 0)
		return r;
	r = file_sync(f, strcmp(c->verb, "fdatasync") == 0);
	if (r == 0)
		account_new_sync(o, account_log_now(c->p));
	close_after(o, f);
	return r;
}

static int do_rename(struct call *c)
{
	unsigned flags = c->verb[0] == 'n' ? RENAME_NOREPLACE : c->verb[0] == 'e' ? RENAME_EXCHANGE : 0;
	struct store_dir *to;
	char name[TEXT_MAX];
	int r;

	r = play_resolve(c->p->store, c->arg[0], &to, name);
	if (r < 0)
		return r;
	r = store_rename(c->dir, c->name, to, name, flags);
	store_dir_unref(to);
	if (r < 0)
		return r;
	if (flags != RENAME_EXCHANGE)
		account_drop(c->p, c->arg[0]);
	else
		account_move(c->p, c->arg[0], c->path, ">");
	account_move(c->p, c->path, c->arg[0], ">");
	account_unmark(c->p);
	return 0;
}

static int do_link(struct call *c)
{
	struct store_dir *to;
	char name[TEXT_MAX];
	int r;

	r = play_resolve(c->p->store, c->arg[0], &to, name);
	if (r < 0)
		return r;
	r = store_link(c->dir, c->name, to, name);
	store_dir_unref(to);
	if (r == 0)
		account_add(c->p, c->arg[0], account_object(c->p, c->path));
	return r;
}

static int do_symlink(struct call *c)
{
	char target[4096];
	struct object *o;
	struct stat st;
	size_t i;
	int r;

	for (i = 0; i < c->a; i++)
		target[i] = (char)('a' + (c->number + i * 7) % 26);
	target[i] = 0;
	r = store_symlink(c->dir, c->name, target, &st);
	if (r < 0)
		return r;
	o = account_new_object(c->p, 'l', 0777);
	o->target = play_text(target);
	account_add(c->p, c->path, o);
	return 0;
}

static int do_make(struct call *c)
{
	bool dir = c->verb[0] == 'm';
	struct stat st;
	int r;

	r = dir ? store_mkdir(c->dir, c->name, 0750, &st)
		: store_mknod(c->dir, c->name, S_IFIFO | 0640, 0, &st);
	if (r == 0)
		account_add(c->p, c->path, account_new_object(c->p, dir ? 'd' : 'p', dir ? 0750 : 0640));
	return r;
}

static int do_remove(struct call *c)
{
	int r = c->verb[0] == 'r' ? store_rmdir(c->dir, c->name) : store_unlink(c->dir, c->name);

	if (r == 0)
		account_drop(c->p, c->path);
	return r;
}

/* "name=number,length;" goes, or comes in its place. */
static void note_attr(struct object *o, const char *name, const char *value)
{
	size_t n = strlen(name);
	char *at = o->attrs, *end, *all;

	while (*at && !(strncmp(at, name, n) == 0 && at[n] == '='))
		at = strchr(at, ';') + 1;
	if (*at) {
		end = strchr(at, ';') + 1;
		memmove(at, end, strlen(end) + 1);
	}
	all = play_must(malloc(strlen(o->attrs) + strlen(value) + 1));
	strcpy(all, o->attrs);
	strcat(all, value);
	free(o->attrs);
	o->attrs = all;
}

static int do_xattr(struct call *c)
{
	struct object *o = account_object(c->p, c->path);
	char attr[TEXT_MAX], value[TEXT_MAX] = "";
	scoped(freep) uint8_t *buf = play_must(malloc(c->b + 1));
	bool set = c->verb[0] == 's';
	int r;

	snprintf(attr, sizeof(attr), "user.%s", c->arg[0]);
	play_pattern(c->number, 0, buf, c->b);
	if (set)
		snprintf(value, sizeof(value), "%s=%zu,%lu;", c->arg[0], c->number, c->b);
	if (o->open)
		r = set ? file_setxattr(o->open, attr, buf, c->b, 0) : file_removexattr(o->open, attr);
	else
		r = set ? store_setxattr(c->dir, c->name, attr, buf, c->b, 0)
			: store_removexattr(c->dir, c->name, attr);
	if (r == 0)
		note_attr(o, c->arg[0], value);
	return r;
}

static int do_chmod(struct call *c)
{
	struct object *o = account_object(c->p, c->path);
	mode_t mode = (mode_t)strtoul(c->arg[0], NULL, 8);
	int r = store_chmod(c->dir, c->name, mode);

	if (r == 0)
		o->mode = mode;
	return r;
}

static int do_label(struct call *c)
{
	struct store_dir *d;
	int r = store_dir_open(c->dir, c->name, &d);

	if (r < 0)
		return r;
	r = store_dir_set_class(d, (uint16_t)c->a);
	store_dir_unref(d);
	return r;
}

static int do_rewrap(struct call *c)
{
	const struct rewrap to = {.class = (uint16_t)c->a, .day = REWRAP_DAY, .origin_class = (uint16_t)c->a};
	struct object *o = account_object(c->p, c->path);
	struct link_moved moved;
	struct name_entry n;
	struct file *f;
	int r;

	if (o->kind == 'l') {
		r = name_seal(&c->dir->keys->name, c->name, &n);
		return r < 0 ? r : link_rewrap(c->dir, n.entry, to.class, to.day, &moved);
	}
	r = open_for(c, o, &f);
	if (r < 0)
		return r;
	o->wrapped_at = 0; /* if it fails, either may be there */
	r = file_rewrap(f, &to);
	if (r == 0)
		r = file_wait(f, true);
	if (r == 0) {
		o->wrapped_at = account_log_now(c->p);
		o->wrapped_class = to.class;
	}
	close_after(o, f);
	return r;
}

static const struct {
	const char *verb;
	int (*run)(struct call *c);
} verbs[] = {
	{"create", do_create},
	{"open", do_open},
	{"close", do_close},
	{"write", do_write},
	{"append", do_write},
	{"truncate", do_truncate},
	{"punch", do_fallocate},
	{"zero", do_fallocate},
	{"allocate", do_fallocate},
	{"reserve", do_fallocate},
	{"fsync", do_sync},
	{"fdatasync", do_sync},
	{"fsyncdir", do_sync},
	{"rename", do_rename},
	{"noreplace", do_rename},
	{"exchange", do_rename},
	{"link", do_link},
	{"symlink", do_symlink},
	{"mkdir", do_make},
	{"fifo", do_make},
	{"rmdir", do_remove},
	{"unlink", do_remove},
	{"setxattr", do_xattr},
	{"removexattr", do_xattr},
	{"chmod", do_chmod},
	{"tmpfile", do_tmpfile},
	{"linktmp", do_linktmp},
	{"label", do_label},
	{"rewrap", do_rewrap},
};

static int run_call(struct call *c)
{
	size_t i;
	int r;

	for (i = 0; i < ARRAY_SIZE(verbs); i++)
		if (strcmp(verbs[i].verb, c->verb) == 0)
			break;
	if (i == ARRAY_SIZE(verbs)) {
		fprintf(stderr, "%s: line %zu: no operation %s\n", c->p->name, c->number, c->verb);
		abort();
	}
	r = play_resolve(c->p->store, c->path, &c->dir, c->name);
	if (r < 0)
		return r;
	r = verbs[i].run(c);
	store_dir_unref(c->dir);
	return r;
}

int play_line(struct play *p, size_t line)
{
	scoped(freep) char *copy = play_text(p->lines[line]);
	char *save = NULL, *word[WORDS_MAX] = {0};
	struct call c = {.p = p, .number = line + 1, .began = account_log_now(p)};
	size_t n = 0;

	account_line = line + 1;
	for (word[n] = strtok_r(copy, " ", &save); word[n] && n < WORDS_MAX - 1;)
		word[++n] = strtok_r(NULL, " ", &save);
	if (!word[0])
		return 0;
	c.verb = word[0];
	c.path = word[1] ? word[1] : (char *)".";
	c.arg[0] = word[2];
	c.arg[1] = word[3];
	c.a = word[2] ? strtoul(word[2], NULL, 0) : 0;
	c.b = word[3] ? strtoul(word[3], NULL, 0) : 0;
	return run_call(&c);
}

int play_run(struct play *p)
{
	play_snapshot(p);
	for (p->line = 0; p->line < p->n_lines; p->line++) {
		p->error = play_line(p, p->line);
		play_snapshot(p);
		if (p->error < 0) {
			if (!p->quiet_errors)
				fprintf(stderr, "%s: line %zu: %s: %s\n", p->name, p->line + 1,
					p->lines[p->line], strerror(-p->error));
			return -1;
		}
	}
	return 0;
}

void play_take_back(struct play *p, size_t line)
{
	struct object *o;
	size_t i;

	for (i = 0; i < p->n_objects; i++) {
		o = p->objects[i];
		if (o->n_v > 1 && account_latest(o)->line == line + 1)
			free(o->v[--o->n_v].data);
	}
}

void play_close_files(struct play *p)
{
	size_t i;

	for (i = 0; i < p->n_objects; i++) {
		file_close(p->objects[i]->open);
		p->objects[i]->open = NULL;
	}
}
