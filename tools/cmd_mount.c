/* mount, unmount.  fusermount3 mounts as the user; its descriptor goes to coffer-fsd; a keeper stays behind.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/fusemount.h"
#include "tools/request.h"
#include "tools/session_mount.h"

#define UNMOUNT_WAIT_MS 3000
#define RECEIPT_WAIT_MS 1500
#define BUSY_TRIES 5
#define BUSY_WAIT_MS 200
#define TICK_MS 20

/* ---- mount ---- */

static int check_mountpoint(const char *given, char **ret)
{
	scoped(freep) char *path = NULL;
	struct stat st;
	int r;

	if (fusemount_is_stale(given)) {
		char *absolute = fusemount_resolve(given);

		r = absolute ? fusemount_unmount(absolute, true) : -ENOMEM;
		free(absolute);
		if (r != 0)
			return fail(EXIT_FAILED,
				"%s: a dead mount lies there and cannot be removed; try: fusermount3 -uz %s",
				given, given);
	}
	path = realpath(given, NULL);
	if (!path || stat(path, &st) < 0)
		return fail(EXIT_USAGE, "%s: %s; make the directory first: mkdir %s", given, strerror(errno),
			given);
	if (!S_ISDIR(st.st_mode))
		return fail(EXIT_USAGE, "%s: not a directory; name an empty directory of yours", path);
	if (fusemount_is_mounted(path))
		return fail(EXIT_FAILED,
			"%s: something is mounted there already; unmount it or name another directory", path);
	if (st.st_uid != geteuid() && geteuid() != 0)
		return fail(EXIT_USAGE, "%s: not yours; name an empty directory of yours", path);
	if (!fusemount_is_empty(path))
		return fail(EXIT_USAGE, "%s: not empty; name an empty directory of yours", path);
	*ret = take_ptr(&path);
	return EXIT_OK;
}

static void say_mounted(struct tool *t, const json_t *params, const json_t *session, const char *path)
{
	int64_t until = json_integer_value(json_object_get(session, "until"));
	char when[DATE_TEXT_MAX];

	if (t->json) {
		json_t *out = json_pack("{s:O, s:s, s:O?, s:O?}", "session",
			json_object_get(session, "session"), "mountpoint", path, "rights",
			json_object_get(session, "rights"), "until", json_object_get(session, "until"));

		print_json(out);
		json_decref(out);
		return;
	}
	say("%s is mounted at %s for %s (session %lld, rights %s%s%s); every access is recorded. End it "
	    "with: "
	    "coffer unmount %s",
		json_string_value(json_object_get(params, "client")), path,
		json_string_value(json_object_get(params, "purpose")),
		json_integer_value(json_object_get(session, "session")),
		json_string_value(json_object_get(session, "rights")), until ? ", until " : "",
		until ? date_format(until, when) : "", path);
	if (json_is_true(json_object_get(params, "exclusive")))
		say("It is exclusive: nobody else can mount %s meanwhile, and what a program has written and neither "
		    "closed nor synced (fsync) is lost if a daemon is killed.",
			json_string_value(json_object_get(params, "client")));
}

int cmd_mount(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"mountpoint", NULL, "MOUNTPOINT", FIELD_TEXT, true, NULL},
		{"purpose", "purpose", "PURPOSE", FIELD_TEXT, true,
			"what for: it is recorded with every access"},
		{"ticket", "ticket", "TICKET", FIELD_TEXT, false, "the order or incident you work on"},
		{"read_only", "read-only", NULL, FIELD_FLAG, false, "ask for read rights only"},
		{"emergency", "emergency", NULL, FIELD_FLAG, false, "without a grant, if you may: others are told, and look at it"},
		{"reason", "reason", "TEXT", FIELD_TEXT, false, "with --emergency: why"},
		{"shared", "shared", NULL, FIELD_FLAG, false,
			"for all users of this host who have a grant, with real owners and ACLs (root and "
			"admins)"},
		{"exclusive", "exclusive", NULL, FIELD_FLAG, false,
			"no other mount of the client beside it; what is written stays in memory until close or fsync: faster"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT MOUNTPOINT",
		"Mounts a client's share at an empty directory of yours.\vOnly you can look into it, not "
		"even root; with --shared every user of this host who has a grant for that purpose. "
		"With --exclusive the kernel keeps what programs write until they close the file or call fsync (at the "
		"latest half a minute): if a daemon is killed before that, it is lost. Nobody else can mount the client "
		"meanwhile. "
		"The session ends with "
		"`coffer unmount`, or when the permission for it ends."};
	scoped(freep) char *path = NULL;
	json_t *params, *asked, *session = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = check_mountpoint(json_string_value(json_object_get(params, "mountpoint")), &path);
	asked = json_copy(params);
	if (r == EXIT_OK)
		r = session_mount_ask(t, asked, &session);
	else
		json_decref(asked);
	if (r == EXIT_OK) {
		r = session_mount(t, params, session, path);
		if (r != EXIT_OK)
			session_mount_give_up(t, session, "the mount failed");
	}
	if (r == EXIT_OK)
		say_mounted(t, params, session, path);
	json_decref(session);
	json_decref(params);
	return r;
}

/* ---- unmount ---- */

