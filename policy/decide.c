/* The walk through the rules: each step says what it found, the first that fails refuses. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/utf8.h"
#include "policy/compare.h"
#include "policy/decide_impl.h"

/* One step of the answer.  Returns its outcome. */
__attribute__((format(printf, 5, 6))) static bool step(
	struct walk *w, const char *rule, bool passed, const char *source, const char *fmt, ...)
{
	struct decide_step *s;
	va_list ap;

	if (w->d->steps_count >= DECIDE_STEPS_MAX)
		return passed;
	s = &w->d->steps[w->d->steps_count++];
	s->rule = rule;
	s->passed = passed;
	snprintf(s->source, sizeof(s->source), "%s", source ? source : "");
	va_start(ap, fmt);
	vsnprintf(s->text, sizeof(s->text), fmt, ap);
	va_end(ap);
	utf8_mend(s->text);
	return passed;
}

/* The refusal for the person: the text of the last step, as error `error`, and what to do. */
__attribute__((format(printf, 3, 4))) static bool refuse(
	struct walk *w, const char *error, const char *fmt, ...)
{
	va_list ap;

	snprintf(w->d->error, sizeof(w->d->error), "%s", error);
	snprintf(w->d->message, sizeof(w->d->message), "%s", w->d->steps[w->d->steps_count - 1].text);
	va_start(ap, fmt);
	vsnprintf(w->d->remedy, sizeof(w->d->remedy), fmt, ap);
	va_end(ap);
	utf8_mend(w->d->remedy);
	return false;
}

static bool check_client(struct walk *w)
{
	if (w->f->client)
		return step(w, "client", true, NULL, "the client %s is known%s%s", w->f->client,
			w->f->client_name ? ": " : "", w->f->client_name ? w->f->client_name : "");
	if (w->rq->client)
		step(w, "client", false, NULL, "there is no client %s", w->rq->client);
	else
		step(w, "client", false, NULL, "there is no client of that name");
	return refuse(w, "UnknownClient",
		"check the name: coffer client list shows the clients you have grants for");
}

static bool check_suspension(struct walk *w)
{
	if (w->f->all_suspended) {
		step(w, "state", false, "HOW WE PROTECT AND RETAIN INFORMATION", "all use is suspended: %s",
			w->f->all_suspended);
		return refuse(w, "Suspended", "wait until an admin ends the suspension: coffer resume --all");
	}
	if (w->f->user_suspended) {
		step(w, "state", false, "HOW WE PROTECT AND RETAIN INFORMATION", "%s is suspended: %s", w->rq->user,
			w->f->user_suspended);
		return refuse(w, "Suspended", "wait until an admin ends the suspension: coffer resume --user %s",
			w->rq->user);
	}
	return true;
}

static bool check_state(struct walk *w)
{
	const char *client = w->f->client, *reason = w->f->state_reason;
	const struct policy_purpose *purpose = policy_purpose(w->p, w->rq->purpose);
	char day[DATE_TEXT_MAX], until[DATE_TEXT_MAX], notice[96] = "";

	switch (w->f->state) {
	case CLIENT_ACTIVE:
		return step(w, "state", true, NULL, "%s is an active client", client);
	case CLIENT_SUSPENDED:
		step(w, "state", false, "HOW WE PROTECT AND RETAIN INFORMATION",
			"use of the data of %s is suspended%s%s", client, reason ? ": " : "",
			reason ? reason : "");
		return refuse(
			w, "Suspended", "wait until an admin ends the suspension: coffer resume %s", client);
	case CLIENT_ENDED:
		date_format_day(w->f->ended_on, day);
		if (w->f->waiting_until)
			snprintf(notice, sizeof(notice), "; notice is given, it will be destroyed on %s",
				date_format_day(w->f->waiting_until, until));
		if (purpose && purpose->after_end)
			return step(w, "state", true, purpose->source,
				"the relationship with %s ended on %s; %s may be used until the data is "
				"destroyed%s",
				client, day, purpose->id, notice);
		step(w, "state", false, "HOW WE PROTECT AND RETAIN INFORMATION",
			"the relationship with %s ended on %s; the data is kept only until it is destroyed%s",
			client, day, notice);
		return refuse(w, "Ended",
			"only purposes that the policy allows after the end (after_end) open it; ask an "
			"admin whether one applies");
	case CLIENT_DESTROYED:
		break;
	}
	step(w, "state", false, "HOW WE PROTECT AND RETAIN INFORMATION", "the data of %s was destroyed on %s",
		client, date_format_day(w->f->destroyed_on, day));
	return refuse(
		w, "Destroyed", "nothing can open it again; coffer certificate %s is the proof", client);
}

