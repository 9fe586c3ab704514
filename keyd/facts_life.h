/* Facts about the life of one record class of a client: its notice, its holds, the last look at what there is of it; and
 * holds on a class or a path.  A notice with class 0 is the whole client's (facts.h). */
#ifndef COFFER_KEYD_FACTS_LIFE_H
#define COFFER_KEYD_FACTS_LIFE_H

#include "keyd/facts.h"

#define LOOK_NOTHING UINT16_MAX	/* no day: there was nothing of it */

struct fact_class {
	int64_t client;
	uint16_t class;
	bool held;		/* by a hold on the class */
	int64_t waiting;	/* row of the notice that runs; 0: none */
	int64_t due, notified_at, wait_until;
	uint16_t before;	/* the notice is about what was made before that day */
	int64_t postponed_until;
	int64_t looked_at;	/* 0: never, or what was seen counts no more */
	uint16_t oldest_day;	/* as it was seen then */
	int64_t oldest_change;
	int64_t found;		/* how much was due then */
	int64_t tried_at;	/* a destruction that did not succeed; 0: none since the notice */
};
int facts_class(struct facts *f, int64_t client, uint16_t class, struct fact_class *ret);

/* Of class n->class.  -EEXIST: one runs already. */
int facts_notice_end_class(struct facts *f, int64_t client, uint16_t class, enum notice_end how, const char *reason,
	int64_t again_at, struct actor by, int64_t now);
bool facts_notice_waited(struct facts *f, int64_t notice, int64_t now);	/* it runs, and its waiting is over */
/* The classes of which a notice runs; *ret is malloc'd. */
int facts_classes_waiting(struct facts *f, int64_t client, struct fact_class **ret, size_t *ret_n);

/* Of all clients: which classes wait; *ret is malloc'd, ascending by client. */
struct fact_class_waits {
	int64_t client;
	uint16_t class;
};
int facts_classes_wait(struct facts *f, struct fact_class_waits **ret, size_t *ret_n);
/* How many notices run, of clients and classes, and when the first of them is over (0: none). */
int facts_waiting(struct facts *f, int64_t *ret_count, int64_t *ret_first);

/* ---- what was seen of a class; replaced by the next look, forgotten when something old may have come */
int facts_look_set(struct facts *f, const struct fact_class *c);
int facts_look_tried(struct facts *f, int64_t client, uint16_t class, int64_t now);
int facts_looks_forget(struct facts *f, int64_t client);

/* ---- holds on a class, a file or a directory */
struct fact_hold {
	int64_t client;
	const char *matter, *reason;
	uint16_t class;		/* or 0 */
	const char *file, *directory;	/* how it is known under each name: hex; or NULL */
	const char *store;	/* where it stood in the store; or NULL */
};
/* Ends the notice of the client, and of the class if it is on that; all of them if it is on the client as a whole. */
int facts_hold_place_on(struct facts *f, const struct fact_hold *h, struct actor by, int64_t now, int64_t *ret_hold);
/* {classes [number], files [hex], directories [hex]}, of live holds. */
int facts_held(struct facts *f, int64_t client, json_t **ret);
/* The number of the newest hold of that client, live or not: another one afterwards means that one came. */
int facts_hold_newest(struct facts *f, int64_t client, int64_t *ret);

#endif
