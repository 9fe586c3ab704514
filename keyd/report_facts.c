#include "keyd/report_facts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "keyd/audit_names.h"
#include "keyd/expiry.h"
#include "keyd/facts_terms.h"
#include "keyd/forecast.h"
#include "keyd/head.h"
#include "keyd/sealed.h"
#include "policy/agreement.h"

/* ---- values ---- */

static json_t *time_text(int64_t t)
{
	char text[DATE_TEXT_MAX];

	return t ? json_string(date_format(t, text)) : json_null();
}

static int64_t integer(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* Members of `from` that are there, under the same names; times (seconds) as text. */
static json_t *picked(const json_t *from, const char *const *texts, const char *const *times)
{
	json_t *o = json_object(), *v;

	for (; *texts; texts++) {
		v = json_object_get(from, *texts);
		json_object_set(o, *texts, v ? v : json_null());
	}
	for (; *times; times++)
		json_object_set_new(o, *times, time_text(integer(from, *times)));
	return o;
}

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char *title_of(const struct report_facts *f, const char *purpose)
{
	const struct policy_purpose *p = purpose ? policy_purpose(f->rules, purpose) : NULL;

	return p ? p->title : "";
}

/* ---- accesses ---- */

static int most_opens_first(const void *a, const void *b)
{
	int64_t x = integer(*(json_t *const *)a, "opens"), y = integer(*(json_t *const *)b, "opens");

	return x < y ? 1 : x > y ? -1 : strcmp(text(*(json_t *const *)a, "purpose"), text(*(json_t *const *)b, "purpose"));
}

/* A new array; of more than `max` rows the first. */
static json_t *sorted(json_t *rows, int (*compare)(const void *a, const void *b), size_t max)
{
	size_t n = json_array_size(rows);
	scoped(freep) json_t **list = calloc(n + 1, sizeof(*list));
	json_t *ret = json_array();

	for (size_t i = 0; list && i < n; i++)
		list[i] = json_array_get(rows, i);
	if (list)
		qsort(list, n, sizeof(*list), compare);
	for (size_t i = 0; list && i < n && i < max; i++)
		json_array_append(ret, list[i]);
	return ret;
}

static const char *or_unknown(const char *s)
{
	return s ? s : "(not known)";
}

static json_t *people(const struct report_facts *f, size_t *ret_left_out)
{
	json_t *groups = json_object_get(f->counted, "groups"), *g, *rows = json_array(), *ret;
	size_t i;

	json_array_foreach(groups, i, g)
	{
		json_t *row = picked(g, TEXTS("sessions", "files", "opens", "writes", "changes", "refused", "bytes_read",
					       "bytes_written"),
			TEXTS("first", "last"));

		json_object_set_new(row, "user", json_string(or_unknown(text(g, "user"))));
		json_object_set_new(row, "purpose", json_string(or_unknown(text(g, "purpose"))));
		json_object_set_new(row, "title", json_string(title_of(f, text(g, "purpose"))));
		json_array_append_new(rows, row);
	}
	ret = sorted(rows, most_opens_first, REPORT_ROWS_MAX);
	*ret_left_out = json_array_size(rows) - json_array_size(ret);
	json_decref(rows);
	return ret;
}

static void add(json_t *to, const char *key, int64_t n)
{
	json_object_set_new(to, key, json_integer(integer(to, key) + n));
}

static json_t *purpose_row(const struct report_facts *f, const char *purpose)
{
	const struct policy_purpose *p = policy_purpose(f->rules, purpose);
	const struct policy_basis *b = p && p->basis ? policy_basis(f->rules, p->basis) : NULL;

	return json_pack("{s:s, s:s, s:s?, s:s?, s:i, s:i, s:i, s:i}", "purpose", purpose, "title", p ? p->title : "", "source",
		p ? p->source : NULL, "basis", b ? b->title : NULL, "people", 0, "sessions", 0, "opens", 0, "refused", 0);
}

/* Names and uids count as one person each; a person with two purposes is one in totals. */
static json_t *purposes(const struct report_facts *f, json_t *totals)
{
	json_t *by_id = json_object(), *everybody = json_object(), *groups = json_object_get(f->counted, "groups"), *g, *row;
	json_t *rows = json_array(), *ret;
	const char *key;
	size_t i;

	json_array_foreach(groups, i, g)
	{
		const char *purpose = or_unknown(text(g, "purpose"));
		char person[300];

		row = json_object_get(by_id, purpose);
		if (!row) {
			row = purpose_row(f, purpose);
			json_object_set_new(by_id, purpose, row);
		}
		add(row, "people", 1);
		snprintf(person, sizeof(person), "%lld %s", (long long)integer(g, "uid"), or_unknown(text(g, "user")));
		json_object_set_new(everybody, person, json_true());
		for (const char *const *k = TEXTS("sessions", "opens", "refused"); *k; k++) {
			add(row, *k, integer(g, *k));
			add(totals, *k, integer(g, *k));
		}
		for (const char *const *k = TEXTS("writes", "changes", "bytes_read", "bytes_written"); *k; k++)
			add(totals, *k, integer(g, *k));
	}
	json_object_set_new(totals, "people", json_integer((json_int_t)json_object_size(everybody)));
	json_object_set_new(totals, "files", json_integer(integer(f->counted, "files_count")));
	json_object_set_new(totals, "records", json_integer(integer(f->counted, "records")));
	json_object_foreach(by_id, key, row)
		json_array_append(rows, row);
	ret = sorted(rows, most_opens_first, SIZE_MAX);
	json_decref(rows);
	json_decref(by_id);
	json_decref(everybody);
	return ret;
}

static int by_week(const void *a, const void *b)
{
	int r = strcmp(text(*(json_t *const *)a, "week"), text(*(json_t *const *)b, "week"));

	return r ? r : strcmp(text(*(json_t *const *)a, "purpose"), text(*(json_t *const *)b, "purpose"));
}

static json_t *weeks(const struct report_facts *f)
{
	json_t *groups = json_object_get(f->counted, "groups"), *cells = json_object(), *cell, *row, *rows = json_array(), *ret;
	const char *key;
	size_t i;

	json_array_foreach(json_object_get(f->counted, "weeks"), i, cell)
	{
		json_int_t from = 0, group = 0, opens = 0;
		char day[DATE_TEXT_MAX], id[128];
		const char *purpose;

		if (json_unpack(cell, "[I,I,I]", &from, &group, &opens) < 0)
			continue;
		purpose = or_unknown(text(json_array_get(groups, (size_t)group), "purpose"));
		snprintf(id, sizeof(id), "%s %s", date_format_day(from, day), purpose);
		row = json_object_get(cells, id);
		if (!row) {
			row = json_pack("{s:s, s:s, s:i}", "week", day, "purpose", purpose, "opens", 0);
			json_object_set_new(cells, id, row);
		}
		add(row, "opens", opens);
	}
	json_object_foreach(cells, key, row)
		json_array_append(rows, row);
	ret = sorted(rows, by_week, SIZE_MAX);
	json_decref(rows);
	json_decref(cells);
	return ret;
}

static void add_once(json_t *list, const char *word)
{
	json_t *v;
	size_t i;

	json_array_foreach(list, i, v)
	{
		if (strcmp(json_string_value(v), word) == 0)
			return;
	}
	json_array_append_new(list, json_string(word));
}

static json_t *files(struct keyd *k, const struct report_facts *f)
{
	json_t *rows = json_array(), *file, *row, *n, *path, *groups = json_object_get(f->counted, "groups");
	scoped(audit_names_done) struct audit_names names = {0};
	size_t i, j;

	audit_names_switch(k, &names, f->client->hex, f->names);
	json_array_foreach(json_object_get(f->counted, "files"), i, file)
	{
		row = picked(file, TEXTS("file", "opens"), TEXTS("last"));
		path = json_object_get(file, "path");
		json_object_set_new(row, "path",
			path ? audit_name(&names, integer(path, "month"), text(path, "sealed")) : json_null());
		json_object_set_new(row, "people", json_array());
		json_object_set_new(row, "purposes", json_array());
		json_array_foreach(json_object_get(file, "groups"), j, n)
		{
			const json_t *g = json_array_get(groups, (size_t)json_integer_value(n));

			add_once(json_object_get(row, "people"), or_unknown(text(g, "user")));
			add_once(json_object_get(row, "purposes"), or_unknown(text(g, "purpose")));
		}
		json_array_append_new(rows, row);
	}
	return rows;
}

static json_t *refusals(const struct report_facts *f)
{
	json_t *rows = json_array(), *row;
	size_t i;

	json_array_foreach(json_object_get(f->counted, "refusals"), i, row)
		json_array_append_new(rows, picked(row, TEXTS("user", "purpose", "error", "times"), TEXTS("last")));
	return rows;
}

static json_t *accesses(struct keyd *k, const struct report_facts *f)
{
	json_t *totals = json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "sessions", 0, "opens", 0, "refused", 0, "writes", 0,
		"changes", 0, "bytes_read", 0, "bytes_written", 0);
	json_t *o = json_pack("{s:o}", "purposes", purposes(f, totals));
	json_t *list = files(k, f);
	size_t left_out = 0;

	json_object_set_new(o, "totals", totals);
	json_object_set_new(o, "weeks", weeks(f));
	json_object_set_new(o, "people", people(f, &left_out));
	json_object_set_new(o, "people_left_out", json_integer((json_int_t)left_out));
	json_object_set_new(o, "files_left_out",
		json_integer(integer(f->counted, "files_count") - (json_int_t)json_array_size(list)));
	json_object_set_new(o, "files", list);
	json_object_set_new(o, "names",
		json_string(f->client->destroyed_on ? "destroyed" : f->names ? "shown" : "withheld"));
	json_object_set_new(o, "refusals", refusals(f));
	json_object_set_new(o, "kept_since", time_text(integer(f->counted, "kept_since")));
	return o;
}

