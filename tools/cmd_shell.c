/* shell: a program with a mount, a TMPDIR and XDG directories of its own inside the share, gone at its end. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/magic.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/landlock.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/confine.h"
#include "tools/guard.h"
#include "tools/request.h"
#include "tools/scratch.h"
#include "tools/session_mount.h"

#define NOT_EXECUTABLE 126 /* as env(1) and shells say it */
#define NOT_FOUND 127
#define SIGNALLED 128
#define GRACE_SECONDS 2

struct run {
	struct tool *t;
	const json_t *params, *session; /* as asked; as keyd answered */
	char **argv;			/* NULL: the user's shell */
	struct guarded guarded;
	char *scratch; /* NULL: none yet */
	bool confined; /* the policy says export: no */
	sigset_t before; /* the signals that were blocked when we were started */
};

static const char *text_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : "";
}

static bool may_write(const struct run *run)
{
	return strchr(text_of(run->session, "rights"), 'w') != NULL;
}

/* ---- places ---- */

static bool is_usable(const char *path, bool in_memory)
{
	struct statfs fs;
	struct stat st;

	if (!path || path[0] != '/' || access(path, W_OK | X_OK) < 0 || stat(path, &st) < 0 || statfs(path, &fs) < 0)
		return false;
	return (st.st_uid == geteuid() || (st.st_mode & S_ISVTX)) && (!in_memory || fs.f_type == TMPFS_MAGIC);
}

/* The mount point's directory.  Where the session cannot write, TMPDIR lies there too: then it must be in memory. */
static int make_base(struct run *run)
{
	const char *const places[] = {getenv("XDG_RUNTIME_DIR"), "/dev/shm", "/tmp"};
	struct guarded *g = &run->guarded;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (!is_usable(places[i], !may_write(run)))
			continue;
		if (asprintf(&g->base, "%s/coffer-shell-XXXXXX", places[i]) < 0)
			return fail(EXIT_FAILED, "out of memory");
		if (!mkdtemp(g->base)) {
			free(take_ptr(&g->base));
			continue;
		}
		if (asprintf(&g->mount, "%s/%s", g->base, text_of(run->params, "client")) < 0 || mkdir(g->mount, 0700) < 0)
			return fail(EXIT_FAILED, "%s: %s", g->base, strerror(errno));
		return EXIT_OK;
	}
	return may_write(run) ? fail(EXIT_FAILED, "no directory to mount in: set XDG_RUNTIME_DIR to one of yours")
			      : fail(EXIT_FAILED, "temporary files of a session that cannot write need a directory in memory (tmpfs): "
						  "set XDG_RUNTIME_DIR to one of yours");
}

static int make_scratch(struct run *run, int *ret_lock)
{
	int r;

	if (!may_write(run)) {
		if (asprintf(&run->scratch, "%s/tmp", run->guarded.base) < 0)
			return fail(EXIT_FAILED, "out of memory");
		r = mkdir(run->scratch, 0700) < 0 ? -errno : 0;
	} else {
		scratch_remove(run->guarded.mount, 0);
		r = scratch_make(run->guarded.mount, run->guarded.session, &run->scratch, ret_lock);
	}
	return r == 0 ? EXIT_OK : fail(EXIT_FAILED, "no place for temporary files in %s: %s (is something else called " SCRATCH_FOLDER " there?)",
					  run->guarded.mount, strerror(-r));
}

/* ---- the program ---- */

/* What is written through a descriptor that is open already cannot be kept back. */
static int check_outputs(void)
{
	static const char *const names[] = {
		[STDIN_FILENO] = "standard input", [STDOUT_FILENO] = "standard output", [STDERR_FILENO] = "standard error"};
	struct stat st;

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY)
			return fail(EXIT_REFUSED,
				"%s goes to a file outside the share, and this purpose allows no copies there (export: no); let the program "
				"write into the share", names[fd]);
	return EXIT_OK;
}

static int check_confinement(void)
{
	if (landlock_abi() > 0)
		return check_outputs();
	return fail(EXIT_REFUSED,
		"this purpose allows no copies outside the share (export: no), and this kernel has nothing to keep a program from making "
		"them: it needs Landlock (Linux 5.19 or later, `landlock` in the kernel's parameter lsm=)");
}

static const char *shell_of_user(void)
{
	const char *shell = getenv("SHELL");
	const struct passwd *p = getpwuid(geteuid());

	if (shell && *shell)
		return shell;
	return p && p->pw_shell && *p->pw_shell ? p->pw_shell : "/bin/sh";
}