static bool unknown_purpose(struct walk *w)
{
	char list[400] = "";
	size_t n = 0;

	for (size_t i = 0; i < w->p->purposes_count && n < sizeof(list); i++)
		if (!w->p->purposes[i].node)
			n += (size_t)snprintf(
				list + n, sizeof(list) - n, "%s%s", n > 0 ? ", " : "", w->p->purposes[i].id);
	if (w->purpose)
		step(w, "purpose", false, w->purpose->source, "%s is only a heading in the policy %s %s", w->purpose->id,
			w->p->name, w->p->version);
	else
		step(w, "purpose", false, NULL, "the policy %s %s knows no purpose \"%s\"", w->p->name,
			w->p->version, w->rq->purpose);
	return refuse(w, "UnknownPurpose", "use one of: %s", list);
}

static bool check_purpose(struct walk *w)
{
	const struct policy_override *o;
	const struct policy_purpose *u;

	w->purpose = u = policy_purpose(w->p, w->rq->purpose);
	if (!u || u->node)
		return unknown_purpose(w);
	o = u->override;
	if (o && u->prohibited_at >= 0 && o->prevails) {
		step(w, "agreement", false, o->source, "%s", o->text);
		return refuse(w, "Prohibited", "the client's agreement would have to change: coffer agreement set %s FILE",
			w->f->client);
	}
	if (u->prohibited_at >= 0) {
		const struct policy_purpose *at = &w->p->purposes[u->prohibited_at];

		step(w, "purpose", false, at->source, "the policy %s %s prohibits %s%s%s", w->p->name, w->p->version,
			u->id, at == u ? "" : ", since it prohibits ", at == u ? "" : at->id);
		return refuse(w, "Prohibited", "only an agreement with the client could permit it: coffer agreement set %s FILE",
			w->f->client);
	}
	step(w, "purpose", true, u->source, "the purpose %s is in the policy %s %s: %s", u->id, w->p->name,
		w->p->version, u->title);
	return o ? step(w, "agreement", true, o->source, "%s", o->text) : true;
}

static void limit(struct walk *w, int64_t until)
{
	if (until && (w->d->until == 0 || until < w->d->until))
		w->d->until = until;
}

static bool check_service(struct walk *w)
{
	const struct decide_engagement *found = NULL;
	const struct policy_service *line;
	char list[256] = "";
	size_t n, at = 0;
	char *const *needed = policy_services(w->p, w->purpose, &n);

	if (n == 0)
		return true;
	for (size_t i = 0; i < w->f->engagements_count; i++) {
		const struct decide_engagement *e = &w->f->engagements[i];
		bool fits = strcmp(e->service, "*") == 0;

		for (size_t k = 0; k < n; k++)
			fits |= strcmp(e->service, needed[k]) == 0;
		if (fits && decide_is_in(e->from, e->until, w->now) && (!found || decide_lasts_longer(e->until, found->until)))
			found = e;
	}
	for (size_t k = 0; k < n && at < sizeof(list); k++)
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", k > 0 ? ", " : "", needed[k]);
	line = policy_service(w->p, needed[0]);
	if (found) {
		limit(w, found->until);
		return step(w, "service", true, line ? line->source : NULL, "%s is engaged for %s", w->f->client,
			strcmp(found->service, "*") == 0 ? "all services" : found->service);
	}
	step(w, "service", false, line ? line->source : NULL, "%s belongs to %s, and %s has no such engagement",
		w->purpose->id, list, w->f->client);
	return refuse(w, "NotEngaged", "if the client has engaged you for it: coffer engagement begin %s %s",
		w->f->client, needed[0]);
}

/* Any consent that covers the purpose; whether it covers the recipient too is asked with the grant's party. */
static bool check_basis(struct walk *w)
{
	const struct policy_basis *b = decide_basis_of(w);
	bool any = false;

	if (!b) {
		step(w, "basis", false, NULL, "the purpose %s has no legal basis", w->purpose->id);
		return refuse(w, "NoBasis", "correct the policy");
	}
	if (!b->consent)
		return step(w, "basis", true, b->source, "%s rests on: %s", w->purpose->id, b->title);
	for (size_t i = 0; i < w->f->consents_count; i++) {
		const struct decide_consent *c = &w->f->consents[i];

		any |= policy_covers(w->p, c->scope, w->purpose) && decide_is_in(c->from, c->until, w->now);
	}
	if (any)
		return step(w, "basis", true, b->source, "%s rests on: %s; there is a consent of %s", w->purpose->id,
			b->title, w->f->client);
	step(w, "basis", false, b->source, "%s rests on: %s; there is none of %s now", w->purpose->id, b->title,
		w->f->client);
	return refuse(w, "NoConsent", "when the client has consented: coffer consent give %s --scope %s --evidence FILE",
		w->f->client, w->purpose->id);
}

