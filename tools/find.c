#include "tools/find.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"

char *find_program(const char *folder, const char *name)
{
	char self[PATH_MAX];
	scoped(freep) char *path = NULL;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash) {
			*slash = '\0';
			if (asprintf(&path, "%s/../%s/%s", self, folder, name) < 0)
				return NULL;
			if (access(path, X_OK) == 0)
				return take_ptr(&path);
		}
	}
	free(take_ptr(&path));
	if (asprintf(&path, "%s/%s", COFFER_LIBEXECDIR, name) < 0)
		return NULL;
	return access(path, X_OK) == 0 ? take_ptr(&path) : NULL;
}
