/* The policy file as it is written, before it is checked: what libcyaml reads.  Internal to policy/. */
#ifndef COFFER_POLICY_SCHEMA_H
#define COFFER_POLICY_SCHEMA_H

#include <cyaml/cyaml.h>

#include "policy/policy.h"
#include "policy/policy_lines.h"

struct raw_ticket {
	char *pattern;
	int required;
};

struct raw_purpose {
	char *id, *title, *basis, *source, *max_session;
	int rights, after_end;
	struct raw_ticket *ticket;
	int *parties;
	unsigned parties_count;
};

struct raw_basis {
	char *id, *title, *source;
	int consent;
};

struct raw_party {
	char *title, *source;
	int party, reference_required, until_required;
};

struct raw_retention {
	char *event, *period, *source;
};

struct raw_event {
	char *id, *title, *source;
};

struct raw_class {
	uint16_t number;
	char *id, *title, *source;
	int is_default;
	struct raw_retention *retention, *at_least;
	unsigned retention_count;
};

struct raw_destruction {
	char *wait, *sendmail;
};

struct raw_policy {
	unsigned format;
	char *name, *version, *effective, *controller, *contact;
	struct raw_destruction *destruction;
	struct raw_basis *bases;
	struct raw_purpose *purposes;
	struct raw_party *parties;
	struct raw_class *classes;
	struct raw_event *events;
	unsigned bases_count, purposes_count, parties_count, classes_count, events_count;
};

int policy_schema_load(const char *text, size_t n, const struct policy_lines *lines, struct raw_policy **ret,
	struct policy_error *err);
void policy_schema_free(struct raw_policy *raw);	/* NULL is fine */

#endif
