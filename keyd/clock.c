#include "keyd/clock.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"

static void doubt(struct clock *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The first reason stays: what comes after may follow from it. */
static void doubt(struct clock *c, const char *fmt, ...)
{
	va_list ap;

	if (c->unconfirmed)
		return;
	c->unconfirmed = true;
	va_start(ap, fmt);
	vsnprintf(c->reason, sizeof(c->reason), fmt, ap);
	va_end(ap);
}

static int64_t distance(int64_t a, int64_t b)
{
	return a > b ? a - b : b - a;
}

static void rebase(struct clock *c, const struct clock_reading *now)
{
	c->last = *now;
	c->base = now->wall - now->boot;
	c->base_since = now->boot;
}

void clock_start(struct clock *c, const struct clock_memory *m, const struct clock_reading *now)
{
	char then[DATE_TEXT_MAX];

	*c = (struct clock){.unconfirmed = m->unconfirmed};
	snprintf(c->reason, sizeof(c->reason), "%s", m->reason);
	rebase(c, now);
	if (m->wall == 0)
		return;
	date_format(m->wall, then);
	if (now->wall < m->wall)
		doubt(c, "the clock is %" PRId64 " s earlier than at %s, when coffer-keyd last ran",
			m->wall - now->wall, then);
	else if (now->wall - m->wall > CLOCK_OUTAGE_MAX)
		doubt(c, "more than 48 hours have passed since %s, when coffer-keyd last ran", then);
	else if (*m->boot_id && strcmp(m->boot_id, now->boot_id) == 0 &&
		 distance(now->wall - m->wall, now->boot - m->boot) > CLOCK_STEP_MAX)
		doubt(c, "the clock was moved by %" PRId64 " s since %s, when coffer-keyd last ran",
			(now->wall - m->wall) - (now->boot - m->boot), then);
}

bool clock_tick(struct clock *c, const struct clock_reading *now)
{
	bool before = c->unconfirmed;
	int64_t step = (now->wall - c->last.wall) - (now->boot - c->last.boot);
	int64_t sum = now->wall - now->boot - c->base;

	if (distance(step, 0) > CLOCK_STEP_MAX)
		doubt(c, "the clock jumped by %" PRId64 " s", step);
	else if (distance(sum, 0) > CLOCK_STEP_MAX)
		doubt(c, "the clock moved by %" PRId64 " s within an hour", sum);
	else if (now->mono < c->last.mono || now->mono - c->last.mono > CLOCK_TICK_MAX)
		doubt(c, "the monotonic clock jumped by %" PRId64 " s", now->mono - c->last.mono);
	c->last = *now;
	if (now->boot < c->base_since || now->boot - c->base_since >= CLOCK_BASE_SECONDS || c->unconfirmed)
		rebase(c, now);
	return c->unconfirmed && !before;
}

void clock_compare_ledger(struct clock *c, int64_t newest, int64_t confirmed, int64_t now)
{
	char then[DATE_TEXT_MAX];

	if (newest > confirmed && newest - now > CLOCK_STEP_MAX)
		doubt(c, "the clock is %" PRId64 " s earlier than the newest row of the record, of %s", newest - now,
			date_format(newest, then));
}

void clock_confirm(struct clock *c, const struct clock_reading *now)
{
	c->unconfirmed = false;
	*c->reason = '\0';
	rebase(c, now);
}

void clock_remember(const struct clock *c, struct clock_memory *ret)
{
	*ret = (struct clock_memory){
		.wall = c->last.wall, .boot = c->last.boot, .unconfirmed = c->unconfirmed};
	memcpy(ret->boot_id, c->last.boot_id, sizeof(ret->boot_id));
	memcpy(ret->reason, c->reason, sizeof(ret->reason));
}

static int64_t seconds_of(clockid_t id)
{
	struct timespec t = {0};

	clock_gettime(id, &t);
	return t.tv_sec;
}

static void read_boot_id(char buf[CLOCK_BOOT_ID])
{
	scoped(close_fdp) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, CLOCK_BOOT_ID - 1);

	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

void clock_read(struct clock_reading *ret)
{
	static char boot_id[CLOCK_BOOT_ID];

	if (!*boot_id)
		read_boot_id(boot_id);
	*ret = (struct clock_reading){
		.wall = seconds_of(CLOCK_REALTIME),
		.mono = seconds_of(CLOCK_MONOTONIC),
		.boot = seconds_of(CLOCK_BOOTTIME),
	};
	memcpy(ret->boot_id, boot_id, sizeof(ret->boot_id));
}
