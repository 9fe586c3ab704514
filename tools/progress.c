#include "tools/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define BAR_CELLS 24
#define SHOWN_AFTER 0.7 /* seconds */
#define DRAWN_EVERY 0.1

static struct progress *shown; /* the one whose line stands there */

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void progress_begin(struct progress *p, bool quiet)
{
	*p = (struct progress){.wanted = !quiet && isatty(STDERR_FILENO), .began = seconds()};
}

double progress_seconds(const struct progress *p)
{
	return seconds() - p->began;
}

static void draw_bar(uint64_t done, uint64_t total)
{
	double part = done >= total ? 1 : (double)done / (double)total;
	int cells = (int)(part * BAR_CELLS);

	fprintf(stderr, "[%.*s%.*s] %3.0f %%  ", cells, "########################", BAR_CELLS - cells,
		"........................", part * 100);
}

void progress_show(struct progress *p, uint64_t done, uint64_t total, const char *fmt, ...)
{
	double now;
	va_list ap;

	if (!p->wanted)
		return;
	now = seconds();
	if (now - p->began < SHOWN_AFTER || now - p->drawn < DRAWN_EVERY)
		return;
	fputs("\r\033[K", stderr);
	if (total > 0)
		draw_bar(done, total);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fflush(stderr);
	p->shown = true;
	shown = p;
	p->drawn = now;
}

void progress_clear(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
	if (shown == p)
		shown = NULL;
}

void progress_interrupt(void)
{
	if (shown)
		progress_clear(shown);
}
