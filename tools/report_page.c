/* The page of a report: one file, without scripts, that needs nothing from elsewhere.  Texts of the report come from users;
 * html.h escapes them. */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#include "common/scope.h"
#include "tools/html.h"
#include "tools/report.h"
#include "tools/report_style.h"

/* ---- tables ---- */

enum column_kind {
	TEXT,
	NAME,	 /* the row's header */
	PATH,	 /* in its own direction; "names" says what stands for one that is not there */
	PURPOSE, /* title, and the id below */
	NUMBER,
	BYTES,
	DAY,
	WHEN,
	LIST, /* texts */
	HASH,
};

struct column_of {
	const char *key, *title;
	enum column_kind kind;
};

static void put_bytes(FILE *f, int64_t n)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	double x = (double)n;
	size_t u = 0;

	for (; x >= 999.5 && u + 1 < ARRAY_SIZE(units); u++)
		x /= 1000;
	if (u == 0)
		html_printf(f, "%" PRId64 "\xc2\xa0" "B", n); /* not to be broken */
	else
		html_printf(f, x < 9.95 ? "%.1f\xc2\xa0%s" : "%.0f\xc2\xa0%s", x, units[u]);
}

static void put_list(FILE *f, const json_t *list)
{
	const json_t *v;
	size_t i;

	json_array_foreach((json_t *)list, i, v)
	{
		if (i > 0)
			html_literal(f, ", ");
		html_literal(f, "<bdi>");
		html_text(f, json_string_value(v) ? json_string_value(v) : "");
		html_literal(f, "</bdi>");
	}
}

static void put_purpose(FILE *f, const json_t *row, const char *key)
{
	const char *title = report_text(row, "title");

	if (!*title) {
		html_text(f, report_text(row, key));
		return;
	}
	html_literal(f, "<span>");
	html_text(f, title);
	html_element(f, "span", "id", report_text(row, key));
	html_literal(f, "</span>");
}

static void put_cell(FILE *f, const json_t *row, const struct column_of *c)
{
	char buf[REPORT_WHEN_MAX], number[REPORT_NUMBER_MAX];

	switch (c->kind) {
	case TEXT:
	case NAME:
		html_literal(f, "<bdi>");
		html_text(f, report_text(row, c->key));
		html_literal(f, "</bdi>");
		break;
	case PATH:
		if (json_is_string(json_object_get(row, c->key))) {
			html_literal(f, "<bdi><code>");
			html_text(f, *report_text(row, c->key) ? report_text(row, c->key) : "/");
			html_literal(f, "</code></bdi>");
		} else {
			html_literal(f, "<span>(no name) <code class=\"id\">");
			html_text(f, report_text(row, "file"));
			html_literal(f, "</code></span>");
		}
		break;
	case PURPOSE:
		put_purpose(f, row, c->key);
		break;
	case NUMBER:
		html_text(f, report_count(report_number(row, c->key), number));
		break;
	case BYTES:
		put_bytes(f, report_number(row, c->key));
		break;
	case DAY:
		html_text(f, report_day(row, c->key, buf));
		break;
	case WHEN:
		html_text(f, report_when(row, c->key, buf));
		break;
	case LIST:
		html_literal(f, "<span>");
		put_list(f, json_object_get(row, c->key));
		html_literal(f, "</span>");
		break;
	case HASH:
		html_element(f, "code", NULL, report_text(row, c->key));
		break;
	}
}

static bool is_empty(const json_t *row, const struct column_of *c)
{
	const json_t *v = json_object_get(row, c->key);

	return c->kind != PATH && (!v || json_is_null(v) || (json_is_string(v) && !json_string_length(v)));
}

static const char *class_of(const struct column_of *c, bool empty)
{
	if (empty)
		return "empty";
	if (c->kind == NAME)
		return "name";
	return c->kind == NUMBER || c->kind == BYTES ? "num" : c->kind == DAY || c->kind == WHEN ? "day"
	       : c->kind == TEXT || c->kind == LIST                ? "words"
								   : NULL;
}

