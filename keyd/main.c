/* coffer-keyd: policy facts, keys, decisions, retention.  Start-up in order: parse, lock the directory, lock
 * memory, give up privileges, open facts and keys, start fsd, listen, loop. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/date.h"
#include "common/log.h"
#include "common/peer.h"
#include "common/scope.h"
#include "common/secret.h"
#include "keyd/expiry.h"
#include "keyd/fusectl.h"
#include "keyd/harden.h"
#include "keyd/anchor.h"
#include "keyd/keyd.h"
#include "keyd/member.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/report.h"
#include "keyd/rules.h"

/* Ring and trees: below the usual memlock limit of 8 MiB, or what the largest tree takes while it changes. */
#define ARENA_BYTES (6u << 20)
#define ARENA_BYTES_ROOMY (128u << 20)

const char *argp_program_version = "coffer-keyd " COFFER_VERSION;

struct arguments {
	const char *dir, *policy;
};

static const struct argp_option options[] = {
	{"dir", 'd', "DIR", 0, "State directory (default: $COFFER_DIR, else " STATEDIR_DEFAULT ")", 0},
	{"policy", 'p', "FILE", 0, "Policy (default: the built-in one)", 0},
	{"foreground", 'f', NULL, 0, "Stay in the foreground, as it does anyway", 0},
	{0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'd':
		a->dir = arg;
		return 0;
	case 'p':
		a->policy = arg;
		return 0;
	case 'f':
		return 0;
	case ARGP_KEY_ARG:
		argp_usage(state);
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {.options = options,
	.parser = parse_option,
	.doc = "The key and decision daemon of Coffer; `coffer up` starts it."};

static int say(int r, const char *what)
{
	log_error("%s: %s", what, strerror(-r));
	return r;
}

static long running_pid(const struct statedir *d)
{
	char text[32] = "";
	scoped(freep) char *path = NULL;
	scoped(close_fdp) int fd = -1;

	if (asprintf(&path, "%s/keyd.pid", d->run) < 0)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return 0;
	return strtol(text, NULL, 10);
}

static int lock_directory(const struct statedir *d, int ret_fds[2])
{
	static const char *const locks[] = {"coffer.lock", "store/coffer.lock"};
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(locks); i++) {
		r = statedir_lock(d, locks[i], &ret_fds[i]);
		if (r == -EWOULDBLOCK || r == -EAGAIN) {
			log_error("coffer-keyd runs on %s already (pid %ld): `coffer down --dir %s` stops it",
				d->root, running_pid(d), d->root);
			return r;
		}
		if (r < 0)
			return say(r, locks[i]);
	}
	return 0;
}

static int write_pid(const struct statedir *d)
{
	scoped(freep) char *path = NULL;
	scoped(close_fdp) int fd = -1;

	if (asprintf(&path, "%s/keyd.pid", d->run) < 0)
		return -ENOMEM;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	return dprintf(fd, "%d\n", (int)getpid()) < 0 ? -errno : 0;
}

static int prepare_directory(struct keyd *k, const char *dir, int locks[2])
{
	struct stat st;
	struct peer owner;
	int r;

	r = statedir_find(dir, false, &k->dir);
	if (r < 0)
		return say(r, dir ? dir : STATEDIR_DEFAULT);
	r = statedir_create(&k->dir);
	if (r < 0)
		return say(r, k->dir.root);
	r = lock_directory(&k->dir, locks);
	if (r < 0)
		return r;
	k->keyd_fd = statedir_open(&k->dir, "keyd", O_RDONLY | O_DIRECTORY, 0);
	if (k->keyd_fd < 0)
		return say(k->keyd_fd, "keyd");
	if (stat(k->dir.root, &st) < 0)
		return say(-errno, k->dir.root);
	k->owner = st.st_uid;
	k->embedded = strcmp(k->dir.root, STATEDIR_DEFAULT) != 0;
	if (peer_from_uid(k->owner, k->owner, &owner) == 0)
		snprintf(k->owner_name, sizeof(k->owner_name), "%s", owner.user);
	return 0;
}

static int protect_process(struct keyd *k)
{
	int r;

	umask(0077);
	harden_raise_limits();
	r = secret_init(secret_arena_bytes(ARENA_BYTES, ARENA_BYTES_ROOMY));
	if (r < 0)
		return say(
			r, "keys need locked memory, and the limit (ulimit -l) does not allow 6 MiB of it");
	r = secret_harden_process();
	if (r < 0)
		return say(r, "the process cannot be protected");
	k->memory_locked = !COFFER_SANITIZED && secret_lock_all() == 0;
	k->fusectl_fd = fusectl_open();
	r = harden_drop_capabilities();
	return r < 0 ? say(r, "privileges cannot be dropped") : 0;
}

/* A policy that was named is read before anything else: its mistakes are told at once. */
static int load_policy(const char *path, struct policy **ret, char **ret_text)
{
	struct policy_error err = {0};
	size_t n = 0;
	int r;

	if (!path)
		return 0;
	r = policy_read_file(path, ret_text, &n, &err);
	if (r == 0)
		r = policy_load_text(*ret_text, n, ret, &err);
	if (r < 0)
		log_error("%s:%u: %s", path, err.line, err.text);
	return r;
}

/* First start: a fresh root key, a fresh signing key. */
static int create_keys(struct keyd *k, struct keys_error *err)
{
	int r;

	if (keyring_exists(k->keyd_fd)) {
		keys_error_set(err, "there are keys, but the slot that opens them, keyd/slot/root.slot, is missing: put it "
				    "back, or make another with a recovery key: coffer recovery open");
		return -ENOKEY;
	}
	r = slot_set_create(k->keyd_fd, &k->slot, err);
	if (r == 0)
		r = keyring_create(k->keyd_fd, slot_set_root(k->slot), &k->ring, err);
	if (r == 0)
		log_info("new keys: the root key is in %s/keyd/slot/root.slot, sealed by root.key beside it; "
			 "leave that "
			 "folder out of backups, or what is destroyed can come back",
			k->dir.root);
	return r;
}

static bool was_sealed(struct keyd *k)
{
	char text[8];

	return facts_state_get(k->facts, FACTS_STATE_SEALED, text, sizeof(text)) == 0 && text[0];
}

/* A credential that is not there yet, a slot that must be asked first: a custodian can unseal, so keyd runs. */
static bool may_wait(int r, enum slot_opening opening)
{
	return r == -EUNATCH || (opening == SLOT_OPENS_CREDENTIAL && r != -EBADMSG && r != -ENOENT);
}

static int open_keys(struct keyd *k)
{
	enum slot_opening opening = SLOT_OPENS_NOTHING;
	struct keys_error err = {0};
	int r;

	r = slot_set_find(k->keyd_fd, &opening, &err);
	if (r == -ENOENT || (r == -ENODATA && !keyring_exists(k->keyd_fd)))
		r = create_keys(k, &err);
	else if (r == 0 && was_sealed(k))
		log_info("a custodian sealed the keys: `coffer unseal` opens them");
	else if (r == 0 && opening != SLOT_OPENS_NOTHING)
		r = keyd_unseal(k, NULL, 0, &err);
	if (r < 0)
		log_error("%s", err.text);
	if (r < 0 && may_wait(r, opening)) {
		snprintf(k->key_warning, sizeof(k->key_warning), "%s", err.text);
		r = 0;
	}
	return r;
}

static void start_clock(struct keyd *k)
{
	struct clock_memory m = {0};
	struct clock_reading now;
	char text[512];
	int unconfirmed = 0, at = 0;

	if (facts_state_get(k->facts, "clock", text, sizeof(text)) == 0 &&
		sscanf(text, "%" SCNd64 " %" SCNd64 " %d %39s %n", &m.wall, &m.boot, &unconfirmed, m.boot_id,
			&at) >= 4) {
		m.unconfirmed = unconfirmed;
		snprintf(m.reason, sizeof(m.reason), "%s", at > 0 ? text + at : "");
	}
	clock_read(&now);
	clock_start(&k->clock, &m, &now);
	if (k->clock.unconfirmed)
		log_warning("%s: nothing is destroyed until a custodian runs `coffer clock confirm`",
			k->clock.reason);
	keyd_remember_clock(k);
}

static int open_facts(struct keyd *k, struct policy *named, const char *text)
{
	scoped(freep) char *path = NULL;
	struct outbox_entry e = {.kind = "start", .by = FACTS_CLOCK};
	int r;

	if (asprintf(&path, "%s/keyd/facts.db", k->dir.root) < 0)
		return -ENOMEM;
	r = facts_open(path, &k->facts);
	if (r == 0)
		r = facts_sessions_end_all(k->facts, "coffer-keyd was restarted", keyd_now());
	if (r == 0)
		r = rules_start(k, named, text);
	if (r == -EINVAL)
		return r; /* said */
	if (r == -EPROTONOSUPPORT)
		log_error("%s was written by a later version of Coffer: start that version", path);
	else if (r < 0)
		say(r, path);
	if (r < 0)
		return r;
	start_clock(k);
	r = facts_book_check_file(k->facts, k->keyd_fd);
	if (r < 0)
		return say(r, path);
	e.detail = json_pack("{s:s, s:s}", "version", COFFER_VERSION, "policy", k->policy->version);
	r = outbox_put(k, &e);
	return r < 0 ? say(r, path) : 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	keyd_shutdown(userdata);
	return 0;
}

static int prepare_loop(struct keyd *k)
{
	sigset_t mask;
	int r;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	r = sd_event_new(&k->event);
	if (r >= 0)
		r = sd_event_add_signal(k->event, NULL, SIGTERM, on_signal, k);
	if (r >= 0)
		r = sd_event_add_signal(k->event, NULL, SIGINT, on_signal, k);
	return r < 0 ? say(r, "event loop") : 0;
}

#define MESSAGE_MAX (1u << 20) /* of anybody: read before we know what he asks */

/* Only a passphrase comes in a descriptor. */
static bool may_send_fds(const struct peer *p, void *userdata)
{
	return p->roles & (ROLE_CUSTODIAN | ROLE_OWNER);
}

static int serve(struct keyd *k)
{
	scoped(close_fdp) int run_fd = -1;
	int r;

	r = children_find_programs(&k->children);
	if (r < 0)
		return say(r, "/proc/self/exe");
	k->children.today = date_day(keyd_now());
	(void)fsd_start(k); /* tried again while we run */
	r = varlink_server_new(k->event, keyd_methods, k->owner, k, &k->server);
	if (r < 0)
		return say(r, "server");
	varlink_server_set_limits(k->server, MESSAGE_MAX, VARLINK_PART_SECONDS);
	varlink_server_set_roles(k->server, roles_usable);
	varlink_server_set_fds_from(k->server, may_send_fds);
	varlink_server_set_state(k->server, keyd_is_sealed(k) ? KEYD_SEALED : KEYD_OPEN, KEYD_SEALED_TEXT);
	run_fd = open(k->dir.run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (run_fd < 0)
		return say(-errno, k->dir.run);
	r = write_pid(&k->dir);
	if (r == 0)
		r = varlink_server_listen(k->server, run_fd, "keyd.sock", 0666);
	if (r == 0)
		r = keyd_start_timer(k);
	if (r < 0)
		return say(r, "keyd.sock");
	log_info("ready: %s, %s", k->dir.root, keyd_is_sealed(k) ? "sealed" : "open");
	(void)sd_notify(0, "READY=1");
	r = sd_event_loop(k->event);
	(void)unlinkat(run_fd, "keyd.sock", 0);
	(void)unlinkat(run_fd, "keyd.pid", 0);
	return r < 0 ? say(r, "event loop") : 0;
}

static void keyd_done(struct keyd *k)
{
	if (k->facts && k->event)
		keyd_shutdown(k);
	varlink_server_free(k->server);
	keyring_free(k->ring);
	slot_set_close(k->slot);
	facts_close(k->facts);
	rules_done(k);
	anchors_done(k);
	members_done(k);
	report_stop(k);
	children_done(&k->children);
	sd_event_unref(k->event);
	close_fdp(&k->keyd_fd);
	close_fdp(&k->fusectl_fd);
	statedir_done(&k->dir);
	secret_done();
}

#define RECHECK_SECONDS 60
#define WINDOW_SECONDS 86400
#define SESSIONS_MAX 256 /* of one user: each costs the worker threads and descriptors, and the host one of its mounts */

/* COFFER_RECHECK, COFFER_WINDOW, COFFER_SESSIONS: for tests, which have no minute and no day to wait. */
static unsigned least_of(const char *name, unsigned most)
{
	const char *text = getenv(name);
	unsigned long n = text ? strtoul(text, NULL, 10) : 0;

	return n > 0 && n < most ? (unsigned)n : most;
}

DEFINE_SCOPED(struct policy *, policy_free)

int main(int argc, char **argv)
{
	scoped(keyd_done) struct keyd k = {.keyd_fd = -1, .fusectl_fd = -1,
		.recheck_seconds = least_of("COFFER_RECHECK", RECHECK_SECONDS),
		.window_seconds = least_of("COFFER_WINDOW", WINDOW_SECONDS),
		.sessions_max = least_of("COFFER_SESSIONS", SESSIONS_MAX)};
	struct arguments a = {0};
	scoped(policy_freep) struct policy *named = NULL;
	scoped(freep) char *text = NULL;
	int locks[2] = {-1, -1}, r;

	log_init("coffer-keyd");
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	r = load_policy(a.policy, &named, &text);
	if (r == 0)
		r = prepare_directory(&k, a.dir, locks);
	if (r == 0)
		r = protect_process(&k);
	if (r == 0)
		r = prepare_loop(&k);
	if (r == 0)
		r = open_facts(&k, named, text);
	if (r == 0)
		r = open_keys(&k);
	if (r == 0)
		r = serve(&k);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
