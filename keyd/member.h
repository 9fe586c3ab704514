/* Who uses a shared mount.  The worker tells of each uid that comes; he is decided as if he had mounted the
 * client himself for the mount's purpose and ticket, written down, and only then told to fsd and the worker.
 */
#ifndef COFFER_KEYD_MEMBER_H
#define COFFER_KEYD_MEMBER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct keyd;
struct session;

/* News from the worker; handled from the loop, since it needs calls. */
void member_wanted(struct keyd *k, uint64_t session, uid_t uid, gid_t gid);
/* The access list of a shared mount's client and purpose goes to its worker. */
int members_tell_access(struct keyd *k, const struct session *s);
void members_access_changed(struct keyd *k);
/* Whether a shared mount may still be there, whoever uses it. */
struct decision;
int members_decide_mount(struct keyd *k, const char *client, const char *purpose, const char *ticket, struct decision *ret);
bool members_mount_stands(struct keyd *k, const struct session *s);
void members_tick(struct keyd *k);
void members_done(struct keyd *k);

#endif
