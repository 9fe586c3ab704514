/* bench: how fast is this mount, and what of it is the record. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "common/journal.h"
#include "common/record.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/fusemount.h"
#include "tools/request.h"
#include "tools/table.h"

#define STREAM_BYTES (64u << 20)
#define BLOCK (1u << 20)
#define SMALL 4096u
#define FILES 500u
#define OPENS 2000u
#define SYNCS 50u
#define RECORDS 20000u
#define ROOM_NEEDED (4ull * STREAM_BYTES)

struct bench {
	const char *dir;
	int top;	/* DIR */
	int fd;		/* our folder in it */
	char folder[64];
	bool coffer;
	double record_us;	/* what one record costs; 0: none are written here */
	json_t *rows;
	uint8_t *data;		/* BLOCK bytes that do not compress */
};

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* `records`: what the record gets for one operation; bytes 0: only operations are counted. */
static void row(struct bench *b, const char *what, double took, double count, double bytes, double records)
{
	double us = took / count * 1e6, audit = records * b->record_us;
	json_t *r = json_pack("{s:s, s:f, s:f}", "what", what, "us", us, "per_second", count / took);

	json_object_set_new(r, "mb_per_second", bytes > 0 ? json_real(bytes / took / 1e6) : json_null());
	json_object_set_new(r, "records", b->coffer ? json_real(records) : json_null());
	json_object_set_new(r, "record_us", b->coffer ? json_real(audit) : json_null());
	json_object_set_new(r, "record_percent", b->coffer ? json_real(100 * audit / us) : json_null());
	json_array_append_new(b->rows, r);
}

static int name_of(char *buf, size_t n, unsigned i)
{
	return snprintf(buf, n, "file-%05u.dat", i);
}

/* ---- what one record costs ---- */

static int append_all(struct journal_writer *w)
{
	struct record rec = {.kind = RECORD_KIND_ACCESS,
		.access = {.session = 1, .op = RECORD_OPEN, .flags = RECORD_READ, .path = 1, .process = 1}};
	uint8_t buf[RECORD_BYTES_MAX];
	struct timespec now;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < RECORDS; i++) {
		clock_gettime(CLOCK_REALTIME, &now);
		rec.access.time_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
		rec.access.size = i;
		r = record_encode(&rec, buf, sizeof(buf));
		if (r >= 0)
			r = journal_append(w, buf, (size_t)r, 0);
	}
	return r;
}

/* As the worker does it: encoded, and copied into a mapped journal of a scratch folder. */
static int measure_record(double *ret_us)
{
	static const char client[CLIENT_ID_HEX] = "00000000000000000000000000000000";
	const char *tmp = getenv("TMPDIR");
	scoped(close_fdp) int dir = -1, fd = -1;
	scoped(freep) char *path = NULL;
	struct journal_writer *w = NULL;
	double began;
	int r;

	if (asprintf(&path, "%s/coffer-bench-XXXXXX", tmp ? tmp : "/tmp") < 0)
		return -ENOMEM;
	if (!mkdtemp(path))
		return -errno;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dir < 0 ? -errno : journal_create(dir, "j", 1, client, JOURNAL_BYTES_DEFAULT, &fd);
	if (r == 0)
		r = journal_writer_open(fd, -1, &w);
	began = seconds();
	if (r == 0)
		r = append_all(w);
	*ret_us = (seconds() - began) / RECORDS * 1e6;
	if (w)
		journal_writer_close(w);
	if (dir >= 0)
		(void)unlinkat(dir, "j", 0);
	(void)rmdir(path);
	return r;
}

/* ---- the phases; each 0 or -errno ---- */

static int put(int fd, const void *buf, size_t n, off_t at)
{
	ssize_t k = pwrite(fd, buf, n, at);

	return k < 0 ? -errno : (size_t)k == n ? 0 : -ENOSPC;
}

static int get(int fd, void *buf, size_t n, off_t at)
{
	ssize_t k = pread(fd, buf, n, at);

	return k < 0 ? -errno : (size_t)k == n ? 0 : -EIO;
}

