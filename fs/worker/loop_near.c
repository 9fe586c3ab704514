/* The near reader: answers on the processor of the program that asks.
 *
 * A program that asks for one short thing after the other sleeps while it is answered.  Waking it from another processor
 * costs two wake-ups a request, of processors that may have halted; on its own processor it is two switches.  So one thread
 * is pinned to where the caller was last seen (/proc/TID/stat) and reads.  It has the policy SCHED_IDLE, because a processor
 * with nothing else to do counts as idle then, so that the scheduler does not move the caller away from it.
 *
 * SCHED_IDLE starves when there is other work.  So this thread reads only while one program at a time asks for short things
 * and no more threads want to run than there are processors; and the baton's holder, a thread like any other, looks every
 * millisecond whether it gets on.  If not, the polling leader and followers read again (loop.c), and a near reader
 * that sits in a request, perhaps with locks, may finish it on any processor, as a thread like any other where RLIMIT_NICE
 * lets it out of SCHED_IDLE (20 or more, setrlimit(2)).  Long requests it hands over, but for those of a program that waits for
 * each: another processor would only be woken for it, and the data is in this one's cache.
 *
 * More than one thread may read at once; who leads decides only who should. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/scope.h"
#include "common/thread.h"
#include "fs/worker/loop_impl.h"
#include "fs/worker/process.h"

#define TICK_MS 1		/* between two looks of the watcher */
/* One tick alone proves nothing: a hypervisor takes a processor away for as long, and the watcher, woken first when it is
 * back, sees that nothing has happened since its last look. */
#define TICKS_RUNNING 2		/* the near reader wants to run, in a request, for so many: it starves */
#define TICKS_UNREAD 3		/* a request lies there for so many: the watcher reads it */
#define TICKS_WAITING 4		/* the near reader waits for something, in a request, for so many: the others read on */
#define TICKS_IDLE 8		/* no request for so many: the watcher sleeps, too */
#define SAMPLE_MAX 256		/* requests between two looks at where the caller runs */
#define SAMPLE_FAR 8		/* while others read: between two looks whether it could again */
#define SAMPLE_MIN 4		/* after a pause or a move */
#define MISSED_WEIGHT 3		/* against one request that was there already */
#define MISSED_LIMIT 6
#define MISSED_LIMIT_MAX 768
#define SAMPLE_CROWDED 16	/* when there was more to do than there are processors, */
#define CROWDED_LIMIT 3		/* which so many looks in a row must find: our own threads run now and then, too */
#define PAUSE_NS 20000000u	/* without requests: what was seen before is old */
#define HOLD_NS 30000000u	/* the others read at least for so long; */
#define HOLD_MAX_NS 1000000000u /* twice as long, up to this, each time that it starved before it */
#define LED_WELL 4		/* had read for so many times as long */

/* Short memories of what speaks against it: each weighs more than one request for it. */
#define SCORE_MAX 64
#define LONG_WEIGHT 8
#define LONG_LIMIT 24 /* three long requests in a row */
#define OTHER_WEIGHT 3
#define OTHER_LIMIT 32 /* another caller at more than every fourth request */

struct near {
	pthread_t thread;
	int go_fd;   /* wakes the near reader: it leads */
	int back_fd; /* wakes the watcher: it does not any more */
	int proc_fd, load_fd;
	unsigned cpus;
	cpu_set_t allowed;
	atomic_int tid; /* 0: it has not begun yet, and does not lead */
	atomic_int cpu; /* where it is pinned; -1: nowhere */
	atomic_bool leads, busy;
	atomic_bool rescued; /* it has another policy than it should */
	atomic_uint served;
	_Atomic uint64_t not_before; /* ns: then it may lead again */
	_Atomic uint64_t led_since;

	void *handed; /* a long request, or a spare buffer */
	atomic_size_t handed_n; /* 0: none */

	/* Of the watcher alone. */
	uint64_t hold;

	/* Of who reads: a lost update among two does no harm. */
	atomic_uint caller, long_score, other_score, seen;

	/* Of the near reader alone. */
	unsigned until_look, sample, crowded, missed, missed_limit;
};

int near_back_fd(const struct loop *l)
{
	return l->near ? l->near->back_fd : -1;
}

bool near_leads(const struct loop *l)
{
	return l->near && atomic_load(&l->near->leads);
}

