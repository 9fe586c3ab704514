/* The layout below the state directory D (or /var/lib/coffer with sockets in /run/coffer).
 *
 *	D/coffer.lock           OFD lock: one set of daemons
 *	D/run/keyd.sock         0666, peer credentials decide
 *	D/run/fsd.sock          0666
 *	D/run/keyd.pid          pid of the running coffer-keyd
 *	D/keyd/                 0700: facts.db, keys/ (sealed key states), slot/ (file slot, key file), certificates/
 *	D/ledger/               0700: ledger.db, journal/, archive/
 *	D/store/<client-id>/    0700: ciphertext of one client; store/coffer.lock
 *	D/outbox/               0700: notices of destruction, as mails
 *	D/log/                  0700: keyd.log, fsd.log, worker.log (stderr of the daemons)
 */
#ifndef COFFER_STATEDIR_H
#define COFFER_STATEDIR_H

#include <stdbool.h>

#define STATEDIR_DEFAULT "/var/lib/coffer"
#define STATEDIR_RUN_DEFAULT "/run/coffer"

struct statedir {
	char *root;	/* absolute, resolved */
	char *run;	/* where the sockets are: root/run, or STATEDIR_RUN_DEFAULT */
};

/* `dir` as given by --dir; NULL: COFFER_DIR; else the installed default.  Resolves only, creates
 * nothing.  -ENOENT when it does not exist (and `must_exist`). */
int statedir_find(const char *dir, bool must_exist, struct statedir *ret);
void statedir_done(struct statedir *d);

/* The folders below D, each with the mode it is made with.  Ends with a NULL rel. */
struct statedir_entry {
	const char *rel;
	unsigned mode;
};
extern const struct statedir_entry statedir_layout[];

/* Creates what is missing, with the modes above (D itself 0711 if it is new).  Idempotent. */
int statedir_create(const struct statedir *d);

/* Opens D/<rel> (O_CLOEXEC | flags, mode).  Returns the descriptor or -errno. */
int statedir_open(const struct statedir *d, const char *rel, int flags, unsigned mode);

/* OFD write lock on D/<rel>.  -EWOULDBLOCK: another set of daemons has it.  Keep the descriptor. */
int statedir_lock(const struct statedir *d, const char *rel, int *ret_fd);

#endif
