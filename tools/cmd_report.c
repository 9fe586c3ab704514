/* report: what a client may ask for.  coffer-keyd makes and signs it; here it is asked for, printed, and checked. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/scope.h"
#include "keyd/report.h"
#include "keyd/signed_json.h"
#include "tools/commands.h"
#include "tools/public_key.h"
#include "tools/report.h"
#include "tools/request.h"
#include "tools/table.h"

/* ---- files: for their owner only, and whole or not there ---- */

static int write_file(const char *path, int (*put)(FILE *f, const json_t *envelope), const json_t *envelope)
{
	scoped(freep) char *unfinished = NULL;
	FILE *f;
	int fd, r;

	if (asprintf(&unfinished, "%s.XXXXXX", path) < 0)
		return fail(EXIT_FAILED, "out of memory");
	fd = mkostemp(unfinished, O_CLOEXEC); /* mode 0600 */
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f)
		return fail(EXIT_USAGE, "%s: %s", path, strerror(errno));
	r = put(f, envelope);
	if (fclose(f) != 0 || r < 0 || rename(unfinished, path) < 0) {
		r = fail(EXIT_FAILED, "%s: %s", path, strerror(errno));
		unlink(unfinished);
	}
	return r < 0 ? EXIT_FAILED : r;
}

static int put_json(FILE *f, const json_t *envelope)
{
	if (json_dumpf(envelope, f, JSON_INDENT(2) | JSON_SORT_KEYS) < 0)
		return -EIO;
	return fputc('\n', f) == EOF ? -EIO : 0;
}

/* ---- for a terminal ---- */

static void put_field(const char *title, const char *text)
{
	if (!*text)
		return;
	printf("%-16s ", title);
	put_escaped(stdout, text);
	putchar('\n');
}

static void put_head(const json_t *report)
{
	const json_t *policy = json_object_get(report, "policy"), *period = json_object_get(report, "period");
	const json_t *head = json_object_get(report, "ledger_head"), *client = json_object_get(report, "client");
	scoped(freep) char *text = NULL;

	put_field("Client", report_text(client, "client"));
	put_field("", report_text(client, "name"));
	put_field("From", report_text(period, "from"));
	put_field("To", report_text(period, "until"));
	if (report_seconds(json_object_get(report, "accesses"), "kept_since") > report_seconds(period, "from"))
		put_field("Record since", report_text(json_object_get(report, "accesses"), "kept_since"));
	put_field("Data controller", report_text(report, "controller"));
	put_field("Whom to ask", report_text(report, "contact"));
	if (asprintf(&text, "%s, version %s", report_text(policy, "name"), report_text(policy, "version")) > 0)
		put_field("Policy", text);
	printf("%-16s batch %lld, signed %s\n", "Record", (long long)report_number(head, "batch"), report_text(head, "signed_at"));
}

static int put_section(const char *title, const json_t *rows, const struct column *columns, size_t n, const char *none)
{
	printf("\n%s\n", title);
	return table_print(rows, columns, n, none);
}

static int print_accesses(const json_t *accesses)
{
	static const struct column purposes[] = {
		{"purpose", "PURPOSE", CELL_TEXT}, {"title", "TITLE", CELL_WRAP}, {"people", "PEOPLE", CELL_NUMBER},
		{"sessions", "SESSIONS", CELL_NUMBER}, {"opens", "OPENED", CELL_NUMBER}};
	static const struct column people[] = {{"user", "USER", CELL_TEXT}, {"purpose", "PURPOSE", CELL_TEXT},
		{"sessions", "SESSIONS", CELL_NUMBER}, {"files", "FILES", CELL_NUMBER}, {"opens", "OPENED", CELL_NUMBER},
		{"writes", "FOR WRITING", CELL_NUMBER}, {"first", "FIRST", CELL_TEXT}, {"last", "LAST", CELL_TEXT}};
	static const struct column refusals[] = {{"user", "USER", CELL_TEXT}, {"purpose", "PURPOSE", CELL_TEXT},
		{"error", "WHY", CELL_TEXT}, {"times", "TIMES", CELL_NUMBER}, {"last", "LAST", CELL_TEXT}};
	int r;

	r = put_section("For which purposes", json_object_get(accesses, "purposes"), purposes, ARRAY_SIZE(purposes), "none");
	if (r == EXIT_OK)
		r = put_section("Who", json_object_get(accesses, "people"), people, ARRAY_SIZE(people), "nobody opened anything");
	if (r == EXIT_OK)
		r = put_section("Refused", json_object_get(accesses, "refusals"), refusals, ARRAY_SIZE(refusals), "nobody");
	return r;
}

