#include "policy/policy.h"

#include <errno.h>
#include <regex.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/ids.h"
#include "common/scope.h"
#include "policy/builtin.h"
#include "policy/policy_lines.h"
#include "policy/policy_schema.h"

#define POLICY_FORMAT 1
#define WAIT_DAYS 30
#define WAIT_DAYS_LEAST 7
#define RECORD_ARCHIVE_MONTHS 1 /* a month that is over is looked at most in the next one */
#define RECORD_KEEP_DAYS_LEAST 365
#define WINDOW_AT (2 * 3600) /* 02:00 UTC: nobody works, and the day's backup is still to come */

/* ---- what the schema cannot see ---- */

struct loaded {
	struct policy policy; /* first: what callers hold; its texts belong to raw */
	struct raw_policy *raw;
	char hash[2 * KEY_BYTES + 1];
};

struct check {
	const struct policy_lines *lines;
	struct policy_error *err;
};

__attribute__((format(printf, 3, 4))) static int refuse(
	const struct check *c, unsigned line, const char *fmt, ...)
{
	va_list ap;

	c->err->line = line;
	va_start(ap, fmt);
	vsnprintf(c->err->text, sizeof(c->err->text), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Ids stand on command lines, in records and in lists separated by commas. */
static int check_id(const struct check *c, const char *list, size_t i, const char *id)
{
	if (strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(id) && id[0] != '-')
		return 0;
	return refuse(c, policy_lines_at(c->lines, list, i, "id"),
		"\"%s\" is no id: use small letters, digits and hyphens", id);
}

static int double_id(const struct check *c, const char *list, size_t i, const char *id)
{
	return refuse(c, policy_lines_at(c->lines, list, i, "id"),
		"the id \"%s\" is used twice: choose another", id);
}

static int take_bases(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	p->bases = calloc(raw->bases_count, sizeof(*p->bases));
	if (!p->bases)
		return -ENOMEM;
	for (size_t i = 0; i < raw->bases_count; i++) {
		const struct raw_basis *b = &raw->bases[i];
		int r = check_id(c, "legal_bases", i, b->id);

		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (strcmp(p->bases[k].id, b->id) == 0)
				return double_id(c, "legal_bases", i, b->id);
		p->bases[p->bases_count++] = (struct policy_basis){
			.id = b->id, .title = b->title, .source = b->source, .consent = b->consent};
	}
	return 0;
}

static int take_services(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	p->services = calloc(raw->services_count + 1, sizeof(*p->services));
	if (!p->services)
		return -ENOMEM;
	for (size_t i = 0; i < raw->services_count; i++) {
		const struct raw_service *v = &raw->services[i];
		int r = check_id(c, "service_lines", i, v->id);

		if (r < 0)
			return r;
		if (policy_service(p, v->id))
			return double_id(c, "service_lines", i, v->id);
		p->services[p->services_count++] =
			(struct policy_service){.id = v->id, .title = v->title, .source = v->source};
	}
	return 0;
}

static int take_emergency(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	const struct raw_emergency *e = raw->emergency;
	unsigned line = policy_lines_key(c->lines, "max_session", policy_lines_key(c->lines, "emergency", 0));

	if (!e)
		return 0;
	p->emergency = calloc(1, sizeof(*p->emergency));
	if (!p->emergency)
		return -ENOMEM;
	*p->emergency = (struct policy_emergency){.groups = e->groups,
		.groups_count = e->groups_count,
		.rights = (enum rights)e->rights,
		.source = e->source};
	if (policy_length_parse(e->max_session, &p->emergency->max_session) < 0)
		return refuse(c, line, "\"%s\" is no length: write 30min, 1h or 4h", e->max_session);
	return 0;
}

static int take_together(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	for (unsigned i = 0; i < raw->together_count; i++) {
		unsigned all = 0;

		for (unsigned k = 0; k < raw->together[i].roles_count; k++) {
			enum policy_role role;

			if (policy_role_parse(raw->together[i].roles[k], &role) < 0)
				return refuse(c, policy_lines_at(c->lines, "together", i, "roles"),
					"there is no role \"%s\": admin, custodian, auditor or consultant",
					raw->together[i].roles[k]);
			all |= 1u << role;
		}
		for (unsigned role = 0; role < POLICY_ROLES; role++)
			if (all & (1u << role))
				p->together[role] |= all;
	}
	return 0;
}

static int take_parties(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	p->parties = calloc(raw->parties_count, sizeof(*p->parties));
	if (!p->parties)
		return -ENOMEM;
	for (size_t i = 0; i < raw->parties_count; i++) {
		const struct raw_party *y = &raw->parties[i];
		const char *id = policy_party_name((enum party)y->party);

		if (policy_party(p, (enum party)y->party))
			return double_id(c, "parties", i, id);
		p->parties[p->parties_count++] = (struct policy_party){.party = (enum party)y->party,
			.id = (char *)id,
			.title = y->title,
			.source = y->source,
			.reference_required = y->reference_required,
			.until_required = y->until_required,
			.only_shareable = y->only_shareable};
	}
	return 0;
}

static int check_pattern(const struct check *c, size_t i, const char *pattern)
{
	char why[128];
	regex_t re;
	int r = regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB);

	if (r == 0) {
		regfree(&re);
		return 0;
	}
	regerror(r, &re, why, sizeof(why));
	return refuse(c, policy_lines_at(c->lines, "purposes", i, "ticket"),
		"the pattern \"%s\" is no regular expression: %s", pattern, why);
}

static int take_purpose_parties(const struct check *c, size_t i, const struct raw_purpose *u,
	struct policy_purpose *to, const struct policy *p)
{
	if (u->parties_count == 0)
		return 0;
	to->parties = calloc(u->parties_count, sizeof(*to->parties));
	if (!to->parties)
		return -ENOMEM;
	for (unsigned k = 0; k < u->parties_count; k++) {
		const char *id = policy_party_name((enum party)u->parties[k]);

		if (!policy_party(p, (enum party)u->parties[k]))
			return refuse(c, policy_lines_at(c->lines, "purposes", i, "parties"),
				"the party \"%s\" is not described under \"parties\": describe it there", id);
		to->parties[to->parties_count++] = (char *)id;
	}
	return 0;
}

static int take_length(const struct check *c, size_t i, const char *key, const char *text, struct period *ret)
{
	if (!text || policy_length_parse(text, ret) == 0)
		return 0;
	return refuse(c, policy_lines_at(c->lines, "purposes", i, key),
		"\"%s\" is no length: write 30min, 8h, 1d or 1d 12h", text);
}

static int take_ticket(const struct check *c, size_t i, const struct raw_ticket *t, struct policy_purpose *to)
{
	if (!t)
		return 0;
	to->ticket = t->pattern;
	to->ticket_required = t->required;
	if (!to->ticket && !to->ticket_required)
		return refuse(c, policy_lines_at(c->lines, "purposes", i, "ticket"),
			"this ticket rule asks for nothing: give a pattern, or required: true");
	return to->ticket ? check_pattern(c, i, to->ticket) : 0;
}

/* A node gives its children what they do not say themselves: their place, prohibition, export, durability, service lines. */
static int take_place(const struct check *c, size_t i, const struct raw_purpose *u, const struct policy *p,
	struct policy_purpose *to)
{
	const struct policy_purpose *above = u->parent ? policy_purpose(p, u->parent) : NULL;
	enum policy_durability least = above ? above->durability : p->durability;

	if (u->parent && (!above || above == to))
		return refuse(c, policy_lines_at(c->lines, "purposes", i, "parent"),
			"there is no purpose \"%s\" above this one: a parent stands before its children", u->parent);
	to->parent = above ? (int)(above - p->purposes) : -1;
	to->prohibited_at = u->prohibited ? (int)i : above ? above->prohibited_at : -1;
	to->export = u->export ? (enum policy_export)u->export : above ? above->export : EXPORT_FREE;
	if (above && to->export < above->export)
		return refuse(c, policy_lines_at(c->lines, "purposes", i, "export"),
			"\"%s\" above this one says export: %s, and that covers it: leave export out here", above->id,
			policy_export_name(above->export));
	if (u->durability == DURABILITY_PROCESS && least == DURABILITY_SYNC)
		return refuse(c, policy_lines_at(c->lines, "purposes", i, "durability"),
			"durability: sync is said above this one, and covers it: leave durability out here");
	to->durability = u->durability == DURABILITY_SYNC ? DURABILITY_SYNC : least;
	to->services = u->services;
	to->services_count = u->services_count;
	for (unsigned k = 0; k < u->services_count; k++)
		if (!policy_service(p, u->services[k]))
			return refuse(c, policy_lines_at(c->lines, "purposes", i, "services"),
				"the service line \"%s\" is not described under \"service_lines\"", u->services[k]);
	return 0;
}

/* What only somebody who mounts for it needs. */
static int check_complete(const struct check *c, size_t i, const struct raw_purpose *u, const struct policy *p)
{
	if (u->node && (u->basis || u->rights || u->ticket || u->max_session || u->idle || u->approval || u->after_end ||
			       u->parties_count))
		return refuse(c, policy_lines_at(c->lines, "purposes", i, "node"),
			"a node is only a heading: leave out basis, rights, ticket, max_session, idle, approval, after_end and parties");
	if (u->node)
		return 0;
	if (!u->basis || !u->rights)
		return refuse(c, policy_lines_at(c->lines, "purposes", i, NULL),
			"%s is missing: add it, or say node: true if this is only a heading",
			u->basis ? "rights" : "basis");
	if (!policy_basis(p, u->basis))
		return refuse(c, policy_lines_at(c->lines, "purposes", i, "basis"),
			"the legal basis \"%s\" is not described under \"legal_bases\"", u->basis);
	return 0;
}

static int take_purpose(const struct check *c, size_t i, const struct raw_purpose *u, struct policy *p)
{
	struct policy_purpose *to = &p->purposes[i];
	int r = check_id(c, "purposes", i, u->id);

	if (r < 0)
		return r;
	if (policy_purpose(p, u->id))
		return double_id(c, "purposes", i, u->id);
	r = check_complete(c, i, u, p);
	if (r < 0)
		return r;
	*to = (struct policy_purpose){.id = u->id,
		.title = u->title,
		.basis = u->basis,
		.source = u->source,
		.rights = (enum rights)u->rights,
		.after_end = u->after_end,
		.node = u->node,
		.law = u->law};
	p->purposes_count++;
	r = take_place(c, i, u, p, to);
	if (r == 0)
		r = take_ticket(c, i, u->ticket, to);
	if (r == 0)
		r = take_length(c, i, "max_session", u->max_session, &to->max_session);
	if (r == 0)
		r = take_length(c, i, "idle", u->idle, &to->idle);
	if (r == 0)
		r = take_length(c, i, "approval", u->approval, &to->approval);
	return r < 0 ? r : take_purpose_parties(c, i, u, to, p);
}

static int take_purposes(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	p->purposes = calloc(raw->purposes_count, sizeof(*p->purposes));
	if (!p->purposes)
		return -ENOMEM;
	for (size_t i = 0; i < raw->purposes_count; i++) {
		int r = take_purpose(c, i, &raw->purposes[i], p);

		if (r < 0)
			return r;
	}
	return 0;
}

static const char *const event_words[] = {
	[EVENT_CREATED] = "created", [EVENT_MODIFIED] = "modified", [EVENT_RELATIONSHIP_END] = "relationship-end"};

static int take_events(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	p->events = calloc(raw->events_count + 1, sizeof(*p->events));
	if (!p->events)
		return -ENOMEM;
	for (size_t i = 0; i < raw->events_count; i++) {
		const struct raw_event *e = &raw->events[i];
		int r = check_id(c, "events", i, e->id);

		if (r < 0)
			return r;
		if (policy_event(p, e->id))
			return double_id(c, "events", i, e->id);
		for (size_t k = 0; k < ARRAY_SIZE(event_words); k++)
			if (strcmp(e->id, event_words[k]) == 0)
				return refuse(c, policy_lines_at(c->lines, "events", i, "id"),
					"\"%s\" is an event of every policy: choose another id", e->id);
		p->events[p->events_count++] =
			(struct policy_event){.id = e->id, .title = e->title, .source = e->source};
	}
	return 0;
}

bool policy_retention_event(const struct policy *p, const char *id, struct policy_retention *to)
{
	const struct policy_event *e = policy_event(p, id);

	for (size_t k = 0; k < ARRAY_SIZE(event_words); k++) {
		if (strcmp(id, event_words[k]) == 0) {
			to->event = (enum retention_event)k;
			return true;
		}
	}
	to->event = EVENT_NAMED;
	to->named = e ? e->id : NULL;
	return e != NULL;
}

/* `n`: the rule's place in the list; the legal minimum stands behind the list. */
static int take_rule(const struct check *c, const struct policy *p, size_t i, unsigned n, const struct raw_retention *t,
	struct policy_class *to, bool legal)
{
	struct policy_retention *rule = &to->retention[to->retention_count++];
	unsigned event = legal ? policy_lines_at(c->lines, "classes", i, "at_least")
			       : policy_lines_at_deep(c->lines, "classes", i, "retention", n, "event");
	unsigned period = legal ? event : policy_lines_at_deep(c->lines, "classes", i, "retention", n, "period");

	*rule = (struct policy_retention){.source = t->source, .legal = legal};
	if (!policy_retention_event(p, t->event, rule))
		return refuse(c, event,
			"there is no event \"%s\": created, modified, relationship-end, or one described under "
			"\"events\"",
			t->event);
	if (policy_period_parse(t->period, &rule->period) < 0)
		return refuse(c, period, "\"%s\" is no period: write 90d, 18m, 7y or 1y 6m", t->period);
	return 0;
}

static int take_retention(const struct check *c, const struct policy *p, size_t i, const struct raw_class *k,
	struct policy_class *to)
{
	to->retention = calloc(k->retention_count + 1, sizeof(*to->retention));
	if (!to->retention)
		return -ENOMEM;
	for (unsigned n = 0; n < k->retention_count; n++) {
		int r = take_rule(c, p, i, n, &k->retention[n], to, false);

		if (r < 0)
			return r;
	}
	return k->at_least ? take_rule(c, p, i, 0, k->at_least, to, true) : 0;
}

static int take_classes(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	const struct policy_class *first_default = NULL;

	p->classes = calloc(raw->classes_count, sizeof(*p->classes));
	if (!p->classes)
		return -ENOMEM;
	for (size_t i = 0; i < raw->classes_count; i++) {
		const struct raw_class *k = &raw->classes[i];
		int r = check_id(c, "classes", i, k->id);

		if (r < 0)
			return r;
		if (policy_class(p, k->id))
			return double_id(c, "classes", i, k->id);
		if (k->number < CLASS_FIRST_POLICY)
			return refuse(c, policy_lines_at(c->lines, "classes", i, "number"),
				"class numbers begin at %d", CLASS_FIRST_POLICY);
		if (policy_class_by_number(p, k->number))
			return refuse(c, policy_lines_at(c->lines, "classes", i, "number"),
				"the number %u is used twice: each class has its own, for ever", k->number);
		if (k->is_default && first_default)
			return refuse(c, policy_lines_at(c->lines, "classes", i, "default"),
				"\"%s\" is the default class already: there is one", first_default->id);
		p->classes[i] = (struct policy_class){.number = k->number,
			.id = k->id,
			.title = k->title,
			.source = k->source,
			.is_default = k->is_default,
			.shareable = k->shareable,
			.approval = k->approval,
			.uncached = k->uncached,
			.purposes = k->purposes,
			.purposes_count = k->purposes_count};
		p->classes_count++;
		for (unsigned n = 0; n < k->purposes_count; n++)
			if (!policy_purpose(p, k->purposes[n]))
				return refuse(c, policy_lines_at(c->lines, "classes", i, "purposes"),
					"there is no purpose \"%s\": describe it under \"purposes\"",
					k->purposes[n]);
		if (k->is_default)
			first_default = &p->classes[i];
		r = take_retention(c, p, i, k, &p->classes[i]);
		if (r < 0)
			return r;
	}
	if (!first_default)
		return refuse(c, policy_lines_at(c->lines, "classes", raw->classes_count, NULL),
			"no class is the default: say default: true in one");
	return 0;
}

static bool take_hour(const char *text, int *ret)
{
	static const char shape[] = "dd:dd";
	int hour, minute;

	*ret = WINDOW_AT;
	if (!text)
		return true;
	if (strlen(text) != sizeof(shape) - 1 || text[2] != ':')
		return false;
	for (size_t i = 0; shape[i]; i++)
		if (shape[i] == 'd' && (text[i] < '0' || text[i] > '9'))
			return false;
	hour = (text[0] - '0') * 10 + text[1] - '0';
	minute = (text[3] - '0') * 10 + text[4] - '0';
	*ret = hour * 3600 + minute * 60;
	return hour < 24 && minute < 60;
}

/* A month counts as its shortest. */
static int days_least(const struct period *p)
{
	return p->years * 365 + p->months * 28 + p->days;
}

/* How long the record itself is kept. */
static int take_record(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	const struct raw_record *record = raw->record;
	unsigned line = policy_lines_key(c->lines, "record", 0);

	p->record_archive = (struct period){.months = RECORD_ARCHIVE_MONTHS};
	if (!record)
		return 0;
	if (record->archive && policy_period_parse(record->archive, &p->record_archive) < 0)
		return refuse(c, policy_lines_key(c->lines, "archive", line), "\"%s\" is no period: write 3m or 1y", record->archive);
	if (!record->keep)
		return 0;
	p->record_ends = true;
	if (policy_period_parse(record->keep, &p->record_keep) < 0)
		return refuse(c, policy_lines_key(c->lines, "keep", line), "\"%s\" is no period: write 10y", record->keep);
	if (days_least(&p->record_keep) < RECORD_KEEP_DAYS_LEAST)
		return refuse(c, policy_lines_key(c->lines, "keep", line), "the record is kept for a year (1y) at least, not for %s",
			record->keep);
	return 0;
}

static int take_destruction(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	const char *wait = raw->destruction ? raw->destruction->wait : NULL;
	unsigned line = policy_lines_key(c->lines, "wait", policy_lines_key(c->lines, "destruction", 0));

	p->wait = (struct period){.days = WAIT_DAYS};
	p->sendmail = raw->destruction ? raw->destruction->sendmail : NULL;
	if (p->sendmail && p->sendmail[0] != '/')
		return refuse(c, policy_lines_key(c->lines, "sendmail", 0),
			"\"%s\" is no absolute path: write /usr/sbin/sendmail", p->sendmail);
	if (!take_hour(raw->destruction ? raw->destruction->at : NULL, &p->window_at))
		return refuse(c, policy_lines_key(c->lines, "at", 0),
			"\"%s\" is no time of the day (UTC): write \"02:00\", in quotes", raw->destruction->at);
	if (!wait)
		return 0;
	if (policy_period_parse(wait, &p->wait) < 0)
		return refuse(c, line, "\"%s\" is no period: write 30d, 2m or 1m 15d", wait);
	if (days_least(&p->wait) < WAIT_DAYS_LEAST)
		return refuse(c, line, "a notice of %s is too short: %d days at least", wait, WAIT_DAYS_LEAST);
	return 0;
}

/* Every minute with traffic there is a head, so a file may have each; a letter a day is enough. */
#define ANCHOR_EVERY 60
#define ANCHOR_MAIL_EVERY 86400

static int take_anchor(const struct check *c, size_t i, const struct raw_anchor *a, const struct policy *p, struct policy_anchor *to)
{
	unsigned line = policy_lines_at(c->lines, "anchors", (unsigned)i, NULL);
	struct period every = {0};

	if (!a->file + !a->command + !a->mail != 2)
		return refuse(c, line, "an anchor has one of file, command and mail");
	*to = (struct policy_anchor){.kind = a->file ? ANCHOR_FILE : a->command ? ANCHOR_COMMAND : ANCHOR_MAIL,
		.to = a->file ? a->file : a->command ? a->command : a->mail,
		.every = a->mail ? ANCHOR_MAIL_EVERY : ANCHOR_EVERY};
	if (!a->mail && to->to[0] != '/')
		return refuse(c, line, "\"%s\" is no absolute path", to->to);
	if (a->mail && !p->sendmail)
		return refuse(c, line, "letters need a program that sends them: give destruction: {sendmail: /usr/sbin/sendmail}");
	if (a->mail && (!strchr(a->mail, '@') || strpbrk(a->mail, " \t\r\n,<>\"")))
		return refuse(c, line, "\"%s\" is no address: write audit@example.org", a->mail);
	if (a->every && (policy_length_parse(a->every, &every) < 0 || policy_period_is_zero(&every)))
		return refuse(c, line, "\"%s\" is no length: write 1min, 1h or 1d", a->every);
	if (a->every)
		to->every = policy_period_add(0, &every);
	return to->every >= ANCHOR_EVERY ? 0 : refuse(c, line, "heads are signed once a minute: say at least every: 1min");
}

static int take_anchors(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	int r = 0;

	for (unsigned i = 0; i < raw->anchors_count && r == 0; i++)
		r = take_anchor(c, i, &raw->anchors[i], p, &p->anchors[p->anchors_count++]);
	return r;
}

static int take_head(const struct check *c, const struct raw_policy *raw, struct policy *p)
{
	if (raw->format != POLICY_FORMAT)
		return refuse(c, policy_lines_key(c->lines, "format", 0),
			"this is format %u; this version of Coffer reads format %d", raw->format,
			POLICY_FORMAT);
	if (raw->effective[0] < '0' || raw->effective[0] > '9' ||
		date_parse(raw->effective, 0, &p->effective) < 0)
		return refuse(c, policy_lines_key(c->lines, "effective", 0),
			"\"%s\" is no date: write 2026-12-31", raw->effective);
	p->name = raw->name;
	p->version = raw->version;
	p->controller = raw->controller;
	p->durability = raw->durability ? (enum policy_durability)raw->durability : DURABILITY_PROCESS;
	p->contact = raw->contact;
	return 0;
}

static void set_hash(struct loaded *l, const char *text, size_t n)
{
	unsigned char hash[KEY_BYTES];

	crypto_generichash(hash, sizeof(hash), (const unsigned char *)text, n, NULL, 0);
	sodium_bin2hex(l->hash, sizeof(l->hash), hash, sizeof(hash));
	l->policy.text_hash = l->hash;
}

DEFINE_SCOPED(struct policy *, policy_free)
DEFINE_SCOPED(struct policy_lines *, policy_lines_free)

int policy_load_text(const char *text, size_t n, struct policy **ret, struct policy_error *err)
{
	scoped(policy_lines_freep) struct policy_lines *lines = NULL;
	scoped(policy_freep) struct policy *p = NULL;
	struct loaded *l = calloc(1, sizeof(*l));
	struct check c = {.err = err};
	int r;

	*err = (struct policy_error){0};
	if (!l)
		return -ENOMEM;
	p = &l->policy;
	if (!text)
		text = policy_builtin_text(&n);
	r = policy_lines_new(text, n, &lines, err);
	if (r == 0)
		r = policy_schema_load(text, n, lines, &l->raw, err);
	if (r < 0)
		return r;
	c.lines = lines;
	r = take_head(&c, l->raw, p);
	if (r == 0)
		r = take_destruction(&c, l->raw, p);
	if (r == 0)
		r = take_record(&c, l->raw, p);
	if (r == 0)
		r = take_anchors(&c, l->raw, p);
	if (r == 0)
		r = take_services(&c, l->raw, p);
	if (r == 0)
		r = take_emergency(&c, l->raw, p);
	if (r == 0)
		r = take_together(&c, l->raw, p);
	if (r == 0)
		r = take_bases(&c, l->raw, p);
	if (r == 0)
		r = take_parties(&c, l->raw, p);
	if (r == 0)
		r = take_purposes(&c, l->raw, p);
	if (r == 0)
		r = take_events(&c, l->raw, p);
	if (r == 0)
		r = take_classes(&c, l->raw, p);
	if (r < 0)
		return r;
	set_hash(l, text, n);
	*ret = take_ptr(&p);
	return 0;
}

void policy_free(struct policy *p)
{
	struct loaded *l = (struct loaded *)p;

	if (!p)
		return;
	for (size_t i = 0; i < p->purposes_count; i++)
		free(p->purposes[i].parties);
	for (size_t i = 0; i < p->classes_count; i++)
		free(p->classes[i].retention);
	free(p->bases);
	free(p->services);
	free(p->emergency);
	free(p->events);
	free(p->purposes);
	free(p->parties);
	free(p->classes);
	policy_schema_free(l->raw);
	free(l);
}
