/* up, down, status: the daemons as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/find.h"
#include "tools/fusemount.h"
#include "tools/request.h"
#include "tools/table.h"

#define UP_WAIT_MS 15000
#define DOWN_WAIT_MS 20000
#define UNMOUNT_WAIT_MS 5000
#define TICK_MS 20

static void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

static int make_dir(struct tool *t)
{
	const char *dir = t->dir_option ? t->dir_option : getenv("COFFER_DIR");

	if (dir && mkdir(dir, 0711) < 0 && errno != EEXIST)
		return fail(EXIT_FAILED, "%s: %s; its parent directory must exist and be yours to write", dir,
			strerror(errno));
	return EXIT_OK;
}

/* The child: detached from this terminal and this command, its words go to D/log/keyd.log. */
static void become_keyd(const char *program, const char *dir, const char *policy, int log)
{
	const char *argv[] = {program, "--dir", dir, policy ? "--policy" : NULL, policy, NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	if (null < 0 || chdir("/") < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
		dup2(log, STDERR_FILENO) < 0)
		_exit(127);
	syscall(SYS_close_range, 3u, ~0u, 0u);
	execv(program, (char *const *)argv);
	dprintf(STDERR_FILENO, "%s: %s\n", program, strerror(errno));
	_exit(127);
}

/* What the daemon said since `from`, for the person who started it. */
static void show_log(int log, off_t from)
{
	char buf[4096];
	ssize_t n = pread(log, buf, sizeof(buf), from);

	if (n > 0)
		fwrite(buf, 1, (size_t)n, stderr);
}

/* pid 0: coffer-keyd is not this command's child. */
static int wait_until_up(struct tool *t, pid_t pid, int log, off_t from)
{
	json_t *answer = NULL;
	int status;

	for (int ms = 0; ms < UP_WAIT_MS; ms += TICK_MS) {
		if (tool_try(t, DAEMON_KEYD, "Status", NULL, &answer) == EXIT_OK) {
			const char *fsd = json_string_value(json_object_get(answer, "fsd"));
			bool ready = fsd && strcmp(fsd, "running") == 0 &&
				     tool_try(t, DAEMON_FSD, "Status", NULL, NULL) == EXIT_OK;
			bool damaged = fsd && strcmp(fsd, "ledger damaged") == 0;

			json_decref(answer);
			if (damaged)
				return fail(EXIT_DAMAGED,
					"the ledger is damaged, or somebody wrote into it: administration works, "
					"nothing can be mounted\n"
					"  `coffer log verify` says where; coffer(1) says under FILES what to do");
			if (ready)
				return EXIT_OK;
		}
		if (pid && waitpid(pid, &status, WNOHANG) == pid) {
			show_log(log, from);
			return fail(EXIT_FAILED,
				"coffer-keyd did not start; its words are in %s/log/keyd.log", t->dir.root);
		}
		pause_ms(TICK_MS);
	}
	if (log >= 0)
		show_log(log, from);
	return fail(EXIT_FAILED, "the daemons do not answer after %d s; see %s/log", UP_WAIT_MS / 1000,
		t->dir.root);
}

/* Others must be able to walk to the sockets. */
static void warn_if_unreachable(const struct tool *t)
{
	scoped(freep) char *path = strdup(t->dir.run);
	struct stat st;

	while (geteuid() == 0 && path && path[1]) {
		char *slash;

		if (stat(path, &st) == 0 && !(st.st_mode & S_IXOTH))
			fprintf(stderr,
				"coffer: other users cannot reach the sockets: %s is closed to them (chmod "
				"o+x opens the way)\n",
				path);
		slash = strrchr(path, '/');
		slash[slash == path] = '\0';
	}
}

/* As named; else D/policy.yaml; else NULL: the built-in one. */
static int find_policy(const struct tool *t, const char *named, char **ret)
{
	scoped(freep) char *own = NULL;

	if (!named && asprintf(&own, "%s/policy.yaml", t->dir.root) < 0)
		return fail(EXIT_FAILED, "out of memory");
	*ret = realpath(named ? named : own, NULL);
	if (!*ret && (named || errno != ENOENT))
		return fail(EXIT_USAGE, "%s: %s", named ? named : own, strerror(errno));
	return EXIT_OK;
}

/* The directory, the policy and the program. */
static int prepare(struct tool *t, const char *policy, char **ret_policy, char **ret_program)
{
	int r = statedir_create(&t->dir);

	if (r < 0)
		return fail(EXIT_FAILED, "%s cannot be set up: %s", t->dir.root, strerror(-r));
	r = find_policy(t, policy, ret_policy);
	if (r != EXIT_OK)
		return r;
	*ret_program = find_program("keyd", "coffer-keyd");
	if (!*ret_program)
		return fail(
			EXIT_FAILED, "coffer-keyd is neither beside this program nor in " COFFER_LIBEXECDIR);
	return EXIT_OK;
}

/* For a service manager: this process becomes the daemon. */
static int run_here(struct tool *t, const char *policy)
{
	scoped(freep) char *program = NULL, *policy_path = NULL;
	int r = prepare(t, policy, &policy_path, &program);

	if (r != EXIT_OK)
		return r;
	execv(program, (char *const *)(const char *[]){program, "--dir", t->dir.root, policy_path ? "--policy" : NULL,
			       policy_path, NULL});
	return fail(EXIT_FAILED, "%s: %s", program, strerror(errno));
}

static int start(struct tool *t, const char *policy)
{
	scoped(freep) char *program = NULL, *policy_path = NULL;
	scoped(close_fdp) int log = -1;
	off_t from;
	pid_t pid;
	int r;

	r = prepare(t, policy, &policy_path, &program);
	if (r != EXIT_OK)
		return r;
	log = statedir_open(&t->dir, "log/keyd.log", O_RDWR | O_CREAT | O_APPEND, 0600);
	if (log < 0)
		return fail(EXIT_FAILED, "%s/log/keyd.log: %s", t->dir.root, strerror(-log));
	from = lseek(log, 0, SEEK_END);
	pid = fork();
	if (pid < 0)
		return fail(EXIT_FAILED, "no new process: %s", strerror(errno));
	if (pid == 0)
		become_keyd(program, t->dir.root, policy_path, log);
	return wait_until_up(t, pid, log, from);
}

static bool is_first_start(const struct tool *t)
{
	scoped(freep) char *path = NULL;

	return asprintf(&path, "%s/keyd/keys", t->dir.root) >= 0 && access(path, F_OK) < 0 && errno == ENOENT;
}

static void say_first_start(const struct tool *t)
{
	(void)say("The root key is new and lies in one place, %s/keyd/slot: who loses all slots loses every client. Make a second one "
		  "on another medium, or a recovery key: coffer slot add NAME FOLDER, coffer recovery keygen FILE",
		t->dir.root);
}

int cmd_up(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"policy", "policy", "FILE", FIELD_TEXT, false, "policy file (default: the built-in one)"},
		{"foreground", "foreground", NULL, FIELD_FLAG, false, "become coffer-keyd, for a service manager"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Starts the daemons, with all state below the state directory.\vThe first start makes keys "
		"and a slot; who loses all slots loses every client, so add a second one. Started by root they "
		"serve every user of the host, by anybody else that user."};
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = make_dir(t);
	if (r == EXIT_OK)
		r = tool_find_dir(t, true);
	if (r == EXIT_OK && json_is_true(json_object_get(params, "foreground"))) {
		r = run_here(t, json_string_value(json_object_get(params, "policy")));
	} else if (r == EXIT_OK && tool_try(t, DAEMON_KEYD, "Status", NULL, NULL) == EXIT_OK) {
		if (json_object_get(params, "policy"))
			r = fail(EXIT_FAILED,
				"already running in %s; for another policy stop it first: coffer down --dir "
				"%s",
				t->dir.root, t->dir.root);
		else
			r = wait_until_up(t, 0, -1, 0); /* coffer-fsd may be about to be started again */
		if (r == EXIT_OK)
			puts(t->json ? "{\"running\": true}" : "already running");
	} else if (r == EXIT_OK) {
		bool first = is_first_start(t);

		r = start(t, json_string_value(json_object_get(params, "policy")));
		if (r == EXIT_OK && t->json)
			puts("{\"running\": true}");
		else if (r == EXIT_OK)
			printf("running in %s; stop with: coffer down --dir %s\n", t->dir.root, t->dir.root);
		if (r == EXIT_OK && first && !t->json)
			say_first_start(t);
		if (r == EXIT_OK)
			warn_if_unreachable(t);
	}
	json_decref(params);
	return r;
}

