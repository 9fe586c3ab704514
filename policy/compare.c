#include "policy/compare.h"

#include <stdio.h>
#include <string.h>

#include "common/scope.h"

#define TEXT_MAX 20480 /* the longest list is one of 256 purposes, of 64 bytes each (policy_schema.c) */

struct compare {
	void (*say)(const struct policy_change *c, void *arg);
	void *arg;
};

const char *policy_period_text(const struct period *p, char buf[PERIOD_TEXT_MAX])
{
	const struct {
		int n;
		const char *unit;
	} parts[] = {{p->years, "y"}, {p->months, "m"}, {p->days, "d"}, {p->seconds / 3600, "h"}, {p->seconds % 3600 / 60, "min"},
		{p->seconds % 60, "s"}};
	int n = 0;

	*buf = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (parts[i].n)
			n += snprintf(buf + n, PERIOD_TEXT_MAX - (size_t)n, "%s%d%s", n ? " " : "", parts[i].n, parts[i].unit);
	return buf;
}

static const char *list_text(char *const *list, size_t n, char *buf, size_t size)
{
	size_t at = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < n && at < size; i++)
		at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? ", " : "", list[i]);
	return buf;
}

/* ---- purposes ---- */

enum purpose_key { P_PARENT, P_NODE, P_PROHIBITED, P_LAW, P_SERVICES, P_BASIS, P_RIGHTS, P_TICKET, P_TICKET_NEEDED, P_LENGTH, P_IDLE,
	P_APPROVAL, P_EXPORT, P_DURABILITY, P_PARTIES, P_AFTER_END, PURPOSE_KEYS };
static const char *const purpose_keys[PURPOSE_KEYS] = {"parent", "node", "prohibited", "law", "services", "basis", "rights",
	"ticket pattern", "ticket required", "max_session", "idle", "approval", "export", "durability", "parties", "after_end"};

static const char *purpose_text(const struct policy *p, const struct policy_purpose *u, enum purpose_key key, char buf[TEXT_MAX])
{
	static const char *const words[] = {"no", "yes"};

	switch (key) {
	case P_PARENT:
		return u->parent < 0 ? "" : p->purposes[u->parent].id;
	case P_NODE:
		return words[u->node];
	case P_PROHIBITED:
		return words[u->prohibited_at >= 0];
	case P_LAW:
		return words[u->law];
	case P_SERVICES:
		return list_text(u->services, u->services_count, buf, TEXT_MAX);
	case P_BASIS:
		return u->basis ? u->basis : "";
	case P_RIGHTS:
		return policy_rights_name(u->rights);
	case P_TICKET:
		return u->ticket ? u->ticket : "";
	case P_TICKET_NEEDED:
		return words[u->ticket_required];
	case P_LENGTH:
		return policy_period_text(&u->max_session, buf);
	case P_IDLE:
		return policy_period_text(&u->idle, buf);
	case P_APPROVAL:
		return policy_period_text(&u->approval, buf);
	case P_EXPORT:
		return policy_export_name(u->export);
	case P_DURABILITY:
		return policy_durability_name(u->durability);
	case P_PARTIES:
		return u->parties_count ? list_text(u->parties, u->parties_count, buf, TEXT_MAX) : "all";
	case P_AFTER_END:
		return words[u->after_end];
	default:
		return "";
	}
}

/* ---- classes ---- */

enum class_key { C_NUMBER, C_DEFAULT, C_PURPOSES, C_SHAREABLE, C_APPROVAL, C_UNCACHED, C_RETENTION, CLASS_KEYS };
static const char *const class_keys[CLASS_KEYS] = {"number", "default", "purposes", "shareable", "approval", "uncached",
	"retention"};

static const char *retention_text(const struct policy_class *c, char buf[TEXT_MAX])
{
	static const char *const events[] = {
		[EVENT_CREATED] = "created", [EVENT_MODIFIED] = "modified", [EVENT_RELATIONSHIP_END] = "relationship-end"};
	char period[PERIOD_TEXT_MAX];
	size_t at = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < c->retention_count && at < TEXT_MAX; i++) {
		const struct policy_retention *t = &c->retention[i];

		at += (size_t)snprintf(buf + at, TEXT_MAX - at, "%s%s%s after %s", i ? ", " : "", t->legal ? "at least " : "",
			policy_period_text(&t->period, period), t->event == EVENT_NAMED ? t->named : events[t->event]);
	}
	return buf;
}

