/* `LogVerify` beside the loop: reading a whole ledger takes minutes when it is large, and records must go on coming in.
 * Each job has a thread with a read-only connection of its own; the answer is given on the loop. */
#ifndef COFFER_BROKER_VERIFY_JOB_H
#define COFFER_BROKER_VERIFY_JOB_H

#include "fs/broker/broker.h"
#include "fs/broker/ledger_verify.h"

#define VERIFY_JOBS_MAX 4

struct verify_wanted {
	bool has_expect;
	bool asked_for;	/* the caller asks how far it is (verify_job_reply), and at last what was found */
	struct ledger_keys keys; /* none: signatures are not checked */
	struct ledger_head expect;
	struct ledger_anchor *anchors; /* malloc'd; verify_job_start takes them, also when it fails */
	size_t anchors_n;
};

#define VERIFY_ANCHORS_MAX 1000 /* in one call */

/* Takes the call and answers it later, when this returns 0; at once with a number if it is asked for.  -EBUSY: VERIFY_JOBS_MAX
 * are running; other errors as well:
 * the call is still the caller's. */
int verify_job_start(struct broker *b, struct varlink_call *call, const struct verify_wanted *what);
/* VerifyJob: how far the job of that number is, or once what it found. */
int verify_job_reply(struct broker *b, struct varlink_call *call, int64_t number);
void verify_jobs_stop(struct broker *b);	/* breaks them off and waits for their threads; the loop still exists */

#endif