/* ---- down ---- */

static pid_t keyd_pid(const struct tool *t)
{
	scoped(freep) char *path = NULL;
	scoped(close_fdp) int fd = -1;
	char text[32] = "";

	if (asprintf(&path, "%s/keyd.pid", t->dir.run) < 0)
		return -1;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return -1;
	return (pid_t)strtol(text, NULL, 10);
}

/* Whether a set of daemons holds the directory, though its socket may be gone or not answer. */
static bool is_held(const struct tool *t)
{
	scoped(close_fdp) int lock = -1;
	int r = statedir_lock(&t->dir, "coffer.lock", &lock);

	return r == -EWOULDBLOCK || r == -EAGAIN;
}

/* The keepers unmount when they see the sessions end; waits until the last one has. */
static int wait_for_unmounts(const json_t *sessions, int ms)
{
	const json_t *row;
	size_t i;

	json_array_foreach(sessions, i, row)
	{
		const char *path = json_string_value(json_object_get(row, "mountpoint"));

		for (; path && fusemount_is_coffer(path); ms -= TICK_MS) {
			if (ms <= 0)
				return fail(
					EXIT_FAILED, "%s stays mounted; try: fusermount3 -uz %s", path, path);
			pause_ms(TICK_MS);
		}
	}
	return EXIT_OK;
}