static void put_row(FILE *f, const json_t *row, const struct column_of *columns, size_t n)
{
	html_literal(f, "<tr role=\"row\">");
	for (size_t i = 0; i < n; i++) {
		const struct column_of *c = &columns[i];
		bool head = i == 0;

		html_open(f, head ? "th" : "td", "role", head ? "rowheader" : "cell", "scope", head ? "row" : NULL, "class",
			class_of(c, is_empty(row, c)), "data-label", head ? NULL : c->title, NULL);
		put_cell(f, row, c);
		html_close(f, head ? "th" : "td");
	}
	html_literal(f, "</tr>\n");
}

/* `none`: what stands there when there are no rows. */
static void put_table(FILE *f, const char *caption, const json_t *rows, const struct column_of *columns, size_t n, const char *none)
{
	const json_t *row;
	size_t i;

	if (json_array_size(rows) == 0) {
		html_element(f, "p", "none", none);
		return;
	}
	html_literal(f, "<table role=\"table\">");
	if (caption)
		html_element(f, "caption", NULL, caption);
	html_literal(f, "<thead role=\"rowgroup\"><tr role=\"row\">");
	for (i = 0; i < n; i++) {
		html_open(f, "th", "role", "columnheader", "scope", "col", "class", class_of(&columns[i], false), NULL);
		html_text(f, columns[i].title);
		html_close(f, "th");
	}
	html_literal(f, "</tr></thead><tbody role=\"rowgroup\">\n");
	json_array_foreach((json_t *)rows, i, row)
		put_row(f, row, columns, n);
	html_literal(f, "</tbody></table>\n");
}

static void put_left_out(FILE *f, int64_t n, const char *what)
{
	char number[REPORT_NUMBER_MAX];

	if (n <= 0)
		return;
	html_literal(f, "<p class=\"note\">");
	html_printf(f, "%s more %s are not listed here; ask for them.", report_count(n, number), what);
	html_literal(f, "</p>\n");
}

/* ---- head ---- */

static void put_fact(FILE *f, const char *name, const char *value)
{
	if (!*value)
		return;
	html_element(f, "dt", NULL, name);
	html_element(f, "dd", NULL, value);
}

/* The hash lets in this style and nothing else. */
static void put_policy_of_page(FILE *f)
{
	unsigned char hash[crypto_hash_sha256_BYTES];
	char text[sodium_base64_ENCODED_LEN(sizeof(hash), sodium_base64_VARIANT_ORIGINAL)];

	crypto_hash_sha256(hash, (const unsigned char *)REPORT_STYLE, strlen(REPORT_STYLE));
	sodium_bin2base64(text, sizeof(text), hash, sizeof(hash), sodium_base64_VARIANT_ORIGINAL);
	html_literal(f, "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-");
	fputs(text, f);
	html_literal(f, "'; base-uri 'none'; form-action 'none'\">\n");
}

static const char *name_of(const json_t *report)
{
	const json_t *c = json_object_get(report, "client");

	return *report_text(c, "name") ? report_text(c, "name") : report_text(c, "client");
}

/* What ends with the first second of a day shows the day before. */
static void put_span(FILE *f, const json_t *report)
{
	const json_t *p = json_object_get(report, "period");
	char from[REPORT_DAY_MAX], until[REPORT_DAY_MAX];

	report_day(p, "from", from);
	report_day_of(report_seconds(p, "until") - 1, until);
	html_text(f, from);
	if (strcmp(from, until) != 0)
		html_printf(f, " \xe2\x80\x93 %s", until);
}

