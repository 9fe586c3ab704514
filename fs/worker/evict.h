/* Bounds what the worker remembers.  A kernel keeps an inode, and we with it, until it wants the memory itself; after a walk
 * over a million files that is much.  So above a limit (inode_limit_for) every session that knows more than its
 * equal part is asked to forget a quarter of that part: what is not in use, the oldest first.  Its keeper thread does it, like
 * every notification: nobody waits for it. */
#ifndef COFFER_EVICT_H
#define COFFER_EVICT_H

struct session;
struct worker;

/* COFFER_INODES in the environment: another limit. */
void evict_begin(struct worker *w);
void evict_run(struct session *s);	/* the session's keeper thread */

#endif
