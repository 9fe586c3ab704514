/* coffer-worker: serves one client's files to sessions.  Started by coffer-keyd with descriptor 3 from keyd,
 * 4 from fsd, 5 the client's folder in the store; see doc/PROTOCOL.md. */
#include <errno.h>
#include <fcntl.h>
#include <fuse_log.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/log.h"
#include "common/secret.h"
#include "fs/store/aes_gcm.h"
#include "fs/worker/control.h"

/* The tree, its upper nodes, the keys of open files: below the usual limit of 8 MiB, or room for the largest tree. */
#define DESCRIPTORS_AT_ONCE 4096 /* 32 KiB of the kernel's memory */
#define ARENA_BYTES (4u << 20)
#define ARENA_BYTES_ROOMY (96u << 20)

enum { FD_KEYD = 3, FD_FSD = 4, FD_STORE = 5 };

/* libfuse speaks of requests and names: nothing of that goes out. */
static void fuse_is_silent(enum fuse_log_level level, const char *fmt, va_list ap)
{
	if (level <= FUSE_LOG_ERR)
		log_warning("libfuse reports an error in a session");
}

static int say(int r, const char *what)
{
	log_error("%s: %s", what, strerror(-r));
	return 1;
}

static bool inherited_are_open(void)
{
	for (int fd = FD_KEYD; fd <= FD_STORE; fd++) {
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return false;
	}
	return true;
}

static void raise_descriptor_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &l) < 0)
			log_warning("the limit of open files stays as it is: %s", strerror(errno));
	}
}

/* While there is one thread.  Later each doubling of the table of descriptors waits for all processors (RCU): an open
 * took 5 to 20 ms whenever 64, 256, 512, ... were reached. */
static void grow_descriptor_table(void)
{
	int fd = fcntl(FD_STORE, F_DUPFD_CLOEXEC, DESCRIPTORS_AT_ONCE - 1);

	if (fd >= 0)
		close(fd);
}

/* The limit first: the capability that stands above it is given up with the sandbox, and then every
 * allocation of a process that locks all its memory would fail at the limit. */
static bool lock_memory(void)
{
	const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
	struct rlimit l;

	if (setrlimit(RLIMIT_MEMLOCK, &none) < 0 &&
		(getrlimit(RLIMIT_MEMLOCK, &l) < 0 || l.rlim_cur != RLIM_INFINITY))
		return false;
	return secret_lock_all() == 0;
}

int main(void)
{
	struct control_fds fds = {.keyd = FD_KEYD, .fsd = FD_FSD, .store = FD_STORE, .proc = -1};
	bool locked;
	int r;

	log_init("coffer-worker");
	if (!inherited_are_open()) {
		log_error("coffer-worker is started by coffer-keyd, not by hand");
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	umask(0); /* modes are the programs' own; their umask was applied by the kernel */
	raise_descriptor_limit();
	grow_descriptor_table();
	/* A generator in this process, seeded by the kernel: a system call for each new file and salt is dear. */
	if (randombytes_set_implementation(&randombytes_internal_implementation) < 0)
		return say(-EINVAL, "no random numbers");
	r = secret_init(secret_arena_bytes(ARENA_BYTES, ARENA_BYTES_ROOMY));
	if (r < 0)
		return say(r, "memory for keys cannot be locked (RLIMIT_MEMLOCK)");
	r = secret_harden_process();
	if (r < 0)
		return say(r, "the process cannot be hardened");
	locked = lock_memory();
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_ADD_ALL_CIPHERS, NULL);
	(void)aes_gcm_init();
	fuse_set_log_func(fuse_is_silent);
	fds.proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = control_run(&fds, locked);
	secret_done();
	return r < 0 ? say(r, "ended") : 0;
}
