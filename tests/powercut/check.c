#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "fs/store/file_impl.h"
#include "fs/store/sector.h"

#define PATH_ROOM 2048
#define READ_ROOM (1 << 20)

static int __attribute__((format(printf, 2, 3))) wrong(struct check *c, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(c->said, sizeof(c->said), format, ap);
	va_end(ap);
	return -1;
}

void check_choose(struct check *c)
{
	struct play *p = c->p;
	size_t j = 0, i;

	for (i = 0; i < p->n_snaps; i++)
		if (p->snaps[i].log <= c->meta)
			j = i;
	c->before = &p->snaps[j];
	c->after = c->meta > p->snaps[j].log && j + 1 < p->n_snaps ? &p->snaps[j + 1] : NULL;
}

/* The scenario's word for a path of the store: NAME@N is x-padded there. */
static bool same_path(const char *scenario, const char *real)
{
	size_t n, len;

	for (;;) {
		n = strcspn(scenario, "@/");
		if (strncmp(scenario, real, n) != 0)
			return false;
		if (scenario[n] == '@') {
			len = strtoul(scenario + n + 1, NULL, 10);
			if (strcspn(real, "/") != len || strspn(real + n, "x") < len - n)
				return false;
			real += len;
			scenario += strcspn(scenario, "/");
		} else {
			real += n;
			scenario += n;
		}
		if (*scenario != *real)
			return false;
		if (*scenario == 0)
			return true;
		scenario++;
		real++;
	}
}

static const struct entry *expected(const struct snapshot *s, const char *path, size_t *ret_index)
{
	size_t i;

	for (i = 0; s && i < s->n; i++)
		if (same_path(s->e[i].path, path)) {
			*ret_index = i;
			return &s->e[i];
		}
	return NULL;
}

/* ---- content ---- */

struct range { /* contents of an object that are possible */
	const struct object *o;
	size_t first, last;
};

static struct range contents_of(const struct check *c, const struct object *o)
{
	struct range r = {.o = o, .last = o->n_v - 1};
	size_t i;

	for (i = 0; i < o->n_sync; i++)
		if (c->crash && o->sync_at[i] <= c->time)
			r.first = o->sync_v[i];
	while (c->crash && r.last > r.first && o->v[r.last].began > c->time)
		r.last--;
	if (!c->crash)
		r.first = r.last - (r.last > 0 && o->v[r.last].line == c->failed_line);
	return r;
}

/* Whether `b` (n bytes of sector `index`) are those of one of the contents, zeros behind its end. */
static bool is_one_of(const struct range *r, uint64_t index, const uint8_t *b, size_t n, bool zeros_too)
{
	size_t at = index * SECTOR_DATA, i, k;
	const struct content *v;

	for (i = r->first; i <= r->last; i++) {
		v = &r->o->v[i];
		if (v->size <= at && !zeros_too)
			continue;
		k = v->size <= at ? 0 : v->size - at < n ? v->size - at : n;
		if (memcmp(b, v->data + at, k) != 0)
			continue;
		while (k < n && b[k] == 0)
			k++;
		if (k == n)
			return true;
	}
	return false;
}

static int check_sector(struct check *c, const char *path, const struct range *r, ino_t ino, struct file *f,
	uint64_t index, uint64_t size)
{
	size_t n =
		size - index * SECTOR_DATA < SECTOR_DATA ? (size_t)(size - index * SECTOR_DATA) : SECTOR_DATA;
	enum crash_mark m = c->crash ? crash_mark_of(c->crash, (uint32_t)ino, index + 1) : CRASH_SURE;
	uint8_t b[SECTOR_DATA];
	ssize_t k = file_read(f, b, n, index * SECTOR_DATA);

	if (k == -EBADMSG && m != CRASH_SURE)
		return 0;
	if (k != (ssize_t)n)
		return wrong(c, "%s: sector %llu of %llu bytes: %s (%s)", path, (unsigned long long)index,
			(unsigned long long)size, k < 0 ? strerror((int)-k) : "short", store_damage_word());
	if (!is_one_of(r, index, b, n, r->o->sparse))
		return wrong(c, "%s: sector %llu of %llu bytes: WRONG DATA", path, (unsigned long long)index,
			(unsigned long long)size);
	return 0;
}

