#include "policy/decide.h"

#include <errno.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/utf8.h"

#define TICKET_MAX 256 /* bounds the matching; a ticket is a number, not a text */

/* What the walk has found so far. */
struct walk {
	const struct policy *p;
	const struct decide_facts *f;
	const struct decide_request *rq;
	int64_t now;
	struct decision *d;
	const struct policy_purpose *purpose;
	const struct decide_grant *grant;
	enum rights rights; /* that grant and purpose give together */
};

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

static bool check_purpose(struct walk *w)
{
	char list[400] = "";
	size_t n = 0;

	w->purpose = policy_purpose(w->p, w->rq->purpose);
	if (w->purpose)
		return step(w, "purpose", true, w->purpose->source,
			"the purpose %s is in the policy %s %s: %s", w->purpose->id, w->p->name,
			w->p->version, w->purpose->title);
	for (size_t i = 0; i < w->p->purposes_count && n < sizeof(list); i++)
		n += (size_t)snprintf(
			list + n, sizeof(list) - n, "%s%s", i > 0 ? ", " : "", w->p->purposes[i].id);
	step(w, "purpose", false, NULL, "the policy %s %s knows no purpose \"%s\"", w->p->name, w->p->version,
		w->rq->purpose);
	return refuse(w, "UnknownPurpose", "use one of: %s", list);
}

static bool check_basis(struct walk *w)
{
	for (size_t i = 0; i < w->p->bases_count; i++) {
		const struct policy_basis *b = &w->p->bases[i];

		if (strcmp(b->id, w->purpose->basis) != 0)
			continue;
		return step(w, "basis", true, b->source, "%s rests on: %s%s", w->purpose->id, b->title,
			b->consent ? " (whoever grants it vouches for the consent: this version keeps none)"
				   : "");
	}
	step(w, "basis", false, NULL, "the purpose %s has no legal basis", w->purpose->id);
	return refuse(w, "NoBasis", "correct the policy");
}

/* ---- grants ---- */

static bool in_group(const struct decide_request *rq, const char *group)
{
	for (size_t i = 0; i < rq->groups_count; i++)
		if (strcmp(rq->groups[i], group) == 0)
			return true;
	return false;
}

/* Name and uid: a name given to somebody else later is not the one the grant was given to. */
static bool is_for(const struct decide_request *rq, const struct decide_grant *g)
{
	if (g->is_group)
		return in_group(rq, g->subject);
	return strcmp(g->subject, rq->user) == 0 && g->uid == rq->uid;
}

static bool is_valid(const struct decide_grant *g, int64_t now)
{
	return g->from <= now && (g->until == 0 || now < g->until);
}

/* NULL: the grant keeps the limits of its party, and the purpose is open to that party. */
static const char *party_obstacle(const struct walk *w, const struct decide_grant *g, const char **ret_error)
{
	const struct policy_party *party = policy_party(w->p, g->party);
	bool may = w->purpose->parties_count == 0;

	for (size_t i = 0; i < w->purpose->parties_count; i++)
		may |= strcmp(w->purpose->parties[i], policy_party_name(g->party)) == 0;
	if (!party || !may) {
		*ret_error = "PartyNotAllowed";
		return "is not open to that party";
	}
	if (party->reference_required && (!g->reference || g->reference[0] == '\0')) {
		*ret_error = "ReferenceMissing";
		return "needs the reference of a request or order for that party, and the grant has none";
	}
	if (party->until_required && g->until == 0) {
		*ret_error = "EndMissing";
		return "needs an end for that party, and the grant has none";
	}
	return NULL;
}

/* A total order: what is open to its party, most rights, longest, then the one given first. */
static bool is_better(const struct walk *w, const struct decide_grant *a, const struct decide_grant *b)
{
	const char *ignored;
	bool a_may = !party_obstacle(w, a, &ignored), b_may = !party_obstacle(w, b, &ignored);
	enum rights a_rights = a->rights & w->purpose->rights, b_rights = b->rights & w->purpose->rights;

	if (a_may != b_may)
		return a_may;
	if (a_rights != b_rights)
		return a_rights > b_rights;
	if (a->until != b->until)
		return a->until == 0 || (b->until != 0 && a->until > b->until);
	return a->id < b->id;
}

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

		if (strcmp(g->purpose, w->purpose->id) != 0 || !is_for(w->rq, g))
			continue;
		if (g->until != 0 && w->now >= g->until)
			late = !late || g->until > late->until ? g : late;
		else if (w->now < g->from)
			early = !early || g->from < early->from ? g : early;
		else if (is_valid(g, w->now) && (!w->grant || is_better(w, g, w->grant)))
			w->grant = g;
	}
	if (!w->grant)
		return no_grant(w, late, early);
	if (w->grant->until != 0)
		date_format(w->grant->until, until);
	return step(w, "grant", true, "HOW WE PROTECT AND RETAIN INFORMATION",
		"grant %lld of %s to %s%s for %s%s%s", (long long)w->grant->id, w->f->client,
		w->grant->is_group ? "the group " : "", w->grant->subject, w->purpose->id,
		until[0] ? ", until " : "", until);
}

