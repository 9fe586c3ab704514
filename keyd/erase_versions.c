/* What stood at the paths of an erasure before: older backups have it under keys of its own. */
#include "keyd/erase_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/job.h"

static void record_read(struct keyd *k, int error, void *arg)
{
	struct erase *e = arg;

	e->record_unread = error < 0;
	e->go_on(e);
}

/* A record that does not read (an archive was damaged) is said on the certificate, and stops nothing. */
void erase_read_record(struct erase *taken)
{
	scoped(erase_freep) struct erase *e = taken;
	int r = versions_start(e->k, &e->client, record_read, e, &e->record);

	if (r < 0)
		erase_refuse(e, "Failed", NULL, strerror(-r));
	else
		e = NULL;
}

int erase_add_path(struct erase *e, const char *path)
{
	char **more = reallocarray(e->paths, e->paths_n + 1, sizeof(*more));
	char *out, *copy;

	if (!more)
		return -ENOMEM;
	e->paths = more;
	out = copy = calloc(1, strlen(path) + 1);
	if (!copy)
		return -ENOMEM;
	for (const char *p = path; *p; p++)
		if (*p != '/')
			*out++ = *p;
		else if (out > copy && p[1] && p[1] != '/')
			*out++ = '/';
	e->paths[e->paths_n++] = copy;
	return 0;
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

/* Of a directory that is labelled itself also what was removed from it, unless something in it stays: whose that was which
 * is gone, nobody can tell then. */
static int add_row(struct erase *e, const json_t *rows, const json_t *row)
{
	const char *path = json_string_value(json_object_get(row, "path")), *kind = json_string_value(json_object_get(row, "kind"));
	bool stays = json_is_true(json_object_get(row, "held")) || (json_is_true(json_object_get(row, "shared")) && !e->shared);
	json_t *other;
	size_t i;

	if (!path || !kind || stays)
		return 0;
	if (*kind != 'd')
		return erase_add_path(e, path);
	json_array_foreach(rows, i, other)
	{
		const char *its = json_string_value(json_object_get(other, "path"));

		if ((json_is_true(json_object_get(other, "held")) ||
			    (json_is_true(json_object_get(other, "shared")) && !e->shared)) &&
			(!its || is_below(its, path)))
			return 0;
	}
	return erase_add_path(e, path);
}

int erase_add_subject_paths(struct erase *e)
{
	scoped(json_decrefp) json_t *rows = json_array();
	scoped(close_fdp) int fd = dup(e->list_fd);
	scoped(freep) char *line = NULL;
	FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
	json_t *row;
	int r = rows && in ? 0 : -ENOMEM;
	size_t i, cap = 0;

	if (in) {
		(void)take_fd(&fd);
		rewind(in);
	}
	while (r == 0 && getline(&line, &cap, in) > 0) {
		row = json_loads(line, 0, NULL);
		r = !row ? -EBADMSG : json_array_append_new(rows, row) < 0 ? -ENOMEM : 0;
	}
	if (r == 0 && ferror(in))
		r = -EIO;
	if (in)
		fclose(in);
	json_array_foreach(rows, i, row)
	{
		if (r == 0)
			r = add_row(e, rows, row);
	}
	return r;
}

static bool is_held_class(const struct erase *e, uint64_t leaf)
{
	json_t *class;
	size_t i;

	json_array_foreach(json_object_get(e->held, "classes"), i, class)
	{
		if (json_integer_value(class) == (json_int_t)(leaf >> 48))
			return true;
	}
	return false;
}

int erase_find_versions(struct erase *e)
{
	struct versions_found found;
	int r;

	if (!e->record_unread && !e->preview)
		e->record_unread = versions_update(e->record) < 0;
	if (e->record_unread)
		return 0;
	r = versions_find(e->record, e->paths, e->paths_n, &found);
	if (r < 0)
		return r;
	versions_found_done(&e->versions);
	e->versions = found;
	for (size_t i = 0; i < found.n; i++)
		if (is_held_class(e, found.leaves[i]))
			return -EBUSY;
	return 0;
}

int erase_count_versions(struct erase *e)
{
	json_auto_t *counts = json_loads(e->fact.counts, 0, NULL);
	char *text;

	if (!counts)
		return -ENOMEM;
	json_object_set_new(counts, "versions", json_integer((json_int_t)e->versions.n));
	json_object_set_new(counts, "versions_unknown", json_integer((json_int_t)e->versions.unknown));
	json_object_set_new(counts, "versions_elsewhere", json_integer((json_int_t)e->versions.elsewhere));
	if (e->record_unread)
		json_object_set_new(counts, "versions_unread", json_true());
	text = json_dumps(counts, JSON_COMPACT | JSON_SORT_KEYS);
	if (!text)
		return -ENOMEM;
	free(e->fact.counts);
	e->fact.counts = text;
	return 0;
}