/* ---- grants ---- */

static bool no_grant(struct walk *w, const struct decide_grant *late, const struct decide_grant *early)
{
	const struct decide_request *rq = w->rq;
	const char *rights = policy_rights_name(rq->rights != RIGHTS_NONE ? rq->rights : RIGHTS_READ);
	const char *error = "NotGranted";
	char when[DATE_TEXT_MAX];

	if (early) {
		error = "GrantNotYet";
		step(w, "grant", false, "HOW WE PROTECT AND RETAIN INFORMATION",
			"the grant of %s to %s for %s begins at %s", w->f->client, rq->user, rq->purpose,
			date_format(early->from, when));
	} else if (late) {
		error = "GrantExpired";
		step(w, "grant", false, "HOW WE PROTECT AND RETAIN INFORMATION",
			"the grant of %s to %s for %s ended at %s", w->f->client, rq->user, rq->purpose,
			date_format(late->until, when));
	} else {
		step(w, "grant", false, "HOW WE PROTECT AND RETAIN INFORMATION",
			"%s has no grant to open %s for %s", rq->user, w->f->client, rq->purpose);
	}
	return refuse(w, error, "ask an admin for: coffer grant %s %s --purpose %s --rights %s", w->f->client,
		rq->user, rq->purpose, rights);
}

static bool check_grant(struct walk *w)
{
	const struct decide_grant *late = NULL, *early = NULL;
	char until[DATE_TEXT_MAX] = "";

	for (size_t i = 0; i < w->f->grants_count; i++) {
		const struct decide_grant *g = &w->f->grants[i];

		if (!policy_covers(w->p, g->purpose, w->purpose) || !decide_is_for(w->rq, g))
			continue;
		if (g->until != 0 && w->now >= g->until)
			late = !late || g->until > late->until ? g : late;
		else if (w->now < g->from)
			early = !early || g->from < early->from ? g : early;
		else if (decide_is_in(g->from, g->until, w->now) && (!w->grant || decide_is_better(w, g, w->grant)))
			w->grant = g;
	}
	if (!w->grant)
		return no_grant(w, late, early);
	if (w->grant->until != 0)
		date_format(w->grant->until, until);
	return step(w, "grant", true, "HOW WE PROTECT AND RETAIN INFORMATION",
		"grant %lld of %s to %s%s for %s%s%s", (long long)w->grant->id, w->f->client,
		w->grant->is_group ? "the group " : "", w->grant->subject, w->grant->purpose,
		until[0] ? ", until " : "", until);
}

static bool check_party(struct walk *w)
{
	const struct policy_party *party = policy_party(w->p, w->grant->party);
	const char *name = policy_party_name(w->grant->party), *error = NULL;
	const char *obstacle = decide_party_obstacle(w, w->grant, &error);

	if (!obstacle) {
		if (decide_basis_of(w)->consent) {
			w->consent = decide_consent_to(w, w->grant->party == PARTY_EMPLOYEE ? NULL : decide_recipient_of(w->grant));
			limit(w, w->consent->until);
		}
		return step(w, "party", true, party->source, "granted as %s%s%s: %s", name,
			w->grant->organisation ? " of " : "", w->grant->organisation ? w->grant->organisation : "",
			party->title);
	}
	step(w, "party", false, party ? party->source : NULL, "%s is granted as %s, and %s %s", w->rq->user,
		name, w->purpose->id, obstacle);
	return refuse(w, error,
		"ask an admin for a grant that keeps to what the policy says of the party %s (--party, "
		"--reference, --until, --organisation), or for the client's consent",
		name);
}