/* ---- sharing ---- */

static json_t *acts_of_kind(const struct report_facts *f, const char *kind, const char *const *details)
{
	json_t *rows = json_array(), *act;
	size_t i;

	json_array_foreach(json_object_get(f->counted, "acts"), i, act)
	{
		const json_t *detail = json_object_get(act, "detail");
		json_t *row;
		int64_t at;

		if (strcmp(text(act, "op"), kind) != 0)
			continue;
		row = picked(detail, details, TEXTS(NULL));
		/* Of what was sealed: when it was disclosed, not when it could be told. */
		at = integer(detail, "recorded_at");
		json_object_set_new(row, "at", time_text(at ? at : integer(act, "time")));
		for (const char *const *key = TEXTS("from", "until"); *key; key++)
			if (json_is_integer(json_object_get(row, *key)))
				json_object_set_new(row, *key, time_text(integer(detail, *key)));
		json_array_append_new(rows, row);
	}
	return rows;
}

static int consents(struct keyd *k, const struct report_facts *f, json_t **ret)
{
	json_t *all = NULL, *row, *o, *rows;
	size_t i;
	int r = facts_consents(k->facts, f->client->client, &all);

	if (r < 0)
		return r;
	rows = json_array();
	json_array_foreach(all, i, row)
	{
		o = picked(row, TEXTS("consent", "scope", "recipient", "giver", "reason", "document", "evidence", "withdraw_reason"),
			TEXTS("from", "until", "recorded_at", "withdrawn_at"));
		json_object_set_new(o, "title", json_string(title_of(f, text(row, "scope"))));
		json_array_append_new(rows, o);
	}
	json_decref(all);
	*ret = rows;
	return 0;
}

