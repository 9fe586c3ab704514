#include "policy/policy_schema.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"


/* Not CYAML_BOOL: that takes every other word for true. */
const cyaml_strval_t policy_bool_words[2] = {{"false", 0}, {"true", 1}};
const cyaml_strval_t policy_export_words[2] = {{"recorded", EXPORT_RECORDED}, {"no", EXPORT_NO}};
const cyaml_strval_t policy_durability_words[2] = {{"process", DURABILITY_PROCESS}, {"sync", DURABILITY_SYNC}};
const cyaml_strval_t policy_rights_words[2] = {{"r", RIGHTS_READ}, {"rw", RIGHTS_RW}};
const cyaml_strval_t policy_party_words[4] = {{"employee", PARTY_EMPLOYEE}, {"provider", PARTY_PROVIDER},
	{"partner", PARTY_PARTNER}, {"affiliate", PARTY_AFFILIATE}};


static const cyaml_schema_field_t ticket_fields[] = {
	TEXT_OPTIONAL("pattern", struct raw_ticket, pattern, TEXT_MAX),
	FLAG("required", struct raw_ticket, required),
	CYAML_FIELD_END,
};

const cyaml_schema_value_t policy_party_value = {
	CYAML_VALUE_ENUM(CYAML_FLAG_STRICT, int, policy_party_words, ARRAY_SIZE(policy_party_words))};

const cyaml_schema_value_t policy_id_value = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, ID_MAX)};

static const cyaml_schema_field_t service_fields[] = {
	TEXT("id", struct raw_service, id, ID_MAX),
	TEXT("title", struct raw_service, title, TEXT_MAX),
	TEXT("source", struct raw_service, source, SOURCE_MAX),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t emergency_fields[] = {
	CYAML_FIELD_SEQUENCE("groups", CYAML_FLAG_POINTER, struct raw_emergency, groups, &policy_id_value, 1, 16),
	TEXT("max_session", struct raw_emergency, max_session, ID_MAX),
	WORD("rights", struct raw_emergency, rights, policy_rights_words),
	TEXT("source", struct raw_emergency, source, SOURCE_MAX),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t together_fields[] = {
	CYAML_FIELD_SEQUENCE("roles", CYAML_FLAG_POINTER, struct raw_together, roles, &policy_id_value, 2, POLICY_ROLES),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t purpose_fields[] = {
	TEXT("id", struct raw_purpose, id, ID_MAX),
	TEXT("title", struct raw_purpose, title, TEXT_MAX),
	TEXT_OPTIONAL("parent", struct raw_purpose, parent, ID_MAX),
	FLAG("node", struct raw_purpose, node),
	FLAG("law", struct raw_purpose, law),
	FLAG("prohibited", struct raw_purpose, prohibited),
	TEXT_OPTIONAL("basis", struct raw_purpose, basis, ID_MAX),
	TEXT("source", struct raw_purpose, source, SOURCE_MAX),
	CYAML_FIELD_ENUM("rights", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct raw_purpose, rights, policy_rights_words,
		ARRAY_SIZE(policy_rights_words)),
	CYAML_FIELD_MAPPING_PTR("ticket", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_purpose,
		ticket, ticket_fields),
	TEXT_OPTIONAL("max_session", struct raw_purpose, max_session, ID_MAX),
	TEXT_OPTIONAL("idle", struct raw_purpose, idle, ID_MAX),
	TEXT_OPTIONAL("approval", struct raw_purpose, approval, ID_MAX),
	CYAML_FIELD_ENUM("export", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct raw_purpose, export, policy_export_words,
		ARRAY_SIZE(policy_export_words)),
	CYAML_FIELD_ENUM("durability", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct raw_purpose, durability,
		policy_durability_words, ARRAY_SIZE(policy_durability_words)),
	CYAML_FIELD_SEQUENCE("parties", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_purpose, parties,
		&policy_party_value, 1, ARRAY_SIZE(policy_party_words)),
	CYAML_FIELD_SEQUENCE("services", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_purpose, services,
		&policy_id_value, 1, 64),
	FLAG("after_end", struct raw_purpose, after_end),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t basis_fields[] = {
	TEXT("id", struct raw_basis, id, ID_MAX),
	TEXT("title", struct raw_basis, title, TEXT_MAX),
	TEXT("source", struct raw_basis, source, SOURCE_MAX),
	FLAG("consent", struct raw_basis, consent),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t party_fields[] = {
	WORD("id", struct raw_party, party, policy_party_words),
	TEXT("title", struct raw_party, title, TEXT_MAX),
	TEXT("source", struct raw_party, source, SOURCE_MAX),
	FLAG("reference_required", struct raw_party, reference_required),
	FLAG("until_required", struct raw_party, until_required),
	FLAG("only_shareable", struct raw_party, only_shareable),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t retention_fields[] = {
	TEXT("event", struct raw_retention, event, ID_MAX),
	TEXT("period", struct raw_retention, period, ID_MAX),
	TEXT("source", struct raw_retention, source, SOURCE_MAX),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t event_fields[] = {
	TEXT("id", struct raw_event, id, ID_MAX),
	TEXT("title", struct raw_event, title, TEXT_MAX),
	TEXT("source", struct raw_event, source, SOURCE_MAX),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t event_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_event, event_fields)};
static const cyaml_schema_value_t purpose_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_purpose, purpose_fields)};
static const cyaml_schema_value_t basis_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_basis, basis_fields)};
static const cyaml_schema_value_t party_entry_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_party, party_fields)};
static const cyaml_schema_value_t retention_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_retention, retention_fields)};

