/* Which of all that was ever removed stood at a path.  Pure. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/versions.h"

/* First from the newest to the oldest: `asked` are the paths as they were asked for; `led` the names under which what is there
 * now came there.  Then forward again: `left` are the names of what was renamed away from either. */
struct following {
	json_t *asked, *led, *left; /* sets of paths */
	bool *taken, *leaving;	    /* of each removal */
};

static void following_done(struct following *f)
{
	json_decref(f->asked);
	json_decref(f->led);
	json_decref(f->left);
	free(f->taken);
	free(f->leaving);
}

bool removal_parse(const char *detail, struct removal *ret)
{
	ret->kind = detail[0] == 'k' ? detail[1] : detail[0];
	ret->leaf = 0;
	if (detail[0] == 0 || strcmp(detail, "d") == 0 || strcmp(detail, "x") == 0 || strcmp(detail, "k-") == 0 ||
		strcmp(detail, "k?") == 0)
		return true;
	if (detail[0] != 'k' || strlen(detail) != 17 || strspn(detail + 1, "0123456789abcdef") != 16)
		return false;
	ret->kind = 'k';
	ret->leaf = strtoull(detail + 1, NULL, 16);
	return true;
}

static bool is_in(const json_t *set, const char *path)
{
	return path && json_object_get(set, path);
}

/* Something above it is. */
static bool is_below(const json_t *set, const char *path)
{
	for (const char *p = path ? strchr(path, '/') : NULL; p; p = strchr(p + 1, '/'))
		if (json_object_getn(set, path, (size_t)(p - path)))
			return true;
	return false;
}

static bool is_of(const json_t *set, const char *path)
{
	return is_in(set, path) || is_below(set, path);
}

static int put(json_t *set, const char *path)
{
	return !path || json_object_set_new(set, path, json_true()) == 0 ? 0 : -ENOMEM;
}

static void take_out(json_t *set, const char *path)
{
	if (path)
		(void)json_object_del(set, path);
}

/* A directory that was renamed took along what lies below it: those of `set` at `to` stood at `from`. */
static int move_below(json_t *set, json_t *into, const char *to, const char *from)
{
	scoped(json_decrefp) json_t *moved = json_array(); /* put afterwards: `into` may be `set` */
	size_t n = strlen(to), i;
	const char *key;
	json_t *v;
	int r = moved ? 0 : -ENOMEM;

	json_object_foreach(set, key, v)
	{
		if (r == 0 && strncmp(key, to, n) == 0 && key[n] == '/')
			r = json_array_append_new(moved, json_sprintf("%s%s", from, key + n)) < 0 ? -ENOMEM : 0;
	}
	json_array_foreach(moved, i, v)
	{
		if (r == 0)
			r = put(into, json_string_value(v));
	}
	return r;
}

/* Programs save so: NAME becomes NAME~, and NAME is written anew. */
static bool is_backup(const struct removal *e)
{
	size_t n = strlen(e->path);

	return strncmp(e->path2, e->path, n) == 0 && strcmp(e->path2 + n, "~") == 0;
}

static int rename_back(struct following *f, const struct removal *e, size_t i)
{
	bool to = is_of(f->asked, e->path2) || is_of(f->led, e->path2);
	bool from = is_of(f->asked, e->path) || is_below(f->led, e->path) || (is_in(f->led, e->path) && is_backup(e));
	int r = 0;

	f->taken[i] = to;
	f->leaving[i] = from;
	if (e->kind == 'x') {
		f->leaving[i] = from || to;
		r = from ? put(f->led, e->path2) : 0;
		return r == 0 && to ? put(f->led, e->path) : r;
	}
	if (!is_backup(e)) /* what was there before it was another thing */
		take_out(f->led, e->path);
	if (e->kind == '-' || e->kind == 'd')
		take_out(f->led, e->path2);
	if (to)
		r = put(f->led, e->path);
	if (r == 0 && (e->kind == 'd' || e->kind == 0))
		r = move_below(f->asked, f->led, e->path2, e->path);
	if (r == 0 && (e->kind == 'd' || e->kind == 0))
		r = move_below(f->led, f->led, e->path2, e->path);
	return r;
}

static int go_back(struct following *f, const struct removal *all, size_t n)
{
	int r = 0;

	for (size_t i = n; r == 0 && i-- > 0;) {
		const struct removal *e = &all[i];

		if (!e->path || (e->rename && !e->path2))
			continue;
		if (e->rename) {
			r = rename_back(f, e, i);
			continue;
		}
		f->taken[i] = is_of(f->asked, e->path) || is_below(f->led, e->path);
		take_out(f->led, e->path);
	}
	return r;
}

static int go_forward(struct following *f, const struct removal *all, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		const struct removal *e = &all[i];
		bool goes_on;

		if (!e->path || (e->rename && !e->path2))
			continue;
		if (!e->rename) {
			f->taken[i] |= is_of(f->left, e->path);
			take_out(f->left, e->path);
			continue;
		}
		goes_on = is_of(f->left, e->path) || f->leaving[i];
		f->taken[i] |= e->kind != 'x' && is_of(f->left, e->path2);
		take_out(f->left, e->path);
		if (e->kind != 'x')
			take_out(f->left, e->path2);
		if (goes_on && !is_of(f->asked, e->path2))
			r = put(f->left, e->path2);
		if (r == 0 && e->kind == 'x' && f->leaving[i] && !is_of(f->asked, e->path))
			r = put(f->left, e->path);
	}
	return r;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

void versions_found_done(struct versions_found *f)
{
	free(f->leaves);
	*f = (struct versions_found){0};
}

static int gather(const struct following *f, const struct removal *all, size_t n, struct versions_found *ret)
{
	scoped(freep) uint64_t *leaves = calloc(n + 1, sizeof(*leaves));
	size_t found = 0, kept = 0, unknown = 0;

	if (!leaves)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (f->taken[i] && all[i].kind == 'k')
			leaves[found++] = all[i].leaf;
		unknown += f->taken[i] && (all[i].kind == '?' || all[i].kind == 0);
	}
	qsort(leaves, found, sizeof(*leaves), by_number);
	for (size_t i = 0; i < found; i++)
		if (i == 0 || leaves[i] != leaves[i - 1])
			leaves[kept++] = leaves[i];
	*ret = (struct versions_found){
		.leaves = take_ptr(&leaves), .n = kept, .unknown = unknown, .elsewhere = json_object_size(f->left)};
	return 0;
}

int removals_follow(const struct removal *all, size_t n, char *const *paths, size_t paths_n, struct versions_found *ret)
{
	scoped(following_done) struct following f = {.asked = json_object(), .led = json_object(), .left = json_object()};
	int r = 0;

	f.taken = calloc(n + 1, sizeof(*f.taken));
	f.leaving = calloc(n + 1, sizeof(*f.leaving));
	if (!f.asked || !f.led || !f.left || !f.taken || !f.leaving)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < paths_n; i++)
		r = put(f.asked, paths[i]);
	if (r == 0)
		r = go_back(&f, all, n);
	if (r == 0)
		r = go_forward(&f, all, n);
	return r < 0 ? r : gather(&f, all, n, ret);
}