static int run_stream(struct bench *b, int fd)
{
	double began = seconds();
	int r = 0;

	for (off_t at = 0; r == 0 && at < (off_t)STREAM_BYTES; at += BLOCK)
		r = put(fd, b->data, BLOCK, at);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	row(b, "write a stream, with fsync", seconds() - began, STREAM_BYTES / BLOCK, STREAM_BYTES, 0);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	began = seconds();
	for (off_t at = 0; r == 0 && at < (off_t)STREAM_BYTES; at += BLOCK)
		r = get(fd, b->data, BLOCK, at);
	row(b, "read it", seconds() - began, STREAM_BYTES / BLOCK, STREAM_BYTES, 0);
	return r;
}

static int run_random(struct bench *b, int fd)
{
	unsigned count = OPENS;
	double began;
	int r = 0;

	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	began = seconds();
	for (unsigned i = 0; r == 0 && i < count; i++)
		r = get(fd, b->data, SMALL, (off_t)randombytes_uniform(STREAM_BYTES / SMALL) * SMALL);
	row(b, "read 4 KiB anywhere", seconds() - began, count, (double)count * SMALL, 0);
	began = seconds();
	for (unsigned i = 0; r == 0 && i < count; i++)
		r = put(fd, b->data, SMALL, (off_t)randombytes_uniform(STREAM_BYTES / SMALL) * SMALL);
	row(b, "write 4 KiB anywhere", seconds() - began, count, (double)count * SMALL, 0);
	began = seconds();
	for (unsigned i = 0; r == 0 && i < SYNCS; i++) {
		r = put(fd, b->data, SMALL, (off_t)i * SMALL);
		if (r == 0 && fsync(fd) < 0)
			r = -errno;
	}
	row(b, "write 4 KiB and fsync", seconds() - began, SYNCS, (double)SYNCS * SMALL, 0);
	return r;
}

