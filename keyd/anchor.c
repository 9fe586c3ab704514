#include "keyd/anchor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/date.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/keyd.h"
#include "keyd/launch.h"
#include "keyd/notice.h"
#include "keyd/outbox.h"
#include "keyd/sendmail.h"

#define LIMIT_SECONDS 30 /* of one program; a tick is a second */
#define LETTER "anchor.eml"

struct place {
	int64_t batch, at; /* the last head that arrived, and when */
	uint64_t next;     /* tick: not before */
	uint64_t started;  /* tick */
	pid_t pid;         /* of what runs; 0: nothing */
	char failing[96];  /* why; "": it is not */
};

struct anchors {
	const struct policy *policy; /* that the places are of */
	unsigned generation;
	struct fact_head head;
	struct place places[POLICY_ANCHORS_MAX];
};

struct run {
	struct keyd *k;
	unsigned place, generation;
	int64_t batch;
	pid_t pid;
};

static const char *const kinds[] = {[ANCHOR_FILE] = "file", [ANCHOR_COMMAND] = "command", [ANCHOR_MAIL] = "mail"};

void anchor_line(const struct fact_head *h, char buf[ANCHOR_LINE_MAX])
{
	snprintf(buf, ANCHOR_LINE_MAX, "coffer-ledger-head %" PRId64 " %s %s %" PRId64, h->batch, h->hash, h->signature,
		h->signed_at);
}

/* ---- what became of it ---- */

static void record(struct keyd *k, const struct policy_anchor *a, const char *kind, const char *why)
{
	struct outbox_entry e = {.kind = kind, .outcome = why ? "Failed" : NULL, .by = FACTS_CLOCK};

	e.detail = json_pack("{s:s, s:s, s:s*}", "anchor", kinds[a->kind], "to", a->to, "reason", why);
	if (outbox_record(k, &e) < 0)
		log_error("that the anchor %s %s is not recorded", a->to, why ? "fails" : "works again");
}

/* why NULL: it arrived. */
static void arrived(struct keyd *k, unsigned i, int64_t batch, const char *why)
{
	const struct policy_anchor *a = &k->policy->anchors[i];
	struct place *p = &k->anchors->places[i];
	bool was = *p->failing;

	if (!why) {
		p->batch = batch;
		p->at = keyd_now();
		*p->failing = '\0';
		if (was) {
			log_info("the head of the record is anchored again: %s", a->to);
			record(k, a, "anchor-works", NULL);
		}
		return;
	}
	snprintf(p->failing, sizeof(p->failing), "%s", why);
	if (was)
		return;
	log_error("the head of the record cannot be anchored: %s %s: %s", kinds[a->kind], a->to, why);
	record(k, a, "anchor-failed", why);
}

static int on_exit_of(sd_event_source *source, const siginfo_t *info, void *userdata)
{
	scoped(freep) struct run *run = userdata;
	struct anchors *t = run->k->anchors;
	char why[64];

	/* What it left behind goes with it, else that would pile up.  It has a group of its own, which nobody else can have
	 * yet: the program is reaped after this. */
	(void)kill(-run->pid, SIGKILL);
	sd_event_source_disable_unref(source);
	if (!t || run->generation != t->generation)
		return 0; /* another policy by now */
	t->places[run->place].pid = 0;
	if (t->policy != run->k->policy)
		return 0; /* the next tick sees it: by now there may be another in that place */
	if (info->si_code == CLD_EXITED && info->si_status == 0) {
		arrived(run->k, run->place, run->batch, NULL);
		return 0;
	}
	snprintf(why, sizeof(why), "the program ended with %s %d", info->si_code == CLD_EXITED ? "exit status" : "signal",
		info->si_status);
	arrived(run->k, run->place, run->batch, why);
	return 0;
}

/* ---- one place ---- */

/* The shell only connects descriptor 3; the path is its $0, not part of the script.  dd, since >> would follow a link that
 * somebody put where the file was. */
static const char *const scripts[] = {
	[ANCHOR_FILE] = "umask 022; exec dd of=\"$0\" oflag=append,nofollow conv=notrunc,fsync status=none <&3 3<&-",
	[ANCHOR_COMMAND] = "exec timeout -s KILL \"$1\" \"$0\" <&3 3<&-", /* its limit also after keyd's end */
};

static unsigned limit_seconds(void)
{
	const char *text = getenv("COFFER_ANCHOR_SECONDS"); /* for tests */
	unsigned long n = text ? strtoul(text, NULL, 10) : 0;

	return n >= 1 && n < LIMIT_SECONDS ? (unsigned)n : LIMIT_SECONDS;
}

