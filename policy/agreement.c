#include "policy/agreement.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/ids.h"
#include "policy/policy_schema.h"

#define AGREEMENT_FORMAT 1
#define RULES_MAX 256

struct raw_rule {
	char *purpose, *class, *source, *max_session, *event, *period;
	int rights, export, durability;
	int *parties;
	unsigned parties_count;
};

struct raw_agreement {
	unsigned format;
	char *name, *version, *effective, *until;
	struct raw_rule *permit, *forbid, *sessions, *retention;
	unsigned permit_count, forbid_count, sessions_count, retention_count;
};

static const cyaml_schema_field_t permit_fields[] = {
	TEXT("purpose", struct raw_rule, purpose, ID_MAX),
	TEXT("source", struct raw_rule, source, SOURCE_MAX),
	CYAML_FIELD_ENUM("rights", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct raw_rule, rights,
		policy_rights_words, ARRAY_SIZE(policy_rights_words)),
	CYAML_FIELD_SEQUENCE("parties", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_rule, parties,
		&policy_party_value, 1, ARRAY_SIZE(policy_party_words)),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t forbid_fields[] = {
	TEXT("purpose", struct raw_rule, purpose, ID_MAX),
	TEXT("source", struct raw_rule, source, SOURCE_MAX),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t session_fields[] = {
	TEXT("purpose", struct raw_rule, purpose, ID_MAX),
	TEXT("source", struct raw_rule, source, SOURCE_MAX),
	TEXT_OPTIONAL("max_session", struct raw_rule, max_session, ID_MAX),
	CYAML_FIELD_ENUM("export", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct raw_rule, export, policy_export_words,
		ARRAY_SIZE(policy_export_words)),
	CYAML_FIELD_ENUM("durability", CYAML_FLAG_STRICT | CYAML_FLAG_OPTIONAL, struct raw_rule, durability,
		policy_durability_words, ARRAY_SIZE(policy_durability_words)),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t retention_fields[] = {
	TEXT("class", struct raw_rule, class, ID_MAX),
	TEXT("source", struct raw_rule, source, SOURCE_MAX),
	TEXT("event", struct raw_rule, event, ID_MAX),
	TEXT("period", struct raw_rule, period, ID_MAX),
	CYAML_FIELD_END,
};

#define RULE(fields) {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_rule, fields)}
static const cyaml_schema_value_t permit_value = RULE(permit_fields), forbid_value = RULE(forbid_fields),
				  session_value = RULE(session_fields), retention_value = RULE(retention_fields);

#define RULES(key, member, value)                                                                            \
	CYAML_FIELD_SEQUENCE(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw_agreement, member, value, 1,   \
		RULES_MAX)

static const cyaml_schema_field_t agreement_fields[] = {
	CYAML_FIELD_UINT("format", CYAML_FLAG_DEFAULT, struct raw_agreement, format),
	TEXT("name", struct raw_agreement, name, ID_MAX),
	TEXT("version", struct raw_agreement, version, ID_MAX),
	TEXT("effective", struct raw_agreement, effective, ID_MAX),
	TEXT_OPTIONAL("until", struct raw_agreement, until, ID_MAX),
	RULES("permit", permit, &permit_value),
	RULES("forbid", forbid, &forbid_value),
	RULES("sessions", sessions, &session_value),
	RULES("retention", retention, &retention_value),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t agreement_value = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw_agreement, agreement_fields)};

struct loaded {
	struct agreement agreement; /* first: what callers hold; its texts belong to raw */
	struct raw_agreement *raw;
	char hash[2 * KEY_BYTES + 1];
};

struct check {
	const struct policy *p; /* or NULL */
	const struct policy_lines *lines;
	struct policy_error *err;
};

__attribute__((format(printf, 3, 4))) static int refuse(const struct check *c, unsigned line, const char *fmt, ...)
{
	va_list ap;

	c->err->line = line;
	va_start(ap, fmt);
	vsnprintf(c->err->text, sizeof(c->err->text), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int take_date(const struct check *c, const char *key, const char *text, int64_t *ret)
{
	if (!text || (text[0] >= '0' && text[0] <= '9' && date_parse(text, 0, ret) == 0))
		return 0;
	return refuse(c, policy_lines_key(c->lines, key, 0), "\"%s\" is no date: write 2026-12-31", text);
}

static int check_subject(const struct check *c, const struct agreement_rule *to, bool class)
{
	const struct policy_purpose *purpose;

	if (!c->p)
		return 0;
	if (class)
		return policy_class(c->p, to->subject)
			       ? 0
			       : refuse(c, to->line, "the policy %s knows no record class \"%s\"", c->p->name, to->subject);
	purpose = policy_purpose(c->p, to->subject);
	if (!purpose)
		return refuse(c, to->line, "the policy %s knows no purpose \"%s\"", c->p->name, to->subject);
	if (purpose->law)
		return refuse(c, to->line, "%s rests on the law (%s): an agreement cannot change it", purpose->id,
			purpose->source);
	return 0;
}

/* What an agreement says of copies can only be stricter: the policy's word was given to all clients. */
static int take_session(const struct check *c, struct agreement_rule *to, const struct raw_rule *raw)
{
	const struct policy_purpose *u = c->p ? policy_purpose(c->p, to->subject) : NULL;

	if (!raw->max_session && !raw->export && raw->durability != DURABILITY_SYNC)
		return refuse(c, to->line, "this rule says nothing: give max_session, export or durability: sync");
	if (raw->max_session && policy_length_parse(raw->max_session, &to->period) < 0)
		return refuse(c, to->line, "\"%s\" is no length: write 30min, 8h or 1d", raw->max_session);
	if (u && to->export && to->export < u->export)
		return refuse(c, to->line, "the policy says export: %s of %s, and an agreement can only be stricter: leave export out",
			policy_export_name(u->export), u->id);
	return 0;
}

static int take_rules(const struct check *c, struct agreement *a, enum agreement_kind kind, const char *list,
	const struct raw_rule *raw, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct agreement_rule *to = &a->rules[a->rules_count++];
		bool class = kind == AGREEMENT_RETENTION;
		int r;

		*to = (struct agreement_rule){.kind = kind,
			.subject = class ? raw[i].class : raw[i].purpose,
			.source = raw[i].source,
			.rights = (enum rights)raw[i].rights,
			.parties = raw[i].parties,
			.parties_count = raw[i].parties_count,
			.event = raw[i].event,
			.export = (enum policy_export)raw[i].export,
			.durability = (enum policy_durability)raw[i].durability,
			.line = policy_lines_at(c->lines, list, i, NULL)};
		r = check_subject(c, to, class);
		if (r < 0)
			return r;
		r = kind == AGREEMENT_SESSION ? take_session(c, to, &raw[i]) : 0;
		if (r < 0)
			return r;
		if (class && policy_period_parse(raw[i].period, &to->period) < 0)
			return refuse(c, to->line, "\"%s\" is no period: write 90d, 18m or 7y", raw[i].period);
		if (class && c->p && !policy_retention_event(c->p, raw[i].event, &(struct policy_retention){0}))
			return refuse(c, to->line,
				"there is no event \"%s\": created, modified, relationship-end, or one of the policy",
				raw[i].event);
	}
	return 0;
}

static int take(const struct check *c, struct agreement *a, const struct raw_agreement *raw)
{
	int r;

	if (raw->format != AGREEMENT_FORMAT)
		return refuse(c, policy_lines_key(c->lines, "format", 0),
			"this is format %u; this version of Coffer reads format %d", raw->format, AGREEMENT_FORMAT);
	a->name = raw->name;
	a->version = raw->version;
	a->rules = calloc(raw->permit_count + raw->forbid_count + raw->sessions_count + raw->retention_count + 1u,
		sizeof(*a->rules));
	if (!a->rules)
		return -ENOMEM;
	r = take_date(c, "effective", raw->effective, &a->effective);
	if (r == 0)
		r = take_date(c, "until", raw->until, &a->until);
	if (r == 0 && a->until && a->until <= a->effective)
		r = refuse(c, policy_lines_key(c->lines, "until", 0), "it would end before it begins: correct the date");
	/* The order in which they take effect: prohibitions after permissions, so that they win. */
	if (r == 0)
		r = take_rules(c, a, AGREEMENT_PERMIT, "permit", raw->permit, raw->permit_count);
	if (r == 0)
		r = take_rules(c, a, AGREEMENT_FORBID, "forbid", raw->forbid, raw->forbid_count);
	if (r == 0)
		r = take_rules(c, a, AGREEMENT_SESSION, "sessions", raw->sessions, raw->sessions_count);
	if (r == 0)
		r = take_rules(c, a, AGREEMENT_RETENTION, "retention", raw->retention, raw->retention_count);
	return r;
}

DEFINE_SCOPED(struct agreement *, agreement_free)
DEFINE_SCOPED(struct policy_lines *, policy_lines_free)

int agreement_load_text(const char *text, size_t n, const struct policy *p, struct agreement **ret,
	struct policy_error *err)
{
	scoped(policy_lines_freep) struct policy_lines *lines = NULL;
	scoped(agreement_freep) struct agreement *a = NULL;
	struct loaded *l = calloc(1, sizeof(*l));
	struct check c = {.p = p, .err = err};
	unsigned char hash[KEY_BYTES];
	void *raw = NULL;
	int r;

	*err = (struct policy_error){0};
	if (!l)
		return -ENOMEM;
	a = &l->agreement;
	r = policy_lines_new(text, n, &lines, err);
	if (r == 0)
		r = policy_schema_read(text, n, lines, &agreement_value, &raw, err);
	if (r < 0)
		return r;
	l->raw = raw;
	c.lines = lines;
	r = take(&c, a, l->raw);
	if (r < 0)
		return r;
	crypto_generichash(hash, sizeof(hash), (const unsigned char *)text, n, NULL, 0);
	sodium_bin2hex(l->hash, sizeof(l->hash), hash, sizeof(hash));
	a->text_hash = l->hash;
	*ret = take_ptr(&a);
	return 0;
}

void agreement_free(struct agreement *a)
{
	if (!a)
		return;
	free(a->rules);
	policy_schema_discard(&agreement_value, ((struct loaded *)a)->raw);
	free(a);
}