static bool check_rights(struct walk *w)
{
	enum rights wanted = w->rq->rights;

	w->rights = w->purpose->rights & (w->grant ? w->grant->rights : w->p->emergency->rights);
	if (w->rights == RIGHTS_NONE || (wanted & ~w->rights)) {
		bool by_purpose = wanted & ~w->purpose->rights;

		step(w, "rights", false, w->purpose->source, "%s asks for the rights %s; %s gives %s",
			w->rq->user, policy_rights_name(wanted), by_purpose ? "the purpose" : w->grant ? "the grant" : "an emergency",
			policy_rights_name(w->rights));
		if (by_purpose || w->rights == RIGHTS_NONE || !w->grant)
			return refuse(w, "RightsNotGranted",
				"ask for the rights %s, which is the most for %s",
				policy_rights_name(w->grant ? w->purpose->rights : w->rights), w->purpose->id);
		return refuse(w, "RightsNotGranted",
			"ask for the rights %s, or an admin for: coffer grant %s %s --purpose %s --rights %s",
			policy_rights_name(w->rights), w->f->client, w->rq->user, w->purpose->id,
			policy_rights_name(wanted));
	}
	if (wanted != RIGHTS_NONE)
		w->rights = wanted;
	return step(
		w, "rights", true, w->purpose->source, "the rights are %s", policy_rights_name(w->rights));
}

/* ---- approvals and record classes ---- */

static bool is_for_ticket(const struct walk *w, const struct decide_approval *a)
{
	return !a->ticket || !a->ticket[0] || (w->rq->ticket && strcmp(a->ticket, w->rq->ticket) == 0);
}

/* *ret_other: one that holds, but for another ticket; NULL: none.  May be NULL. */
static const struct decide_approval *find_approval(
	const struct walk *w, uint16_t class, const struct decide_approval **ret_other)
{
	const struct decide_approval *found = NULL;

	for (size_t i = 0; i < w->f->approvals_count; i++) {
		const struct decide_approval *a = &w->f->approvals[i];

		if (a->class == class && a->uid == w->rq->uid && strcmp(a->user, w->rq->user) == 0 &&
			strcmp(a->purpose, w->purpose->id) == 0 && decide_is_in(a->from, a->until, w->now)) {
			if (!is_for_ticket(w, a) && ret_other)
				*ret_other = a;
			else if (is_for_ticket(w, a) && (!found || decide_lasts_longer(a->until, found->until)))
				found = a;
		}
	}
	return found;
}

static const struct decide_approval *approval_of(const struct walk *w, uint16_t class)
{
	return find_approval(w, class, NULL);
}

/* NULL: the session may open it. */
static const char *class_obstacle(const struct walk *w, const struct policy_class *k, const char **ret_remedy)
{
	const struct policy_party *party = policy_party(w->p, w->grant ? w->grant->party : PARTY_EMPLOYEE);
	bool may = k->purposes_count == 0;

	for (size_t i = 0; i < k->purposes_count; i++)
		may |= policy_covers(w->p, k->purposes[i], w->purpose);
	*ret_remedy = "mount for a purpose that may open it: coffer policy show lists them";
	if (!may)
		return "belongs to other purposes";
	if (party && party->only_shareable && !k->shareable) {
		*ret_remedy = "only employees may open it";
		return "is not shared with that party";
	}
	if (k->approval && !approval_of(w, k->number)) {
		*ret_remedy = "ask for it: coffer request CLIENT --purpose PURPOSE --class CLASS --reason TEXT";
		return "needs an approval of its own";
	}
	return NULL;
}

static void collect_classes(struct walk *w, char *without, size_t size)
{
	struct decision *d = w->d;
	const char *remedy;
	size_t n = 0;

	d->all_classes = true;
	for (size_t i = 0; i < w->p->classes_count && i < POLICY_CLASSES_MAX; i++) {
		const struct policy_class *k = &w->p->classes[i];

		if (class_obstacle(w, k, &remedy)) {
			d->all_classes = false;
			if (n < size)
				n += (size_t)snprintf(without + n, size - n, "%s%s", n > 0 ? ", " : "", k->id);
			continue;
		}
		d->classes[d->classes_count++] = k->number;
		if (k->approval)
			w->classes_until = !w->classes_until || approval_of(w, k->number)->until < w->classes_until
						   ? approval_of(w, k->number)->until
						   : w->classes_until;
	}
}

