/* `coffer shred CLIENT PATH`: the keys of one file or tree are destroyed, because somebody asked for it.  The client's
 * sessions end; the leaves of all that is there are found, whoever shares one of them is moved, and only then they are
 * punctured, together with old leaves that wait for a destruction.  On keyd's loop. */
#ifndef COFFER_KEYD_ERASE_H
#define COFFER_KEYD_ERASE_H

#include "common/varlink.h"
#include "keyd/keyd.h"

struct job;

/* One class before a date: what survives moves first (keyd/survey.h), the rest goes by a few prefixes. */
struct erase_class {
	const struct policy_class *class;
	uint16_t before;		/* a day that is over */
	int64_t modified_since;		/* what was modified then or later survives; INT64_MAX: that does not count */
	const char *rule, *source;	/* for the certificate */
	const char *reason;
	json_t *keep;			/* paths that survive (array), or NULL; borrowed */
	uint16_t keep_class;		/* class of the leaves of what `keep` saves; 0: its own */
	struct actor by;
	void (*done)(struct keyd *k, int error, void *arg);	/* once, later: 0: destroyed; or NULL */
	void *arg;
};
/* The caller has judged that it is due.  Ends the client's sessions.  -EBUSY: its files are being gone through already;
 * errors of survey_start; nothing was begun then, and `done` is not called.  `job` may be NULL. */
int erase_class(struct keyd *k, const struct fact_client *c, const struct erase_class *spec, struct job **job,
	struct varlink_call *call);

int keyd_erase(struct varlink_call *call, json_t *params, void *userdata);
/* Certifies what a crash left uncertified. */
void erase_tick(struct keyd *k);

#endif
