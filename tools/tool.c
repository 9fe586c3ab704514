#include "tools/tool.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/progress.h"

#define CALL_TIMEOUT_MS 60000     /* a rotation of all keys, a large query */
#define VERIFY_TIMEOUT_MS 3600000 /* the whole ledger is read */
#define BUSY_WAIT_MS 60000	  /* for something that ends by itself, as a sweep of dead files */
#define BUSY_TICK_MS 100
#define BUSY_SAY_MS 1000

unsigned turns_text(const char *text)
{
	const unsigned char *u = (const unsigned char *)text;
	unsigned c = u[0] == 0xe2 && (u[1] & 0xc0) == 0x80 ? 0x2000u | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu) : 0;

	return c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ? c : 0;
}

void put_escaped(FILE *to, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		/* C1 controls are two bytes in UTF-8: C2 80 to C2 9F */
		if (*p == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
			fprintf(to, "\\x%02x", *++p);
		else if (*p < 0x20 || *p == 0x7f)
			fprintf(to, "\\x%02x", *p);
		else if (turns_text((const char *)p))
			fprintf(to, "[U+%04X]", turns_text((const char *)p)), p += 2;
		else
			putc(*p, to);
	}
}

int say(const char *fmt, ...)
{
	scoped(freep) char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return fail(EXIT_FAILED, "out of memory");
	progress_interrupt();
	put_escaped(stdout, text);
	putchar('\n');
	return EXIT_OK;
}

int fail(enum exit_code code, const char *fmt, ...)
{
	scoped(freep) char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	progress_interrupt();
	fputs("coffer: ", stderr);
	put_escaped(stderr, n < 0 ? "out of memory" : text);
	putc('\n', stderr);
	return code;
}