static void wake(int fd)
{
	uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void drain(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

void near_back(struct loop *l)
{
	drain(l->near->back_fd);
}

static void let_lead(struct near *x)
{
	atomic_store(&x->led_since, loop_now_ns());
	atomic_store(&x->leads, true);
	wake(x->go_fd);
}

static void let_others(struct near *x, uint64_t hold)
{
	atomic_store(&x->not_before, loop_now_ns() + hold);
	atomic_store(&x->leads, false);
	wake(x->back_fd);
}

/* ---- what speaks for it and against it ---- */

static unsigned bumped(unsigned score, bool against, unsigned weight, unsigned max)
{
	if (against)
		return score + weight > max ? max : score + weight;
	return score ? score - 1 : 0;
}

static bool is_for_others(const struct loop *l, const void *buf, size_t n)
{
	return l->client.is_long(buf, n) && !(l->client.is_serial && l->client.is_serial(buf));
}

static void count(struct loop *l, const void *buf, bool for_others)
{
	struct near *x = l->near;
	unsigned caller = l->client.caller(buf);

	if (caller) {
		bool other = caller != atomic_exchange(&x->caller, caller);

		atomic_store(&x->other_score, bumped(atomic_load(&x->other_score), other, OTHER_WEIGHT, SCORE_MAX));
	}
	atomic_store(&x->long_score, bumped(atomic_load(&x->long_score), for_others, LONG_WEIGHT, SCORE_MAX));
}

static bool suits(struct near *x)
{
	return atomic_load(&x->long_score) <= LONG_LIMIT && atomic_load(&x->other_score) <= OTHER_LIMIT;
}

/* How many threads of the machine run or want to: the fourth word of /proc/loadavg, proc(5). */
static bool crowded(struct near *x)
{
	char text[128];
	ssize_t n = pread(x->load_fd, text, sizeof(text) - 1, 0);
	unsigned running;

	if (n <= 0)
		return true;
	text[n] = '\0';
	return sscanf(text, "%*s %*s %*s %u/", &running) != 1 || running > x->cpus;
}

/* ---- the near reader ---- */

static bool pin(struct near *x, int cpu)
{
	cpu_set_t one;

	if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET((unsigned)cpu, &x->allowed))
		return false;
	if (cpu == atomic_load(&x->cpu))
		return true;
	CPU_ZERO(&one);
	CPU_SET((unsigned)cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) < 0)
		return false;
	atomic_store(&x->cpu, cpu);
	x->sample = SAMPLE_MIN;
	x->missed_limit = MISSED_LIMIT;
	return true;
}

/* A caller on this processor runs as soon as it has its answer, and we only when it has asked again.  So when there is
 * nothing to read yet it has moved, and is to be looked for at once; or it thinks, or waits for something else, and then
 * looking is of no use: each time that it was not, it takes twice as much to look again. */
static void waited_for(struct near *x, bool waited)
{
	x->missed = bumped(x->missed, waited, MISSED_WEIGHT, MISSED_LIMIT_MAX);
	if (x->missed >= x->missed_limit) {
		x->missed = 0;
		x->until_look = 1;
		if (x->missed_limit < MISSED_LIMIT_MAX)
			x->missed_limit *= 2;
	}
}

/* Looks where the caller is, after 4, 16, 64 requests and each 256 from then on.  False: it should not go on. */
static bool still_good(struct near *x)
{
	char state;

	if (!suits(x))
		return false;
	if (--x->until_look > 0)
		return true;
	if (crowded(x)) {
		x->until_look = SAMPLE_CROWDED;
		return ++x->crowded < CROWDED_LIMIT;
	}
	x->crowded = 0;
	if (!pin(x, process_cpu(x->proc_fd, atomic_load(&x->caller), &state)))
		return false;
	x->until_look = x->sample;
	if (x->sample < SAMPLE_MAX)
		x->sample *= 4;
	return true;
}

static void looks_soon(struct near *x)
{
	x->sample = SAMPLE_MIN;
	x->until_look = SAMPLE_MIN;
	x->missed_limit = MISSED_LIMIT;
}

static bool be_idle(struct near *x)
{
	struct sched_param none = {.sched_priority = 0};

	atomic_store(&x->cpu, -1);
	looks_soon(x);
	return sched_setscheduler(0, SCHED_IDLE, &none) == 0;
}

