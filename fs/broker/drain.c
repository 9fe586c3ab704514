#include "fs/broker/drain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "common/journal.h"
#include "common/log.h"
#include "common/scope.h"

#define BATCH_MAX 65536u /* records; each journal gets an equal share */
#define PERIOD_US 1000000u
#define DISK_EVERY 30u /* periods */
#define LOW_BYTES (INT64_C(1) << 30)
#define LOW_SHARE 50 /* a fiftieth */
#define NOTES_MAX 100000u /* while nothing can be written: more than a day of sessions */
#define NAME_MAX_BYTES 48

struct drain_journal {
	struct drain_journal *next;
	struct journal_reader *reader;
	struct ledger_source *source;
	char name[NAME_MAX_BYTES], client_id[CLIENT_ID_HEX];
	uint64_t id;
	void (*on_damage)(void *userdata);
	void *userdata;
	const char *damage; /* what is wrong with it; noted once the batch that found it is on disk */
	bool retired;	/* no writer that we serve: gone with the first run that began after its writer's death */
	bool ended;	/* that run */
	bool damage_noted, damage_told, stale;
	uint64_t target; /* of this run: what was there when it began */
};

struct note {
	struct note *next;
	struct ledger_act act; /* its texts belong to the note */
	json_t *outcome;
};

struct drain {
	sd_event *event;
	sd_event_source *timer, *kick;
	struct ledger *ledger;
	int dirfd, kick_fd;
	struct drain_journal *journals;
	struct note *notes, **notes_end;
	unsigned notes_n, turns;
	bool failing, low;
};

/* The timer runs while there is something to wait for; one that runs already is not put off. */
static int arm(struct drain *d)
{
	int r = sd_event_source_get_enabled(d->timer, NULL);

	if (r != 0)
		return r < 0 ? r : 0;
	r = sd_event_source_set_time_relative(d->timer, PERIOD_US);
	return r < 0 ? r : sd_event_source_set_enabled(d->timer, SD_EVENT_ONESHOT);
}

/* ---- notes ---- */

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static void note_free(struct note *n)
{
	free((char *)n->act.kind);
	free((char *)n->act.user);
	free((char *)n->act.client);
	free((char *)n->act.purpose);
	free((char *)n->act.ticket);
	free((char *)n->act.detail);
	json_decref(n->outcome);
	free(n);
}

int drain_note(struct drain *d, const struct ledger_act *act)
{
	struct note *n;

	if (d->notes_n >= NOTES_MAX)
		return -ENOSPC;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->act = *act;
	n->act.kind = copy(act->kind);
	n->act.user = copy(act->user);
	n->act.client = copy(act->client);
	n->act.purpose = copy(act->purpose);
	n->act.ticket = copy(act->ticket);
	n->act.detail = copy(act->detail);
	n->act.outcome = n->outcome = json_deep_copy(act->outcome);
	*d->notes_end = n;
	d->notes_end = &n->next;
	d->notes_n++;
	return arm(d);
}

static void notes_drop(struct drain *d, unsigned count)
{
	while (count--) {
		struct note *n = d->notes;

		d->notes = n->next;
		d->notes_n--;
		note_free(n);
	}
	if (!d->notes)
		d->notes_end = &d->notes;
}

