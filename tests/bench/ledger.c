/* A large ledger through the real way: eight writers append to journals, the drain moves them into the book.  Then how large
 * it is, how long a verification takes, and how long the first page of a search.
 *
 *	ledger FOLDER RECORDS		makes FOLDER/ledger.db (which must not be there) and measures
 *	ledger FOLDER			measures one that is there
 *	ledger FOLDER RECORDS shrink	makes one, archives all, adds a quarter as much before the rows go: how the file shrinks
 *	ledger FOLDER ACTS acts		makes one of acts alone, searches for a rare one, archives them, searches again
 *
 * What the writers do: each has files of its own (a record in 40 names a new one), opens one of them at random, closes it;
 * a process does that fifty times, then another; a session lasts 20,000 records.  The records are spread over a year. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/journal.h"
#include "common/pathseal.h"
#include "common/scope.h"
#include "fs/broker/drain.h"
#include "fs/broker/ledger.h"
#include "fs/broker/ledger_verify.h"

#define WRITERS 8u
#define PAIRS_PER_PROCESS 50u
#define RECORDS_PER_SESSION 20000u
#define RECORDS_PER_FILE 40u
#define YEAR_NS (365ull * 86400 * 1000000000)
#define START_NS (1767225600ull * 1000000000) /* 2026 */
#define PATH_BYTES 64u			      /* sealed: a path of 40 characters */

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "ledger: %s: %s\n", what, strerror(-r));
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* ---- what a writer writes ---- */

struct writer {
	struct journal_writer *j;
	unsigned number;
	uint64_t records; /* it has to write */
	uint64_t random;
	uint32_t files, processes;
};

static void put(struct writer *w, const struct record *r)
{
	uint8_t buf[RECORD_BYTES_MAX];
	int n = record_encode(r, buf, sizeof(buf));

	must(n, "record_encode");
	must(journal_append(w->j, buf, (size_t)n, 60000), "journal_append");
}

/* Sealed paths and file ids look random, and are the same for the same file. */
static void noise(unsigned writer, uint32_t file, uint8_t *to, size_t n)
{
	uint64_t state = ((uint64_t)(writer + 1) << 40 | file) * 0x9e3779b97f4a7c15u | 1;

	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = next_random(&state) * 0x2545f4914f6cdd1du;

		memcpy(to + i, &v, 8);
	}
}

static uint32_t choose_file(struct writer *w, uint64_t written)
{
	uint8_t sealed[PATH_BYTES];
	struct record r = {.kind = RECORD_KIND_PATH};

	if (written / RECORDS_PER_FILE < w->files)
		return 1 + (uint32_t)(next_random(&w->random) % w->files);
	w->files++;
	noise(w->number, w->files, sealed, sizeof(sealed));
	r.path = (struct record_path){.ref = w->files, .month = 2496, .sealed_len = sizeof(sealed), .sealed = sealed};
	put(w, &r);
	return w->files;
}

static void choose_process(struct writer *w, uint64_t written)
{
	struct record r = {.kind = RECORD_KIND_PROCESS};

	if (written % (2 * PAIRS_PER_PROCESS))
		return;
	r.process = (struct record_process){.ref = ++w->processes, .pid = 1000 + w->processes % 30000, .loginuid = 1000};
	memcpy(r.process.comm, "rsync", 5);
	put(w, &r);
}

static uint64_t sessions_before; /* of a filling before this one */

static uint64_t session_of(unsigned writer, uint64_t written)
{
	return 1 + sessions_before + writer + WRITERS * (written / RECORDS_PER_SESSION);
}