static int run_big(struct bench *b)
{
	scoped(close_fdp) int fd = openat(b->fd, "stream", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = run_stream(b, fd);
	if (r == 0)
		r = run_random(b, fd);
	return r;
}

static int small_file(struct bench *b, unsigned i, int flags)
{
	scoped(close_fdp) int fd = -1;
	char name[32];

	name_of(name, sizeof(name), i);
	fd = openat(b->fd, name, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	return flags & O_CREAT ? put(fd, b->data, SMALL, 0) : get(fd, b->data, SMALL, 0);
}

static int run_small(struct bench *b)
{
	double began = seconds();
	char name[32];
	struct stat st;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < FILES; i++)
		r = small_file(b, i, O_WRONLY | O_CREAT | O_EXCL);
	row(b, "create a file of 4 KiB", seconds() - began, FILES, (double)FILES * SMALL, 2);
	began = seconds();
	for (unsigned i = 0; r == 0 && i < FILES; i++)
		r = small_file(b, i, O_RDONLY);
	row(b, "open and read it", seconds() - began, FILES, (double)FILES * SMALL, 2);
	began = seconds();
	for (unsigned i = 0; r == 0 && i < FILES; i++) {
		name_of(name, sizeof(name), i);
		r = fstatat(b->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	}
	row(b, "stat", seconds() - began, FILES, 0, 0);
	began = seconds();
	for (unsigned i = 0; r == 0 && i < OPENS; i++)
		r = small_file(b, 0, O_RDONLY);
	row(b, "open and read the same", seconds() - began, OPENS, 0, 2);
	began = seconds();
	for (unsigned i = 0; r == 0 && i < FILES; i++) {
		name_of(name, sizeof(name), i);
		r = unlinkat(b->fd, name, 0) < 0 ? -errno : 0;
	}
	row(b, "delete it", seconds() - began, FILES, 0, 1);
	return r;
}

static void clean(struct bench *b)
{
	char name[32];

	for (unsigned i = 0; i < FILES; i++) {
		name_of(name, sizeof(name), i);
		(void)unlinkat(b->fd, name, 0);
	}
	(void)unlinkat(b->fd, "stream", 0);
	close_fdp(&b->fd);
	(void)unlinkat(b->top, b->folder, AT_REMOVEDIR);
}

/* ---- where, and what for ---- */

/* By the mount that DIR lies on. */
static bool is_coffer(const char *dir)
{
	scoped(freep) char *point = fusemount_around(dir);

	return point;
}

static int prepare(struct bench *b)
{
	struct statvfs v;

	b->top = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->top < 0)
		return fail(EXIT_NOT_FOUND, "%s: %s", b->dir, strerror(errno));
	if (fstatvfs(b->top, &v) == 0 && (unsigned long long)v.f_bavail * v.f_frsize < ROOM_NEEDED)
		return fail(EXIT_FAILED, "%s: the measurement needs %llu MB of room", b->dir, ROOM_NEEDED / 1000000);
	snprintf(b->folder, sizeof(b->folder), ".coffer-bench-%08x", randombytes_random());
	if (mkdirat(b->top, b->folder, 0700) < 0)
		return fail(errno == EROFS || errno == EACCES ? EXIT_REFUSED : EXIT_FAILED, "%s: cannot write there: %s",
			b->dir, strerror(errno));
	b->fd = openat(b->top, b->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	b->data = malloc(BLOCK);
	if (b->fd < 0 || !b->data)
		return fail(EXIT_FAILED, "%s: %s", b->dir, strerror(errno));
	randombytes_buf(b->data, BLOCK);
	return EXIT_OK;
}

static int print(const struct bench *b)
{
	static const struct column columns[] = {
		{"what", "OPERATION", CELL_TEXT},
		{"us_text", "US EACH", CELL_NUMBER},
		{"rate_text", "PER SECOND", CELL_NUMBER},
		{"mb_text", "MB/S", CELL_NUMBER},
		{"records_text", "RECORDS", CELL_NUMBER},
		{"percent_text", "% RECORD", CELL_NUMBER},
	};
	static const struct {
		const char *from, *to;
		int digits;
	} texts[] = {{"us", "us_text", 1}, {"per_second", "rate_text", 0}, {"mb_per_second", "mb_text", 1},
		{"records", "records_text", 0}, {"record_percent", "percent_text", 2}};
	json_t *r;
	size_t i;
	int rc;

	json_array_foreach(b->rows, i, r)
	{
		for (size_t k = 0; k < ARRAY_SIZE(texts); k++) {
			const json_t *v = json_object_get(r, texts[k].from);
			char text[40] = "-";

			if (json_is_number(v))
				snprintf(text, sizeof(text), "%.*f", texts[k].digits, json_number_value(v));
			json_object_set_new(r, texts[k].to, json_string(text));
		}
	}
	rc = table_print(b->rows, columns, ARRAY_SIZE(columns), NULL);
	if (rc == EXIT_OK && b->coffer)
		rc = say("a record costs %.2f us here; one open is two of them (open, close)", b->record_us);
	if (rc == EXIT_OK && !b->coffer)
		rc = say("%s is no Coffer mount: nothing is recorded there", b->dir);
	return rc;
}

int cmd_bench(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"dir", NULL, "DIR", FIELD_TEXT, true, NULL}, {0}};
	static const struct request rq = {fields, "DIR",
		"Measures the speed of files in DIR (some seconds, some 70 MB, removed again) and what of it the "
		"record costs."};
	scoped(json_decrefp) json_t *params = NULL, *all = NULL;
	struct bench b = {.top = -1, .fd = -1};
	int r, e = 0;

	request_parse(t, &rq, argc, argv, &params);
	b.dir = json_string_value(json_object_get(params, "dir"));
	b.rows = json_array();
	b.coffer = is_coffer(b.dir);
	r = prepare(&b);
	if (r == EXIT_OK && b.coffer)
		e = measure_record(&b.record_us);
	if (r == EXIT_OK && e == 0)
		e = run_big(&b);
	if (r == EXIT_OK && e == 0)
		e = run_small(&b);
	if (b.fd >= 0)
		clean(&b);
	close_fdp(&b.top);
	free(b.data);
	if (r == EXIT_OK && e < 0)
		r = fail(EXIT_FAILED, "%s: the measurement broke off: %s", b.dir, strerror(-e));
	all = json_pack("{s:b, s:f, s:o}", "coffer", b.coffer, "record_us", b.record_us, "rows", b.rows);
	if (r != EXIT_OK)
		return r;
	return t->json ? print_json(all) : print(&b);
}
