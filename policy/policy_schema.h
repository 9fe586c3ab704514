/* The policy file as it is written, before it is checked: what libcyaml reads.  Internal to policy/. */
#ifndef COFFER_POLICY_SCHEMA_H
#define COFFER_POLICY_SCHEMA_H

#include <cyaml/cyaml.h>

#include "common/scope.h"
#include "policy/policy.h"
#include "policy/policy_lines.h"

struct raw_ticket {
	char *pattern;
	int required;
};

struct raw_purpose {
	char *id, *title, *basis, *source, *max_session, *idle, *approval, *parent;
	int rights, after_end, node, law, prohibited, export, durability;
	struct raw_ticket *ticket;
	int *parties;
	char **services;
	unsigned parties_count, services_count;
};

struct raw_service {
	char *id, *title, *source;
};

struct raw_emergency {
	char **groups;
	char *max_session, *source;
	int rights;
	unsigned groups_count;
};

struct raw_together {	/* roles that one person may use at the same time */
	char **roles;
	unsigned roles_count;
};

struct raw_basis {
	char *id, *title, *source;
	int consent;
};

struct raw_party {
	char *title, *source;
	int party, reference_required, until_required, only_shareable;
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
	int is_default, shareable, approval, uncached;
	struct raw_retention *retention, *at_least;
	char **purposes;
	unsigned retention_count, purposes_count;
};

struct raw_destruction {
	char *wait, *sendmail, *at;
};

struct raw_record {
	char *archive, *keep;
};

struct raw_anchor {
	char *file, *command, *mail, *every;
};

struct raw_policy {
	unsigned format;
	char *name, *version, *effective, *controller, *contact;
	int durability;
	struct raw_destruction *destruction;
	struct raw_record *record;
	struct raw_anchor *anchors;
	unsigned anchors_count;
	struct raw_basis *bases;
	struct raw_purpose *purposes;
	struct raw_party *parties;
	struct raw_class *classes;
	struct raw_event *events;
	struct raw_service *services;
	struct raw_emergency *emergency;
	struct raw_together *together;
	unsigned services_count, together_count;
	unsigned bases_count, purposes_count, parties_count, classes_count, events_count;
};

/* ---- what schemas of this folder share ---- */
#define TEXT_MAX 1024
#define SOURCE_MAX 160 /* fits a step of decide() */
#define ID_MAX 64

extern const cyaml_strval_t policy_bool_words[2], policy_rights_words[2], policy_party_words[4], policy_export_words[2], policy_durability_words[2];
extern const cyaml_schema_value_t policy_party_value, policy_id_value;

#define TEXT(key, type, member, max) CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER, type, member, 1, max)
#define TEXT_OPTIONAL(key, type, member, max)                                                                \
	CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, member, 1, max)
#define WORD(key, type, member, words)                                                                       \
	CYAML_FIELD_ENUM(key, CYAML_FLAG_STRICT, type, member, words, ARRAY_SIZE(words))
#define FLAG(key, type, member)                                                                              \
	CYAML_FIELD_ENUM(key, CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, type, member, policy_bool_words,             \
		ARRAY_SIZE(policy_bool_words))

/* Reads text into what `schema` describes; policy_schema_discard() frees it.  -EINVAL: *err says what is wrong. */
int policy_schema_read(const char *text, size_t n, const struct policy_lines *lines,
	const struct cyaml_schema_value *schema, void **ret, struct policy_error *err);
void policy_schema_discard(const struct cyaml_schema_value *schema, void *raw);

int policy_schema_load(const char *text, size_t n, const struct policy_lines *lines, struct raw_policy **ret,
	struct policy_error *err);
void policy_schema_free(struct raw_policy *raw);	/* NULL is fine */

#endif