static void write_all(struct writer *w)
{
	for (uint64_t i = 0; i < w->records; i += 2) {
		uint32_t file = choose_file(w, i);
		struct record r = {.kind = RECORD_KIND_ACCESS};

		choose_process(w, i);
		r.access = (struct record_access){.session = session_of(w->number, i),
			.time_ns = START_NS + YEAR_NS / w->records * i + next_random(&w->random) % 1000000,
			.op = RECORD_OPEN,
			.flags = RECORD_READ,
			.path = file,
			.process = w->processes,
			.size = 1000 + file * 7919u % 1000000};
		noise(w->number + WRITERS, file, r.access.file.b, sizeof(r.access.file.b));
		put(w, &r);
		r.access.time_ns += 1000000;
		r.access.op = RECORD_CLOSE;
		r.access.bytes_read = r.access.size;
		put(w, &r);
	}
}

static pid_t start_writer(int fd, int kick_fd, unsigned number, uint64_t records)
{
	pid_t pid = fork();
	struct writer w = {.number = number, .records = records, .random = 88172645463325252u + number};

	must(pid < 0 ? -errno : 0, "fork");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must(journal_writer_open(fd, kick_fd, &w.j), "journal_writer_open");
	write_all(&w);
	_exit(0);
}

/* ---- filling ---- */

static void client_id(unsigned writer, char hex[CLIENT_ID_HEX])
{
	snprintf(hex, CLIENT_ID_HEX, "%032x", 0xc0ffee00u + writer);
}

static void add_sessions(struct ledger *l, unsigned writer, uint64_t records)
{
	static const char *const purposes[] = {"data-migration", "support", "training"};
	char hex[CLIENT_ID_HEX], client[32], user[32];

	client_id(writer, hex);
	snprintf(client, sizeof(client), "client%u", writer);
	must(ledger_begin(l), "ledger_begin");
	for (uint64_t at = 0; at < records; at += RECORDS_PER_SESSION) {
		uint64_t number = session_of(writer, at);
		const struct ledger_session s = {.number = number,
			.client_id = hex,
			.client = client,
			.user = user,
			.uid = 1000 + (int64_t)(number % 97),
			.purpose = purposes[number % 3],
			.ticket = "CHG-1",
			.rights = "rw",
			.begun_ns = (int64_t)(START_NS + YEAR_NS / records * at)};

		snprintf(user, sizeof(user), "user%u", (unsigned)(number % 97));
		must(ledger_add_session(l, &s), "ledger_add_session");
	}
	must(ledger_commit(l), "ledger_commit");
}

static void on_damage(void *userdata)
{
	(*(unsigned *)userdata)++;
}

static unsigned reap(void)
{
	unsigned n = 0;
	int status;

	while (waitpid(-1, &status, WNOHANG) > 0) {
		if (!WIFEXITED(status) || WEXITSTATUS(status)) {
			fprintf(stderr, "ledger: a writer failed\n");
			exit(1);
		}
		n++;
	}
	return n;
}

static void fill(struct ledger *l, int dirfd, uint64_t records)
{
	struct drain_journal *journals[WRITERS];
	sd_event *event;
	struct drain *d;
	unsigned damages = 0, ended = 0;
	double begin, longest = 0, first_half = 0;
	struct ledger_stats stats;

	int64_t before;

	must(ledger_stats(l, &stats), "ledger_stats");
	before = stats.records;
	must(sd_event_new(&event), "sd_event_new");
	must(drain_new(event, l, dirfd, &d), "drain_new");
	for (unsigned w = 0; w < WRITERS; w++)
		add_sessions(l, w, records / WRITERS);
	begin = now();
	for (unsigned w = 0; w < WRITERS; w++) {
		char hex[CLIENT_ID_HEX];
		int fd;

		client_id(w, hex);
		must(drain_add_journal(d, hex, 1, on_damage, &damages, &journals[w], &fd), "drain_add_journal");
		start_writer(fd, drain_kick_fd(d), w, records / WRITERS);
		close(fd);
	}
	while (ended < WRITERS) {
		double t = now(), took;

		must(sd_event_run(event, 100000), "sd_event_run");
		took = now() - t;
		if (took > longest)
			longest = took;
		if (!first_half && ledger_stats(l, &stats) == 0 && stats.records - before >= (int64_t)records / 2)
			first_half = now() - begin;
		ended += reap();
	}
	for (unsigned w = 0; w < WRITERS; w++)
		drain_retire_journal(d, journals[w]);
	must(ledger_stats(l, &stats), "ledger_stats");
	stats.records -= before;
	printf("intake: %" PRId64 " records in %.1f s: %.0f/s, second half %.0f/s; longest turn of the loop %.3f s\n", stats.records,
		now() - begin, (double)stats.records / (now() - begin),
		(double)stats.records / 2 / (now() - begin - first_half), longest);
	if (damages || stats.records != (int64_t)records)
		must(-EBADMSG, "records are missing");
	drain_free(d);
	sd_event_unref(event);
}