/* Errors by name, as doc/PROTOCOL.md lists them; what is not here is EXIT_FAILED. */
#define ERROR_CODES(X)                                                                                       \
	X(EXIT_DAMAGED, "BundleDamaged")                                                                     \
	X(EXIT_USAGE, "BadMountpoint")                                                                       \
	X(EXIT_USAGE, "PathExists")                                                                       \
	X(EXIT_USAGE, "ClientExists")                                                                        \
	X(EXIT_USAGE, "NotTransferred")                                                                      \
	X(EXIT_USAGE, "SlotExists")                                                                          \
	X(EXIT_REFUSED, "LastSlot")                                                                          \
	X(EXIT_NOT_FOUND, "UnknownSlot")                                                                     \
	X(EXIT_UNREACHABLE, "SlotUnreachable")                                                               \
	X(EXIT_USAGE, "RecoveryKeyExists")                                                                   \
	X(EXIT_USAGE, "InvalidDate")                                                                         \
	X(EXIT_USAGE, "InvalidName")                                                                         \
	X(EXIT_USAGE, "InvalidParameter")                                                                    \
	X(EXIT_USAGE, "InvalidRights")                                                                       \
	X(EXIT_USAGE, "NoPassphrase")                                                                        \
	X(EXIT_USAGE, "TooMany")                                                                             \
	X(EXIT_USAGE, "UntilMissing")                                                                        \
	X(EXIT_USAGE, "InvalidAgreement")                                                                    \
	X(EXIT_USAGE, "InvalidPolicy")                                                                       \
	X(EXIT_REFUSED, "ApprovalMissing")                                                                   \
	X(EXIT_REFUSED, "ClassNotAllowed")                                                                   \
	X(EXIT_REFUSED, "NoConsentNeeded")                                                                   \
	X(EXIT_REFUSED, "NoConsent")                                                                         \
	X(EXIT_REFUSED, "NotEngaged")                                                                        \
	X(EXIT_REFUSED, "Prohibited")                                                                        \
	X(EXIT_REFUSED, "ReasonMissing")                                                                     \
	X(EXIT_REFUSED, "RolesTogether")                                                                     \
	X(EXIT_REFUSED, "Decided")                                                                           \
	X(EXIT_REFUSED, "NothingMissing")                                                                    \
	X(EXIT_NOT_FOUND, "NoAgreement")                                                                     \
	X(EXIT_NOT_FOUND, "UnknownRequest")                                                                  \
	X(EXIT_NOT_FOUND, "UnknownReview")                                                                   \
	X(EXIT_NOT_FOUND, "UnknownService")                                                                  \
	X(EXIT_REFUSED, "EndMissing")                                                                        \
	X(EXIT_REFUSED, "GrantExpired")                                                                      \
	X(EXIT_REFUSED, "GrantNotYet")                                                                       \
	X(EXIT_REFUSED, "NoBasis")                                                                           \
	X(EXIT_REFUSED, "NotGranted")                                                                        \
	X(EXIT_REFUSED, "OwnGrant")                                                                          \
	X(EXIT_REFUSED, "OwnRequest")                                                                        \
	X(EXIT_REFUSED, "PartyNotAllowed")                                                                   \
	X(EXIT_REFUSED, "PermissionDenied")                                                                  \
	X(EXIT_REFUSED, "ReferenceMissing")                                                                  \
	X(EXIT_REFUSED, "RightsNotGranted")                                                                  \
	X(EXIT_REFUSED, "NotSuspended")                                                                      \
	X(EXIT_REFUSED, "ShellNeeded")                                                                       \
	X(EXIT_REFUSED, "Suspended")                                                                         \
	X(EXIT_REFUSED, "TicketInvalid")                                                                     \
	X(EXIT_REFUSED, "TicketMissing")                                                                     \
	X(EXIT_REFUSED, "WrongPassphrase")                                                                   \
	X(EXIT_NOT_FOUND, "NoGrant")                                                                         \
	X(EXIT_NOT_FOUND, "NoHead")                                                                          \
	X(EXIT_NOT_FOUND, "NoCheck")                                                                         \
	X(EXIT_NOT_FOUND, "NotDestroyed")                                                                    \
	X(EXIT_NOT_FOUND, "NoSuchPath")                                                                      \
	X(EXIT_NOT_FOUND, "NotScheduled")                                                                    \
	X(EXIT_NOT_FOUND, "NotWaiting")                                                                      \
	X(EXIT_NOT_FOUND, "NothingToResume")                                                                 \
	X(EXIT_NOT_FOUND, "NotFound")                                                                        \
	X(EXIT_NOT_FOUND, "UnknownClass")                                                                    \
	X(EXIT_REFUSED, "Held")                                                                              \
	X(EXIT_REFUSED, "NotDue")                                                                            \
	X(EXIT_REFUSED, "ClockUnconfirmed")                                                                  \
	X(EXIT_NOT_FOUND, "UnknownClient")                                                                   \
	X(EXIT_NOT_FOUND, "UnknownEvent")                                                                    \
	X(EXIT_NOT_FOUND, "UnknownGroup")                                                                    \
	X(EXIT_NOT_FOUND, "UnknownHold")                                                                     \
	X(EXIT_NOT_FOUND, "UnknownParty")                                                                    \
	X(EXIT_NOT_FOUND, "UnknownPurpose")                                                                  \
	X(EXIT_NOT_FOUND, "UnknownRecoveryKey")                                                              \
	X(EXIT_NOT_FOUND, "UnknownSession")                                                                  \
	X(EXIT_NOT_FOUND, "UnknownUser")                                                                     \
	X(EXIT_UNREACHABLE, "Busy")                                                                          \
	X(EXIT_UNREACHABLE, "LedgerUnavailable")                                                             \
	X(EXIT_UNREACHABLE, "Stopping")                                                                      \
	X(EXIT_UNREACHABLE, "Unavailable")                                                                   \
	X(EXIT_SEALED, "PassphraseNeeded")                                                                   \
	X(EXIT_SEALED, "Sealed")                                                                             \
	X(EXIT_DESTROYED, "Destroyed")                                                                       \
	X(EXIT_DESTROYED, "Ended")                                                                           \
	X(EXIT_DAMAGED, "LedgerChanged")                                                                     \
	X(EXIT_DAMAGED, "LedgerDamaged")                                                                     \
	X(EXIT_DAMAGED, "StoreUnreadable")                                                                   \
	X(EXIT_DAMAGED, "UnsealFailed")

