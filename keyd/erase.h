/* `coffer shred CLIENT PATH`: the keys of one file or tree are destroyed, because somebody asked for it.  The client's
 * sessions end; the leaves of all that is there are found, whoever shares one of them is moved, and only then they are
 * punctured, together with old leaves that wait for a destruction.  On keyd's loop. */
#ifndef COFFER_KEYD_ERASE_H
#define COFFER_KEYD_ERASE_H

#include "common/varlink.h"
#include "keyd/batch.h"
#include "keyd/keyd.h"

struct erase;
struct job;

/* One class before a date: what survives moves first (keyd/survey.h), the rest goes by a few prefixes. */
struct erase_class {
	const struct policy_class *class;
	uint16_t before;		/* a day that is over */
	int64_t modified_since;		/* what was modified then or later survives; INT64_MAX: that does not count */
	const char *rule, *source;	/* for the certificate */
	const char *reason;
	int64_t notice;			/* row of the notice that ran out, 0: somebody asked for it */
	struct actor by;
	const char *asked_by;		/* who asked for what `by` confirms; or NULL */
	struct job *job;		/* of whoever asked: taken when it is begun; or NULL */
	/* What survives has moved; instead of destroying at once.  e is the callee's (erase_item, erase_free); nothing of the
	 * client's store may change before.  Or NULL. */
	void (*ready)(struct keyd *k, struct erase *e, void *arg);
	void (*done)(struct keyd *k, int error, void *arg);	/* once, later: 0: destroyed; or NULL */
	void *arg;
};
/* The caller has judged that it is due.  Ends the client's sessions.  -EBUSY: its files are being gone through already;
 * errors of survey_start; nothing was begun then, and `done` is not called.  `job` may be NULL. */
int erase_class(struct keyd *k, const struct fact_client *c, const struct erase_class *spec, struct job **job);

/* Borrows e, also afterwards.  -ENOMEM. */
int erase_item(struct erase *e, struct batch_item *ret);
void erase_free(struct erase *e);	/* `done` says that it is not, if nothing else was said */

int keyd_erase(struct varlink_call *call, json_t *params, void *userdata);
/* Certifies what a crash left uncertified. */
void erase_tick(struct keyd *k);
/* Before each rotation, and before its intents: says of every erasure that was intended and did not happen that it did not.
 * The rotation may prune, after which "not there" says nothing of it any more.  Negative: that is not recorded, no rotation.
 * One of a client whose keys do not read stays undecided (`status` says so), and stops nothing. */
int erase_settle(struct keyd *k);

#endif