static int print_report(const json_t *report)
{
	static const struct column emergencies[] = {{"user", "USER", CELL_TEXT}, {"purpose", "PURPOSE", CELL_TEXT},
		{"opened_at", "FROM", CELL_TEXT}, {"ended_at", "TO", CELL_TEXT}, {"reason", "REASON", CELL_WRAP}};
	static const struct column disclosures[] = {
		{"at", "ON", CELL_TEXT}, {"authority", "TO", CELL_WRAP}, {"scope", "WHAT", CELL_WRAP}};
	static const struct column consents[] = {{"scope", "FOR", CELL_TEXT}, {"recipient", "TO", CELL_WRAP},
		{"from", "FROM", CELL_TEXT}, {"until", "UNTIL", CELL_TEXT}, {"withdrawn_at", "WITHDRAWN", CELL_TEXT}};
	static const struct column calendar[] = {{"of", "OF", CELL_TEXT}, {"class", "CLASS", CELL_TEXT}, {"rule", "RULE", CELL_WRAP},
		{"due", "DUE", CELL_TEXT}, {"wait_until", "DESTROYED", CELL_TEXT}, {"state", "STATE", CELL_TEXT}};
	static const struct column certificates[] = {
		{"destroyed_at", "DESTROYED", CELL_TEXT}, {"kind", "KIND", CELL_TEXT}, {"file", "CERTIFICATE", CELL_TEXT}};
	int r;

	put_head(report);
	r = print_accesses(json_object_get(report, "accesses"));
	if (r == EXIT_OK && json_array_size(json_object_get(report, "emergencies")) > 0)
		r = put_section("In an emergency", json_object_get(report, "emergencies"), emergencies, ARRAY_SIZE(emergencies), "none");
	if (r == EXIT_OK)
		r = put_section("Disclosures", json_object_get(report, "disclosures"), disclosures, ARRAY_SIZE(disclosures), "none");
	if (r == EXIT_OK)
		r = put_section("Consents", json_object_get(report, "consents"), consents, ARRAY_SIZE(consents), "none");
	if (r == EXIT_OK)
		r = put_section("Retention", json_object_get(json_object_get(report, "retention"), "calendar"), calendar,
			ARRAY_SIZE(calendar), "nothing is kept");
	if (r == EXIT_OK)
		r = put_section("Destroyed", json_object_get(report, "certificates"), certificates, ARRAY_SIZE(certificates), "nothing so far");
	return r;
}

/* To files if any are named, else to the terminal. */
static int deliver(struct tool *t, const json_t *envelope, const char *html, const char *signed_file)
{
	int r = EXIT_OK;

	if (html)
		r = write_file(html, report_page, envelope);
	if (r == EXIT_OK && signed_file)
		r = write_file(signed_file, put_json, envelope);
	if (r == EXIT_OK && t->json)
		r = print_json(envelope);
	else if (r == EXIT_OK && !html && !signed_file)
		r = print_report(json_object_get(envelope, "report"));
	return r;
}