static int set_names(const struct run *run)
{
	char number[24];

	snprintf(number, sizeof(number), "%llu", (unsigned long long)run->guarded.session);
	return setenv("COFFER_CLIENT", text_of(run->params, "client"), 1) < 0 ||
			       setenv("COFFER_PURPOSE", text_of(run->params, "purpose"), 1) < 0 ||
			       setenv("COFFER_SESSION", number, 1) < 0 || setenv("PWD", run->guarded.mount, 1) < 0
		       ? -errno
		       : 0;
}

static int confine(const struct run *run)
{
	scoped(close_fdp) int share = open(run->guarded.mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	scoped(close_fdp) int scratch = open(run->scratch, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const int writable[] = {share, scratch};

	if (share < 0 || scratch < 0)
		return -errno;
	if (close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	return confine_writes(writable, ARRAY_SIZE(writable), true);
}

/* What a crash would leave is a copy of what the program had read.  Not 0, which collectors (core_pattern with a |) are free
 * to pass over: at 1 the kernel feeds none (core(5)).  Programs cannot raise it again. */
static int leave_no_cores(void)
{
	const struct rlimit one = {1, 1}, none = {0, 0};

	/* Who has less already may not have more. */
	return setrlimit(RLIMIT_CORE, &one) < 0 && setrlimit(RLIMIT_CORE, &none) < 0 ? -errno : 0;
}

/* In the child. */
__attribute__((noreturn)) static void become_program(const struct run *run, pid_t tool)
{
	char *shell[] = {(char *)shell_of_user(), NULL}, **argv = run->argv ? run->argv : shell;
	int r;

	/* Whose tool was killed has no share any more, and would compete for the terminal. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != tool)
		_exit(SIGNALLED + SIGKILL);
	r = scratch_enter(run->scratch);
	if (r == 0)
		r = leave_no_cores();
	if (r == 0)
		r = set_names(run);
	if (r == 0 && chdir(run->guarded.mount) < 0)
		r = -errno;
	if (r == 0 && run->confined)
		r = confine(run);
	if (r < 0)
		_exit(fail(EXIT_FAILED, "the program is not started: %s", strerror(-r)));
	sigprocmask(SIG_SETMASK, &run->before, NULL);
	execvp(argv[0], argv);
	r = errno;
	fail(EXIT_FAILED, "%s: %s", argv[0], strerror(r));
	_exit(r == ENOENT ? NOT_FOUND : NOT_EXECUTABLE);
}

/* A shell that suspends itself stops its own process group only; who waits for us would wait for ever. */
static void stop_with(pid_t pid)
{
	siginfo_t s = {0};

	if (waitid(P_PID, (id_t)pid, &s, WSTOPPED | WNOHANG) < 0 || s.si_pid != pid || getpgid(pid) == getpgrp())
		return;
	(void)raise(SIGSTOP);
	(void)tcsetpgrp(STDIN_FILENO, getpgid(pid)); /* SIGTTOU is blocked */
	(void)kill(-getpgid(pid), SIGCONT);
}

static bool ended(pid_t pid, int *ret_status)
{
	pid_t r;

	do
		r = waitpid(pid, ret_status, WNOHANG);
	while (r < 0 && errno == EINTR);
	return r != 0;
}

/* Passes on what is sent to us.  What is typed reaches the program by itself, since it is in our process group. */
static void pass_on(const siginfo_t *s, pid_t pid, bool *ret_ends)
{
	bool typed = s->si_code > 0; /* the kernel's */

	if (s->si_signo == SIGCHLD || (typed && (s->si_signo == SIGINT || s->si_signo == SIGQUIT)))
		return;
	(void)kill(pid, s->si_signo);
	(void)kill(pid, SIGCONT);
	*ret_ends |= s->si_signo == SIGTERM || s->si_signo == SIGHUP;
}

/* Until the program ends; after SIGTERM or SIGHUP it has a moment for that (interactive shells ignore the first). */
static int wait_for_program(pid_t pid, const sigset_t *ours)
{
	const struct timespec grace = {.tv_sec = GRACE_SECONDS};
	bool ends = false;
	int status = 0;

	while (!ended(pid, &status)) {
		siginfo_t s;

		stop_with(pid);
		if (sigtimedwait(ours, &s, ends ? &grace : NULL) > 0)
			pass_on(&s, pid, &ends);
		else if (errno == EAGAIN)
			(void)kill(pid, SIGKILL);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : SIGNALLED + WTERMSIG(status);
}

static int run_program(struct run *run, const sigset_t *ours)
{
	pid_t tool = getpid(), pid;

	if (!run->argv) {
		const char *export = text_of(run->session, "export");

		fprintf(stderr, "%s is open in this shell for %s (session %llu, rights %s); every access is recorded.%s End it with: exit\n",
			text_of(run->params, "client"), text_of(run->params, "purpose"), (unsigned long long)run->guarded.session,
			text_of(run->session, "rights"),
			run->confined ? " Programs write only in the share: no copies elsewhere (export: no)."
			: *export     ? " Copies outside the share are on your responsibility, and the record says that they were possible (export: recorded)."
				      : "");
	}
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return fail(EXIT_FAILED, "no process for the program: %s", strerror(errno));
	if (pid == 0)
		become_program(run, tool);
	return wait_for_program(pid, ours);
}

/* ---- the session ---- */

static int mounted(struct run *run, const sigset_t *ours)
{
	scoped(close_fdp) int lock = -1;
	int r = session_mount(run->t, run->params, run->session, run->guarded.mount);

	tool_disconnect(run->t);
	if (r == EXIT_OK)
		r = make_scratch(run, &lock);
	return r == EXIT_OK ? run_program(run, ours) : r;
}

/* From here on something must be taken away again: the guard is there first. */
static int guarded(struct run *run)
{
	static const int passed_on[] = {SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP};
	sigset_t blocked;
	sigset_t ours;
	pid_t guard;
	int fd, r;

	r = guard_start(run->t, &run->guarded, &fd, &guard);
	if (r < 0)
		return fail(EXIT_FAILED, "no process to end the session: %s", strerror(-r));
	sigemptyset(&ours);
	for (size_t i = 0; i < ARRAY_SIZE(passed_on); i++)
		sigaddset(&ours, passed_on[i]);
	blocked = ours;
	sigaddset(&blocked, SIGTTOU);
	sigprocmask(SIG_BLOCK, &blocked, &run->before);
	r = mounted(run, &ours);
	guard_finish(run->t, &run->guarded, fd, guard);
	return r;
}

static int open_session(struct run *run)
{
	int r;

	run->guarded.session = (uint64_t)json_integer_value(json_object_get(run->session, "session"));
	run->confined = strcmp(text_of(run->session, "export"), "no") == 0;
	r = run->confined ? check_confinement() : EXIT_OK;
	if (r == EXIT_OK)
		r = make_base(run);
	if (r != EXIT_OK)
		session_mount_give_up(run->t, run->session, "the shell was not started");
	else
		r = guarded(run);
	free(run->guarded.base);
	free(run->guarded.mount);
	free(run->scratch);
	return r;
}

/* Everything behind `--` is the program's. */
static char **program_of(int *argc, char **argv)
{
	for (int i = 1; i < *argc; i++) {
		if (strcmp(argv[i], "--") != 0)
			continue;
		*argc = i;
		return argv[i + 1] ? &argv[i + 1] : NULL;
	}
	return NULL;
}

int cmd_shell(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"purpose", "purpose", "PURPOSE", FIELD_TEXT, true, "what for: it is recorded with every access"},
		{"ticket", "ticket", "TICKET", FIELD_TEXT, false, "the order or incident you work on"},
		{"read_only", "read-only", NULL, FIELD_FLAG, false, "ask for read rights only"},
		{"emergency", "emergency", NULL, FIELD_FLAG, false, "without a grant, if you may: others are told, and look at it"},
		{"reason", "reason", "TEXT", FIELD_TEXT, false, "with --emergency: why"},
		{"exclusive", "exclusive", NULL, FIELD_FLAG, false, "no other mount of the client beside it: see coffer mount"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT [-- PROGRAM [ARGUMENT...]]",
		"Runs a shell, or a program, in a mount of the client's share that is there for it alone.\vTemporary files, caches, "
		"histories and settings go into a hidden folder of the share, which is removed at the end, as is the mount. Where the policy "
		"says export: no of the purpose, programs write nowhere else. The exit status is the program's."};
	struct run run = {.t = t, .argv = program_of(&argc, argv)};
	json_t *params, *session = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	json_object_set_new(params, "shell", json_true());
	r = session_mount_ask(t, json_copy(params), &session);
	if (r == EXIT_OK) {
		run.params = params;
		run.session = session;
		r = open_session(&run);
	}
	json_decref(session);
	json_decref(params);
	return r;
}