static int memory_file(const char *line)
{
	int fd = memfd_create("coffer-head", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (dprintf(fd, "%s\n", line) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return -EIO;
	}
	return fd;
}

static int run_program(struct keyd *k, unsigned i, const char *line)
{
	const struct policy_anchor *a = &k->policy->anchors[i];
	char limit[16];
	char *const argv[] = {(char *)"sh", (char *)"-c", (char *)scripts[a->kind], a->to, limit, NULL};
	scoped(close_fdp) int fd = memory_file(line), log_fd = -1;
	scoped(freep) struct run *run = calloc(1, sizeof(*run));
	sd_event_source *source = NULL;
	int r;

	snprintf(limit, sizeof(limit), "%u", limit_seconds());
	log_fd = statedir_open(&k->dir, "log/keyd.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
	if (fd < 0 || log_fd < 0 || !run)
		return fd < 0 ? fd : log_fd < 0 ? log_fd : -ENOMEM;
	*run = (struct run){.k = k, .place = i, .generation = k->anchors->generation, .batch = k->anchors->head.batch};
	r = launch_foreign("/bin/sh", argv, &fd, 1, log_fd, &run->pid);
	if (r < 0)
		return r;
	r = sd_event_add_child(k->event, &source, run->pid, WEXITED, on_exit_of, run);
	if (r < 0) { /* not watched is not kept */
		(void)kill(run->pid, SIGKILL);
		(void)waitpid(run->pid, NULL, 0);
		return r;
	}
	k->anchors->places[i].pid = run->pid;
	k->anchors->places[i].started = k->tick;
	take_ptr(&run);
	return 0;
}

/* One letter, written anew each time: what it says stands in the next one, too.  That it cannot be sent sendmail.c records. */
static int write_letter(struct keyd *k, const char *to, const char *line)
{
	scoped(close_fdp) int fd = statedir_open(&k->dir, "outbox", O_RDONLY | O_DIRECTORY, 0);
	scoped(freep) char *text = NULL;
	char address[256], when[DATE_TEXT_MAX];
	const struct fact_head *h = &k->anchors->head;

	if (fd < 0)
		return fd;
	if (!notice_address(to, address, sizeof(address)))
		return -EINVAL;
	if (asprintf(&text,
		    "To: <%s>\nSubject: Head of the access record: batch %" PRId64 "\nMIME-Version: 1.0\n"
		    "Content-Type: text/plain; charset=us-ascii\n\n"
		    "The line below fixes the access record as it stood at %s.\nKeep it where nobody who administers that host can change "
		    "it. With it\n`coffer log verify --db COPY --pubkey FILE --anchors THIS` shows what was\nrewritten.\n\n%s\n",
		    address, h->batch, date_format(h->signed_at, when), line) < 0)
		return -ENOMEM;
	return disk_replace(fd, LETTER, text, strlen(text));
}

static void start(struct keyd *k, unsigned i)
{
	const struct policy_anchor *a = &k->policy->anchors[i];
	struct place *p = &k->anchors->places[i];
	char line[ANCHOR_LINE_MAX];
	int r;

	p->next = k->tick + (uint64_t)a->every;
	anchor_line(&k->anchors->head, line);
	r = a->kind == ANCHOR_MAIL ? write_letter(k, a->to, line) : run_program(k, i, line);
	if (r < 0) {
		arrived(k, i, 0, strerror(-r));
	} else if (a->kind == ANCHOR_MAIL) {
		notice_send(k, LETTER, "");
		arrived(k, i, k->anchors->head.batch, NULL);
	}
}

/* ---- all of them ---- */

static bool follow_policy(struct keyd *k)
{
	struct anchors *t = k->anchors;

	if (!t)
		return false;
	if (t->policy != k->policy) {
		for (unsigned i = 0; i < POLICY_ANCHORS_MAX; i++)
			if (t->places[i].pid) /* nobody would count its time any more */
				(void)kill(-t->places[i].pid, SIGKILL);
		t->policy = k->policy;
		t->generation++;
		memset(t->places, 0, sizeof(t->places));
	}
	return t->head.batch > 0;
}

static void start_due(struct keyd *k, bool now)
{
	for (unsigned i = 0; i < k->policy->anchors_count; i++) {
		struct place *p = &k->anchors->places[i];

		if (p->pid == 0 && p->batch < k->anchors->head.batch &&
			(p->next <= k->tick || (now && k->policy->anchors[i].kind != ANCHOR_MAIL)))
			start(k, i);
	}
}

void anchors_head(struct keyd *k, const struct fact_head *h)
{
	if (!k->anchors)
		k->anchors = calloc(1, sizeof(*k->anchors));
	if (!k->anchors) {
		log_error("no memory to anchor the head of the record");
		return;
	}
	k->anchors->head = *h; /* the next tick, or what ends soon, brings it out */
}

void anchors_tick(struct keyd *k)
{
	struct fact_head h;

	if (!k->anchors && k->policy->anchors_count && facts_head_last(k->facts, &h) == 0)
		anchors_head(k, &h); /* the one before we started: whether it arrived we do not know */
	if (!follow_policy(k))
		return;
	for (unsigned i = 0; i < k->policy->anchors_count; i++) {
		const struct place *p = &k->anchors->places[i];

		if (p->pid && k->tick - p->started > limit_seconds())
			(void)kill(-p->pid, SIGKILL);
	}
	start_due(k, false);
}

void anchors_flush(struct keyd *k)
{
	if (follow_policy(k))
		start_due(k, true);
}

void anchors_done(struct keyd *k)
{
	free(take_ptr(&k->anchors));
}

json_t *anchors_json(const struct keyd *k, json_t *warnings)
{
	const struct place none = {0};
	json_t *rows = json_array();

	for (unsigned i = 0; i < k->policy->anchors_count; i++) {
		const struct policy_anchor *a = &k->policy->anchors[i];
		const struct place *p = k->anchors && k->anchors->policy == k->policy ? &k->anchors->places[i] : &none;
		char text[512];

		json_array_append_new(rows, json_pack("{s:s, s:s, s:I, s:I, s:s?}", "kind", kinds[a->kind], "to", a->to, "batch",
			(json_int_t)p->batch, "at", (json_int_t)p->at, "failing", *p->failing ? p->failing : NULL));
		if (!*p->failing)
			continue;
		snprintf(text, sizeof(text), "heads of the record are not anchored in %.300s: %s; D/log/keyd.log may say more",
			a->to, p->failing);
		json_array_append_new(warnings, json_string(text));
	}
	return rows;
}