int cmd_report(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"from", "from", "DATE", FIELD_DATE, false, "from then on (default: since there is the client)"},
		{"until", "to", "DATE", FIELD_DATE, false, "before then (default: now)"},
		{"html", "html", "FILE", FIELD_TEXT, false, "as a page to read: one file that needs nothing else"},
		{"signed", "signed", "FILE", FIELD_TEXT, false, "as JSON for machines, signed; `coffer report verify` checks it"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Makes the report that a client may ask for: who used his data for which purpose, to whom they were given, how long "
		"they are kept, what was destroyed.\vFor auditors and admins; that it was made is recorded. Of other clients it says "
		"nothing. --html and --signed write the same report; without them it is summed up here, and with --json printed whole."};
	scoped(freep) char *html = NULL, *file = NULL;
	json_t *params;
	json_auto_t *answer = NULL;
	const char *text;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	text = json_string_value(json_object_get(params, "html"));
	html = text ? strdup(text) : NULL;
	text = json_string_value(json_object_get(params, "signed"));
	file = text ? strdup(text) : NULL;
	json_object_del(params, "html");
	json_object_del(params, "signed");
	r = request_run_job(t, "Report", params, &answer);
	if (r == EXIT_OK)
		json_object_del(answer, "state"); /* the job's */
	return r == EXIT_OK ? deliver(t, answer, html, file) : r;
}

/* ---- verify ---- */

static int check_one(const uint8_t *key, const void *envelope)
{
	return signed_json_check(key, REPORT_CONTEXT, json_object_get(envelope, "report"),
		json_string_value(json_object_get(envelope, "signature")));
}

/* What the file says of the key must be true as well: nothing in it may be altered. */
static bool is_known(const struct public_key *key, const char *hex)
{
	char one[2 * PUBLIC_KEY_BYTES + 1];

	for (size_t i = 0; hex && i < key->all.n; i++) {
		sodium_bin2hex(one, sizeof(one), key->all.keys[i].b, PUBLIC_KEY_BYTES);
		if (strcmp(one, hex) == 0)
			return true;
	}
	return false;
}

static bool is_genuine(const json_t *file, const struct public_key *key)
{
	return json_object_size(file) == 3 && is_known(key, json_string_value(json_object_get(file, "public_key"))) &&
	       public_key_any(key, report_text(json_object_get(file, "report"), "made_at"), check_one, file);
}

static int load(const char *path, json_t **ret)
{
	json_error_t err;
	json_t *file = json_load_file(path, JSON_REJECT_DUPLICATES, &err);

	if (!file && err.line < 0)
		return fail(EXIT_USAGE, "%s: %s", path, err.text);
	/* What cannot be read was altered, or was never a report. */
	if (!file || !json_is_object(json_object_get(file, "report")) || !json_is_string(json_object_get(file, "signature"))) {
		json_decref(file);
		return fail(EXIT_DAMAGED, "%s: this is no report as `coffer report --signed` writes it", path);
	}
	*ret = file;
	return EXIT_OK;
}

int cmd_report_verify(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"file", NULL, "FILE", FIELD_TEXT, true, NULL},
		{"pubkey", "pubkey", "FILE", FIELD_TEXT, false,
			"the key as `coffer public-key` printed it (default: this installation's)"},
		{"html", "html", "FILE", FIELD_TEXT, false, "when it is genuine: write it as a page to read"},
		{0},
	};
	static const struct request rq = {fields, "FILE",
		"Checks the signature of a report that `coffer report CLIENT --signed FILE` wrote, without the daemons.\vThe key in the "
		"file itself proves nothing: take one that was kept off the host."};
	scoped(public_key_done) struct public_key key = {0};
	json_auto_t *params = NULL, *file = NULL;
	const json_t *report;
	const char *path;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	path = json_string_value(json_object_get(params, "file"));
	r = public_key_get(t, json_string_value(json_object_get(params, "pubkey")), &key);
	if (r == EXIT_OK)
		r = load(path, &file);
	if (r != EXIT_OK)
		return r;
	if (!is_genuine(file, &key))
		return fail(EXIT_DAMAGED, "%s: not signed by this key, or altered since", path);
	report = json_object_get(file, "report");
	if (json_object_get(params, "html"))
		r = write_file(json_string_value(json_object_get(params, "html")), report_page, file);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(report) : r;
	return say("genuine: the report for %s from %s to %s, made at %s", report_text(json_object_get(report, "client"), "client"),
		report_text(json_object_get(report, "period"), "from"), report_text(json_object_get(report, "period"), "until"),
		report_text(report, "made_at"));
}
