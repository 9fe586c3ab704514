#include "tools/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"

#define CALL_TIMEOUT_MS 30000 /* a destruction or a large query may take a while */
#define PASSPHRASE_MAX 1024

int fail(enum exit_code code, const char *fmt, ...)
{
	scoped(freep) char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	fputs("coffer: ", stderr);
	for (const char *p = text ? text : "out of memory"; *p; p++)
		fputc((unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p, stderr);
	fputc('\n', stderr);
	return code;
}

enum exit_code exit_code_of(const char *error)
{
	static const struct {
		const char *error;
		enum exit_code code;
	} table[] = {
		{"PermissionDenied", EXIT_REFUSED},
		{"NotGranted", EXIT_REFUSED},
		{"GrantExpired", EXIT_REFUSED},
		{"GrantNotYet", EXIT_REFUSED},
		{"PartyNotAllowed", EXIT_REFUSED},
		{"ReferenceMissing", EXIT_REFUSED},
		{"EndMissing", EXIT_REFUSED},
		{"RightsNotGranted", EXIT_REFUSED},
		{"TicketMissing", EXIT_REFUSED},
		{"TicketInvalid", EXIT_REFUSED},
		{"Suspended", EXIT_REFUSED},
		{"NoBasis", EXIT_REFUSED},
		{"SelfGrant", EXIT_REFUSED},
		{"NotYours", EXIT_REFUSED},
		{"UnknownClient", EXIT_NOT_FOUND},
		{"UnknownUser", EXIT_NOT_FOUND},
		{"UnknownGroup", EXIT_NOT_FOUND},
		{"UnknownPurpose", EXIT_NOT_FOUND},
		{"UnknownSession", EXIT_NOT_FOUND},
		{"UnknownHold", EXIT_NOT_FOUND},
		{"UnknownGrant", EXIT_NOT_FOUND},
		{"NoCertificate", EXIT_NOT_FOUND},
		{"NoSuchGrant", EXIT_NOT_FOUND},
		{"NotFound", EXIT_NOT_FOUND},
		{"Sealed", EXIT_SEALED},
		{"Destroyed", EXIT_DESTROYED},
		{"Ended", EXIT_DESTROYED},
		{"Damaged", EXIT_DAMAGED},
		{"LedgerDamaged", EXIT_DAMAGED},
		{"InvalidParameter", EXIT_USAGE},
		{"BadInput", EXIT_USAGE},
		{"Invalid", EXIT_USAGE},
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

static int call(struct tool *t, enum daemon d, const char *method, json_t *params, const int *fds, unsigned n,
	json_t **ret, bool quiet)
{
	struct varlink_failure failure = {0};
	struct varlink_client *c = NULL;
	char full[128];
	int r;

	r = tool_find_dir(t, true);
	if (r == EXIT_OK)
		r = connect_daemon(t, d, quiet, &c);
	if (r != EXIT_OK) {
		json_decref(params);
		return r;
	}
	snprintf(full, sizeof(full), "org.coffer.%s.%s", d == DAEMON_KEYD ? "keyd" : "fsd", method);
	r = varlink_call(c, full, params, fds, n, CALL_TIMEOUT_MS, ret, NULL, &failure);
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

void tool_done(struct tool *t)
{
	forget(t, DAEMON_KEYD);
	forget(t, DAEMON_FSD);
	statedir_done(&t->dir);
}

/* ---- small things ---- */

int print_json(const json_t *value)
{
	if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_SORT_KEYS) < 0)
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

static int read_line_quietly(const char *prompt, char *buf, size_t cap)
{
	scoped(close_fdp) int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	struct termios old, quiet;
	size_t n = 0;

	if (tty < 0 || tcgetattr(tty, &old) < 0)
		return -ENOTTY;
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	dprintf(tty, "%s: ", prompt);
	tcsetattr(tty, TCSAFLUSH, &quiet);
	while (n < cap && read(tty, buf + n, 1) == 1 && buf[n] != '\n')
		n++;
	tcsetattr(tty, TCSAFLUSH, &old);
	dprintf(tty, "\n");
	return n < cap ? (int)n : -E2BIG;
}

/* Until the end of file or of the first line. */
static int read_line_from(int fd, char *buf, size_t cap)
{
	size_t n = 0;

	while (n < cap) {
		ssize_t got = read(fd, buf + n, 1);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0 || buf[n] == '\n')
			return (int)n;
		n++;
	}
	return -E2BIG;
}

static int memory_file(const char *buf, size_t n, int *ret_fd)
{
	scoped(close_fdp) int fd = memfd_create("passphrase", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (write(fd, buf, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET) < 0)
		return -EIO;
	*ret_fd = take_fd(&fd);
	return 0;
}

int passphrase_fd(int fd, const char *prompt, bool confirm, int *ret_fd)
{
	char one[PASSPHRASE_MAX], two[PASSPHRASE_MAX];
	int n, m, r = EXIT_OK;

	n = fd >= 0 ? read_line_from(fd, one, sizeof(one)) : read_line_quietly(prompt, one, sizeof(one));
	if (n == -ENOTTY)
		r = fail(EXIT_USAGE, "there is no terminal to ask for a passphrase; use --passphrase-fd N");
	else if (n < 0)
		r = fail(EXIT_USAGE, "the passphrase cannot be read: %s", strerror(-n));
	else if (n == 0)
		r = fail(EXIT_USAGE, "the passphrase is empty");
	if (r == EXIT_OK && confirm && fd < 0) {
		m = read_line_quietly("again", two, sizeof(two));
		if (m != n || memcmp(one, two, (size_t)n) != 0)
			r = fail(EXIT_USAGE, "the two passphrases differ; nothing was changed");
	}
	if (r == EXIT_OK && memory_file(one, (size_t)n, ret_fd) < 0)
		r = fail(EXIT_FAILED, "no memory for the passphrase");
	explicit_bzero(one, sizeof(one));
	explicit_bzero(two, sizeof(two));
	return r;
}
