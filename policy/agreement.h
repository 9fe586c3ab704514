/* What a client's contract says otherwise than the policy: an overlay.  What it does not mention stays as the policy has
 * it; where the two conflict the agreement prevails, but not against what the law fixes (purposes with `law`, the legal
 * minimum of a class).  Read with libcyaml; plain data, immutable once loaded.  doc/POLICY.md describes the file. */
#ifndef COFFER_AGREEMENT_H
#define COFFER_AGREEMENT_H

#include "policy/policy.h"

enum agreement_kind { AGREEMENT_PERMIT = 0, AGREEMENT_FORBID, AGREEMENT_SESSION, AGREEMENT_RETENTION };

struct agreement_rule {
	enum agreement_kind kind;
	const char *subject;		/* id of a purpose or node; of a class for RETENTION */
	const char *source;		/* the paragraph */
	enum rights rights;		/* PERMIT: these, too; NONE: it says nothing of rights */
	const int *parties;		/* PERMIT: enum party, these, too */
	size_t parties_count;
	struct period period;		/* SESSION, RETENTION: instead of the policy's; zero: a SESSION rule that says nothing of it */
	enum policy_export export;	/* SESSION: at least so strict; FREE: it says nothing of it */
	enum policy_durability durability; /* SESSION: SYNC, or it says nothing of it */
	const char *event;		/* RETENTION: what it counts from */
	unsigned line;
};

struct agreement {
	char *name, *version;
	int64_t effective, until;	/* until 0: open */
	char *text_hash;		/* BLAKE2b-256 of the text, hex */
	struct agreement_rule *rules;
	size_t rules_count;
};

/* `p`: the policy that it is checked against (what it names must exist, and must not be the law's); NULL: not checked, as
 * for one of the past.  -EINVAL with *err filled. */
int agreement_load_text(const char *text, size_t n, const struct policy *p, struct agreement **ret,
	struct policy_error *err);
void agreement_free(struct agreement *a);

/* The rules that hold for the client: p with what a changes.  *ret borrows from both, which must outlive it; free it with
 * policy_merged_free().  What a names and p does not know changes nothing.  -ENOMEM. */
int policy_merge(const struct policy *p, const struct agreement *a, struct policy **ret);
void policy_merged_free(struct policy *p);

#endif