/* Does not refuse the session, but what it opens; a request about one file is refused here. */
static bool check_classes(struct walk *w)
{
	const struct policy_class *k = w->rq->class ? policy_class_by_number(w->p, w->rq->class) : NULL;
	const char *obstacle, *remedy = "";
	char without[256] = "";

	collect_classes(w, without, sizeof(without));
	limit(w, w->classes_until);
	if (!w->rq->class)
		return step(w, "classes", true, w->d->all_classes ? NULL : w->purpose->source, "%s%s",
			w->d->all_classes ? "it opens all record classes" : "it opens no files of the record classes ",
			without);
	if (!k) {
		if (w->d->all_classes)
			return step(w, "classes", true, NULL, "the file is of a class that the policy has no more");
		step(w, "classes", false, NULL, "the file is of class %u, which the policy does not describe", w->rq->class);
		return refuse(w, "ClassNotAllowed", "mount for a purpose that may open all classes");
	}
	obstacle = class_obstacle(w, k, &remedy);
	if (!obstacle)
		return step(w, "classes", true, k->source, "the file is of class %s: %s", k->id, k->title);
	step(w, "classes", false, k->source, "the file is of class %s, which %s", k->id, obstacle);
	return refuse(w, "ClassNotAllowed", "%s", remedy);
}

static bool check_approval(struct walk *w)
{
	const struct policy_purpose *u = w->purpose;
	const struct decide_approval *a, *other = NULL;
	char until[DATE_TEXT_MAX];

	if (policy_period_is_zero(&u->approval) || w->rq->presumed)
		return true;
	a = find_approval(w, 0, &other);
	if (a) {
		limit(w, a->until);
		return step(w, "approval", true, u->source, "%s approved it, until %s", a->by, date_format(a->until, until));
	}
	if (other) {
		step(w, "approval", false, u->source, "%s approved %s for the ticket %s, and for no other", other->by, u->id,
			other->ticket);
		return refuse(w, "ApprovalMissing", "mount with --ticket %s, or ask for another approval: coffer request", other->ticket);
	}
	step(w, "approval", false, u->source, "%s needs the approval of a second person", u->id);
	return refuse(w, "ApprovalMissing", "ask for it: coffer request %s --purpose %s --reason TEXT", w->f->client, u->id);
}

static bool check_emergency(struct walk *w)
{
	const struct policy_emergency *e = w->p->emergency;

	for (size_t i = 0; e && i < e->groups_count; i++) {
		if (!decide_in_group(w->rq, e->groups[i]))
			continue;
		if (w->rq->reason && w->rq->reason[0])
			return step(w, "emergency", true, e->source, "%s is in %s, which may open clients in an emergency",
				w->rq->user, e->groups[i]);
		step(w, "emergency", false, e->source, "an emergency needs a reason");
		return refuse(w, "ReasonMissing", "say why with --reason");
	}
	step(w, "emergency", false, e ? e->source : NULL, "%s is in no group that may open clients in an emergency",
		w->rq->user);
	return refuse(w, "NotGranted", "ask an admin for a grant: coffer grant %s %s --purpose %s", w->f->client,
		w->rq->user, w->rq->purpose);
}

/* ---- ticket and length ---- */

static bool check_ticket(struct walk *w)
{
	const char *ticket = w->rq->ticket && w->rq->ticket[0] ? w->rq->ticket : NULL;
	const struct policy_purpose *u = w->purpose;

	if (w->rq->presumed)
		return step(w, "ticket", true, u->source, "as with a ticket that fits");
	if (!ticket && !u->ticket_required)
		return step(w, "ticket", true, u->source, "%s needs no ticket", u->id);
	if (!ticket) {
		step(w, "ticket", false, u->source, "%s needs a ticket", u->id);
		return refuse(w, "TicketMissing", "name the ticket you work on with --ticket%s%s",
			u->ticket ? "; it must match " : "", u->ticket ? u->ticket : "");
	}
	if (!policy_ticket_fits(u, ticket)) {
		step(w, "ticket", false, u->source, "\"%.64s\" is no ticket as %s needs one", ticket, u->id);
		return refuse(w, "TicketInvalid", "a ticket has at most %d characters%s%s", POLICY_TICKET_MAX,
			u->ticket ? " and must match " : "", u->ticket ? u->ticket : "");
	}
	return step(w, "ticket", true, u->source, "the ticket is %.64s", ticket);
}

/* Copies outside the share: an ordinary mount cannot keep programs from making them, `coffer shell` can. */
static bool check_export(struct walk *w)
{
	const struct policy_purpose *u = w->purpose;

	w->d->export = u->export;
	if (u->export == EXPORT_FREE)
		return true;
	if (u->export == EXPORT_RECORDED)
		return step(w, "export", true, u->source, "copies outside the share are allowed, and the session is marked (export: recorded)");
	if (w->rq->shell)
		return step(w, "export", true, u->source,
			"in coffer shell only, whose program cannot write outside the share (export: no)");
	step(w, "export", false, u->source, "%s is not for an ordinary mount: no copies are to be made outside the share (export: no)",
		u->id);
	return refuse(w, "ShellNeeded", "work inside the share: coffer shell %s --purpose %s", w->f->client, u->id);
}

