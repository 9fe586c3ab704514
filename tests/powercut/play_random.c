/* Random scenarios: small trees, so that names meet each other; sizes around the borders of sectors. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "play.h"
#include "rng.h"

#define NAMES 6
#define DIRS 3

struct gen {
	uint64_t rng;
	char **lines;
	size_t n, cap;
	/* What is where: 0 nothing, else its kind. */
	char kind[DIRS + 1][NAMES];
	unsigned long size[DIRS + 1][NAMES];
	bool open[DIRS + 1][NAMES];
	char dir[DIRS + 1]; /* 1: is there.  [0] is the root */
};

static const char *const names[NAMES] = {"a", "b", "c", "long@200", "d", "e@161"};
static const char *const dir_names[DIRS + 1] = {".", "one", "two", "three@180"};

static void __attribute__((format(printf, 2, 3))) line(struct gen *g, const char *format, ...)
{
	va_list ap;
	char b[1100];

	va_start(ap, format);
	vsnprintf(b, sizeof(b), format, ap);
	va_end(ap);
	if (g->n == g->cap) {
		g->cap = g->cap * 2 + 32;
		g->lines = realloc(g->lines, g->cap * sizeof(*g->lines));
	}
	if (!g->lines || !(g->lines[g->n++] = strdup(b)))
		abort();
}

static size_t any(struct gen *g, size_t n)
{
	return rng_below(&g->rng, n);
}

static unsigned long length(struct gen *g)
{
	static const unsigned long common[] = {1, 100, 4031, 4032, 4033, 8064, 8065, 12000, 20160, 40000};

	return any(g, 3) ? common[any(g, sizeof(common) / sizeof(*common))] : 1 + any(g, 30000);
}

static const char *path(size_t d, size_t n, char *buf)
{
	if (d == 0)
		strcpy(buf, names[n]);
	else
		sprintf(buf, "%s/%s", dir_names[d], names[n]);
	return buf;
}

struct place {
	size_t d, n;
	char path[600];
	char *kind;
	unsigned long *size;
	bool *open;
};

static struct place any_place(struct gen *g)
{
	struct place p;

	do
		p.d = any(g, DIRS + 1);
	while (!g->dir[p.d]);
	p.n = any(g, NAMES);
	path(p.d, p.n, p.path);
	p.kind = &g->kind[p.d][p.n];
	p.size = &g->size[p.d][p.n];
	p.open = &g->open[p.d][p.n];
	return p;
}

static void make(struct gen *g, struct place *p)
{
	size_t k = any(g, 12);

	*p->size = 0;
	*p->open = false;
	*p->kind = 'f';
	if (k < 8) {
		line(g, "create %s", p->path);
		return;
	}
	if (k == 8) {
		line(g, "fifo %s", p->path);
		*p->kind = 'p';
		return;
	}
	line(g, "symlink %s %lu", p->path, any(g, 2) ? 1 + any(g, 200) : 700 + any(g, 2000));
	*p->kind = 'l';
}

static void change_size(struct gen *g, struct place *p)
{
	unsigned long a = any(g, 3) ? any(g, *p->size + 1) : *p->size + length(g), n = length(g);

	switch (any(g, 9)) {
	case 0:
		line(g, "punch %s %lu %lu", p->path, a, n);
		return;
	case 1:
		line(g, "zero %s %lu %lu", p->path, a, n);
		break;
	case 2:
		line(g, "allocate %s %lu %lu", p->path, a, n);
		break;
	case 3:
	case 4:
		line(g, "truncate %s %lu", p->path, a);
		*p->size = a;
		return;
	case 5:
		line(g, "truncate %s 0", p->path);
		*p->size = 0;
		return;
	default:
		line(g, "append %s %lu", p->path, n);
		*p->size += n;
		return;
	}
	*p->size = *p->size > a + n ? *p->size : a + n;
}