/* ---- measuring ---- */

static void sizes(struct ledger *l)
{
	struct ledger_stats stats;

	must(ledger_stats(l, &stats), "ledger_stats");
	printf("size: %.1f MiB, %.1f bytes a record\n", (double)stats.bytes / (1 << 20),
		(double)stats.bytes / (double)stats.records);
}

static void search(struct ledger *l, const char *what, struct ledger_filter f)
{
	json_t *rows;
	char *next;
	double t;

	f.limit = 1000;
	f.uid = -1;
	if (!f.since)
		f.since = INT64_MIN;
	if (!f.until)
		f.until = INT64_MAX;
	t = now();
	must(ledger_query(l, &f, &rows, &next), "ledger_query");
	printf("search by %s: %zu rows in %.1f ms%s\n", what, json_array_size(rows), (now() - t) * 1e3,
		next ? ", more to come" : "");
	json_decref(rows);
	free(next);
}

static void searches(struct ledger *l)
{
	uint8_t sealed[PATH_BYTES];
	const int64_t day = START_NS / 1000000000 + 200 * 86400;

	search(l, "nothing", (struct ledger_filter){0});
	search(l, "user", (struct ledger_filter){.user = "user42"});
	search(l, "client", (struct ledger_filter){.client = "client5"});
	search(l, "purpose", (struct ledger_filter){.purpose = "training"});
	search(l, "day", (struct ledger_filter){.since = day, .until = day + 86400});
	search(l, "user and day", (struct ledger_filter){.user = "user42", .since = day, .until = day + 86400});
	search(l, "nobody", (struct ledger_filter){.user = "nobody"});
	for (unsigned i = 0; i < 2; i++) {
		uint32_t number = i ? 1000000000 : 7;
		struct ledger_name name = {sealed, sizeof(sealed)};
		struct file_id file;

		noise(3, number, sealed, sizeof(sealed));
		search(l, i ? "a path that is not there" : "path", (struct ledger_filter){.names = &name, .names_n = 1});
		noise(3 + WRITERS, number, file.b, sizeof(file.b));
		search(l, i ? "a file that is not there" : "file", (struct ledger_filter){.file = &file});
	}
}

/* What `coffer log --path` asks when many names are meant: to the end. */
static void search_many(struct ledger *l, uint32_t names)
{
	static uint8_t bitmap[PATHSEAL_BITMAP_BYTES];
	struct ledger_filter f = {.uid = -1, .since = INT64_MIN, .until = INT64_MAX, .limit = 2000, .names_bitmap = bitmap};
	double begin = now(), longest = 0, t;
	char *after = NULL, *next = NULL;
	size_t rows_n = 0, pages = 0;
	uint8_t sealed[PATH_BYTES];
	json_t *rows;

	memset(bitmap, 0, sizeof(bitmap));
	for (uint32_t i = 0; i < names; i++) {
		noise(3, 1 + i, sealed, sizeof(sealed));
		pathseal_bitmap_add(bitmap, pathseal_key(sealed, sizeof(sealed)));
	}
	do {
		f.after = after;
		t = now();
		must(ledger_query(l, &f, &rows, &next), "ledger_query");
		longest = now() - t > longest ? now() - t : longest;
		rows_n += json_array_size(rows);
		pages++;
		json_decref(rows);
		free(after);
		after = next;
	} while (after);
	printf("search by the bitmap of %u paths: %zu rows in %.2f s, %zu pages, the longest turn %.0f ms\n", names, rows_n, now() - begin,
		pages, longest * 1e3);
}

