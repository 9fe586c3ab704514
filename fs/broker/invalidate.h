/* What a dead worker's mount still shows is in the kernel's caches, mapped pages included: they must go before the
 * connection does (afterwards nothing can reach them).
 *
 * While the invalidations run, requests that the worker never read would keep their pages locked, and wait for ever
 * with us: they are ended with EIO, without their contents ever reaching this process. */
#ifndef COFFER_BROKER_INVALIDATE_H
#define COFFER_BROKER_INVALIDATE_H

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/* Invalidates the root and all `n` nodes (0 is skipped) on fuse_fd, then closes it and keeper_fd.  Takes both,
 * also on failure; copies nodes.  Threads do the work; `done` comes from the loop. */
int invalidate_start(sd_event *event, int fuse_fd, int keeper_fd, const uint64_t *nodes, size_t n,
	void (*done)(void *userdata), void *userdata);

#endif