enum exit_code exit_code_of(const char *error)
{
	static const struct {
		enum exit_code code;
		const char *error;
	} table[] = {
#define X(code, name) {code, name},
		ERROR_CODES(X)
#undef X
	};
	const char *dot = strrchr(error, '.');
	const char *name = dot ? dot + 1 : error;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(table[i].error, name) == 0)
			return table[i].code;
	return EXIT_FAILED;
}

/* ---- options that every subcommand takes ---- */

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
	struct tool *t = state->input;

	switch (key) {
	case 'D':
		t->dir_option = arg;
		return 0;
	case 'J':
		t->json = true;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option common_options[] = {
	{"dir", 'D', "DIR", 0, "state directory (default: COFFER_DIR, else the installed one)", 100},
	{"json", 'J', NULL, 0, "print JSON", 100},
	{0},
};

static const struct argp common_argp = {common_options, parse_common, NULL, NULL, NULL, NULL, NULL};
const struct argp_child tool_children[] = {{&common_argp, 0, NULL, 0}, {0}};

/* ---- daemons ---- */

int tool_find_dir(struct tool *t, bool must_exist)
{
	int r;

	if (t->dir.root)
		return EXIT_OK;
	r = statedir_find(t->dir_option, must_exist, &t->dir);
	if (r < 0) {
		const char *env = getenv("COFFER_DIR");

		return fail(EXIT_UNREACHABLE, "%s: %s; name the state directory with --dir or COFFER_DIR",
			t->dir_option ? t->dir_option
			: env         ? env
				      : STATEDIR_DEFAULT,
			strerror(-r));
	}
	return EXIT_OK;
}

static int connect_daemon(struct tool *t, enum daemon d, bool quiet, struct varlink_client **ret)
{
	struct varlink_client **c = d == DAEMON_KEYD ? &t->keyd : &t->fsd;
	const char *name = d == DAEMON_KEYD ? "keyd.sock" : "fsd.sock";
	int r;

	if (!*c) {
		r = varlink_client_connect(t->dir.run, name, c);
		if (r < 0)
			return quiet ? EXIT_UNREACHABLE
				     : fail(EXIT_UNREACHABLE,
					       "%s/%s: %s; are the daemons running? start them with: coffer "
					       "up --dir %s",
					       t->dir.run, name, strerror(-r), t->dir.root);
	}
	*ret = *c;
	return EXIT_OK;
}

static void forget(struct tool *t, enum daemon d)
{
	struct varlink_client **c = d == DAEMON_KEYD ? &t->keyd : &t->fsd;

	varlink_client_free(*c);
	*c = NULL;
}

/* Waits a moment, if that helps. */
static bool is_busy(const struct varlink_failure *f, bool quiet, int *waited)
{
	const char *dot = strrchr(f->error, '.');

	if (quiet || strcmp(dot ? dot + 1 : f->error, "Busy") != 0 || *waited >= BUSY_WAIT_MS)
		return false;
	if (*waited == BUSY_SAY_MS && isatty(STDERR_FILENO))
		fail(EXIT_OK, "waiting: %s", f->message);
	poll(NULL, 0, BUSY_TICK_MS);
	*waited += BUSY_TICK_MS;
	return true;
}

static int call(struct tool *t, enum daemon d, const char *method, json_t *params, const int *fds, unsigned n,
	json_t **ret, bool quiet)
{
	struct varlink_failure failure = {0};
	struct varlink_client *c = NULL;
	char full[128];
	int r, waited = 0;

	r = tool_find_dir(t, true);
	if (r == EXIT_OK)
		r = connect_daemon(t, d, quiet, &c);
	if (r != EXIT_OK) {
		json_decref(params);
		return r;
	}
	snprintf(full, sizeof(full), "org.coffer.%s.%s", d == DAEMON_KEYD ? "keyd" : "fsd", method);
	do
		r = varlink_call(c, full, json_incref(params), fds, n,
			strcmp(method, "LogVerify") == 0 ? VERIFY_TIMEOUT_MS : CALL_TIMEOUT_MS, ret, NULL, &failure);
	while (r == -EREMOTEIO && is_busy(&failure, quiet, &waited));
	json_decref(params);
	if (r == 0)
		return EXIT_OK;
	if (r != -EREMOTEIO)
		forget(t, d);
	if (quiet)
		return r == -EREMOTEIO ? (int)exit_code_of(failure.error) : EXIT_UNREACHABLE;
	if (r != -EREMOTEIO)
		return fail(EXIT_UNREACHABLE, "%s does not answer: %s; see %s/log",
			d == DAEMON_KEYD ? "coffer-keyd" : "coffer-fsd", strerror(-r), t->dir.root);
	return fail(exit_code_of(failure.error), "%s%s%s",
		failure.message[0] ? failure.message : failure.error, failure.remedy[0] ? "; " : "",
		failure.remedy);
}

int tool_call(struct tool *t, enum daemon d, const char *method, json_t *params, const int *fds, unsigned n,
	json_t **ret)
{
	return call(t, d, method, params, fds, n, ret, false);
}

int tool_try(struct tool *t, enum daemon d, const char *method, json_t *params, json_t **ret)
{
	return call(t, d, method, params, NULL, 0, ret, true);
}

void tool_disconnect(struct tool *t)
{
	forget(t, DAEMON_KEYD);
	forget(t, DAEMON_FSD);
}

void tool_done(struct tool *t)
{
	tool_disconnect(t);
	statedir_done(&t->dir);
}

/* ---- small things ---- */

/* As turns_text, and what of DEL and the C1 controls a terminal obeys; jansson has written those below a space so already. */
static unsigned terminal_obeys(const char *text, unsigned *ret_bytes)
{
	const unsigned char *u = (const unsigned char *)text;

	*ret_bytes = u[0] == 0x7f ? 1 : u[0] == 0xc2 ? 2 : 3;
	return u[0] == 0x7f ? 0x7f : u[0] == 0xc2 ? (u[1] <= 0x9f ? u[1] : 0) : turns_text(text);
}

int print_json_text(FILE *to, const json_t *value, size_t flags)
{
	scoped(freep) char *text = json_dumps(value, flags | JSON_ENCODE_ANY | JSON_SORT_KEYS);

	if (!text)
		return -1;
	for (const char *p = text; *p; p++) {
		unsigned n, c = terminal_obeys(p, &n);

		if (!c) {
			putc(*p, to);
			continue;
		}
		fprintf(to, "\\u%04x", c); /* nothing but text of a string has such characters */
		p += n - 1;
	}
	return ferror(to) ? -1 : 0;
}

int print_json(const json_t *value)
{
	if (print_json_text(stdout, value, JSON_INDENT(2)) < 0)
		return fail(EXIT_FAILED, "the answer cannot be printed");
	putchar('\n');
	return EXIT_OK;
}

int put_date(json_t *params, const char *key, const char *option, const char *text)
{
	int64_t when;

	if (!text)
		return EXIT_OK;
	if (date_parse(text, time(NULL), &when) < 0)
		return fail(EXIT_USAGE,
			"%s: %s is not a date; write 2026-12-31, 2026-12-31T18:30, now, today, yesterday or "
			"tomorrow (UTC)",
			option, text);
	json_object_set_new(params, key, json_integer(when));
	return EXIT_OK;
}
