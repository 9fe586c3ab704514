/* coffer-fsd: keeps the book and the doors.  Holds no key and no plaintext, and has no say in who may enter.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ids.h"
#include "common/log.h"
#include "common/scope.h"
#include "common/secret.h"
#include "fs/broker/archive_job.h"
#include "fs/broker/broker.h"
#include "fs/broker/verify_job.h"

#define KEYD_FD 3

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	const char **dir = state->input;

	switch (key) {
	case 'd':
		*dir = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int drop_capabilities(void)
{
	cap_t none = cap_init();
	int r = none && cap_set_proc(none) == 0 ? 0 : -errno;

	cap_free(none);
	if (r == 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		r = -errno;
	return r;
}

static int keyd_socket_check(void)
{
	struct stat st;

	if (fstat(KEYD_FD, &st) < 0 || !S_ISSOCK(st.st_mode))
		return -EBADF;
	return fcntl(KEYD_FD, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

static void on_keyd_gone(void *userdata)
{
	struct broker *b = userdata;

	if (b->watch)
		varlink_reply(take_ptr(&b->watch), NULL);
	if (b->shutdown)
		varlink_reply(take_ptr(&b->shutdown), NULL);
	broker_stop(b, "coffer-keyd has ended");
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	broker_stop(userdata, "told to by a signal");
	return 0;
}

static int open_ledger(struct broker *b)
{
	int r;

	if (asprintf(&b->ledger_path, "%s/ledger/ledger.db", b->dir.root) < 0)
		return -ENOMEM;
	r = ledger_open(b->ledger_path, &b->ledger);
	if (r == -EUCLEAN)
		log_error("%s is damaged, or somebody wrote into it: check it with `coffer log verify`",
			b->ledger_path);
	else if (r == -EPROTONOSUPPORT)
		log_error("%s was written by a later version of Coffer: start that version", b->ledger_path);
	else if (r < 0)
		log_error("%s: %s", b->ledger_path, strerror(-r));
	return r;
}

static int open_state(struct broker *b, const char *dir)
{
	int r;

	r = statedir_find(dir, true, &b->dir);
	if (r < 0) {
		log_error("the state directory %s cannot be opened: %s", dir ? dir : STATEDIR_DEFAULT,
			strerror(-r));
		return r;
	}
	b->journal_dirfd = statedir_open(&b->dir, "ledger/journal", O_RDONLY | O_DIRECTORY, 0);
	if (b->journal_dirfd < 0) {
		log_error("%s/ledger/journal: %s", b->dir.root, strerror(-b->journal_dirfd));
		return b->journal_dirfd;
	}
	r = open_ledger(b);
	if (r == 0)
		r = drain_new(b->event, b->ledger, b->journal_dirfd, &b->drain);
	if (r == 0)
		r = archive_job_new(b);
	return r == 0 ? drain_replay(b->drain) : r;
}

#define MESSAGE_MAX (64u << 10) /* of anybody: read before we know what he asks */

/* Only a mount comes in a descriptor, of somebody who was announced. */
static bool may_send_fds(const struct peer *p, void *userdata)
{
	return session_is_expected(userdata, p->uid);
}

/* What one reads as an auditor he does not with another role beside it, where the policy keeps them apart. */
static unsigned usable_roles(const struct peer *p, void *userdata)
{
	const struct broker *b = userdata;

	return p->roles & ROLE_OWNER || !(p->roles & b->apart) ? ~0u : ~(unsigned)ROLE_AUDITOR;
}

static int listen_all(struct broker *b)
{
	scoped(close_fdp) int run = open(b->dir.run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int r;

	if (run < 0 || stat(b->dir.root, &st) < 0)
		return -errno;
	r = varlink_server_new(b->event, broker_methods, st.st_uid, b, &b->server);
	if (r == 0) {
		varlink_server_set_limits(b->server, MESSAGE_MAX, VARLINK_PART_SECONDS);
		varlink_server_set_fds_from(b->server, may_send_fds);
		varlink_server_set_roles(b->server, usable_roles);
	}
	if (r == 0)
		r = varlink_server_add_connection(b->server, KEYD_FD, ROLE_KEYD, on_keyd_gone, b);
	if (r == 0)
		r = varlink_server_listen(b->server, run, "fsd.sock", 0666);
	if (r < 0)
		log_error("%s/fsd.sock: %s", b->dir.run, strerror(-r));
	return r;
}

/* A socket that nobody listens on would only confuse. */
static void unlisten(struct broker *b)
{
	scoped(close_fdp) int run = open(b->dir.run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (run >= 0)
		(void)unlinkat(run, "fsd.sock", 0);
}

static int event_new(struct broker *b)
{
	sigset_t signals;
	int r;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	r = sd_event_default(&b->event);
	if (r >= 0)
		r = sd_event_add_signal(b->event, NULL, SIGTERM, on_signal, b);
	if (r >= 0)
		r = sd_event_add_signal(b->event, NULL, SIGINT, on_signal, b);
	return r < 0 ? r : 0;
}

static void broker_done(struct broker *b)
{
	if (b->watch)
		varlink_reply(take_ptr(&b->watch), NULL);
	verify_jobs_stop(b);
	archive_job_free(b);
	varlink_server_free(b->server);
	drain_free(b->drain);
	ledger_close(b->ledger);
	close_fdp(&b->journal_dirfd);
	free(b->ledger_path);
	statedir_done(&b->dir);
	sd_event_unref(b->event);
}

static int serve(const char *dir)
{
	scoped(broker_done) struct broker b = {.journal_dirfd = -1, .apart = ROLE_ADMIN | ROLE_CUSTODIAN};
	int r;

	r = event_new(&b);
	if (r == 0)
		r = open_state(&b, dir);
	if (r == 0)
		r = listen_all(&b);
	if (r < 0)
		return r;
	log_info("ready");
	r = sd_event_loop(b.event);
	unlisten(&b);
	return r;
}

int main(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"dir", 'd', "DIR", 0, "the state directory (default: " STATEDIR_DEFAULT ")", 0}, {0}};
	static const struct argp argp = {options, parse_option, NULL,
		"The broker of Coffer: keeps the ledger and the mounts.  Started by coffer-keyd.", NULL, NULL,
		NULL};
	const char *dir = NULL;
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &dir);
	log_init("coffer-fsd");
	umask(077);
	if (keyd_socket_check() < 0) {
		log_error("descriptor 3 is not the socket to coffer-keyd: this program is started by it; use "
			  "`coffer up`");
		return 2;
	}
	r = secret_harden_process();
	if (r == 0)
		r = drop_capabilities();
	if (r < 0) {
		log_error("this process cannot be hardened: %s", strerror(-r));
		return 1;
	}
	r = serve(dir);
	if (r < 0)
		log_error("ends: %s", strerror(-r));
	return r == 0 ? EXIT_SUCCESS : r == -EUCLEAN ? FSD_EXIT_DAMAGED : EXIT_FAILURE;
}
