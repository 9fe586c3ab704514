#include "fs/worker/fsck.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/log.h"
#include "common/scope.h"
#include "common/thread.h"
#include "fs/store/backing.h"
#include "fs/store/check.h"
#include "fs/worker/worker.h"

#define WAITING_MAX 400		/* findings */
#define WAITING_BYTES (2u << 20)	/* an answer is far below a message's limit */
#define TABLE_MAX (100u << 20)	/* rows of two million files */

struct fsck {
	struct store *store;
	pthread_t thread;
	struct check_options opt;
	char *only, *after, *today;
	bool show_names;

	pthread_mutex_t lock; /* a leaf; of what follows */
	pthread_cond_t taken;
	json_t *findings;
	size_t waiting_bytes;
	struct check_counts counts;
	char *finished;
	bool stop, done;
	int result;
};

/* A name can be any bytes; JSON cannot. */
static json_t *path_json(const char *path)
{
	json_t *o = json_string(path);
	scoped(freep) char *text = NULL;
	size_t n;
	FILE *f;

	if (o || !path)
		return o ? o : json_null();
	f = open_memstream(&text, &n);
	if (!f)
		return json_null();
	for (; *path; path++)
		fprintf(f, (unsigned char)*path < 0x80 ? "%c" : "\\x%02x", (unsigned char)*path);
	fclose(f);
	return json_string(text);
}

static json_t *finding_json(const struct fsck *x, const struct check_finding *f)
{
	static const struct file_id none;
	char hex[2 * FILE_ID_BYTES + 1] = "", version[VERSION_TEXT];
	json_t *o;

	o = json_pack("{s:s, s:b, s:s, s:s}", "what", f->what, "damage", f->damage, "done", f->done, "detail", f->detail);
	json_object_set_new(o, "path", x->show_names ? path_json(f->path) : json_null());
	json_object_set_new(o, "store", path_json(f->store));
	if (memcmp(&f->file, &none, sizeof(none)) != 0) {
		sodium_bin2hex(hex, sizeof(hex), f->file.b, sizeof(f->file.b));
		version_format(&f->version, version);
		json_object_set_new(o, "file", json_string(hex));
		json_object_set_new(o, "version", json_string(version));
		json_object_set_new(o, "size", json_integer((json_int_t)f->size));
	}
	return o;
}

static void found(const struct check_finding *f, void *arg)
{
	struct fsck *x = arg;
	json_t *o = finding_json(x, f);

	pthread_mutex_lock(&x->lock);
	while (!x->stop && (json_array_size(x->findings) >= WAITING_MAX || x->waiting_bytes >= WAITING_BYTES))
		pthread_cond_wait(&x->taken, &x->lock);
	x->waiting_bytes += strlen(f->store) + (f->path ? strlen(f->path) : 0);
	json_array_append_new(x->findings, o);
	pthread_mutex_unlock(&x->lock);
}

static bool step(const struct check_counts *c, const char *finished, void *arg)
{
	struct fsck *x = arg;
	bool go_on;

	pthread_mutex_lock(&x->lock);
	x->counts = *c;
	if (finished && *finished) {
		free(x->finished);
		x->finished = strdup(finished);
	}
	go_on = !x->stop;
	pthread_mutex_unlock(&x->lock);
	return go_on;
}

static void *run(void *arg)
{
	struct fsck *x = arg;
	struct check_counts counts = x->counts;
	int r = store_check(x->store, &x->opt, &counts);

	pthread_mutex_lock(&x->lock);
	x->counts = counts;
	x->result = r;
	x->done = true;
	pthread_mutex_unlock(&x->lock);
	return NULL;
}

static void take_row(const uint8_t *row, struct check_recorded *ret)
{
	struct bytes_reader r;

	bytes_reader_init(&r, row, FSCK_ROW_BYTES);
	bytes_get(&r, ret->file.b, sizeof(ret->file.b));
	ret->version.time = bytes_get_u64(&r);
	ret->version.counter = bytes_get_u64(&r);
	ret->size = (int64_t)bytes_get_u64(&r);
	ret->time = (int64_t)bytes_get_u64(&r);
}

static int take_table(struct check_options *o, int fd)
{
	scoped(freep) uint8_t *rows = NULL;
	struct stat st;
	size_t got, n;
	int r;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < 0 || st.st_size > TABLE_MAX || st.st_size % FSCK_ROW_BYTES != 0)
		return -EINVAL;
	n = (size_t)st.st_size / FSCK_ROW_BYTES;
	if (n == 0)
		return 0;
	rows = malloc(n * FSCK_ROW_BYTES);
	o->recorded = calloc(n, sizeof(*o->recorded));
	if (!rows || !o->recorded)
		return -ENOMEM;
	r = backing_read(fd, rows, n * FSCK_ROW_BYTES, 0, &got);
	if (r < 0 || got != n * FSCK_ROW_BYTES)
		return r < 0 ? r : -EINVAL;
	for (; o->recorded_n < n; o->recorded_n++)
		take_row(rows + o->recorded_n * FSCK_ROW_BYTES, &o->recorded[o->recorded_n]);
	return 0;
}

