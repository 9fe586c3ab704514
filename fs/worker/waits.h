/* What waits for its destruction is not opened any more, but by sessions whose purpose may use it until the end; and keyd
 * hears of each who tries.  What is on hold does not wait.  doc/POLICY.md has the rules. */
#ifndef COFFER_WAITS_H
#define COFFER_WAITS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"

struct file;
struct inode;
struct session;
struct worker;

struct waits {		/* changed under the namespace lock */
	struct waiting_class {
		uint16_t class, before;
		int64_t modified_since;	/* what was modified then or later is not concerned */
	} *classes;
	size_t classes_n;
	struct file_id *dirs;	/* on hold, with what is in them */
	size_t dirs_n;
};

/* `params` of org.coffer.worker.Retain (doc/PROTOCOL.md).  -EINVAL, -ENOMEM: nothing changed. */
int waits_set(struct worker *w, const json_t *params);
void waits_done(struct waits *w);
/* What the session has open of it is of no use any more.  For the main thread, after waits_set. */
void waits_close(struct session *s);

/* May `s` use the content of f, which is open as i?  -EKEYEXPIRED: no.  `number`: on whose behalf, for the alarm; either way
 * it is told.  Namespace lock held. */
int waits_check(struct session *s, uint64_t number, struct inode *i, struct file *f);
/* What keyd must hear of this session, or NULL.  For the main thread. */
json_t *waits_news(struct session *s);

#endif