/* What `coffer log --path` asks for first: the names, to find those that are meant. */
static void paths(struct ledger *l, const char *client)
{
	char *after = NULL, *next;
	double begin = now(), longest = 0;
	size_t count = 0;
	json_t *rows;

	do {
		double t = now();

		must(ledger_paths(l, client, after, &rows, &next), "ledger_paths");
		longest = now() - t > longest ? now() - t : longest;
		count += json_array_size(rows);
		json_decref(rows);
		free(after);
		after = next;
	} while (after);
	printf("sealed paths of %s: %zu in %.0f ms, the longest turn %.1f ms\n", client ? client : "all", count, (now() - begin) * 1e3,
		longest * 1e3);
}

/* What a report to one client asks for (an eighth of all records). */
static void report(struct ledger *l)
{
	struct ledger_accesses_wanted w = {.client = "client3", .until = INT64_MAX / 1000000000};
	double begin = now(), longest = 0;
	char *after = NULL, *next;
	json_t *counted = NULL;
	unsigned pages = 0;

	do {
		double t = now();

		next = NULL;
		w.after = after;
		must(ledger_accesses(l, &w, &counted, &next, &(struct ledger_accesses_place){0}), "accesses");
		longest = now() - t > longest ? now() - t : longest;
		free(after);
		after = next;
		pages++;
	} while (after);
	printf("report: %lld records, %lld files in %.1f s, %u turns, the longest %.0f ms\n",
		json_integer_value(json_object_get(counted, "records")), json_integer_value(json_object_get(counted, "files_count")),
		now() - begin, pages, longest * 1e3);
	json_decref(counted);
}

static void verify(const char *path)
{
	struct ledger_verdict v;
	double t = now();

	must(ledger_verify(path, &(struct ledger_verify_options){0}, &v), "ledger_verify");
	t = now() - t;
	if (v.first_bad) {
		fprintf(stderr, "ledger: batch %" PRId64 ": %s\n", v.first_bad, v.reason);
		exit(1);
	}
	printf("verification: %" PRId64 " records in %" PRId64 " batches in %.1f s: %.0f/s\n", v.records, v.batches, t,
		(double)v.records / t);
}

/* ---- archiving all of it, and giving back the room ---- */

static off_t file_size(const char *path)
{
	struct stat st;

	must(stat(path, &st) < 0 ? -errno : 0, path);
	return st.st_size;
}

static void shrink(struct ledger *l, const char *path, int dirfd, uint64_t records)
{
	const uint8_t signature[ARCHIVE_SIGNATURE_BYTES] = {0};
	const struct ledger_act act = {.kind = "ledger-archive", .uid = -1};
	const struct archive_wanted w = {.ledger_path = path, .until = INT64_MAX / 2};
	double begin = now(), longest = 0;
	struct archive_made m;
	unsigned steps = 0;
	bool more = true;

	must(archive_make(&w, &m), "archive_make");
	printf("archive made in %.1f s\n", now() - begin);
	if (dirfd >= 0) {
		sessions_before = WRITERS * (records / WRITERS / RECORDS_PER_SESSION + 1);
		fill(l, dirfd, records / 4 / (2 * WRITERS) * 2 * WRITERS);
	}
	begin = now();
	must(ledger_archive_take(l, &m, signature, &act), "ledger_archive_take");
	archive_made_done(&m);
	printf("the step from ledger to archive %.0f ms; ledger.db %.1f MiB\n", (now() - begin) * 1e3, (double)file_size(path) / (1 << 20));
	begin = now();
	for (; more; steps++) {
		double t = now();

		must(ledger_archive_clean(l, &more), "ledger_archive_clean");
		longest = now() - t > longest ? now() - t : longest;
	}
	printf("rows removed and room given back in %.1f s, %u steps, the longest %.0f ms; ledger.db %.1f MiB\n", now() - begin, steps,
		longest * 1e3, (double)file_size(path) / (1 << 20));
}