/* The newest session that is mounted at path; NULL: none.  A new reference. */
static json_t *find_session(struct tool *t, const char *path, json_int_t number)
{
	json_t *answer = NULL, *row, *found = NULL;
	size_t i;

	if (tool_try(t, DAEMON_KEYD, "Sessions", NULL, &answer) != EXIT_OK)
		return NULL;
	json_array_foreach(json_object_get(answer, "sessions"), i, row)
	{
		const char *at = json_string_value(json_object_get(row, "mountpoint"));

		if (path ? at && strcmp(at, path) == 0
			 : json_integer_value(json_object_get(row, "session")) == number) {
			found = json_incref(row); /* they come newest first */
			break;
		}
	}
	json_decref(answer);
	return found;
}

static json_int_t session_at(struct tool *t, const char *given)
{
	scoped(freep) char *path = fusemount_resolve(given);
	json_auto_t *row = path ? find_session(t, path, 0) : NULL;

	return json_integer_value(json_object_get(row, "session"));
}

/* The end is recorded, and a new mount there will not meet the old one. */
static void wait_for_end(struct tool *t, const char *path)
{
	for (int ms = 0; ms < UNMOUNT_WAIT_MS; ms += TICK_MS) {
		json_t *row = find_session(t, path, 0);

		if (!row)
			return;
		json_decref(row);
		poll(NULL, 0, TICK_MS);
	}
}

static int unmount_path(struct tool *t, const char *given, bool lazy)
{
	scoped(freep) char *path = fusemount_resolve(given);
	int r;

	if (!path)
		return fail(EXIT_USAGE, "%s: %s", given, strerror(errno));
	if (!fusemount_is_coffer(path))
		return fail(EXIT_NOT_FOUND, "%s: %s; `coffer sessions` lists your mounts, with --ended why they ended", path,
			fusemount_is_mounted(path) ? "what is mounted there is no share" : "nothing is mounted there");
	r = fusemount_unmount(path, lazy);
	/* A program that has just ended may still hold it for a moment: the kernel closes its files behind it. */
	for (int tries = 0; r != 0 && !lazy && tries < BUSY_TRIES; tries++) {
		poll(NULL, 0, BUSY_WAIT_MS);
		r = fusemount_unmount(path, lazy);
	}
	if (r != 0)
		return fail(EXIT_FAILED,
			"%s is in use: a program has a file open there or works in it (fuser -vm %s shows "
			"which); end it, or unmount with --lazy",
			path, path);
	wait_for_end(t, path);
	return EXIT_OK;
}

/* Where it is mounted says its user, and what he says is not unmounted by root: the session ends, and his own keeper unmounts. */
static int end_session(struct tool *t, const json_t *row)
{
	const char *path = json_string_value(json_object_get(row, "mountpoint"));
	int r = tool_call(t, DAEMON_KEYD, "SessionEnd", json_pack("{s:O}", "session", json_object_get(row, "session")), NULL, 0, NULL);

	for (int ms = 0; r == EXIT_OK && path && fusemount_is_coffer(path) && ms < UNMOUNT_WAIT_MS; ms += TICK_MS)
		poll(NULL, 0, TICK_MS);
	return r;
}

static bool is_of_another(const json_t *row)
{
	return row && json_integer_value(json_object_get(row, "uid")) != (json_int_t)geteuid();
}

/* The head of the record that stands for this session's rows, too.  Who keeps the line can ask for them later. */
static void say_receipt(struct tool *t, json_int_t session)
{
	json_auto_t *head = NULL;
	const char *hash;

	for (int ms = 0; session > 0 && !head && ms < RECEIPT_WAIT_MS; ms += TICK_MS)
		if (tool_try(t, DAEMON_KEYD, "Receipt", json_pack("{s:I}", "session", session), &head) != EXIT_OK)
			poll(NULL, 0, TICK_MS); /* its end is on its way into the book */
	if (!head) {
		if (t->json)
			puts("{}");
		return;
	}
	hash = json_string_value(json_object_get(head, "hash"));
	if (t->json)
		(void)print_json(head);
	else
		say("receipt: the record up to batch %lld, %.16s", (long long)json_integer_value(json_object_get(head, "batch")),
			hash ? hash : "?");
}

int cmd_unmount(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"mountpoint", NULL, "MOUNTPOINT", FIELD_TEXT, false, NULL},
		{"session", "session", "N", FIELD_NUMBER, false,
			"the session's number instead of its mount point"},
		{"lazy", "lazy", NULL, FIELD_FLAG, false, "also when programs still use it"},
		{0},
	};
	static const struct request rq = {fields, "MOUNTPOINT", "Ends a session and removes its mount."};
	const json_t *number;
	json_t *params, *row = NULL;
	json_int_t session = 0;
	const char *path;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	path = json_string_value(json_object_get(params, "mountpoint"));
	number = json_object_get(params, "session");
	if (!path && number) {
		row = find_session(t, NULL, json_integer_value(number));
		path = json_string_value(json_object_get(row, "mountpoint"));
		r = path ? EXIT_OK
			 : fail(EXIT_NOT_FOUND, "no mount of session %lld; `coffer sessions` lists them",
				   json_integer_value(number));
	} else {
		r = path ? EXIT_OK : fail(EXIT_USAGE, "unmount: name a MOUNTPOINT or --session N");
	}
	session = row ? json_integer_value(json_object_get(row, "session")) : r == EXIT_OK ? session_at(t, path) : 0;
	if (r == EXIT_OK && is_of_another(row))
		r = end_session(t, row);
	else if (r == EXIT_OK)
		r = unmount_path(t, path, json_is_true(json_object_get(params, "lazy")));
	if (r == EXIT_OK)
		say_receipt(t, session);
	json_decref(row);
	json_decref(params);
	return r;
}