/* Without a grant, in an emergency: who, when, why, and whether another person has looked at it. */
static int emergencies(struct keyd *k, const struct report_facts *f, json_t **ret)
{
	json_t *all = NULL, *row, *rows;
	size_t i;
	int r = facts_reviews(k->facts, true, &all);

	if (r < 0)
		return r;
	rows = json_array();
	json_array_foreach(all, i, row)
	{
		int64_t at = integer(row, "opened_at");

		if (strcmp(text(row, "what"), "emergency") != 0 || (f->sealed && strcmp(text(row, "purpose"), SEALED_PURPOSE) == 0))
			continue;
		if (strcmp(text(row, "client"), f->client->client) == 0 && at >= f->from && at < f->until)
			json_array_append_new(rows,
				picked(row, TEXTS("user", "purpose", "reason"), TEXTS("opened_at", "ended_at", "closed_at")));
	}
	json_decref(all);
	*ret = rows;
	return 0;
}

/* ---- retention ---- */

static json_t *class_rules(const struct policy *p)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < p->classes_count; i++) {
		const struct policy_class *c = &p->classes[i];
		json_t *rules = json_array();
		char rule[128];

		for (size_t n = 0; n < c->retention_count; n++)
			json_array_append_new(rules,
				json_pack("{s:s, s:s?}", "rule", expiry_rule_text(&c->retention[n], rule, sizeof(rule)),
					"source", c->retention[n].source));
		json_array_append_new(rows, json_pack("{s:s, s:s, s:o}", "class", c->id, "title", c->title, "rules", rules));
	}
	return rows;
}