static const cyaml_schema_field_t class_fields[] = {
	CYAML_FIELD_UINT("number", CYAML_FLAG_DEFAULT, struct raw_class, number),
	TEXT("id", struct raw_class, id, ID_MAX),
	TEXT("title", struct raw_class, title, TEXT_MAX),
	TEXT("source", struct raw_class, source, SOURCE_MAX),
	FLAG("default", struct raw_class, is_default),
	FLAG("shareable", struct raw_class, shareable),
	FLAG("approval", struct raw_class, approval),
	FLAG("uncached", struct raw_class, uncached),
	CYAML_FIELD_SEQUENCE("purposes", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_class, purposes,
		&policy_id_value, 1, 256),
	CYAML_FIELD_SEQUENCE(
		"retention", CYAML_FLAG_POINTER, struct raw_class, retention, &retention_value, 1, 16),
	CYAML_FIELD_MAPPING_PTR("at_least", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_class, at_least,
		retention_fields),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t service_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_service, service_fields)};
static const cyaml_schema_value_t together_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_together, together_fields)};
static const cyaml_schema_value_t class_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_class, class_fields)};

static const cyaml_schema_field_t destruction_fields[] = {
	TEXT_OPTIONAL("wait", struct raw_destruction, wait, ID_MAX),
	TEXT_OPTIONAL("at", struct raw_destruction, at, ID_MAX),
	TEXT_OPTIONAL("sendmail", struct raw_destruction, sendmail, TEXT_MAX),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t record_fields[] = {
	TEXT_OPTIONAL("archive", struct raw_record, archive, ID_MAX),
	TEXT_OPTIONAL("keep", struct raw_record, keep, ID_MAX),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t anchor_fields[] = {
	TEXT_OPTIONAL("file", struct raw_anchor, file, TEXT_MAX),
	TEXT_OPTIONAL("command", struct raw_anchor, command, TEXT_MAX),
	TEXT_OPTIONAL("mail", struct raw_anchor, mail, ID_MAX),
	TEXT_OPTIONAL("every", struct raw_anchor, every, ID_MAX),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t anchor_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_anchor, anchor_fields)};

static const cyaml_schema_field_t policy_fields[] = {
	CYAML_FIELD_UINT("format", CYAML_FLAG_DEFAULT, struct raw_policy, format),
	TEXT("name", struct raw_policy, name, ID_MAX),
	TEXT("version", struct raw_policy, version, ID_MAX),
	TEXT("effective", struct raw_policy, effective, ID_MAX),
	TEXT("controller", struct raw_policy, controller, TEXT_MAX),
	TEXT("contact", struct raw_policy, contact, TEXT_MAX),
	CYAML_FIELD_ENUM("durability", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct raw_policy, durability,
		policy_durability_words, ARRAY_SIZE(policy_durability_words)),
	CYAML_FIELD_MAPPING_PTR("destruction", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_policy,
		destruction, destruction_fields),
	CYAML_FIELD_MAPPING_PTR("record", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_policy, record, record_fields),
	CYAML_FIELD_SEQUENCE("anchors", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_policy, anchors, &anchor_value, 1,
		POLICY_ANCHORS_MAX),
	CYAML_FIELD_SEQUENCE("service_lines", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_policy, services,
		&service_value, 1, 64),
	CYAML_FIELD_MAPPING_PTR("emergency", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_policy, emergency,
		emergency_fields),
	CYAML_FIELD_SEQUENCE("together", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_policy, together,
		&together_value, 1, 16),
	CYAML_FIELD_SEQUENCE(
		"legal_bases", CYAML_FLAG_POINTER, struct raw_policy, bases, &basis_value, 1, 64),
	CYAML_FIELD_SEQUENCE(
		"purposes", CYAML_FLAG_POINTER, struct raw_policy, purposes, &purpose_value, 1, 256),
	CYAML_FIELD_SEQUENCE("parties", CYAML_FLAG_POINTER, struct raw_policy, parties, &party_entry_value, 1,
		ARRAY_SIZE(policy_party_words)),
	CYAML_FIELD_SEQUENCE("events", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_policy, events,
		&event_value, 1, POLICY_EVENTS_MAX),
	CYAML_FIELD_SEQUENCE("classes", CYAML_FLAG_POINTER, struct raw_policy, classes, &class_value, 1, 256),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t policy_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw_policy, policy_fields)};