static void use(struct gen *g, struct place *p)
{
	unsigned long n = length(g), off = any(g, 4) ? any(g, *p->size + 1) : *p->size + any(g, 9000);

	switch (any(g, 12)) {
	case 0:
	case 1:
	case 2:
	case 3:
		line(g, "write %s %lu %lu", p->path, off, n);
		*p->size = *p->size > off + n ? *p->size : off + n;
		return;
	case 4:
	case 5:
	case 6:
		change_size(g, p);
		return;
	case 7:
	case 8:
		line(g, "%s %s", any(g, 3) ? "fsync" : "fdatasync", p->path);
		return;
	case 9:
		line(g, "%s %s", *p->open ? "close" : "open", p->path);
		*p->open = !*p->open;
		return;
	case 10:
		line(g, "setxattr %s n%zu %zu", p->path, any(g, 3), 1 + any(g, 100));
		return;
	default:
		line(g, "chmod %s %s", p->path, any(g, 2) ? "600" : "644");
	}
}

static void move(struct gen *g, struct place *a)
{
	struct place b = any_place(g);
	size_t k = any(g, 6);

	if (b.kind == a->kind)
		return;
	if (k == 0 && *b.kind) {
		line(g, "exchange %s %s", a->path, b.path);
		char kind = *a->kind;
		unsigned long size = *a->size;
		bool open = *a->open;

		*a->kind = *b.kind;
		*a->size = *b.size;
		*a->open = *b.open;
		*b.kind = kind;
		*b.size = size;
		*b.open = open;
		return;
	}
	if (k == 1 && !*b.kind && !*a->open && *a->kind == 'f') {
		line(g, "link %s %s", a->path, b.path);
		/* From now on two names: a later use of one changes the size of the other, which is kept
		 * simple by cutting the tie at once. */
		line(g, "unlink %s", a->path);
	} else {
		line(g, "rename %s %s", a->path, b.path);
	}
	*b.kind = *a->kind;
	*b.size = *a->size;
	*b.open = *a->open;
	*a->kind = 0;
}

static bool is_empty(const struct gen *g, size_t d)
{
	size_t i;

	for (i = 0; i < NAMES; i++)
		if (g->kind[d][i])
			return false;
	return true;
}

static void directory(struct gen *g)
{
	size_t d = 1 + any(g, DIRS), e = 1 + any(g, DIRS);

	if (!g->dir[d]) {
		line(g, "mkdir %s", dir_names[d]);
		g->dir[d] = 1;
	} else if (any(g, 3) == 0) {
		line(g, "fsyncdir %s", dir_names[d]);
	} else if (is_empty(g, d) && any(g, 2)) {
		line(g, "rmdir %s", dir_names[d]);
		g->dir[d] = 0;
	} else if (d != e && !g->dir[e]) {
		line(g, "rename %s %s", dir_names[d], dir_names[e]);
		memcpy(g->kind[e], g->kind[d], sizeof(g->kind[e]));
		memcpy(g->size[e], g->size[d], sizeof(g->size[e]));
		memcpy(g->open[e], g->open[d], sizeof(g->open[e]));
		memset(g->kind[d], 0, sizeof(g->kind[d]));
		g->dir[e] = 1;
		g->dir[d] = 0;
	} else {
		line(g, "setxattr %s dir %zu", dir_names[d], 1 + any(g, 60));
	}
}

void play_random(struct play *p, uint64_t seed, size_t n)
{
	struct gen g = {.rng = seed, .dir = {1}};
	struct place at;
	char name[40];

	while (g.n < n) {
		at = any_place(&g);
		if (any(&g, 10) == 0)
			directory(&g);
		else if (!*at.kind)
			make(&g, &at);
		else if (any(&g, 8) == 0)
			move(&g, &at);
		else if (any(&g, 14) == 0) {
			line(&g, "unlink %s", at.path);
			*at.kind = 0;
		} else if (*at.kind == 'f')
			use(&g, &at);
		else if (any(&g, 4) == 0)
			line(&g, "fsyncdir .");
	}
	snprintf(name, sizeof(name), "random:%llu", (unsigned long long)seed);
	play_take(p, strdup(name), g.lines, g.n);
}
