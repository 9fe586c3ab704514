/* fsck: asks coffer-keyd piece by piece, shows what was found as it comes. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/commands.h"
#include "tools/progress.h"
#include "tools/request.h"

#define ASK_EVERY_NS 100000000

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
	interrupted = 1;
}

static json_int_t count_of(const json_t *counts, const char *key)
{
	return json_integer_value(json_object_get(counts, key));
}

/* ---- what people see ---- */

static void show(struct progress *p, json_int_t *first_bytes, const char *state, const json_t *counts)
{
	json_int_t bytes = count_of(counts, "bytes"), total = count_of(counts, "total");
	double took = progress_seconds(p);

	if (*first_bytes < 0)
		*first_bytes = bytes;
	progress_show(p, (uint64_t)bytes, (uint64_t)total, "%s: %lld files, %.1f of %.1f MB, %.1f MB/s, %lld damaged", state,
		count_of(counts, "files"), (double)bytes / 1e6, (double)total / 1e6,
		took > 0.1 ? (double)(bytes - *first_bytes) / took / 1e6 : 0, count_of(counts, "damaged"));
}

static void say_finding(const json_t *f)
{
	const char *what = "", *done = "", *store = "", *detail = "", *path = NULL;

	json_unpack((json_t *)f, "{s:s, s:s, s:s, s:s, s?s}", "what", &what, "done", &done, "store", &store, "detail",
		&detail, "path", &path);
	say("%-11s  %s%s  (store: %s)%s%s%s%s", what, json_is_true(json_object_get(f, "damage")) ? "" : "legal: ",
		path ? (*path ? path : "/") : "(its name does not open, or not for you)", *store ? store : ".",
		*detail ? "  " : "", detail, *done ? "  -> " : "", done);
}

static const char *verdict_of(const json_t *counts)
{
	if (count_of(counts, "damaged") > 0)
		return "damaged";
	if (count_of(counts, "repaired") + count_of(counts, "isolated") + count_of(counts, "accepted") > 0)
		return "mended";
	return "clean";
}

static int verdict_code(const json_t *counts)
{
	const char *verdict = verdict_of(counts);

	return strcmp(verdict, "clean") == 0 ? EXIT_OK : strcmp(verdict, "mended") == 0 ? EXIT_MENDED : EXIT_DAMAGED;
}

static int say_summary(const char *client, const json_t *counts)
{
	int r = say("%s: %s: %lld files in %lld directories, %.1f MB; %lld damaged, %lld repaired, %lld isolated, "
		    "%lld accepted, %lld left as crashes leave them, %lld destroyed and not removed yet",
		client, verdict_of(counts), count_of(counts, "files"), count_of(counts, "directories"),
		(double)count_of(counts, "bytes") / 1e6, count_of(counts, "damaged"), count_of(counts, "repaired"),
		count_of(counts, "isolated"), count_of(counts, "accepted"), count_of(counts, "leftovers"), count_of(counts, "destroyed"));

	if (r == EXIT_OK && count_of(counts, "leftovers") > 0)
		r = say("what crashes leave is removed by --repair");
	return r == EXIT_OK ? verdict_code(counts) : r;
}

/* ---- asking ---- */

struct check {
	struct tool *t;
	const char *client;
	json_int_t id;
	json_t *findings; /* for --json */
	bool destroyed; /* one was found whose key was destroyed */
	json_t *counts;
	struct progress progress;
	json_int_t first_bytes; /* of an earlier run that this one goes on with */
};

static int stop(struct check *c)
{
	progress_clear(&c->progress);
	(void)tool_try(c->t, DAEMON_KEYD, "FsckStop", json_pack("{s:I}", "fsck", c->id), NULL);
	return fail(EXIT_FAILED, "stopped; coffer fsck %s --resume goes on", c->client);
}