/* The watcher takes it.  There is never a second one: it does not read before that one was taken. */
static void hand_over(struct loop *l, void **buf, size_t n)
{
	struct near *x = l->near;
	void *spare = x->handed;

	x->handed = *buf;
	*buf = spare;
	atomic_store(&x->handed_n, n);
	let_others(x, 0);
}

static void handle(struct loop *l, void **buf, size_t n)
{
	struct near *x = l->near;
	bool for_others = is_for_others(l, *buf, n);

	count(l, *buf, for_others);
	if (for_others) {
		hand_over(l, buf, n);
		return;
	}
	l->client.handle(l->client.arg, *buf, n);
	if (!still_good(x) && near_leads(l))
		let_others(x, HOLD_NS);
}

/* Until it does not lead any more. */
static void read_near(struct loop *l, void **buf)
{
	struct near *x = l->near;
	bool waited = true;

	be_idle(x);
	while (near_leads(l) && !atomic_load(&l->gone)) {
		ssize_t n;

		if (atomic_exchange(&x->rescued, false))
			be_idle(x);
		atomic_store(&x->busy, true);
		n = loop_read(l, *buf);
		if (n > 0) {
			waited_for(x, waited);
			waited = false;
			handle(l, buf, (size_t)n);
			atomic_fetch_add(&x->served, 1);
		}
		atomic_store(&x->busy, false);
		if (n < 0 || (n == 0 && atomic_load(&l->stop)))
			return;
		if (n == 0) {
			struct pollfd p[] = {
				{.fd = l->fd, .events = POLLIN}, {.fd = l->stop_fd, .events = POLLIN}};
			uint64_t asleep = loop_now_ns();

			waited = true;
			poll(p, 2, -1);
			if (loop_now_ns() - asleep > PAUSE_NS)
				looks_soon(x);
		}
	}
}

static void *near_thread(void *arg)
{
	struct loop *l = arg;
	struct near *x = l->near;
	void *buf = loop_buffer_new();

	if (buf && be_idle(x) && loop_answer_buffer_begin() == 0) {
		atomic_store(&x->tid, gettid());
		while (!atomic_load(&l->gone) && !atomic_load(&l->stop)) {
			struct pollfd p[] = {
				{.fd = x->go_fd, .events = POLLIN}, {.fd = l->stop_fd, .events = POLLIN}};

			poll(p, 2, -1);
			if (p[0].revents)
				drain(x->go_fd);
			read_near(l, &buf);
		}
		loop_answer_buffer_end();
	}
	loop_buffer_free(buf);
	return NULL;
}

/* ---- the watcher ---- */

static void starved(struct near *x)
{
	if (loop_now_ns() - atomic_load(&x->led_since) > LED_WELL * x->hold)
		x->hold = HOLD_NS;
	else if (x->hold < HOLD_MAX_NS)
		x->hold *= 2;
	let_others(x, x->hold);
}

/* It sits in a request, for so many ticks. */
static void take_over(struct near *x, unsigned ticks)
{
	int tid = atomic_load(&x->tid), cpu;
	struct sched_param none = {.sched_priority = 0};
	cpu_set_t elsewhere = x->allowed;
	char state;

	cpu = process_cpu(x->proc_fd, (uint32_t)tid, &state);
	if (state == 'R' ? ticks < TICKS_RUNNING : ticks < TICKS_WAITING)
		return; /* that may be the disk */
	if (state == 'R')
		starved(x);
	else
		let_others(x, HOLD_NS);
	if (cpu >= 0 && CPU_COUNT(&elsewhere) > 1) /* only who may not stay is moved at once */
		CPU_CLR((unsigned)cpu, &elsewhere);
	sched_setaffinity(tid, sizeof(elsewhere), &elsewhere);
	sched_setscheduler(tid, SCHED_OTHER, &none);
	atomic_store(&x->rescued, true);
}