/* Cannot refuse: what its answers wait for. */
static void set_durability(struct walk *w)
{
	w->d->durability = w->purpose->durability;
	if (w->purpose->durability == DURABILITY_SYNC)
		step(w, "durability", true, w->purpose->source,
			"every answer waits until its record is on the disk (durability: sync)");
}

static void limit_to(struct walk *w, const struct period *longest)
{
	if (!policy_period_is_zero(longest))
		limit(w, policy_period_add(w->now, longest));
}

/* Cannot refuse: says when the session ends by itself. */
static void set_length(struct walk *w)
{
	const struct period *idle = &w->purpose->idle;
	char when[DATE_TEXT_MAX], length[PERIOD_TEXT_MAX], unused[PERIOD_TEXT_MAX + 40] = "";

	limit(w, w->grant ? w->grant->until : 0);
	limit_to(w, &w->purpose->max_session);
	if (!w->grant)
		limit_to(w, &w->p->emergency->max_session);
	if (w->f->ended_on > w->now && !w->purpose->after_end)
		limit(w, w->f->ended_on); /* the relationship ends while the session lasts */
	if (!policy_period_is_zero(idle)) {
		w->d->idle = policy_period_add(w->now, idle) - w->now;
		snprintf(unused, sizeof(unused), ", or when it is not used for %s", policy_period_text(idle, length));
	}
	if (w->d->until == 0)
		step(w, "length", true, w->purpose->source, "the session has no fixed end%s", unused);
	else
		step(w, "length", true, w->purpose->source, "the session ends at %s at the latest%s",
			date_format(w->d->until, when), unused);
}

static bool facts_are_complete(const struct decide_facts *f)
{
	if ((f->grants_count && !f->grants) || (f->engagements_count && !f->engagements) ||
		(f->consents_count && !f->consents) || (f->approvals_count && !f->approvals))
		return false;
	for (size_t i = 0; i < f->grants_count; i++)
		if (!f->grants[i].subject || !f->grants[i].purpose)
			return false;
	for (size_t i = 0; i < f->engagements_count; i++)
		if (!f->engagements[i].service)
			return false;
	for (size_t i = 0; i < f->consents_count; i++)
		if (!f->consents[i].scope)
			return false;
	for (size_t i = 0; i < f->approvals_count; i++)
		if (!f->approvals[i].user || !f->approvals[i].purpose || !f->approvals[i].by)
			return false;
	return true;
}

/* A refused session has no rights, no end, no classes, whatever was found on the way. */
static int denied(struct decision *d)
{
	d->until = d->idle = 0;
	d->export = EXPORT_FREE;
	d->durability = DURABILITY_UNSAID;
	d->classes_count = 0;
	d->all_classes = false;
	return 0;
}

int decide(const struct policy *p, const struct decide_facts *f, const struct decide_request *rq, int64_t now,
	struct decision *ret)
{
	struct walk w = {.p = p, .f = f, .rq = rq, .now = now, .d = ret};

	*ret = (struct decision){.verdict = VERDICT_DENY, .rules = p};
	if (!p || !f || !rq || !rq->user || rq->user[0] == '\0' || !rq->purpose ||
		(rq->groups_count && !rq->groups) || !facts_are_complete(f))
		return -EINVAL;
	if (!check_client(&w) || !check_suspension(&w) || !check_state(&w) || !check_purpose(&w) ||
		!check_service(&w) || !check_basis(&w))
		return denied(ret);
	if (rq->emergency ? !check_emergency(&w) : !check_grant(&w) || !check_party(&w))
		return denied(ret);
	if (!check_rights(&w) || !check_classes(&w) || (!rq->emergency && (!check_ticket(&w) || !check_approval(&w))) ||
		!check_export(&w))
		return denied(ret);
	set_durability(&w);
	set_length(&w);
	ret->rights = w.rights;
	ret->party = w.grant ? w.grant->party : PARTY_EMPLOYEE;
	ret->grant = w.grant ? w.grant->id : 0;
	ret->consent = w.consent ? w.consent->id : 0;
	ret->verdict = VERDICT_ALLOW;
	return 0;
}
