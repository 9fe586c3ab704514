/* Where keys live: one locked, undumpable arena per process, and the hardening of the
 * process itself.  sodium_malloc() hides a failed mlock, so the lock is checked here and
 * a daemon does not start without it.  Thread-safe. */
#ifndef COFFER_SECRET_H
#define COFFER_SECRET_H

#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"

struct key32 {		/* any symmetric key; wrap it in a named struct where kinds meet */
	uint8_t b[KEY_BYTES];
};

void key32_wipe(struct key32 *k);	/* also for scoped(key32_wipe) */

/* Initialises libsodium and maps, locks and marks MADV_DONTDUMP one arena of `bytes`.
 * -ENOMEM / -EPERM: it could not be locked (RLIMIT_MEMLOCK); the caller must not go on.  Again with
 * the same or a smaller size: 0; larger: -EALREADY.  A forked child sees zeros there (WIPEONFORK): it
 * must exec or _exit, so a daemon detaches itself before this call.  Pages take memory when they are first used. */
int secret_init(size_t bytes);
/* How large an arena to ask for: `roomy` where the process may lock any amount, else `usual`. */
size_t secret_arena_bytes(size_t usual, size_t roomy);
void secret_done(void);		/* wipes and unmaps all */

/* From the arena, aligned to 64; zeroed; NULL when it is full (or not there).  secret_free wipes; NULL is
 * fine; it aborts on what was not allocated or was written past its end. */
void *secret_alloc(size_t n);
void secret_free(void *p);
size_t secret_in_use(void);

/* No core dumps, not dumpable (nobody of the same uid may ptrace or read memory), no new
 * privileges.  Fatal for the caller when refused. */
int secret_harden_process(void);

/* Locks all memory of the process, present and future, if the limits allow it (OpenSSL's key
 * schedules live outside the arena).  0; -EPERM when there is a limit and no CAP_IPC_LOCK (then nothing is
 * locked, since later allocations would fail at the limit): say so in `status`. */
int secret_lock_all(void);

/* A descriptor that carries `n` secret bytes to another process: memfd_secret where the
 * kernel has it, else a memfd (not write-sealed: the receiver must be able to wipe it). */
int secret_fd_new(const void *bytes, size_t n, int *ret_fd);

/* Copies the contents into a fresh arena block, wipes the descriptor's memory; the caller
 * closes fd and frees *ret.  -EMSGSIZE above `max`; -EBADF unless it is memory without a name (no pipe,
 * device or file of a disk); -EBADMSG when it is empty or was cut while we read. */
int secret_fd_take(int fd, size_t max, void **ret, size_t *ret_n);

#endif