static int stop(struct tool *t)
{
	scoped(close_fdp) int pidfd = -1;
	pid_t pid = keyd_pid(t);
	json_t *answer = NULL;
	int r;

	if (pid > 0)
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	tool_try(t, DAEMON_KEYD, "Sessions", NULL, &answer);
	r = tool_call(t, DAEMON_KEYD, "Shutdown", NULL, NULL, 0, NULL);
	if (r == EXIT_OK && pidfd >= 0 &&
		poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, DOWN_WAIT_MS) == 0)
		r = fail(EXIT_FAILED, "coffer-keyd (pid %d) does not end; see %s/log/keyd.log", (int)pid,
			t->dir.root);
	if (r == EXIT_OK)
		r = wait_for_unmounts(json_object_get(answer, "sessions"), UNMOUNT_WAIT_MS);
	json_decref(answer);
	return r;
}

int cmd_down(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {
		fields, NULL, "Ends all sessions, then stops the daemons; nothing stays mounted."};
	json_auto_t *params = NULL, *status = NULL;
	json_int_t sessions;
	bool running;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_find_dir(t, true);
	if (r != EXIT_OK)
		return r;
	running = tool_try(t, DAEMON_KEYD, "Status", NULL, &status) == EXIT_OK;
	sessions = json_integer_value(json_object_get(status, "sessions"));
	if (!running && is_held(t))
		return fail(EXIT_UNREACHABLE,
			"coffer-keyd (pid %d) runs on %s but does not answer; see %s/log/keyd.log, end it "
			"with: "
			"kill %d",
			(int)keyd_pid(t), t->dir.root, t->dir.root, (int)keyd_pid(t));
	if (running)
		r = stop(t);
	if (r == EXIT_OK && t->json)
		puts("{\"running\": false}");
	else if (r == EXIT_OK && running && sessions > 0)
		say("stopped; sessions ended: %lld", (long long)sessions);
	else if (r == EXIT_OK)
		puts(running ? "stopped" : "not running");
	return r;
}

/* ---- status ---- */

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "-";
}

/* Months that are over, and what is left of those before. */
static void say_archives(const json_t *a)
{
	json_int_t missing = json_integer_value(json_object_get(a, "missing"));
	json_int_t gone = json_integer_value(json_object_get(a, "destroyed_records"));
	const double mib = 1 << 20;

	if (json_integer_value(json_object_get(a, "count")))
		say("          %lld months in archives, %.1f MiB; %.1f MiB of the ledger is room for what comes",
			json_integer_value(json_object_get(a, "count")), (double)json_integer_value(json_object_get(a, "bytes")) / mib,
			(double)json_integer_value(json_object_get(a, "ledger_free")) / mib);
	if (missing)
		say("          %lld ARCHIVES ARE MISSING: `coffer log archive --list` says which; put them back from a backup", missing);
	if (gone)
		say("          records 1 to %lld: destroyed by retention", gone);
}