static int take_counts(struct check_counts *c, json_t *o)
{
	json_int_t directories = 0, files = 0, bytes = 0, damaged = 0, leftovers = 0, repaired = 0, isolated = 0,
		   accepted = 0, destroyed = 0;

	if (json_unpack(o, "{s?I,s?I,s?I,s?I,s?I,s?I,s?I,s?I,s?I}", "directories", &directories, "files", &files, "bytes",
		    &bytes, "damaged", &damaged, "leftovers", &leftovers, "repaired", &repaired, "isolated",
		    &isolated, "accepted", &accepted, "destroyed", &destroyed) < 0)
		return -EINVAL;
	*c = (struct check_counts){.directories = (uint64_t)directories,
		.files = (uint64_t)files,
		.bytes = (uint64_t)bytes,
		.damaged = (uint64_t)damaged,
		.leftovers = (uint64_t)leftovers,
		.repaired = (uint64_t)repaired,
		.isolated = (uint64_t)isolated,
		.accepted = (uint64_t)accepted,
		.destroyed = (uint64_t)destroyed};
	return 0;
}

static void fsck_free(struct fsck *x)
{
	json_decref(x->findings);
	pthread_mutex_destroy(&x->lock);
	pthread_cond_destroy(&x->taken);
	free(x->opt.recorded);
	free(x->only);
	free(x->after);
	free(x->today);
	free(x->finished);
	free(x);
}
DEFINE_SCOPED(struct fsck *, fsck_free)

/* The texts belong to params. */
static int take_params(struct fsck *x, json_t *params)
{
	const char *only = NULL, *after = NULL, *today;
	int repair, isolate, accept, names, sweep_due = 0;
	json_t *counts = NULL;
	json_int_t at;

	if (json_unpack(params, "{s:b,s:b,s:b,s:b,s:s,s:I,s?s,s?s,s?o,s?b}", "repair", &repair, "isolate", &isolate,
		    "accept", &accept, "names", &names, "today", &today, "recorded_at", &at, "only", &only,
		    "after", &after, "counts", &counts, "sweep_due", &sweep_due) < 0)
		return -EINVAL;
	x->opt.repair = repair;
	x->opt.isolate = isolate;
	x->opt.accept = accept;
	x->opt.sweep_due = sweep_due;
	x->opt.recorded_at = at;
	x->show_names = x->opt.by_name = names;
	x->today = strdup(today);
	x->only = only ? strdup(only) : NULL;
	x->after = after && *after ? strdup(after) : NULL;
	x->opt.only = x->only;
	x->opt.after = x->after;
	x->opt.today = x->today;
	if (!x->today || (only && !x->only))
		return -ENOMEM;
	return counts ? take_counts(&x->counts, counts) : 0;
}

int fsck_start(struct worker *w, json_t *params, int table_fd, struct fsck **ret)
{
	scoped(fsck_freep) struct fsck *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return -ENOMEM;
	pthread_mutex_init(&x->lock, NULL);
	pthread_cond_init(&x->taken, NULL);
	x->store = w->store;
	x->findings = json_array();
	x->opt.names = &w->names;
	x->opt.found = found;
	x->opt.step = step;
	x->opt.arg = x;
	r = take_params(x, params);
	if (r == 0)
		r = take_table(&x->opt, table_fd);
	if (r == 0)
		r = thread_start(&x->thread, run, x);
	if (r < 0)
		return r;
	*ret = take_ptr(&x);
	return 0;
}

static const char *error_text(int r)
{
	return r == -ENOENT ? "there is no such file or directory in the share" : strerror(-r);
}

json_t *fsck_next(struct fsck *x)
{
	const struct check_counts *c = &x->counts;
	json_t *o;

	pthread_mutex_lock(&x->lock);
	o = json_pack("{s:s, s:s?, s:s?, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}}", "state",
		!x->done         ? "checking"
		: x->result == 0 ? "done"
				 : "failed",
		"error", x->done && x->result < 0 ? error_text(x->result) : NULL, "finished", x->finished,
		"findings", x->findings, "counts", "directories", (json_int_t)c->directories, "files",
		(json_int_t)c->files, "bytes", (json_int_t)c->bytes, "total", (json_int_t)c->total, "damaged",
		(json_int_t)c->damaged, "leftovers", (json_int_t)c->leftovers, "repaired",
		(json_int_t)c->repaired, "isolated", (json_int_t)c->isolated, "accepted",
		(json_int_t)c->accepted, "destroyed", (json_int_t)c->destroyed);
	x->findings = json_array();
	x->waiting_bytes = 0;
	pthread_cond_signal(&x->taken);
	pthread_mutex_unlock(&x->lock);
	return o;
}

void fsck_stop(struct fsck *x)
{
	if (!x)
		return;
	pthread_mutex_lock(&x->lock);
	x->stop = true;
	pthread_cond_signal(&x->taken);
	pthread_mutex_unlock(&x->lock);
	pthread_join(x->thread, NULL);
	fsck_free(x);
}