static const char *class_text(const struct policy_class *c, enum class_key key, char buf[TEXT_MAX])
{
	static const char *const words[] = {"no", "yes"};

	switch (key) {
	case C_NUMBER:
		snprintf(buf, TEXT_MAX, "%u", c->number);
		return buf;
	case C_DEFAULT:
		return words[c->is_default];
	case C_PURPOSES:
		return c->purposes_count ? list_text(c->purposes, c->purposes_count, buf, TEXT_MAX) : "all";
	case C_SHAREABLE:
		return words[c->shareable];
	case C_APPROVAL:
		return words[c->approval];
	case C_UNCACHED:
		return words[c->uncached];
	case C_RETENTION:
		return retention_text(c, buf);
	default:
		return "";
	}
}

/* ---- comparing ---- */

static void said(const struct compare *c, const char *kind, const char *id, const char *key, const char *was, const char *will)
{
	const struct policy_change change = {kind, id, key, was, will};

	if (strcmp(was, will) != 0)
		c->say(&change, c->arg);
}

static void compare_purposes(const struct compare *c, const struct policy *a, const struct policy *b)
{
	char was[TEXT_MAX], will[TEXT_MAX];

	for (size_t i = 0; i < a->purposes_count; i++) {
		const struct policy_purpose *u = &a->purposes[i], *v = policy_purpose(b, u->id);

		if (!v)
			said(c, "purpose", u->id, "", u->title, "");
		for (unsigned key = 0; v && key < PURPOSE_KEYS; key++)
			said(c, "purpose", u->id, purpose_keys[key], purpose_text(a, u, key, was), purpose_text(b, v, key, will));
	}
	for (size_t i = 0; i < b->purposes_count; i++)
		if (!policy_purpose(a, b->purposes[i].id))
			said(c, "purpose", b->purposes[i].id, "", "", b->purposes[i].title);
}

static void compare_classes(const struct compare *c, const struct policy *a, const struct policy *b)
{
	char was[TEXT_MAX], will[TEXT_MAX];

	for (size_t i = 0; i < a->classes_count; i++) {
		const struct policy_class *k = &a->classes[i], *v = policy_class(b, k->id);

		if (!v)
			said(c, "class", k->id, "", k->title, "");
		for (unsigned key = 0; v && key < CLASS_KEYS; key++)
			said(c, "class", k->id, class_keys[key], class_text(k, key, was), class_text(v, key, will));
	}
	for (size_t i = 0; i < b->classes_count; i++)
		if (!policy_class(a, b->classes[i].id))
			said(c, "class", b->classes[i].id, "", "", b->classes[i].title);
}

static const char *party_text(const struct policy_party *y, char buf[TEXT_MAX])
{
	if (!y)
		return "";
	snprintf(buf, TEXT_MAX, "described%s%s%s", y->reference_required ? ", reference required" : "",
		y->until_required ? ", end required" : "", y->only_shareable ? ", only shareable classes" : "");
	return buf;
}

static const char *emergency_text(const struct policy_emergency *e, char buf[TEXT_MAX])
{
	char period[PERIOD_TEXT_MAX];
	int n;

	if (!e)
		return "";
	n = snprintf(buf, TEXT_MAX, "%s for %s: ", policy_rights_name(e->rights), policy_period_text(&e->max_session, period));
	(void)list_text(e->groups, e->groups_count, buf + n, TEXT_MAX - (size_t)n);
	return buf;
}

