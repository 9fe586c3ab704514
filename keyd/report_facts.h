/* The content of a report, as doc/format-report.md has it: what was counted and what is known, as people read it.  Names of
 * other clients are nowhere in it. */
#ifndef COFFER_KEYD_REPORT_FACTS_H
#define COFFER_KEYD_REPORT_FACTS_H

#include "keyd/keyd.h"

#define REPORT_ROWS_MAX 2000 /* of people, of certificates: what is left out is said */

struct report_facts {
	const struct fact_client *client;
	const struct policy *rules; /* with the client's agreement */
	int64_t from, until, made_at;
	const char *made_by;
	bool names; /* who asked may see the names in the share */
	bool sealed; /* a disclosure must not be told yet: nothing of what was done for it */
	const struct fact_head *head;
	const json_t *counted; /* of Accesses */
};

/* *ret: the object to sign. */
int report_make(struct keyd *k, const struct report_facts *f, json_t **ret);

#endif
