/* What the sources of the wrapped calls share. */
#ifndef COFFER_POWERCUT_MEMFS_CALLS_H
#define COFFER_POWERCUT_MEMFS_CALLS_H

#include "memfs_impl.h"

/* Declares the wrapper and the real function of one call, and begins the wrapper. */
#define CALL(type, name, ...)                                                                              \
	type __real_##name(__VA_ARGS__);                                                                   \
	type __wrap_##name(__VA_ARGS__);                                                                   \
	type __wrap_##name(__VA_ARGS__)

struct open_file {
	struct node *node;
	int flags;
	uint64_t cookie; /* of a directory: what was read last */
};

enum { READS = 1, CHANGES = 2, NEEDS_ROOM = 4, OPENS = 8 };

extern struct memfs *mem_fs; /* in use */

bool mem_ours(int fd);
struct open_file *mem_file(int fd);
bool mem_fails(const char *name, int what); /* this call is to fail now; errno is set */
int mem_error(int error);		   /* -1, and errno */
struct timespec mem_now(void);
struct node *mem_find(int dirfd, const char *name);	/* NULL and errno */
bool mem_may_add(int dirfd, const char *name);		/* else errno */
uint32_t mem_add(int dirfd, const char *name, mode_t mode, const char *target);

#endif
