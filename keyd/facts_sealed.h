/* Disclosures that wait for the date on which they may be told (sealed.h). */
#ifndef COFFER_KEYD_FACTS_SEALED_H
#define COFFER_KEYD_FACTS_SEALED_H

#include "keyd/facts.h"

struct fact_sealed {
	int64_t row, until;
	char nonce[65], commitment[65]; /* hex */
	char *content;			/* of facts_sealed_due: malloc'd */
};

void fact_sealed_done(struct fact_sealed *s); /* frees content */
int facts_sealed_put(struct facts *f, const struct fact_sealed *s, struct actor by, int64_t now);
int facts_sealed_due(struct facts *f, int64_t now, struct fact_sealed *ret); /* one; -ENOENT */
int facts_sealed_opened(struct facts *f, int64_t row, int64_t now);
/* Those that wait, the next first: {until, commitment, content}. */
int facts_sealed(struct facts *f, json_t **ret);

#endif