static int check_content(struct check *c, const char *path, const struct range *r, ino_t ino, struct file *f)
{
	uint64_t size = file_size(f), least = UINT64_MAX, most = 0, i;

	for (i = r->first; i <= r->last; i++) {
		least = r->o->v[i].size < least ? r->o->v[i].size : least;
		most = r->o->v[i].size > most ? r->o->v[i].size : most;
	}
	/* A last sector that cannot be read does not tell its length: then it counts as full. */
	if (size > most && c->crash &&
		crash_mark_of(c->crash, (uint32_t)ino, (size_t)((size - 1) / SECTOR_DATA + 1)))
		most = (most + SECTOR_DATA - 1) / SECTOR_DATA * SECTOR_DATA;
	if (size < least || size > most)
		return wrong(c, "%s: %llu bytes, not %llu to %llu", path, (unsigned long long)size,
			(unsigned long long)least, (unsigned long long)most);
	for (i = 0; i * SECTOR_DATA < size; i++)
		if (check_sector(c, path, r, ino, f, i, size) < 0)
			return -1;
	return 0;
}

/* Once it was on disk, the leaf before may be destroyed. */
static int check_leaf(struct check *c, const char *path, const struct object *o, struct file *f)
{
	struct leaf_index leaf;
	uint16_t class, day;

	if (!c->crash || o->wrapped_at == 0 || c->time < o->wrapped_at)
		return 0;
	file_origin(f, &leaf, &class, &day);
	if (leaf.day != 0 && leaf.class != o->wrapped_class)
		return wrong(c, "%s: is under a leaf of class %u, not %u", path, leaf.class, o->wrapped_class);
	return 0;
}

/* ---- attributes ---- */

static int check_attr(
	struct check *c, struct store_dir *d, const char *name, const char *attr, size_t number, size_t n)
{
	uint8_t value[4096], pattern[4096];
	char full[300];
	int r;

	snprintf(full, sizeof(full), "user.%s", attr);
	r = store_getxattr(d, name, full, value, sizeof(value));
	if (r < 0)
		return wrong(c, "attribute %s of %s: %s", attr, name ? name : ".", strerror(-r));
	play_pattern(number, 0, pattern, n);
	if ((size_t)r != n || memcmp(value, pattern, n) != 0)
		return wrong(c, "attribute %s of %s: WRONG DATA", attr, name ? name : ".");
	return 0;
}

static int try_attrs(struct check *c, struct store_dir *d, const char *name, const char *attrs, int length)
{
	char attr[300];
	size_t number, n;
	int used, sum = 0;

	for (; *attrs; attrs += used) {
		if (sscanf(attrs, "%299[^=]=%zu,%zu;%n", attr, &number, &n, &used) != 3)
			abort();
		sum += (int)strlen(attr) + 6;
		if (check_attr(c, d, name, attr, number, n) < 0)
			return -1;
	}
	return sum == length ? 0
			     : wrong(c, "%s: %d bytes of names of attributes, not %d", name ? name : ".",
				       length, sum);
}

static int check_attrs(struct check *c, struct store_dir *d, const char *name, const struct entry *b,
	const struct entry *a, bool bare)
{
	int n = store_listxattr(d, name, NULL, 0);

	if (n < 0)
		return wrong(
			c, "attributes of %s: %s (%s)", name ? name : ".", strerror(-n), store_damage_word());
	if (bare && n == 0)
		return 0; /* its header did not arrive, so nothing of it did */
	/* A directory that was being removed is back without them: its id went first. */
	if (!name && c->after && !a && n == 0)
		return 0;
	if (b && try_attrs(c, d, name, b->attrs, n) == 0)
		return 0;
	return a ? try_attrs(c, d, name, a->attrs, n) : -1;
}

/* ---- the tree ---- */

struct walk {
	struct check *c;
	const struct snapshot *s; /* is compared with this one */
	const struct snapshot *other;
	bool *seen;
	size_t n_seen;
};

struct names {
	char (*name)[STORE_NAME_MAX + 1];
	unsigned char *type;
	size_t n;
	uint64_t cookie;
};

