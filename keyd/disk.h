/* Small files that must be there, or be gone, when a call returns: everything here is synced, and what must
 * be certain is read back from the medium (O_DIRECT where the file system has it), not from the cache. */
#ifndef COFFER_DISK_H
#define COFFER_DISK_H

#include <stddef.h>
#include <stdint.h>

#define DISK_BLOCK 4096

/* Writes name.tmp, syncs, renames it over `name`, syncs the directory, reads it back.  0600. */
int disk_replace(int dirfd, const char *name, const void *buf, size_t n);

/* The whole file; *ret is malloc'd (nothing secret is in these files, but keys sealed).  -EMSGSIZE above
 * max. */
int disk_read(int dirfd, const char *name, size_t max, uint8_t **ret, size_t *ret_n);

/* One block of a file that exists: in place, synced, read back and compared (-EIO when it differs). */
int disk_read_block(int dirfd, const char *name, unsigned block, uint8_t buf[DISK_BLOCK]);
int disk_write_block(int dirfd, const char *name, unsigned block, const uint8_t buf[DISK_BLOCK]);

/* Overwrites the file in place with random bytes, syncs, unlinks it, syncs the directory.  -ENOENT. */
int disk_destroy(int dirfd, const char *name);

int disk_sync_dir(int dirfd);

/* Asks backup tools to leave it out (nodump) and the file system to overwrite in place (no copy on write).
 * As far as the file system knows these; for a directory or an empty file. */
void disk_mark_private(int fd);

#endif
