#include "cases.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The *.txt of a directory, sorted. */
static size_t cases_in(const char *folder, char ***ret)
{
	char path[4096];
	struct dirent *e;
	char **all = NULL;
	size_t n = 0;
	DIR *d = opendir(folder);

	while (d && (e = readdir(d))) {
		if (!strstr(e->d_name, ".txt"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		all = realloc(all, (n + 1) * sizeof(*all));
		if (!all)
			abort();
		all[n++] = strdup(path);
	}
	if (d)
		closedir(d);
	if (n > 0)
		qsort(all, n, sizeof(*all), compare_names);
	*ret = all;
	return n;
}

int cases_load(const char *name, size_t random_lines, struct play *ret)
{
	int r = 0;

	if (strncmp(name, "random:", 7) == 0)
		play_random(ret, strtoull(name + 7, NULL, 0), random_lines);
	else
		r = play_load(name, ret);
	if (r < 0)
		fprintf(stderr, "%s: %s\n", name, strerror(-r));
	return r;
}

static int each_of_folder(const char *folder, int (*run)(const char *name))
{
	char **all;
	size_t i, n = cases_in(folder, &all);
	int r = n == 0 ? -ENOENT : 0;

	for (i = 0; i < n; i++) {
		if (r == 0)
			r = run(all[i]);
		free(all[i]);
	}
	free(all);
	return r;
}

int cases_each(char **names, size_t n, int (*run)(const char *name))
{
	size_t i;
	int r = 0;

	for (i = 0; i < n && r == 0; i++) {
		if (strstr(names[i], ".txt") || strncmp(names[i], "random:", 7) == 0)
			r = run(names[i]);
		else
			r = each_of_folder(names[i], run);
	}
	return r;
}