/* Whether a purpose needs the client's consent hangs on it. */
static void compare_bases(const struct compare *c, const struct policy *a, const struct policy *b)
{
	static const char *const words[] = {"no", "yes"};

	for (size_t i = 0; i < a->bases_count; i++) {
		const struct policy_basis *u = &a->bases[i], *v = policy_basis(b, u->id);

		if (v)
			said(c, "basis", u->id, "consent", words[u->consent], words[v->consent]);
		else
			said(c, "basis", u->id, "", u->title, "");
	}
	for (size_t i = 0; i < b->bases_count; i++)
		if (!policy_basis(a, b->bases[i].id))
			said(c, "basis", b->bases[i].id, "", "", b->bases[i].title);
}

/* ---- what holds for all ---- */

enum setting_key { S_CONTROLLER, S_CONTACT, S_DURABILITY, S_WAIT, S_AT, S_SENDMAIL, S_ARCHIVE, S_KEEP, S_ANCHORS, S_TOGETHER, SETTING_KEYS };
static const char *const setting_keys[SETTING_KEYS] = {"controller", "contact", "durability", "destruction: wait", "destruction: at",
	"destruction: sendmail", "record: archive", "record: keep", "anchors", "together"};

static const char *anchors_text(const struct policy *p, char buf[TEXT_MAX])
{
	static const char *const kinds[] = {[ANCHOR_FILE] = "file", [ANCHOR_COMMAND] = "command", [ANCHOR_MAIL] = "mail"};
	size_t at = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < p->anchors_count && at < TEXT_MAX; i++)
		at += (size_t)snprintf(buf + at, TEXT_MAX - at, "%s%s %s every %lld s", i ? ", " : "", kinds[p->anchors[i].kind],
			p->anchors[i].to, (long long)p->anchors[i].every);
	return buf;
}

static const char *together_text(const struct policy *p, char buf[TEXT_MAX])
{
	size_t at = 0;

	buf[0] = '\0';
	for (unsigned a = 0; a < POLICY_ROLES; a++)
		for (unsigned b = a + 1; b < POLICY_ROLES && at < TEXT_MAX; b++)
			if (p->together[a] & 1u << b)
				at += (size_t)snprintf(buf + at, TEXT_MAX - at, "%s%s and %s", at ? ", " : "", policy_role_name(a),
					policy_role_name(b));
	return buf;
}

static const char *setting_text(const struct policy *p, enum setting_key key, char buf[TEXT_MAX])
{
	switch (key) {
	case S_CONTROLLER:
		return p->controller ? p->controller : "";
	case S_CONTACT:
		return p->contact ? p->contact : "";
	case S_DURABILITY:
		return policy_durability_name(p->durability);
	case S_WAIT:
		return policy_period_text(&p->wait, buf);
	case S_AT:
		snprintf(buf, TEXT_MAX, "%02d:%02d UTC", p->window_at / 3600, p->window_at % 3600 / 60);
		return buf;
	case S_SENDMAIL:
		return p->sendmail ? p->sendmail : "";
	case S_ARCHIVE:
		return policy_period_text(&p->record_archive, buf);
	case S_KEEP:
		return p->record_ends ? policy_period_text(&p->record_keep, buf) : "for ever";
	case S_ANCHORS:
		return anchors_text(p, buf);
	case S_TOGETHER:
		return together_text(p, buf);
	default:
		return "";
	}
}

static void compare_settings(const struct compare *c, const struct policy *a, const struct policy *b)
{
	char was[TEXT_MAX], will[TEXT_MAX];

	for (unsigned key = 0; key < SETTING_KEYS; key++)
		said(c, "setting", "", setting_keys[key], setting_text(a, key, was), setting_text(b, key, will));
}

void policy_compare(const struct policy *a, const struct policy *b, void (*say)(const struct policy_change *c, void *arg),
	void *arg)
{
	const struct compare c = {say, arg};
	char was[TEXT_MAX], will[TEXT_MAX];

	compare_settings(&c, a, b);
	compare_bases(&c, a, b);
	compare_purposes(&c, a, b);
	compare_classes(&c, a, b);
	for (unsigned y = PARTY_EMPLOYEE; y <= PARTY_AFFILIATE; y++)
		said(&c, "party", policy_party_name(y), "", party_text(policy_party(a, y), was), party_text(policy_party(b, y), will));
	said(&c, "emergency", "", "", emergency_text(a->emergency, was), emergency_text(b->emergency, will));
}