static int take_piece(struct check *c, const json_t *piece, bool *ret_more)
{
	const char *state = json_string_value(json_object_get(piece, "state"));
	const char *error = json_string_value(json_object_get(piece, "error"));
	const json_t *findings = json_object_get(piece, "findings"), *f;
	size_t i;

	json_array_foreach(findings, i, f)
	{
		const char *what = json_string_value(json_object_get(f, "what"));

		c->destroyed |= what && strcmp(what, "destroyed") == 0;
		if (!c->t->json)
			say_finding(f);
	}
	if (c->t->json)
		json_array_extend(c->findings, (json_t *)findings);
	json_decref(c->counts);
	c->counts = json_incref(json_object_get(piece, "counts"));
	*ret_more = strcmp(state, "checking") == 0 || strcmp(state, "comparing") == 0;
	if (*ret_more)
		show(&c->progress, &c->first_bytes, state, c->counts);
	else
		progress_clear(&c->progress);
	if (error)
		return fail(strstr(error, "no such") ? EXIT_NOT_FOUND : EXIT_FAILED, "the check was broken off: %s", error);
	return EXIT_OK;
}

static int ask(struct check *c)
{
	const struct timespec wait = {.tv_nsec = ASK_EVERY_NS};
	bool more = true;
	int r = EXIT_OK;

	while (r == EXIT_OK && more) {
		json_auto_t *piece = NULL;

		if (interrupted)
			return stop(c);
		r = tool_call(c->t, DAEMON_KEYD, "FsckNext", json_pack("{s:I}", "fsck", c->id), NULL, 0, &piece);
		if (r == EXIT_OK)
			r = take_piece(c, piece, &more);
		if (r == EXIT_OK && more && json_array_size(json_object_get(piece, "findings")) == 0)
			nanosleep(&wait, NULL);
	}
	return r;
}

static int finish(struct check *c)
{
	json_auto_t *all = NULL;
	int r;

	if (!c->t->json && c->destroyed)
		(void)say(count_of(c->counts, "destroyed") > 0
				  ? "what is \"destroyed\" was erased, with its key; what is left of it is removed by itself soon"
				  : "what is \"destroyed\" has a key that is no more, and nothing waits for its removal: it was put back out of a "
				    "backup, or its header was altered");
	if (!c->t->json)
		return say_summary(c->client, c->counts);
	all = json_pack("{s:s, s:s, s:O, s:O}", "client", c->client, "verdict", verdict_of(c->counts), "counts",
		c->counts, "findings", c->findings);
	r = print_json(all);
	return r == EXIT_OK ? verdict_code(c->counts) : r;
}

int cmd_fsck(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"repair", "repair", NULL, FIELD_FLAG, false, "mend what crashes leave behind"},
		{"isolate", "isolate", NULL, FIELD_FLAG, false,
			"give what is damaged another name: NAME.damaged-DATE (no session may be open)"},
		{"accept", "accept", "PATH", FIELD_TEXT, false,
			"take what stands at PATH for right, after a deliberate restore (custodians; no session)"},
		{"only", "only", "PATH", FIELD_TEXT, false, "only this file or directory, by either of its paths"},
		{"resume", "resume", NULL, FIELD_FLAG, false, "go on where the last check was broken off"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Looks at all a client's store holds, without a mount, and compares it with the record.\vNothing is "
		"changed unless asked for, and nothing is ever removed that holds data. Exit status: 0 clean, 8 damage "
		"that is still there, 9 something was mended, isolated or accepted, and no damage is left."};
	const struct sigaction act = {.sa_handler = on_interrupt};
	struct check c = {.t = t, .first_bytes = -1};
	scoped(freep) char *client = NULL;
	json_auto_t *answer = NULL;
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	client = strdup(json_string_value(json_object_get(params, "client")));
	c.client = client;
	progress_begin(&c.progress, t->json);
	c.findings = json_array();
	r = tool_call(t, DAEMON_KEYD, "Fsck", params, NULL, 0, &answer);
	if (r == EXIT_OK) {
		sigaction(SIGINT, &act, NULL);
		sigaction(SIGTERM, &act, NULL);
		c.id = count_of(answer, "fsck");
		r = ask(&c);
	}
	if (r == EXIT_OK)
		r = finish(&c);
	json_decref(c.findings);
	json_decref(c.counts);
	return r;
}