static int take_name(const struct store_entry *e, void *arg)
{
	struct names *l = arg;

	l->name = realloc(l->name, (l->n + 1) * sizeof(*l->name));
	l->type = realloc(l->type, l->n + 1);
	if (!l->name || !l->type)
		abort();
	snprintf(l->name[l->n], sizeof(*l->name), "%s", e->name);
	l->type[l->n++] = e->d_type;
	l->cookie = e->cookie;
	return 0;
}

static void names_done(struct names *l)
{
	free(l->name);
	free(l->type);
}

static int list(struct check *c, struct store_dir *d, struct names *l)
{
	struct store_iter *i;
	unsigned damaged;
	int r;

	r = store_iter_new(d, &i);
	if (r < 0)
		return wrong(c, "a directory: %s", strerror(-r));
	r = store_iter_read(i, 0, take_name, l, &damaged);
	store_iter_free(i);
	if (r < 0)
		return wrong(c, "listing: %s (%s)", strerror(-r), store_damage_word());
	return damaged ? wrong(c, "%u names do not open", damaged) : 0;
}

static int check_file(struct walk *w, const char *path, struct store_dir *d, const char *name,
	const struct stat *st, const struct entry *e)
{
	struct range range = contents_of(w->c, e->o);
	struct file *f;
	int r;

	r = file_open(d, name, &f);
	if (r < 0)
		return wrong(w->c, "%s: cannot be opened: %s (%s)", path, strerror(-r), store_damage_word());
	r = check_leaf(w->c, path, e->o, f);
	if (r == 0)
		r = check_content(w->c, path, &range, st->st_ino, f);
	if (r == 0 && (off_t)file_size(f) != st->st_size && !w->c->crash)
		r = wrong(w->c, "%s: stat tells %lld bytes of %llu", path, (long long)st->st_size,
			(unsigned long long)file_size(f));
	file_close(f);
	return r;
}

static int check_link(struct check *c, const char *path, struct store_dir *d, const char *name,
	const struct stat *st, const struct entry *e)
{
	char target[4096];
	int r = store_readlink(d, name, target, sizeof(target));

	if (r < 0)
		return wrong(c, "%s: link: %s (%s)", path, strerror(-r), store_damage_word());
	if (strcmp(target, e->o->target) != 0)
		return wrong(c, "%s: WRONG target", path);
	if (st->st_size != (off_t)strlen(target))
		return wrong(c, "%s: target of %lld bytes by stat", path, (long long)st->st_size);
	return 0;
}

static char kind_of(mode_t mode)
{
	return S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISFIFO(mode) ? 'p' : 'f';
}

static int check_dir(struct walk *w, struct store_dir *d, const char *path);

static int check_entry(struct walk *w, struct store_dir *d, const char *path, const char *name)
{
	const struct entry *e, *other;
	struct check *c = w->c;
	struct store_dir *sub;
	size_t index = 0, unused;
	struct stat st;
	bool bare;
	int r;

	e = expected(w->s, path, &index);
	if (!e)
		return wrong(c, "%s should not be there", path);
	w->seen[index] = true;
	w->n_seen++;
	other = expected(w->other, path, &unused);
	r = store_lookup(d, name, &st);
	if (r < 0)
		return wrong(c, "%s: lookup: %s", path, strerror(-r));
	if (kind_of(st.st_mode) != e->o->kind)
		return wrong(c, "%s: is of another kind", path);
	if (e->o->kind == 'f' && (st.st_mode & 07777) != e->mode &&
		(!other || (st.st_mode & 07777) != other->mode))
		return wrong(c, "%s: mode %o", path, st.st_mode & 07777);
	if (e->o->kind == 'l')
		return check_link(c, path, d, name, &st, e);
	if (e->o->kind == 'p')
		return 0;
	bare = c->crash && crash_mark_of(c->crash, (uint32_t)st.st_ino, 0) == CRASH_ZERO;
	if (e->o->kind == 'f') {
		r = check_file(w, path, d, name, &st, e);
		return r < 0 ? r : check_attrs(c, d, name, e, other, bare);
	}
	r = store_dir_open(d, name, &sub);
	if (r < 0)
		return wrong(c, "%s: cannot be opened: %s (%s)", path, strerror(-r), store_damage_word());
	r = check_attrs(c, sub, NULL, e, other, false);
	if (r == 0)
		r = check_dir(w, sub, path);
	store_dir_unref(sub);
	return r;
}

