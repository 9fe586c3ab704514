/* How long an empty request takes while the machine is idle, and while programs that only compute come and go: the worker's
 * near reader must not leave a caller waiting for longer than the polling loop did (doc/PERFORMANCE.md).
 *
 *	build/tests/bench/round_trip MOUNT [PROGRAMS [SECONDS]]
 *
 * PROGRAMS (0) start at once, compute for 200 ms, end, and start again 200 ms later. */
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BURST 0.2
#define MAX 4000000

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void compute(void)
{
	double end = now() + BURST;

	while (now() < end)
		;
	_exit(0);
}

static void bursts(long programs, double seconds)
{
	for (double end = now() + seconds; now() < end;) {
		for (long n = 0; n < programs; n++)
			if (fork() == 0)
				compute();
		while (wait(NULL) > 0 || errno == EINTR)
			;
		usleep((useconds_t)(BURST * 1e6));
	}
	_exit(0);
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	long programs = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
	double seconds = argc > 3 ? strtod(argv[3], NULL) : 5, end;
	float *us = calloc(MAX, sizeof(*us));
	struct statfs st;
	size_t n = 0;
	pid_t other = 0;

	if (argc < 2 || !us)
		errx(2, "usage: round_trip MOUNT [PROGRAMS [SECONDS]]");
	if (programs > 0) {
		other = fork();
		if (other == 0)
			bursts(programs, seconds);
	}
	for (end = now() + seconds; n < MAX && now() < end; n++) {
		double begin = now();

		if (statfs(argv[1], &st) < 0)
			err(1, "%s", argv[1]);
		us[n] = (float)((now() - begin) * 1e6);
	}
	if (other > 0)
		waitpid(other, NULL, 0);
	if (n == 0)
		errx(1, "nothing was measured");
	qsort(us, n, sizeof(*us), compare);
	printf("%zu requests, microseconds: median %.1f, 99 %% %.0f, 99.9 %% %.0f, 99.99 %% %.0f, longest %.0f\n", n,
		us[n / 2], us[n * 99 / 100], us[n * 999 / 1000], us[n * 9999 / 10000], us[n - 1]);
	return 0;
}
