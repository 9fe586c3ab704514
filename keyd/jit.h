/* Just in time: what a second person approves, and what somebody must look at afterwards.  Nobody approves or reviews his
 * own act, in any installation. */
#ifndef COFFER_KEYD_JIT_H
#define COFFER_KEYD_JIT_H

#include "common/varlink.h"
#include "keyd/keyd.h"

#define JIT_CLASS_SECONDS (8 * 3600)	/* an approval of a class lasts so long */
#define JIT_OPEN_MAX 20			/* requests of one user that wait */
#define JIT_OPEN_SECONDS 86400		/* a request nobody decides about */

int keyd_request(struct varlink_call *call, json_t *params, void *userdata);
int keyd_request_list(struct varlink_call *call, json_t *params, void *userdata);
int keyd_request_decide(struct varlink_call *call, json_t *params, void *userdata);
int keyd_review_list(struct varlink_call *call, json_t *params, void *userdata);
int keyd_review_close(struct varlink_call *call, json_t *params, void *userdata);

/* In the transaction of the session: it is open in the reviews.  person: whose act it is (peer.h).  *ret_review: its number. */
int jit_emergency_note(struct keyd *k, const struct session *s, uid_t person, int64_t *ret_review);
/* Afterwards: a letter to the policy's contact, and a line in the log. */
void jit_emergency_tell(struct keyd *k, const struct session *s, int64_t review);

#endif