/* That there is a hold is said, for what matter is not: it may be a dispute with the client himself. */
static int calendar(struct keyd *k, const struct report_facts *f, json_t **ret)
{
	json_t *all = NULL, *row, *o, *rows;
	size_t i;
	int r = expiry_forecast(k, f->client->client, &all);

	if (r < 0)
		return r;
	rows = json_array();
	json_array_foreach(all, i, row)
	{
		const struct policy_class *c = policy_class(f->rules, text(row, "class"));

		o = picked(row, TEXTS("of", "class", "rule", "source", "event", "state"),
			TEXTS("event_on", "due", "before", "notified_at", "wait_until"));
		json_object_set_new(o, "title", json_string(c ? c->title : ""));
		json_array_append_new(rows, o);
	}
	json_decref(all);
	*ret = rows;
	return 0;
}

/* ---- certificates: the files beside the facts ---- */

static int is_certificate(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return dot && strcmp(dot, ".json") == 0 && d->d_name[0] != '.';
}

static json_t *certificate_row(int dir, const char *name, const char *client)
{
	scoped(close_fdp) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	scoped(json_decrefp) json_t *file = fd < 0 ? NULL : json_loadfd(fd, 0, NULL);
	const json_t *c = json_object_get(file, "certificate");
	const char *of = text(json_object_get(c, "client"), "client");
	json_t *row;

	if (!of || strcmp(of, client) != 0)
		return NULL;
	row = picked(c, TEXTS("kind", "number", "destroyed_at", "rule", "transferred_to"), TEXTS(NULL));
	json_object_set_new(row, "file", json_string(name));
	json_object_set(row, "keys", json_object_get(json_object_get(c, "what"), "keys"));
	json_object_set(row, "signature", json_object_get(file, "signature"));
	return row;
}

static int by_time(const void *a, const void *b)
{
	const char *x = text(*(json_t *const *)a, "destroyed_at"), *y = text(*(json_t *const *)b, "destroyed_at");

	return strcmp(x ? x : "", y ? y : "");
}