/* ---- one batch ---- */

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void note_damage(
	struct drain *d, const char *name, const char *client_id, uint64_t after, const char *what)
{
	json_t *detail = json_pack("{s:s,s:s*,s:I,s:s}", "journal", name, "client_id", client_id, "after",
		(json_int_t)after, "what", what);
	scoped(freep) char *text = detail ? json_dumps(detail, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	const struct ledger_act act = {
		.time_ns = now_ns(), .kind = "journal-damaged", .uid = -1, .detail = text};

	json_decref(detail);
	log_error("journal %s: %s after record %" PRIu64 "; it is kept for inspection", name, what, after);
	drain_note(d, &act);
}

static int begin_if_needed(struct drain *d)
{
	return ledger_in_batch(d->ledger) ? 0 : ledger_begin(d->ledger);
}

static int batch_notes(struct drain *d, unsigned *ret_count)
{
	unsigned count = 0;
	int r = 0;

	for (struct note *n = d->notes; n && r == 0; n = n->next) {
		r = begin_if_needed(d);
		if (r == 0)
			r = ledger_add_act(d->ledger, &n->act);
		count++;
	}
	*ret_count = count;
	return r;
}

/* One record further.  1: done; 0: nothing more in this journal, for now or for good. */
static int batch_record(struct drain *d, struct drain_journal *j)
{
	uint8_t buf[RECORD_BYTES_MAX];
	struct record rec;
	uint64_t seq;
	size_t n;
	int r;

	r = journal_reader_next(j->reader, buf, sizeof(buf), &n, &seq);
	if (r == 0)
		return 0;
	if (r > 0)
		r = record_decode(buf, n, &rec);
	if (r == 0)
		r = begin_if_needed(d);
	if (r == 0)
		r = ledger_add_record(d->ledger, j->source, seq, &rec);
	if (r == -EBADMSG) {
		j->damage = "a record is not as a worker writes it";
		return 0;
	}
	return r < 0 ? r : 1;
}

/* Only what was there when the run began: under load a run ends all the same. */
static bool has_more(const struct drain_journal *j)
{
	return !j->damage && journal_reader_position(j->reader) < j->target;
}

static int batch_journals(struct drain *d, bool *ret_more)
{
	unsigned n = drain_journals(d), share = n ? BATCH_MAX / n + 1 : 0;
	int r;

	*ret_more = false;
	for (struct drain_journal *j = d->journals; j; j = j->next) {
		unsigned count = 0;

		r = 0;
		while (!j->damage && count < share && (r = batch_record(d, j)) > 0)
			count++;
		if (r >= 0 && j->source)
			r = ledger_source_store(d->ledger, j->source);
		if (r < 0)
			return r;
		if (count == share && has_more(j))
			*ret_more = true;
	}
	return 0;
}

static void release_all(struct drain *d)
{
	for (struct drain_journal *j = d->journals; j; j = j->next) {
		int r = j->damage ? 0 : journal_reader_release(j->reader);

		if (r < 0) /* the ledger remembers; the worker gets less room */
			log_warning("journal %s: cannot be released: %s", j->name, strerror(-r));
	}
}

/* After a batch that failed: readers and sources are ahead of what is in the ledger. */
static int journal_rewind(struct drain *d, struct drain_journal *j)
{
	struct ledger_source *source;
	struct journal_reader *reader;
	int fd, r;

	fd = openat(d->dirfd, j->name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	r = journal_reader_open(fd, &reader);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = ledger_source_new(d->ledger, j->id, j->client_id, &source);
	if (r < 0) {
		journal_reader_free(reader);
		return r;
	}
	journal_reader_free(j->reader);
	ledger_source_free(j->source);
	j->reader = reader;
	j->source = source;
	return 0;
}

static void note_damages(struct drain *d)
{
	for (struct drain_journal *j = d->journals; j; j = j->next) {
		if (!j->damage || j->damage_noted)
			continue;
		j->damage_noted = true;
		note_damage(d, j->name, j->client_id, ledger_source_done(j->source), j->damage);
	}
}

static int one_batch(struct drain *d, bool *ret_more)
{
	unsigned notes;
	int r;

	for (struct drain_journal *j = d->journals; j; j = j->next) {
		r = j->stale && !j->damage ? journal_rewind(d, j) : 0;
		if (r < 0)
			return r;
		j->stale = false;
	}
	r = batch_notes(d, &notes);
	if (r == 0)
		r = batch_journals(d, ret_more);
	if (r == 0 && ledger_in_batch(d->ledger))
		r = ledger_commit(d->ledger);
	if (r < 0) {
		ledger_rollback(d->ledger);
		for (struct drain_journal *j = d->journals; j; j = j->next) {
			j->stale = true;
			if (!j->damage_noted)
				j->damage = NULL; /* what came before it is to be read again */
		}
		return r;
	}
	notes_drop(d, notes);
	release_all(d);
	note_damages(d);
	return 0;
}

/* ---- runs ---- */

static void journal_free(struct drain_journal *j)
{
	journal_reader_free(j->reader);
	ledger_source_free(j->source);
	free(j);
}

static void keep_aside(struct drain *d, const char *name)
{
	char aside[NAME_MAX_BYTES + 16];

	snprintf(aside, sizeof(aside), "%s.damaged", name);
	if (renameat(d->dirfd, name, d->dirfd, aside) < 0)
		log_error("journal %s: cannot be kept as %s: %s", name, aside, strerror(errno));
}

/* Those whose writer is dead have nothing more to give after a whole run.  A worker that hangs writes on after its socket
 * was closed, and after the coffer-fsd that started it died: its lock tells. */
static void look_for_ended(struct drain *d)
{
	for (struct drain_journal *j = d->journals; j; j = j->next)
		j->ended = j->retired && !journal_reader_writer_lives(j->reader);
}

static void drop_retired(struct drain *d)
{
	for (struct drain_journal **at = &d->journals; *at;) {
		struct drain_journal *j = *at;

		if (!j->ended) {
			at = &j->next;
			continue;
		}
		if (j->damage)
			keep_aside(d, j->name);
		else if (unlinkat(d->dirfd, j->name, 0) < 0)
			log_warning("journal %s: cannot be removed: %s", j->name, strerror(errno));
		*at = j->next;
		journal_free(j);
	}
}

static void tell_damage(struct drain *d)
{
	for (struct drain_journal *j = d->journals; j; j = j->next) {
		if (!j->damage_noted || j->damage_told || !j->on_damage)
			continue;
		j->damage_told = true;
		j->on_damage(j->userdata);
	}
}

static void set_failing(struct drain *d, int r)
{
	bool failing = r < 0;

	if (failing && !d->failing)
		log_error("the ledger cannot be written: %s; journals keep the records, workers refuse data "
			  "when they are full",
			strerror(-r));
	if (!failing && d->failing)
		log_info("the ledger is written again");
	d->failing = failing;
}

static void set_targets(struct drain *d)
{
	for (struct drain_journal *j = d->journals; j; j = j->next)
		if (j->damage || journal_reader_head(j->reader, &j->target) < 0)
			j->target = 0; /* reading will say what is wrong */
}

static int run(struct drain *d, bool one, bool *ret_more)
{
	int r;

	*ret_more = false;
	look_for_ended(d);
	set_targets(d);
	do
		r = one_batch(d, ret_more);
	while (r == 0 && (*ret_more || d->notes) && !one);
	set_failing(d, r);
	if (r == 0 && !*ret_more)
		drop_retired(d);
	tell_damage(d);
	return r;
}

int drain_run(struct drain *d)
{
	bool more;

	return run(d, false, &more);
}

/* From the loop one batch at a time, so that others have their turn while a lot comes in. */
static void run_some(struct drain *d)
{
	const uint64_t one = 1;
	bool more;

	if (run(d, true, &more) == 0 && more && write(d->kick_fd, &one, sizeof(one)) < 0)
		log_warning("the drain cannot wake itself: %s", strerror(errno)); /* the timer will */
}

int drain_disk_free(const struct drain *d, int64_t *ret, bool *ret_low)
{
	struct statvfs v;

	if (fstatvfs(d->dirfd, &v) < 0)
		return -errno;
	*ret = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
	*ret_low = *ret < LOW_BYTES || v.f_bavail < v.f_blocks / LOW_SHARE;
	return 0;
}

/* Before it is full: once in the log when it gets low, status says it as long as it is. */
static void look_at_disk(struct drain *d)
{
	bool low = false;
	int64_t left = 0;

	if (d->turns++ % DISK_EVERY || drain_disk_free(d, &left, &low) < 0 || low == d->low)
		return;
	d->low = low;
	if (low)
		log_warning("the disk of the ledger has %" PRId64 " MiB left: when it is full, data are refused", left >> 20);
	else
		log_info("the disk of the ledger has room again");
}

bool drain_failing(const struct drain *d)
{
	return d->failing;
}

unsigned drain_journals(const struct drain *d)
{
	unsigned n = 0;

	for (struct drain_journal *j = d->journals; j; j = j->next)
		n++;
	return n;
}

int drain_journal_ids(const struct drain *d, int64_t **ret, size_t *ret_n)
{
	int64_t *ids = calloc(drain_journals(d) + 1, sizeof(*ids));
	size_t n = 0;

	if (!ids)
		return -ENOMEM;
	for (struct drain_journal *j = d->journals; j; j = j->next)
		ids[n++] = (int64_t)j->id;
	*ret = ids;
	*ret_n = n;
	return 0;
}

int drain_kick_fd(const struct drain *d)
{
	return d->kick_fd;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct drain *d = userdata;

	run_some(d);
	look_at_disk(d);
	return d->journals || d->notes ? arm(d) : 0;
}

static int on_kick(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		return -errno;
	run_some(userdata);
	return 0;
}

/* ---- journals come and go ---- */

static int adopt(struct drain *d, const char *name, int fd_taken, struct drain_journal **ret)
{
	scoped(close_fdp) int fd = fd_taken;
	struct drain_journal *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	snprintf(j->name, sizeof(j->name), "%s", name);
	r = journal_reader_open(fd, &j->reader);
	if (r == 0) {
		take_fd(&fd);
		j->id = journal_reader_id(j->reader);
		memcpy(j->client_id, journal_reader_client(j->reader), sizeof(j->client_id));
		r = ledger_source_new(d->ledger, j->id, j->client_id, &j->source);
	}
	if (r < 0) {
		journal_free(j);
		return r;
	}
	j->next = d->journals;
	d->journals = j;
	*ret = j;
	return 0;
}

static int new_journal_id(struct drain *d, const char *client_id, int64_t pid, uint64_t *ret)
{
	int r = ledger_begin(d->ledger);

	if (r == 0)
		r = ledger_add_journal(d->ledger, client_id, pid, ret);
	if (r == 0)
		r = ledger_commit(d->ledger);
	if (r < 0)
		ledger_rollback(d->ledger);
	return r;
}

int drain_add_journal(struct drain *d, const char *client_id, int64_t pid, void (*on_damage)(void *userdata),
	void *userdata, struct drain_journal **ret, int *ret_fd)
{
	scoped(close_fdp) int fd = -1;
	char name[NAME_MAX_BYTES];
	uint64_t id;
	int r, reader_fd;

	r = new_journal_id(d, client_id, pid, &id);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%016" PRIx64 ".journal", id);
	r = journal_create(d->dirfd, name, id, client_id, JOURNAL_BYTES_DEFAULT, &fd);
	if (r < 0)
		return r;
	reader_fd = fsync(d->dirfd) < 0 ? -1 : openat(d->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	r = reader_fd < 0 ? -errno : adopt(d, name, reader_fd, ret);
	if (r < 0) {
		unlinkat(d->dirfd, name, 0);
		return r;
	}
	(*ret)->on_damage = on_damage;
	(*ret)->userdata = userdata;
	*ret_fd = take_fd(&fd);
	return arm(d);
}

void drain_retire_journal(struct drain *d, struct drain_journal *j)
{
	j->retired = true;
	j->on_damage = NULL;
	drain_run(d);
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n > m && strcmp(name + n - m, end) == 0;
}

static void replay_one(struct drain *d, const char *name)
{
	struct drain_journal *j;
	int fd, r;

	fd = openat(d->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	r = fd < 0 ? -errno : adopt(d, name, fd, &j);
	if (r == 0) {
		j->retired = true;
		return;
	}
	if (r == -EBADMSG || r == -ENOENT) {
		note_damage(d, name, NULL, 0,
			r == -EBADMSG ? "its head is damaged" : "the ledger does not know it");
		keep_aside(d, name);
		return;
	}
	log_error("journal %s: %s; it stays for the next start", name, strerror(-r));
}

int drain_replay(struct drain *d)
{
	int fd = openat(d->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir)
		return -errno;
	while ((e = readdir(dir)))
		if (ends_with(e->d_name, ".journal") && strlen(e->d_name) < NAME_MAX_BYTES)
			replay_one(d, e->d_name);
	closedir(dir);
	drain_run(d); /* what cannot be written now is tried again every second */
	return d->journals || d->notes ? arm(d) : 0;
}

int drain_new(sd_event *event, struct ledger *l, int dirfd, struct drain **ret)
{
	struct drain *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	d->ledger = l;
	d->dirfd = dirfd;
	d->notes_end = &d->notes;
	d->event = sd_event_ref(event);
	d->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = d->kick_fd < 0 ? -errno : 0;
	if (r >= 0)
		r = sd_event_add_io(event, &d->kick, d->kick_fd, EPOLLIN, on_kick, d);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &d->timer, CLOCK_MONOTONIC, PERIOD_US, 0, on_timer, d);
	if (r < 0) {
		drain_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

void drain_free(struct drain *d)
{
	if (!d)
		return;
	while (d->journals) {
		struct drain_journal *j = d->journals;

		d->journals = j->next;
		journal_free(j);
	}
	notes_drop(d, d->notes_n);
	sd_event_source_disable_unref(d->timer);
	sd_event_source_disable_unref(d->kick);
	close_fdp(&d->kick_fd);
	sd_event_unref(d->event);
	free(d);
}