static bool waits(const struct loop *l)
{
	struct pollfd p = {.fd = l->fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* Beside it: a look from another processor would wake that one up, which then takes the caller over. */
static void watch_from(struct near *x, int *cpu)
{
	int there = atomic_load(&x->cpu);
	cpu_set_t one;

	if (there < 0 || there == *cpu)
		return;
	CPU_ZERO(&one);
	CPU_SET((unsigned)there, &one);
	if (sched_setaffinity(0, sizeof(one), &one) == 0)
		*cpu = there;
}

bool near_watch(struct loop *l)
{
	struct near *x = l->near;
	struct pollfd p[] = {
		{.fd = l->stop_fd, .events = POLLIN}, {.fd = x->back_fd, .events = POLLIN}, {.fd = l->fd, .events = POLLIN}};
	unsigned last = atomic_load(&x->served), stuck = 0, idle = 0;
	bool unread = false;
	int cpu = -1;

	while (!unread && near_leads(l) && !atomic_load(&l->gone) && !atomic_load(&l->stop)) {
		bool asleep = idle >= TICKS_IDLE;
		unsigned now;

		watch_from(x, &cpu);
		poll(p, asleep ? 3 : 2, asleep ? -1 : TICK_MS);
		if (p[1].revents)
			near_back(l);
		now = atomic_load(&x->served);
		if (asleep || now != last) {
			stuck = idle = 0;
		} else if (atomic_load(&x->busy) || waits(l)) {
			idle = 0;
			stuck++;
			if (atomic_load(&x->busy))
				take_over(x, stuck);
			else
				unread = stuck >= TICKS_UNREAD;
		} else {
			stuck = 0;
			idle++;
		}
		last = now;
	}
	if (cpu >= 0)
		sched_setaffinity(0, sizeof(x->allowed), &x->allowed);
	return unread;
}

size_t near_handed(struct loop *l, void **buf)
{
	struct near *x = l->near;
	size_t n = x ? atomic_load(&x->handed_n) : 0;
	void *mine = *buf;

	if (n > 0) {
		*buf = x->handed;
		x->handed = mine;
		atomic_store(&x->handed_n, 0);
	}
	return n;
}

void near_try(struct loop *l)
{
	struct near *x = l->near;

	if (x && !near_leads(l) && atomic_load(&x->tid) && suits(x) && atomic_load(&x->handed_n) == 0 &&
		!atomic_load(&x->busy) && loop_now_ns() >= atomic_load(&x->not_before) && !crowded(x))
		let_lead(x);
}

void near_saw(struct loop *l, const void *buf, size_t n, uint64_t idle_ns, bool unread)
{
	struct near *x = l->near;

	if (!x)
		return;
	if (near_leads(l)) {
		/* What nobody waits for may lie there while its program computes. */
		if (unread && l->client.waits(buf))
			starved(x);
		return;
	}
	count(l, buf, is_for_others(l, buf, n));
	if (idle_ns < PAUSE_NS && atomic_fetch_add(&x->seen, 1) % SAMPLE_FAR != 0)
		return;
	near_try(l);
}

/* ---- beginning and end ---- */

/* Nobody reads any more: what was handed over at the last moment. */
static void answer_handed(struct loop *l)
{
	struct near *x = l->near;
	size_t n = atomic_load(&x->handed_n);

	if (n > 0 && loop_answer_buffer_begin() == 0) {
		l->client.handle(l->client.arg, x->handed, n);
		loop_answer_buffer_end();
	}
}

static void near_free(struct near *x)
{
	for (size_t n = 0; n < 3; n++)
		close_fdp((int *[]){&x->go_fd, &x->back_fd, &x->load_fd}[n]);
	loop_buffer_free(x->handed);
	free(x);
}

void near_start(struct loop *l)
{
	struct near *x;

	if (!l->client.caller || l->client.proc_fd < 0)
		return;
	x = calloc(1, sizeof(*x));
	if (!x)
		return;
	x->proc_fd = l->client.proc_fd;
	atomic_store(&x->cpu, -1);
	x->hold = HOLD_NS;
	x->handed = loop_buffer_new();
	x->go_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	x->back_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	x->load_fd = openat(x->proc_fd, "loadavg", O_RDONLY | O_CLOEXEC);
	if (!x->handed || x->go_fd < 0 || x->back_fd < 0 || x->load_fd < 0 ||
		sched_getaffinity(0, sizeof(x->allowed), &x->allowed) < 0) {
		near_free(x);
		return;
	}
	x->cpus = (unsigned)CPU_COUNT(&x->allowed);
	l->near = x;
	if (thread_start(&x->thread, near_thread, l) < 0) {
		l->near = NULL;
		near_free(x);
	}
}

void near_stop(struct loop *l)
{
	if (!l->near)
		return;
	pthread_join(l->near->thread, NULL);
	answer_handed(l);
	near_free(l->near);
	l->near = NULL;
}