/* All there are, whatever time the report is about: a destruction is for ever. */
static int certificates(struct keyd *k, const struct report_facts *f, json_t **ret, size_t *ret_left_out)
{
	scoped(close_fdp) int dir = openat(k->keyd_fd, "certificates", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t prefix = strlen(f->client->client);
	struct dirent **names = NULL;
	json_t *rows;
	int n = dir < 0 ? -1 : scandirat(dir, ".", &names, is_certificate, alphasort);

	if (n < 0)
		return errno == ENOENT ? (*ret = json_array(), 0) : -errno;
	rows = json_array();
	for (int i = 0; i < n; i++) {
		json_t *row = strncmp(names[i]->d_name, f->client->client, prefix) == 0
				      ? certificate_row(dir, names[i]->d_name, f->client->client)
				      : NULL;

		if (row)
			json_array_append_new(rows, row);
		free(names[i]);
	}
	free(names);
	*ret = sorted(rows, by_time, REPORT_ROWS_MAX);
	*ret_left_out = json_array_size(rows) - json_array_size(*ret);
	json_decref(rows);
	return 0;
}

/* ---- all of it ---- */

static json_t *policy_json(const struct policy *p)
{
	const struct agreement *a = p->agreement;
	json_t *o = json_pack("{s:s, s:s, s:s, s:o}", "name", p->name, "version", p->version, "hash", p->text_hash, "effective",
		time_text(p->effective));

	json_object_set_new(o, "agreement", a ? json_pack("{s:s, s:s, s:s}", "name", a->name, "version", a->version, "hash",
							a->text_hash)
					      : json_null());
	return o;
}

static json_t *client_json(const struct fact_client *c, int64_t now)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s}", "client", c->client, "id", c->hex, "name", c->name, "email", c->email,
		"state", facts_client_state_name(c, now));

	json_object_set_new(o, "added_at", time_text(c->added_at));
	json_object_set_new(o, "ended_on", time_text(c->ended_on));
	json_object_set_new(o, "destroyed_at", time_text(c->destroyed_on));
	return o;
}

int report_make(struct keyd *k, const struct report_facts *f, json_t **ret)
{
	scoped(json_decrefp) json_t *consent = NULL, *emergency = NULL, *due = NULL, *proofs = NULL, *o = NULL;
	size_t left_out = 0;
	int r;

	r = consents(k, f, &consent);
	if (r == 0)
		r = emergencies(k, f, &emergency);
	if (r == 0)
		r = calendar(k, f, &due);
	if (r == 0)
		r = certificates(k, f, &proofs, &left_out);
	if (r < 0)
		return r;
	o = json_pack("{s:i, s:s, s:s, s:s, s:o, s:{s:o, s:o}, s:o, s:s, s:o}", "version", 1, "kind", "report", "controller",
		f->rules->controller, "contact", f->rules->contact, "client", client_json(f->client, f->made_at), "period", "from",
		time_text(f->from), "until", time_text(f->until), "made_at", time_text(f->made_at), "made_by", f->made_by,
		"policy", policy_json(f->rules));
	if (!o)
		return -ENOMEM;
	json_object_set_new(o, "accesses", accesses(k, f));
	json_object_set(o, "emergencies", emergency);
	json_object_set_new(o, "disclosures", acts_of_kind(f, "disclosure", TEXTS("authority", "document", "scope")));
	json_object_set(o, "consents", consent);
	json_object_set_new(o, "handed_over", acts_of_kind(f, "transfer", TEXTS("to")));
	json_object_set_new(o, "incidents",
		acts_of_kind(f, "incident-notice", TEXTS("from", "until", "persons", "files", "categories", "to")));
	json_object_set_new(o, "acts_left_out", json_integer(integer(f->counted, "acts_count") -
						(json_int_t)json_array_size(json_object_get(f->counted, "acts"))));
	json_object_set_new(o, "retention", json_pack("{s:O, s:o}", "calendar", due, "rules", class_rules(f->rules)));
	json_object_set(o, "certificates", proofs);
	json_object_set_new(o, "certificates_left_out", json_integer((json_int_t)left_out));
	json_object_set_new(o, "separation",
		json_string(k->embedded ? "none: one user holds all roles; this is evidence against outsiders only"
				: "roles are held by groups of the host; root of the host is trusted"));
	json_object_set_new(o, "ledger_head", head_json(f->head));
	*ret = take_ptr(&o);
	return 0;
}