/* ---- errors of the schema ---- */

struct load_log {
	char what[384];
	unsigned line; /* of the innermost element that was being read */
};

__attribute__((format(printf, 3, 0))) static void on_load_log(
	cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
	struct load_log *log = ctx;
	const char *at, *text;
	char line[384];

	vsnprintf(line, sizeof(line), fmt, args);
	line[strcspn(line, "\n")] = '\0';
	at = strstr(line, "(line: ");
	if (at && log->line == 0)
		sscanf(at, "(line: %u", &log->line);
	text = strncmp(line, "Load: ", 6) == 0 ? line + 6 : line;
	if (!at && log->what[0] == '\0' && strncmp(text, "Backtrace", 9) != 0)
		snprintf(log->what, sizeof(log->what), "%s", text);
}

static const cyaml_config_t load_config = {
	.mem_fn = cyaml_mem, .log_level = CYAML_LOG_ERROR, .flags = CYAML_CFG_NO_ALIAS};

int policy_schema_read(const char *text, size_t n, const struct policy_lines *lines,
	const struct cyaml_schema_value *schema, void **ret, struct policy_error *err)
{
	static const char unknown[] = "Unexpected key: ";
	struct load_log log = {0};
	cyaml_config_t config = load_config;
	cyaml_err_t e;

	config.log_fn = on_load_log;
	config.log_ctx = &log;
	e = cyaml_load_data((const uint8_t *)text, n, &config, schema, (cyaml_data_t **)ret, NULL);
	if (e == CYAML_OK)
		return 0;
	if (e == CYAML_ERR_OOM)
		return -ENOMEM;
	err->line = log.line;
	if (strncmp(log.what, unknown, strlen(unknown)) == 0) {
		unsigned line = policy_lines_key(lines, log.what + strlen(unknown), log.line);

		err->line = line ? line : log.line;
		snprintf(err->text, sizeof(err->text), "there is no key \"%s\" here: correct or remove it",
			log.what + strlen(unknown));
	} else {
		snprintf(err->text, sizeof(err->text), "%s", log.what[0] ? log.what : cyaml_strerror(e));
	}
	return -EINVAL;
}

void policy_schema_discard(const struct cyaml_schema_value *schema, void *raw)
{
	cyaml_free(&load_config, schema, raw, 0);
}

int policy_schema_load(const char *text, size_t n, const struct policy_lines *lines, struct raw_policy **ret,
	struct policy_error *err)
{
	return policy_schema_read(text, n, lines, &policy_value, (void **)ret, err);
}

void policy_schema_free(struct raw_policy *raw)
{
	policy_schema_discard(&policy_value, raw);
}