static bool check_party(struct walk *w)
{
	const struct policy_party *party = policy_party(w->p, w->grant->party);
	const char *name = policy_party_name(w->grant->party), *error = NULL;
	const char *obstacle = party_obstacle(w, w->grant, &error);

	if (!obstacle)
		return step(w, "party", true, party->source, "granted as %s: %s", name, party->title);
	step(w, "party", false, party ? party->source : NULL, "%s is granted as %s, and %s %s", w->rq->user,
		name, w->purpose->id, obstacle);
	return refuse(w, error,
		"ask an admin for a grant that keeps to what the policy says of the party %s (--party, "
		"--reference, --until)",
		name);
}

static bool check_rights(struct walk *w)
{
	enum rights wanted = w->rq->rights;

	w->rights = w->grant->rights & w->purpose->rights;
	if (w->rights == RIGHTS_NONE || (wanted & ~w->rights)) {
		bool by_purpose = wanted & ~w->purpose->rights;

		step(w, "rights", false, w->purpose->source, "%s asks for the rights %s; %s gives %s",
			w->rq->user, policy_rights_name(wanted), by_purpose ? "the purpose" : "the grant",
			policy_rights_name(w->rights));
		if (by_purpose || w->rights == RIGHTS_NONE)
			return refuse(w, "RightsNotGranted",
				"ask for the rights %s, which is the most for %s",
				policy_rights_name(w->purpose->rights), w->purpose->id);
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

/* 0: it matches; -EINVAL: it does not. */
static int match_ticket(const char *pattern, const char *ticket)
{
	regex_t re;
	int r;

	if (strlen(ticket) > TICKET_MAX)
		return -EINVAL;
	if (!pattern)
		return 0;
	if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		return -EINVAL;
	r = regexec(&re, ticket, 0, NULL, 0);
	regfree(&re);
	return r == 0 ? 0 : -EINVAL;
}

static bool check_ticket(struct walk *w)
{
	const char *ticket = w->rq->ticket && w->rq->ticket[0] ? w->rq->ticket : NULL;
	const struct policy_purpose *u = w->purpose;

	if (!ticket && !u->ticket_required)
		return step(w, "ticket", true, u->source, "%s needs no ticket", u->id);
	if (!ticket) {
		step(w, "ticket", false, u->source, "%s needs a ticket", u->id);
		return refuse(w, "TicketMissing", "name the ticket you work on with --ticket%s%s",
			u->ticket ? "; it must match " : "", u->ticket ? u->ticket : "");
	}
	if (match_ticket(u->ticket, ticket) < 0) {
		step(w, "ticket", false, u->source, "\"%.64s\" is no ticket as %s needs one", ticket, u->id);
		return refuse(w, "TicketInvalid", "a ticket has at most %d characters%s%s", TICKET_MAX,
			u->ticket ? " and must match " : "", u->ticket ? u->ticket : "");
	}
	return step(w, "ticket", true, u->source, "the ticket is %.64s", ticket);
}

/* Cannot refuse: says when the session ends by itself. */
static void set_length(struct walk *w)
{
	const struct period *max = &w->purpose->max_session;
	int64_t until = w->grant->until, longest;
	char when[DATE_TEXT_MAX];

	if (max->years || max->months || max->days) {
		longest = date_add(w->now, max->years, max->months, max->days);
		until = until == 0 || longest < until ? longest : until;
	}
	if (w->f->ended_on > w->now && !w->purpose->after_end && (until == 0 || w->f->ended_on < until))
		until = w->f->ended_on; /* the relationship ends while the session lasts */
	w->d->until = until;
	if (until == 0)
		step(w, "length", true, w->purpose->source, "the session has no fixed end");
	else
		step(w, "length", true, w->purpose->source, "the session ends at %s at the latest",
			date_format(until, when));
}

int decide(const struct policy *p, const struct decide_facts *f, const struct decide_request *rq, int64_t now,
	struct decision *ret)
{
	struct walk w = {.p = p, .f = f, .rq = rq, .now = now, .d = ret};

	*ret = (struct decision){.verdict = VERDICT_DENY};
	if (!p || !f || !rq || !rq->user || rq->user[0] == '\0' || !rq->purpose ||
		(f->grants_count && !f->grants) || (rq->groups_count && !rq->groups))
		return -EINVAL;
	for (size_t i = 0; i < f->grants_count; i++)
		if (!f->grants[i].subject || !f->grants[i].purpose)
			return -EINVAL;
	if (!check_client(&w) || !check_state(&w) || !check_purpose(&w) || !check_basis(&w) ||
		!check_grant(&w) || !check_party(&w) || !check_rights(&w) || !check_ticket(&w))
		return 0;
	set_length(&w);
	ret->rights = w.rights;
	ret->party = w.grant->party;
	ret->grant = w.grant->id;
	ret->verdict = VERDICT_ALLOW;
	return 0;
}
