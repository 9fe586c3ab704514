/* Scenarios as text, and the end of one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "play.h"

void play_take(struct play *p, const char *name, char **lines, size_t n)
{
	*p = (struct play){.name = name, .lines = lines, .n_lines = n};
}

int play_load(const char *path, struct play *p)
{
	char line[1024], **lines = NULL;
	FILE *f = fopen(path, "re");
	size_t n = 0;

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "#\n")] = 0;
		if (line[strspn(line, " \t")] == 0)
			continue;
		lines = realloc(lines, (n + 1) * sizeof(*lines));
		if (!lines || !(lines[n++] = strdup(line + strspn(line, " \t"))))
			abort();
	}
	fclose(f);
	play_take(p, strdup(path), lines, n);
	return 0;
}

void play_print(const struct play *p, size_t failed)
{
	size_t i;

	for (i = 0; i < p->n_lines; i++)
		fprintf(stderr, "%s\t%s\n", i == failed ? "=>" : "", p->lines[i]);
}

void play_reset(struct play *p)
{
	size_t i, k;

	for (i = 0; i < p->n_objects; i++) {
		for (k = 0; k < p->objects[i]->n_v; k++)
			free(p->objects[i]->v[k].data);
		free(p->objects[i]->v);
		free(p->objects[i]->sync_at);
		free(p->objects[i]->sync_v);
		free(p->objects[i]->attrs);
		free(p->objects[i]->target);
		free(p->objects[i]);
	}
	for (i = 0; i < p->n_now; i++)
		free(p->now[i].path);
	for (i = 0; i < p->n_snaps; i++) {
		for (k = 0; k < p->snaps[i].n; k++) {
			free(p->snaps[i].e[k].path);
			free(p->snaps[i].e[k].attrs);
		}
		free(p->snaps[i].e);
	}
	free(p->objects);
	free(p->now);
	free(p->snaps);
	p->objects = NULL;
	p->now = NULL;
	p->snaps = NULL;
	p->n_objects = p->n_now = p->n_snaps = 0;
	p->error = 0;
}

void play_free(struct play *p)
{
	size_t i;

	play_reset(p);
	for (i = 0; i < p->n_lines; i++)
		free(p->lines[i]);
	free(p->lines);
	free((void *)p->name);
	*p = (struct play){0};
}
