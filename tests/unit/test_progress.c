/* What stands on a terminal while something takes long, and that nothing does elsewhere. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/progress.h"

/* What a terminal got comes by a work queue of the kernel: not all of it need be there at once. */
static size_t read_all(int fd, char *text, size_t n)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t done = 0;
	ssize_t k;

	while (done < n && poll(&p, 1, 300) > 0 && (k = read(fd, text + done, n - done)) > 0)
		done += (size_t)k;
	return done;
}

/* stderr is a terminal, or a pipe, while f runs; what f wrote into text. */
static void with_stderr(bool terminal, void (*f)(void), char *text, size_t n)
{
	int fds[2] = {-1, -1}, saved = dup(STDERR_FILENO);

	if (terminal) {
		fds[0] = posix_openpt(O_RDWR | O_NOCTTY);
		assert_return_code(fds[0], 0);
		assert_return_code(grantpt(fds[0]), 0);
		assert_return_code(unlockpt(fds[0]), 0);
		fds[1] = open(ptsname(fds[0]), O_RDWR | O_NOCTTY);
	} else {
		assert_return_code(pipe(fds), 0);
	}
	assert_return_code(fds[1], 0);
	assert_return_code(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	assert_return_code(dup2(fds[1], STDERR_FILENO), 0);
	f();
	assert_return_code(dup2(saved, STDERR_FILENO), 0);
	text[read_all(fds[0], text, n - 1)] = '\0';
	close(saved);
	close(fds[0]);
	close(fds[1]);
}

static void long_work(void)
{
	struct progress p;

	progress_begin(&p, false);
	p.began -= 5; /* five seconds ago */
	progress_show(&p, 1, 4, "%d things", 7);
	p.drawn += 1000;
	progress_show(&p, 2, 4, "too soon to be drawn");
	progress_interrupt();
	p.drawn = 0;
	progress_show(&p, 4, 4, "done");
	progress_clear(&p);
}

static void short_work(void)
{
	struct progress p;

	progress_begin(&p, false);
	progress_show(&p, 1, 4, "7 things");
	progress_clear(&p);
}

static void quiet_work(void)
{
	struct progress p;

	progress_begin(&p, true);
	p.began -= 5;
	progress_show(&p, 1, 4, "7 things");
	progress_clear(&p);
}

static void long_work_has_a_bar_on_a_terminal(void **state)
{
	char text[2000];

	with_stderr(true, long_work, text, sizeof(text));
	assert_string_equal(text, "\r\033[K[######..................]  25 %  7 things\r\033[K"
				  "\r\033[K[########################] 100 %  done\r\033[K");
}

static void nothing_is_shown_elsewhere(void **state)
{
	char text[2000];

	with_stderr(false, long_work, text, sizeof(text));
	assert_string_equal(text, "");
	with_stderr(true, short_work, text, sizeof(text));
	assert_string_equal(text, "");
	with_stderr(true, quiet_work, text, sizeof(text));
	assert_string_equal(text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_work_has_a_bar_on_a_terminal),
		cmocka_unit_test(nothing_is_shown_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
