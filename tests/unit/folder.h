/* A folder that a test has for itself, and what it takes to be rid of a tree. */
#ifndef COFFER_TESTS_FOLDER_H
#define COFFER_TESTS_FOLDER_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Makes `below`/coffer-`name`-XXXXXX and opens it.  Returns the descriptor or -1. */
static inline int folder_make(char *path, size_t n, const char *below, const char *name)
{
	(void)snprintf(path, n, "%s/coffer-%s-XXXXXX", below, name);
	return mkdtemp(path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

/* With everything in it, following no link. */
static inline void folder_remove(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;
	DIR *d;

	if (fd < 0) {
		(void)unlinkat(at, name, 0);
		return;
	}
	d = fdopendir(fd);
	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			folder_remove(fd, e->d_name);
	if (d)
		closedir(d);
	(void)unlinkat(at, name, AT_REMOVEDIR);
}

#endif
