/* The users of a shared session.  Each uid that touches the mount is a member: a session of its own in the
 * facts and in the record, decided by keyd.  Until keyd has decided, his requests are kept here and no thread
 * waits.
 *
 * The uid of a request is the kernel's word and may be believed here, because only root or an admin can make
 * such a mount (in a private one it is the mounter's to forge).  Thread-safe. */
#ifndef COFFER_MEMBER_H
#define COFFER_MEMBER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fuse_in_header;
struct members;
struct session;

/* On whose behalf the calling thread serves a request. */
struct member_identity {
	uint64_t number; /* session, for the record */
	bool read_only;
	const struct class_set *classes;
};

int members_new(struct session *s, struct members **ret);
/* Starts the thread that answers what was kept. */
int members_start(struct members *m);
/* The session refuses everything by now: what was kept is answered so, the thread ends. */
void members_stop(struct members *m);
void members_free(struct members *m); /* NULL is fine */

/* A request of a user, n bytes: 0: serve it, *ret says as whom; positive errno: answer it; -EINPROGRESS: it
 * is copied and comes again when keyd has decided. */
int members_admit(struct members *m, const struct fuse_in_header *in, size_t n, struct member_identity *ret);
/* A kept request whose caller does not wait any more: true when it was here and is dropped. */
bool members_interrupted(struct members *m, uint64_t unique);

/* From now on no request waits for a decision that has pages locked: an invalidation would wait for those, and keyd,
 * who would have to decide, for the invalidation. */
void members_free_pages(struct members *m);

/* ---- for the control connection ---- */
/* The next uid that keyd was not asked about yet. */
bool members_next_wanted(struct members *m, uid_t *ret_uid, gid_t *ret_gid);

struct member_terms {
	uid_t uid;
	uint64_t number;
	bool read_only;
	const struct class_set *classes;
	int64_t until;
	uint64_t idle; /* he ends when he is not served for so many seconds; 0: no limit */
	int error; /* positive: refused */
};
int members_decide(struct members *m, const struct member_terms *t); /* -ENOENT: nobody asked */

/* Refuses from now on with `error` and lets the session's keeper invalidate what he has open; session->event
 * follows.  -ENOENT: no such member. */
int members_end(struct members *m, uint64_t number, int error);
/* The keeper's part. */
void members_invalidate(struct members *m);
/* A member whose end is complete, once each.  *ret_why: why he ended; NULL: members_end() was called. */
bool members_next_gone(struct members *m, uint64_t *ret_number, const char **ret_why);
/* Ends those whose time is over (seconds since 1970), or who come no more, and refuses those about whom keyd does not answer.
 * *first becomes the end of the next one, if that is before it. */
void members_tick(struct members *m, int64_t now, int64_t *first);

/* ---- the access list, as the root's ACL ---- */
/* rows: [{id, group (bool), rights}].  -EINVAL. */
int members_set_access(struct members *m, json_t *rows);
/* The value of system.posix_acl_access: bytes needed (or written, when cap is not 0); -ERANGE. */
int members_acl(struct members *m, void *buf, size_t cap);

#endif
