#include "tools/passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/tool.h"

static volatile sig_atomic_t caught;

static void remember_signal(int number)
{
	caught = number;
}

/* Waits with `open` as the signal mask, so that a signal that comes just before it waits is not missed.  NULL: read() waits. */
static int wait_for_text(int fd, const sigset_t *open)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	while (open && ppoll(&p, 1, NULL, open) < 0) {
		if (errno != EINTR || caught)
			return -errno;
	}
	return 0;
}

/* Up to the end of the first line, or of the file.  Its length; -EINTR after a signal. */
static int read_line(int fd, char *buf, size_t cap, const sigset_t *open)
{
	size_t n = 0;

	while (n < cap) {
		int r = wait_for_text(fd, open);
		ssize_t got;

		if (r < 0)
			return r;
		got = read(fd, buf + n, 1);
		if (got < 0 && errno == EINTR && !caught)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0 || buf[n] == '\n')
			return (int)n;
		n++;
	}
	return -E2BIG;
}

/* A signal while the echo is off must not leave the terminal so: it is kept until the echo is on again. */
static int read_without_echo(int tty, const char *prompt, char *buf, size_t cap)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
	struct sigaction old[ARRAY_SIZE(signals)], remember = {.sa_handler = remember_signal};
	struct termios echo, quiet;
	sigset_t kept, open;
	int n;

	if (tcgetattr(tty, &echo) < 0)
		return -ENOTTY;
	quiet = echo;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	caught = 0;
	sigemptyset(&kept);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		sigaddset(&kept, signals[i]);
		sigaction(signals[i], &remember, &old[i]);
	}
	sigprocmask(SIG_BLOCK, &kept, &open);
	tcsetattr(tty, TCSAFLUSH,
		&quiet); /* before the prompt: what is typed after it is neither shown nor lost */
	dprintf(tty, "%s: ", prompt);
	n = read_line(tty, buf, cap, &open);
	tcsetattr(tty, TCSAFLUSH, &echo);
	sigprocmask(SIG_SETMASK, &open, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &old[i], NULL);
	dprintf(tty, "\n");
	if (caught)
		raise(caught);
	return n;
}

static int ask_terminal(const char *prompt, char *buf, size_t cap)
{
	scoped(close_fdp) int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (tty < 0)
		return -ENOTTY;
	return read_without_echo(tty, prompt, buf, cap);
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

static int get(int fd, const char *prompt, bool confirm, char *one, char *two)
{
	int n = fd >= 0 ? read_line(fd, one, PASSPHRASE_BYTES_MAX, NULL) : ask_terminal(prompt, one, PASSPHRASE_BYTES_MAX);
	int m;

	if (n == -ENOTTY)
		return -fail(
			EXIT_USAGE, "there is no terminal to ask for a passphrase; use --passphrase-fd N");
	if (n < 0)
		return -fail(EXIT_USAGE, "the passphrase cannot be read: %s", strerror(-n));
	if (n == 0)
		return -fail(EXIT_USAGE, "the passphrase is empty");
	if (!confirm || fd >= 0)
		return n;
	m = ask_terminal("The same again", two, PASSPHRASE_BYTES_MAX);
	if (m != n || memcmp(one, two, (size_t)n) != 0)
		return -fail(EXIT_USAGE, "the two passphrases differ; nothing was changed");
	return n;
}

int passphrase_ask(int fd, const char *prompt, bool confirm, int *ret_fd)
{
	char one[PASSPHRASE_BYTES_MAX], two[PASSPHRASE_BYTES_MAX];
	int n, r;

	caught = 0;
	n = get(fd, prompt, confirm, one, two);
	r = n < 0 ? -n : EXIT_OK;
	if (r == EXIT_OK && memory_file(one, (size_t)n, ret_fd) < 0)
		r = fail(EXIT_FAILED, "no memory for the passphrase");
	explicit_bzero(one, sizeof(one));
	explicit_bzero(two, sizeof(two));
	return r;
}