/* ---- a book of acts: who was let in, and why ---- */

static void search_acts(struct ledger *l)
{
	for (unsigned i = 0; i < 2; i++) {
		struct ledger_filter f = {.uid = -1, .since = INT64_MIN, .until = INT64_MAX, .limit = 2000, .client = i ? "nobody" : "rare"};
		double start = now(), longest = 0;
		char *after = NULL, *next = NULL;
		size_t rows_n = 0, pages = 0;

		do {
			double t = now();
			json_t *rows;

			f.after = after;
			must(ledger_query(l, &f, &rows, &next), "ledger_query");
			longest = now() - t > longest ? now() - t : longest;
			rows_n += json_array_size(rows);
			pages++;
			json_decref(rows);
			free(after);
			after = next;
		} while (after);
		printf("search by client %s: %zu rows in %.2f s, %zu pages, the longest turn %.0f ms\n", f.client, rows_n, now() - start, pages,
			longest * 1e3);
	}
}

static void acts(struct ledger *l, const char *path, uint64_t count)
{
	static const char *const users[] = {"user1", "user2", "user3"};
	char detail[700];
	double begin = now();

	memset(detail, '.', sizeof(detail) - 1);
	memcpy(detail, "{\"steps\":\"", 10);
	memcpy(detail + sizeof(detail) - 3, "\"}", 3);
	for (uint64_t i = 0; i < count; i += 10000) {
		must(ledger_begin(l), "ledger_begin");
		for (uint64_t n = i; n < count && n < i + 10000; n++)
			must(ledger_add_act(l, &(struct ledger_act){.time_ns = (int64_t)(START_NS + YEAR_NS / count * n), .kind = "mount", .user = users[n % 3],
				.client = n == count - 1 ? "rare" : "client1", .purpose = "support", .uid = 1000, .detail = detail}), "ledger_add_act");
		must(ledger_commit(l), "ledger_commit");
	}
	printf("%" PRIu64 " acts in %.1f s, %.0f bytes each\n", count, now() - begin, (double)file_size(path) / (double)count);
	search_acts(l);
	shrink(l, path, -1, 0);
	search_acts(l);
}

int main(int argc, char **argv)
{
	bool shrinks = argc == 4 && strcmp(argv[3], "shrink") == 0;
	bool of_acts = argc == 4 && strcmp(argv[3], "acts") == 0;
	uint64_t records = argc == 3 || shrinks || of_acts ? strtoull(argv[2], NULL, 10) / (2 * WRITERS) * 2 * WRITERS : 0;
	char path[4096];
	struct ledger *l;
	int dirfd;

	if (argc < 2 || argc > 4 || (argc == 4 && !shrinks && !of_acts) || (argc > 2 && records == 0)) {
		fprintf(stderr, "usage: ledger FOLDER [RECORDS [shrink|acts]]\n");
		return 2;
	}
	setlinebuf(stdout);
	snprintf(path, sizeof(path), "%s/ledger.db", argv[1]);
	if ((access(path, F_OK) == 0) == (records > 0))
		must(records ? -EEXIST : -ENOENT, path);
	mkdir(argv[1], 0700);
	dirfd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(dirfd < 0 ? -errno : 0, argv[1]);
	must(ledger_open(path, &l), path);
	if (of_acts) {
		acts(l, path, records);
		ledger_close(l);
		close(dirfd);
		return 0;
	}
	if (records)
		fill(l, dirfd, records);
	if (shrinks) {
		shrink(l, path, dirfd, records);
		ledger_close(l);
		close(dirfd);
		return 0;
	}
	sizes(l);
	searches(l);
	search_many(l, 300);
	search_many(l, 3000);
	search_many(l, 30000);
	paths(l, "client3");
	paths(l, NULL);
	report(l);
	ledger_close(l);
	verify(path);
	close(dirfd);
	return 0;
}
