/* What a scenario has made: the account that the store is compared with. */
#include "play_account.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_TEXT_MAX 1024

void *play_must(void *p)
{
	if (!p)
		abort();
	return p;
}

char *play_text(const char *s)
{
	return play_must(strdup(s));
}

static void *grow(void *p, size_t n, size_t size)
{
	return play_must(realloc(p, (n ? n : 1) * size));
}

static struct entry *entry_of(struct play *p, const char *path)
{
	size_t i;

	for (i = 0; i < p->n_now; i++)
		if (strcmp(p->now[i].path, path) == 0)
			return &p->now[i];
	return NULL;
}

struct object *account_object(struct play *p, const char *path)
{
	struct entry *e = entry_of(p, path);

	if (!e) {
		fprintf(stderr, "%s: no %s in this scenario\n", p->name, path);
		abort();
	}
	return e->o;
}

struct object *account_new_object(struct play *p, char kind, mode_t mode)
{
	struct object *o = play_must(calloc(1, sizeof(*o)));

	o->kind = kind;
	o->mode = mode;
	o->attrs = play_text("");
	p->objects = grow(p->objects, p->n_objects + 1, sizeof(*p->objects));
	p->objects[p->n_objects++] = o;
	return o;
}

void account_add(struct play *p, const char *path, struct object *o)
{
	p->now = grow(p->now, p->n_now + 1, sizeof(*p->now));
	p->now[p->n_now++] = (struct entry){.path = play_text(path), .o = o};
}

void account_drop(struct play *p, const char *path)
{
	struct entry *e = entry_of(p, path);

	if (!e)
		return;
	free(e->path);
	*e = p->now[--p->n_now];
}

static bool is_below(const char *path, const char *top)
{
	size_t n = strlen(top);

	return strncmp(path, top, n) == 0 && (path[n] == 0 || path[n] == '/');
}

/* Everything at and below `from` is at `to` now; `mark` keeps what an exchange moved from being moved back.
 */
void account_move(struct play *p, const char *from, const char *to, const char *mark)
{
	char path[PATH_TEXT_MAX];
	size_t i;

	for (i = 0; i < p->n_now; i++)
		if (is_below(p->now[i].path, from)) {
			snprintf(path, sizeof(path), "%s%s%s", mark, to, p->now[i].path + strlen(from));
			free(p->now[i].path);
			p->now[i].path = play_text(path);
		}
}

void account_unmark(struct play *p)
{
	size_t i;

	for (i = 0; i < p->n_now; i++)
		if (p->now[i].path[0] == '>')
			memmove(p->now[i].path, p->now[i].path + 1, strlen(p->now[i].path));
}

struct content *account_latest(struct object *o)
{
	return &o->v[o->n_v - 1];
}

size_t account_line;

/* A new content, a copy of the one before with `size` bytes. */
struct content *account_new_content(struct object *o, size_t size, size_t began)
{
	struct content c = {.size = size,
			       .began = began,
			       .line = account_line,
			       .data = play_must(calloc(1, size ? size : 1))},
		       *old;

	if (o->n_v > 0) {
		old = account_latest(o);
		memcpy(c.data, old->data, old->size < size ? old->size : size);
	}
	o->v = grow(o->v, o->n_v + 1, sizeof(*o->v));
	o->v[o->n_v++] = c;
	return account_latest(o);
}

void account_new_sync(struct object *o, size_t log)
{
	o->sync_at = grow(o->sync_at, o->n_sync + 1, sizeof(*o->sync_at));
	o->sync_v = grow(o->sync_v, o->n_sync + 1, sizeof(*o->sync_v));
	o->sync_at[o->n_sync] = log;
	o->sync_v[o->n_sync++] = o->n_v - 1;
}

size_t account_log_now(const struct play *p)
{
	return p->log_length ? p->log_length(p->log_arg) : 0;
}

void play_snapshot(struct play *p)
{
	struct snapshot *s;
	size_t i;

	p->snaps = grow(p->snaps, p->n_snaps + 1, sizeof(*p->snaps));
	s = &p->snaps[p->n_snaps++];
	*s = (struct snapshot){.n = p->n_now, .log = account_log_now(p)};
	s->e = play_must(calloc(p->n_now + 1, sizeof(*s->e)));
	s->n = 0;
	for (i = 0; i < p->n_now; i++)
		if (!p->now[i].o->unnamed)
			s->e[s->n++] = (struct entry){.path = play_text(p->now[i].path),
				.o = p->now[i].o,
				.mode = p->now[i].o->mode,
				.attrs = play_text(p->now[i].o->attrs)};
}