static void put_head(FILE *f, const json_t *report)
{
	html_literal(f, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
	put_policy_of_page(f);
	html_literal(f, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n"
			"<meta name=\"robots\" content=\"noindex\">\n<title>");
	html_printf(f, "%s: who used your data, ", name_of(report));
	put_span(f, report);
	html_literal(f, "</title>\n<style>" REPORT_STYLE "</style>\n</head>\n<body>\n");
}

static void put_masthead(FILE *f, const json_t *report)
{
	const json_t *policy = json_object_get(report, "policy"), *agreement = json_object_get(policy, "agreement");
	char when[REPORT_WHEN_MAX];

	html_literal(f, "<div class=\"page\">\n<header>\n");
	html_literal(f, "<h1><span class=\"over\">Who used your data, and for what</span> <bdi>");
	html_text(f, name_of(report));
	html_literal(f, "</bdi></h1>\n<p class=\"span\">");
	put_span(f, report);
	html_literal(f, "</p>\n<dl class=\"facts\">");
	put_fact(f, "Data controller", report_text(report, "controller"));
	put_fact(f, "Questions to", report_text(report, "contact"));
	html_literal(f, "<dt>Privacy policy</dt><dd>");
	html_printf(f, "%s, version %s", report_text(policy, "name"), report_text(policy, "version"));
	html_literal(f, "</dd>");
	if (json_is_object(agreement)) {
		html_literal(f, "<dt>Your agreement</dt><dd>");
		html_printf(f, "%s, version %s; it prevails where it says otherwise than the policy", report_text(agreement, "name"),
			report_text(agreement, "version"));
		html_literal(f, "</dd>");
	}
	put_fact(f, "Made", report_when(report, "made_at", when));
	html_literal(f, "</dl>\n</header>\n<main>\n");
}

/* ---- sections ---- */

static void put_tile(FILE *f, int64_t n, const char *what)
{
	char number[REPORT_NUMBER_MAX];

	html_literal(f, "<li>");
	html_element(f, "b", NULL, report_count(n, number));
	html_text(f, what);
	html_literal(f, "</li>");
}

static int64_t sum(const json_t *rows, const char *key)
{
	const json_t *row;
	int64_t n = 0;
	size_t i;

	json_array_foreach((json_t *)rows, i, row)
		n += report_number(row, key);
	return n;
}

static void put_glance(FILE *f, const json_t *report)
{
	const json_t *accesses = json_object_get(report, "accesses"), *totals = json_object_get(accesses, "totals");
	int64_t people = report_number(totals, "people"), files = report_number(totals, "files");
	bool whole = report_seconds(accesses, "kept_since") <= report_seconds(json_object_get(report, "period"), "from");
	char a[REPORT_NUMBER_MAX], b[REPORT_NUMBER_MAX], c[REPORT_NUMBER_MAX], day[REPORT_DAY_MAX];

	html_literal(f, "<h2>At a glance</h2>\n<p>");
	if (report_number(totals, "opens") > 0)
		html_printf(f, "In this time %s %s opened %s of your files, %s times in all.", report_count(people, a),
			people == 1 ? "person" : "people", report_count(files, b), report_count(report_number(totals, "opens"), c));
	else
		html_printf(f, "%s nobody opened any of your files.", whole ? "In this time" : "As far as the record goes back,");
	html_literal(f, "</p>\n");
	if (!whole) {
		html_literal(f, "<p class=\"alert\">");
		html_printf(f, "The record before %s was destroyed, as our policy says: what was opened before is not counted here.",
			report_day(accesses, "kept_since", day));
		html_literal(f, "</p>\n");
	}
	html_literal(f, "<ul class=\"tiles\">");
	put_tile(f, people, people == 1 ? "person used them" : "people used them");
	put_tile(f, files, "files opened");
	put_tile(f, report_number(totals, "writes"), "times opened for writing");
	put_tile(f, sum(json_object_get(accesses, "refusals"), "times") + report_number(totals, "refused"), "attempts refused");
	put_tile(f, (int64_t)json_array_size(json_object_get(report, "disclosures")), "disclosures to authorities");
	put_tile(f, (int64_t)json_array_size(json_object_get(report, "certificates")), "certified destructions");
	html_literal(f, "</ul>\n");
}

static void put_purposes(FILE *f, const json_t *accesses, const struct chart *chart)
{
	static const struct column_of columns[] = {
		{"purpose", "Purpose", PURPOSE},
		{"basis", "It rests on", TEXT},
		{"people", "People", NUMBER},
		{"sessions", "Sessions", NUMBER},
		{"opens", "Openings", NUMBER},
	};

	html_literal(f, "<h2>For which purposes</h2>\n");
	if (chart->bins > 0)
		chart_draw(f, chart);
	put_table(f, NULL, json_object_get(accesses, "purposes"), columns, ARRAY_SIZE(columns),
		"Nobody used your data for any purpose in this time.");
}

/* The names of the errors of a decision (policy/decide.h) in words. */
static const char *refusal_words(const char *error)
{
	static const struct {
		const char *error, *words;
	} all[] = {
		{"NotGranted", "no grant for this purpose"},
		{"GrantExpired", "the grant was over"},
		{"GrantNotYet", "the grant had not begun"},
		{"RightsNotGranted", "wanted more rights than granted"},
		{"NotEngaged", "you have not engaged us for this"},
		{"NoConsent", "you have not consented"},
		{"Prohibited", "the purpose is prohibited"},
		{"UnknownPurpose", "no purpose of the policy"},
		{"TicketMissing", "no ticket was named"},
		{"TicketInvalid", "the ticket was not valid"},
		{"ApprovalMissing", "nobody had approved it"},
		{"ClassNotAllowed", "kind of data not open for this purpose"},
		{"PartyNotAllowed", "not for people of that organisation"},
		{"Suspended", "use was suspended"},
		{"Ended", "the relationship had ended"},
		{"Destroyed", "the data are destroyed"},
		{"RolesTogether", "roles that exclude each other"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (strcmp(all[i].error, error) == 0)
			return all[i].words;
	return error;
}

static json_t *refusal_rows(const json_t *refusals)
{
	json_t *rows = json_array(), *copy;
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)refusals, i, row)
	{
		copy = json_copy((json_t *)row);
		json_object_set_new(copy, "why", json_string(refusal_words(report_text(row, "error"))));
		json_array_append_new(rows, copy);
	}
	return rows;
}

static void put_people(FILE *f, const json_t *accesses)
{
	static const struct column_of columns[] = {
		{"user", "Person", NAME},
		{"purpose", "Purpose", TEXT},
		{"first", "First", DAY},
		{"last", "Last", DAY},
		{"sessions", "Sessions", NUMBER},
		{"files", "Files", NUMBER},
		{"opens", "Openings", NUMBER},
		{"writes", "For writing", NUMBER},
		{"bytes_read", "Read", BYTES},
		{"bytes_written", "Written", BYTES},
	};
	static const struct column_of refused[] = {
		{"user", "Person", NAME},
		{"purpose", "Purpose", TEXT},
		{"why", "Why", TEXT},
		{"times", "Times", NUMBER},
		{"last", "Last", DAY},
	};
	int64_t within = report_number(json_object_get(accesses, "totals"), "refused");
	json_t *refusals = refusal_rows(json_object_get(accesses, "refusals"));
	char number[REPORT_NUMBER_MAX];

	html_literal(f, "<h2>Who</h2>\n");
	put_table(f, NULL, json_object_get(accesses, "people"), columns, ARRAY_SIZE(columns), "Nobody.");
	put_left_out(f, report_number(accesses, "people_left_out"), "rows");
	if (json_array_size(json_object_get(accesses, "people")) > 0)
		html_literal(f, "<p class=\"note\">A session is one time that a person entered your data for one purpose. Bytes read are those that were "
			"handed out; what a machine still had in memory is read without being counted again.</p>\n");
	html_literal(f, "<h3>Who was refused</h3>\n");
	put_table(f, NULL, refusals, refused, ARRAY_SIZE(refused), "Nobody was refused entry.");
	json_decref(refusals);
	if (within > 0) {
		html_literal(f, "<p>");
		html_printf(f, "Within sessions, %s more attempts were refused: a file or change that the session did not allow.",
			report_count(within, number));
		html_literal(f, "</p>\n");
	}
}

static void put_files(FILE *f, const json_t *accesses)
{
	static const struct column_of columns[] = {
		{"path", "File", PATH},
		{"opens", "Openings", NUMBER},
		{"last", "Last", DAY},
		{"people", "By", LIST},
		{"purposes", "For", LIST},
	};
	const char *names = report_text(accesses, "names");

	html_literal(f, "<h2>Which files</h2>\n");
	if (strcmp(names, "withheld") == 0)
		html_literal(f, "<p class=\"note\">Files stand here by their numbers: who had this report made may not see your file names.</p>\n");
	if (strcmp(names, "destroyed") == 0)
		html_literal(f, "<p class=\"note\">Files stand here by their numbers: their names were destroyed with your data.</p>\n");
	put_table(f, NULL, json_object_get(accesses, "files"), columns, ARRAY_SIZE(columns), "No file was opened.");
	put_left_out(f, report_number(accesses, "files_left_out"), "files, which were opened less often,");
}

static void put_emergencies(FILE *f, const json_t *report)
{
	static const struct column_of columns[] = {
		{"user", "Person", NAME},
		{"purpose", "Purpose", TEXT},
		{"opened_at", "From", WHEN},
		{"ended_at", "To", WHEN},
		{"reason", "Reason given", TEXT},
		{"closed_at", "Reviewed by another person", DAY},
	};

	html_literal(f, "<h2>Entry in an emergency</h2>\n");
	put_table(f, NULL, json_object_get(report, "emergencies"), columns, ARRAY_SIZE(columns),
		"Nobody entered without a grant: there was no emergency.");
}

static void put_sharing(FILE *f, const json_t *report)
{
	static const struct column_of disclosures[] = {
		{"at", "On", DAY},
		{"authority", "To", NAME},
		{"scope", "What", TEXT},
		{"document", "Order (SHA-256)", HASH},
	};
	static const struct column_of consents[] = {
		{"scope", "For", PURPOSE},
		{"recipient", "To", TEXT},
		{"reason", "Why, as you were told", TEXT},
		{"giver", "Given by", TEXT},
		{"from", "From", DAY},
		{"until", "Until", DAY},
		{"withdrawn_at", "Withdrawn", DAY},
	};
	static const struct column_of handed_over[] = {
		{"at", "On", DAY},
		{"to", "To the installation with the key", HASH},
	};
	static const struct column_of incidents[] = {
		{"at", "Letter of", DAY},
		{"from", "From", DAY},
		{"until", "To", DAY},
		{"persons", "People", NUMBER},
		{"files", "Files", NUMBER},
		{"categories", "Kind of data", TEXT},
	};

	html_literal(f, "<h2>To whom your data were given</h2>\n<h3>Disclosures required by law</h3>\n");
	put_table(f, NULL, json_object_get(report, "disclosures"), disclosures, ARRAY_SIZE(disclosures),
		"None is recorded.");
	html_literal(f, "<p class=\"note\">Where the law forbids to tell of a disclosure, it stands here, with what was opened for it, from the day on which "
			"that ends.</p>\n");
	html_literal(f, "<h3>Your consents</h3>\n");
	put_table(f, NULL, json_object_get(report, "consents"), consents, ARRAY_SIZE(consents),
		"None is recorded.");
	if (json_array_size(json_object_get(report, "handed_over")) > 0) {
		html_literal(f, "<h3>Handed over to a successor</h3>\n");
		put_table(f, NULL, json_object_get(report, "handed_over"), handed_over, ARRAY_SIZE(handed_over), "");
	}
	html_literal(f, "<h3>Notices of a breach of security</h3>\n");
	put_table(f, NULL, json_object_get(report, "incidents"), incidents, ARRAY_SIZE(incidents), "None was sent to you in this time.");
	put_left_out(f, report_number(report, "acts_left_out"), "older entries of these kinds");
}

/* ---- retention ---- */

static const char *state_words(const char *state)
{
	static const struct {
		const char *state, *words;
	} all[] = {
		{"running", "no date yet: what it counts from has not happened"},
		{"dated", "the date is known"},
		{"due", "due: the notice follows"},
		{"waiting", "notice was given: this is the day of destruction"},
		{"held", "on hold: not destroyed for the time being"},
		{"destroyed", "destroyed"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (strcmp(all[i].state, state) == 0)
			return all[i].words;
	return state;
}

/* As a row of the table: what, which rule, when, and how it stands. */
static json_t *calendar_rows(const json_t *calendar)
{
	json_t *rows = json_array();
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)calendar, i, row)
	{
		bool whole = strcmp(report_text(row, "of"), "client") == 0, waits = strcmp(report_text(row, "state"), "waiting") == 0;
		const char *title = *report_text(row, "title") ? report_text(row, "title") : report_text(row, "class");

		json_array_append_new(rows,
			json_pack("{s:s, s:s, s:s, s:s, s:s}", "what", whole ? "Everything" : title, "rule", report_text(row, "rule"),
				"source", report_text(row, "source"), "day",
				report_text(row, waits && *report_text(row, "wait_until") ? "wait_until" : "due"), "state",
				state_words(report_text(row, "state"))));
	}
	return rows;
}

static json_t *rule_rows(const json_t *rules)
{
	json_t *rows = json_array(), *list, *rule;
	const json_t *row;
	size_t i, j;

	json_array_foreach((json_t *)rules, i, row)
	{
		list = json_array();
		json_array_foreach(json_object_get(row, "rules"), j, rule)
			json_array_append(list, json_object_get(rule, "rule"));
		json_array_append_new(rows, json_pack("{s:s, s:s, s:o}", "title", report_text(row, "title"), "class",
						    report_text(row, "class"), "rules", list));
	}
	return rows;
}

static void put_retention(FILE *f, const json_t *report)
{
	static const struct column_of columns[] = {
		{"what", "What", NAME},
		{"rule", "Rule that decides", TEXT},
		{"source", "It stands under", TEXT},
		{"day", "Destroyed from", DAY},
		{"state", "State", TEXT},
	};
	static const struct column_of rules[] = {
		{"class", "Kind of data", PURPOSE},
		{"rules", "Kept until; the longest counts", LIST},
	};
	const json_t *retention = json_object_get(report, "retention");
	json_t *rows = calendar_rows(json_object_get(retention, "calendar"));
	char day[REPORT_DAY_MAX];

	html_literal(f, "<h2>How long your data are kept</h2>\n");
	if (*report_day(json_object_get(report, "client"), "destroyed_at", day)) {
		html_literal(f, "<p>");
		html_printf(f, "The keys of all your data were destroyed on %s. What is left is the record of who used them.", day);
		html_literal(f, "</p>\n");
	} else if (!chart_retention(f, report)) {
		html_literal(f, "<p>No date is known yet: the time begins with an event, such as the end of our relationship, that has not happened.</p>\n");
	}
	put_table(f, NULL, rows, columns, ARRAY_SIZE(columns), "Nothing is kept.");
	json_decref(rows);
	rows = rule_rows(json_object_get(retention, "rules"));
	html_literal(f, "<h3>Rules for each kind of data</h3>\n");
	put_table(f, NULL, rows, rules, ARRAY_SIZE(rules), "The policy has none.");
	json_decref(rows);
}

static void put_certificates(FILE *f, const json_t *report)
{
	static const struct column_of columns[] = {
		{"file", "Certificate", NAME},
		{"destroyed_at", "Destroyed", WHEN},
		{"text", "Rule", TEXT},
		{"keys", "Keys", NUMBER},
	};
	json_t *rows = json_array(), *copy;
	const json_t *row;
	size_t i;

	json_array_foreach(json_object_get(report, "certificates"), i, row)
	{
		copy = json_copy((json_t *)row);
		json_object_set(copy, "text", json_object_get(json_object_get(row, "rule"), "text"));
		json_array_append_new(rows, copy);
	}
	html_literal(f, "<h2>What was destroyed</h2>\n");
	put_table(f, NULL, rows, columns, ARRAY_SIZE(columns), "Nothing of yours was destroyed so far.");
	put_left_out(f, report_number(report, "certificates_left_out"), "certificates");
	if (json_array_size(rows) > 0)
		html_literal(f, "<p class=\"note\">Each has a signed certificate; ask for the file. What is destroyed are the keys: the encrypted bytes that "
				"remain, also in backups, cannot be read by anybody.</p>\n");
	json_decref(rows);
}

/* ---- how it can be checked ---- */

static void put_proof(FILE *f, const json_t *envelope)
{
	const json_t *report = json_object_get(envelope, "report"), *head = json_object_get(report, "ledger_head"), *anchor;
	char when[REPORT_WHEN_MAX], number[REPORT_NUMBER_MAX];
	size_t i;

	html_literal(f, "<h2>How this can be checked</h2>\n<p>");
	html_printf(f, "The figures come from %s entries of a record in which every opening of a file is written down, and in which nothing can be "
		       "changed or removed without being seen. The record went this far when the report was made:",
		report_count(report_number(json_object_get(json_object_get(report, "accesses"), "totals"), "records"), number));
	html_literal(f, "</p>\n<dl class=\"facts\">");
	html_literal(f, "<dt>Batch</dt><dd>");
	html_text(f, report_count(report_number(head, "batch"), number));
	html_literal(f, "</dd><dt>Hash</dt><dd>");
	html_element(f, "code", NULL, report_text(head, "hash"));
	html_literal(f, "</dd>");
	put_fact(f, "Signed", report_when(head, "signed_at", when));
	json_array_foreach(json_object_get(head, "anchors"), i, anchor)
		put_fact(f, "Also kept", json_string_value(anchor) ? json_string_value(anchor) : "");
	put_fact(f, "Separation of duties", report_text(report, "separation"));
	html_literal(f, "</dl>\n<p>This page is for reading. The same report as a signed file (JSON) belongs to it; whoever has our public key checks it "
			"without us:</p>\n<p><code>coffer report verify FILE --pubkey KEY</code></p>\n<dl class=\"facts\"><dt>Signature</dt><dd>");
	html_element(f, "code", NULL, report_text(envelope, "signature"));
	html_literal(f, "</dd><dt>Public key</dt><dd>");
	html_element(f, "code", NULL, report_text(envelope, "public_key"));
	html_literal(f, "</dd></dl>\n");
}

static void put_annex(FILE *f, const struct chart *chart)
{
	if (chart->bins == 0)
		return;
	html_literal(f, "<section class=\"annex\" id=\"figures\"><h2>Figures of the chart</h2>\n");
	chart_table(f, chart);
	html_literal(f, "</section>\n");
}

int report_page(FILE *f, const json_t *envelope)
{
	const json_t *report = json_object_get(envelope, "report"), *accesses = json_object_get(report, "accesses");
	struct chart chart;

	chart_fill(report, &chart);
	put_head(f, report);
	put_masthead(f, report);
	put_glance(f, report);
	put_purposes(f, accesses, &chart);
	put_people(f, accesses);
	put_files(f, accesses);
	put_emergencies(f, report);
	put_sharing(f, report);
	put_retention(f, report);
	put_certificates(f, report);
	put_proof(f, envelope);
	put_annex(f, &chart);
	html_literal(f, "</main>\n</div>\n</body>\n</html>\n");
	return ferror(f) ? -EIO : 0;
}