/* How the ledger grows (by what of it is in use since its archives end), and what that means for its disk. */
static void say_ledger(const json_t *ledger)
{
	const json_t *archives = json_object_get(ledger, "archives");
	json_int_t since = json_integer_value(json_object_get(archives, "ledger_since"));
	double days = (double)(time(NULL) - since) / 86400;
	json_int_t bytes = json_integer_value(json_object_get(ledger, "bytes")) -
			   json_integer_value(json_object_get(archives, "ledger_free"));
	const double mib = 1 << 20;

	say_archives(archives);
	if (since && days >= 1)
		say("          %.1f MiB, %.0f records a day; %.0f MiB free on its disk", (double)bytes / mib / days,
			(double)json_integer_value(json_object_get(archives, "ledger_records")) / days,
			(double)json_integer_value(json_object_get(ledger, "disk_free")) / mib);
	else
		say("          %.0f MiB free on its disk", (double)json_integer_value(json_object_get(ledger, "disk_free")) / mib);
	if (json_is_true(json_object_get(ledger, "disk_low")))
		say("          LOW: when the disk is full, data are refused; make room");
	if (json_is_true(json_object_get(ledger, "lag")))
		say("          CANNOT BE WRITTEN now: see fsd.log; journals keep the records until they are full");
}

static void print_status(const json_t *s, const json_t *ledger)
{
	const json_t *policy = json_object_get(s, "policy"), *clock = json_object_get(s, "clock"), *v;
	const json_t *box = json_object_get(s, "sandbox");
	size_t i;

	say("keys      %s", text_of(s, "state"));
	say("mode      %s, owner %s%s", text_of(s, "mode"), text_of(s, "owner"),
		json_is_true(json_object_get(s, "separation")) ? "" : ", no separation of duties");
	say("policy    %s %s", text_of(policy, "name"), text_of(policy, "version"));
	json_array_foreach(json_object_get(s, "slots"), i, v)
	{
		say("slot      %s %s: %s, %s, %s%s", text_of(v, "name"), text_of(v, "path"), text_of(v, "protection"),
			text_of(v, "assurance"), text_of(v, "state"),
			json_is_true(json_object_get(v, "healthy")) ? "" : ", NOT HEALTHY");
	}
	json_array_foreach(json_object_get(s, "recovery"), i, v)
	{
		say("recovery  %s: %s%s", text_of(v, "name"), text_of(v, "path"),
			json_object_get(v, "removed_at")           ? ", removed, A COPY MAY BE THERE"
			: json_is_true(json_object_get(v, "current")) ? ""
								      : ", NOT CURRENT");
	}
	say("clock     %s%s%s", text_of(clock, "state"), *text_of(clock, "reason") ? ": " : "",
		text_of(clock, "reason"));
	say("clients   %lld, sessions %lld, workers %lld", json_integer_value(json_object_get(s, "clients")),
		json_integer_value(json_object_get(s, "sessions")),
		json_integer_value(json_object_get(s, "workers")));
	if (ledger)
		say("record    coffer-fsd %s, %lld rows, %lld bytes, %lld journals", text_of(s, "fsd"),
			json_integer_value(json_object_get(ledger, "rows")),
			json_integer_value(json_object_get(ledger, "bytes")),
			json_integer_value(json_object_get(ledger, "journals")));
	else
		say("record    coffer-fsd %s", text_of(s, "fsd"));
	if (ledger)
		say_ledger(ledger);
	if (json_is_boolean(json_object_get(box, "seccomp")))
		say("sandbox   landlock %s, seccomp %s",
			json_is_true(json_object_get(box, "landlock")) ? "on" : "off",
			json_is_true(json_object_get(box, "seccomp")) ? "on" : "off");
	json_array_foreach(json_object_get(s, "red"), i, v)
	{
		say(isatty(STDOUT_FILENO) ? "\033[31mRED       %s\033[0m" : "RED       %s", json_string_value(v));
	}
	json_array_foreach(json_object_get(s, "warnings"), i, v)
	{
		say("mind      %s", json_string_value(v));
	}
}

int cmd_status(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {
		fields, NULL, "Shows what runs, where the keys are, what protects them and what to mind."};
	json_t *params, *answer = NULL, *ledger = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "Status", params, NULL, 0, &answer);
	if (r != EXIT_OK)
		return r;
	tool_try(t, DAEMON_FSD, "Status", NULL, &ledger);
	if (t->json) {
		json_object_set(answer, "ledger", ledger ? ledger : json_null());
		r = print_json(answer);
	} else {
		print_status(answer, ledger);
	}
	json_decref(ledger);
	json_decref(answer);
	return r;
}