static int check_dir(struct walk *w, struct store_dir *d, const char *path)
{
	scoped(names_done) struct names l = {0};
	char below[PATH_ROOM];
	size_t i;

	if (list(w->c, d, &l) < 0)
		return -1;
	for (i = 0; i < l.n; i++) {
		snprintf(below, sizeof(below), "%s%s%s", path, path[0] ? "/" : "", l.name[i]);
		if (check_entry(w, d, below, l.name[i]) < 0)
			return -1;
	}
	return 0;
}

static int compare(
	struct check *c, struct store *s, const struct snapshot *with, const struct snapshot *other)
{
	struct walk w = {.c = c, .s = with, .other = other, .seen = calloc(with->n + 1, 1)};
	struct store_dir *root;
	size_t i;
	int r;

	if (!w.seen)
		abort();
	store_dir_root(s, &root);
	r = check_dir(&w, root, "");
	store_dir_unref(root);
	for (i = 0; r == 0 && i < with->n; i++)
		if (!w.seen[i])
			r = wrong(c, "%s is gone", with->e[i].path);
	free(w.seen);
	return r;
}

int check_store(struct check *c, struct store *s)
{
	char first[sizeof(c->said)];

	if (compare(c, s, c->before, c->after) == 0)
		return 0;
	if (!c->after)
		return -1;
	memcpy(first, c->said, sizeof(first));
	if (compare(c, s, c->after, c->before) == 0)
		return 0;
	if (strstr(c->said, "should not be there") || strstr(c->said, "is gone"))
		memcpy(c->said, first, sizeof(first));
	return -1;
}

/* ---- life goes on ---- */

static int use_file(struct check *c, struct store_dir *d, const char *name)
{
	uint8_t mark[10], back[10];
	uint64_t off = 0;
	struct file *f;
	ssize_t r;

	play_pattern(4711, 0, mark, sizeof(mark));
	r = file_open(d, name, &f);
	if (r < 0)
		return wrong(c, "%s: a second time: %s", name, strerror((int)-r));
	r = file_append(f, mark, sizeof(mark), &off);
	if (r == -EBADMSG) { /* the last sector is lost: cutting the file mends it */
		r = file_truncate(f, off / SECTOR_DATA * SECTOR_DATA);
		if (r == 0)
			r = file_append(f, mark, sizeof(mark), &off);
		if (r == -EBADMSG)
			r = file_truncate(f, 0);
		if (r == 0)
			r = file_append(f, mark, sizeof(mark), &off);
	}
	if (r == sizeof(mark))
		r = file_read(f, back, sizeof(back), off);
	if (r == sizeof(mark) && memcmp(mark, back, sizeof(mark)) != 0)
		r = -EILSEQ;
	file_close(f);
	return r == sizeof(mark)
		       ? 0
		       : wrong(c, "%s: appending: %s (%s)", name, strerror((int)-r), store_damage_word());
}

static int empty(struct check *c, struct store_dir *d)
{
	scoped(names_done) struct names l = {0};
	struct store_dir *sub;
	size_t i;
	int r;

	if (list(c, d, &l) < 0)
		return -1;
	for (i = 0; i < l.n; i++) {
		if (l.type[i] == DT_REG && use_file(c, d, l.name[i]) < 0)
			return -1;
		r = 0;
		if (l.type[i] == DT_DIR) {
			r = store_dir_open(d, l.name[i], &sub);
			if (r < 0)
				return wrong(c, "%s: a second time: %s", l.name[i], strerror(-r));
			r = empty(c, sub);
			store_dir_unref(sub);
			if (r < 0)
				return r;
			r = store_rmdir(d, l.name[i]);
		} else {
			r = store_unlink(d, l.name[i]);
		}
		if (r < 0)
			return wrong(c, "%s: removing: %s", l.name[i], strerror(-r));
	}
	return 0;
}

int check_goes_on(struct check *c, struct store *s)
{
	struct names l = {0};
	struct store_dir *root;
	int r;

	store_dir_root(s, &root);
	r = empty(c, root);
	if (r == 0)
		r = list(c, root, &l);
	if (r == 0 && l.n > 0)
		r = wrong(c, "%s could not be removed", l.name[0]);
	names_done(&l);
	store_dir_unref(root);
	return r;
}
