#include "fs/worker/survey_job.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/scope.h"
#include "common/subject.h"
#include "common/thread.h"
#include "fs/store/backing.h"
#include "fs/store/survey.h"
#include "fs/store/store_impl.h"
#include "fs/store/sweep.h"
#include "fs/worker/notify.h"
#include "fs/worker/inode.h"
#include "fs/worker/resolve.h"
#include "fs/worker/worker.h"

#define LEAVES_MAX (64u << 20) /* bytes of a list that is given */

enum batch { BATCH_NONE, BATCH_READY, BATCH_GIVEN, BATCH_NOTED };

struct survey_job {
	struct worker *worker;
	bool sweep; /* instead; root_fd < 0: beside sessions, what the worker's keys do not open */
	int root_fd;
	pthread_t thread;
	json_t *params; /* the texts below belong to it */
	struct survey_options opt;
	char **keep;
	struct file_id *keep_ids, *keep_dirs;
	uint64_t *keep_lines;
	uint16_t *keep_classes;

	pthread_mutex_t lock; /* a leaf; of what follows */
	pthread_cond_t moved_on;
	enum batch batch;
	json_t *leaves;
	bool leaving; /* what `leaves` is */
	struct survey_counts counts;
	struct sweep_counts swept;
	FILE *out; /* SUBJECT: a line for each */
	bool names;
	char *store;
	bool stop, done;
	int result;
};

static int give(struct survey_job *j, const uint64_t *leaves, size_t n, bool leaving)
{
	json_t *list = json_array();
	char hex[17];
	int r;

	for (size_t i = 0; i < n; i++) {
		snprintf(hex, sizeof(hex), "%016" PRIx64, leaves[i]);
		json_array_append_new(list, json_string(hex));
	}
	pthread_mutex_lock(&j->lock);
	json_decref(j->leaves);
	j->leaves = list;
	j->leaving = leaving;
	j->batch = BATCH_READY;
	while (!j->stop && j->batch != BATCH_NOTED)
		pthread_cond_wait(&j->moved_on, &j->lock);
	r = j->batch == BATCH_NOTED ? 0 : -ECANCELED;
	j->batch = BATCH_NONE;
	pthread_mutex_unlock(&j->lock);
	return r;
}

static int hand_out(const uint64_t *leaves, size_t n, void *arg)
{
	return give(arg, leaves, n, false);
}

static int leaving(const uint64_t *leaves, size_t n, void *arg)
{
	return give(arg, leaves, n, true);
}

static bool step(const struct survey_counts *c, void *arg)
{
	struct survey_job *j = arg;
	bool go_on;

	pthread_mutex_lock(&j->lock);
	j->counts = *c;
	go_on = !j->stop;
	pthread_mutex_unlock(&j->lock);
	return go_on;
}

static bool sweep_step(const struct sweep_counts *c, void *arg)
{
	struct survey_job *j = arg;
	bool go_on;

	pthread_mutex_lock(&j->lock);
	j->swept = *c;
	go_on = !j->stop;
	pthread_mutex_unlock(&j->lock);
	return go_on;
}

static void gone(const struct stat *was, void *arg)
{
	struct survey_job *j = arg;

	inode_number_gone(j->worker->inodes, was);
}

static void *run_sweep(void *arg)
{
	struct survey_job *j = arg;
	bool alive = j->root_fd < 0;
	const struct sweep_options o = {.tree = alive ? j->worker->store->tree : NULL,
		.names = alive ? &j->worker->names : NULL,
		.step = sweep_step,
		.gone = alive ? gone : NULL,
		.arg = j};
	struct sweep_counts counts = {0};
	int r;

	r = store_sweep(alive ? j->worker->store->root_fd : j->root_fd, &o, &counts);

	if (alive && counts.files + counts.links + counts.directories > 0)
		notify_all(j->worker);
	pthread_mutex_lock(&j->lock);
	j->swept = counts;
	j->result = r;
	j->done = true;
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

/* A path that is no UTF-8 goes as the bytes it has. */
static void put_path(json_t *o, const char *key, const char *path)
{
	json_t *text = json_string(path);
	scoped(freep) char *hex = NULL;
	size_t n = strlen(path);

	if (!text) {
		hex = malloc(2 * n + 1);
		text = hex ? json_pack("{s:s}", "hex", sodium_bin2hex(hex, 2 * n + 1, (const uint8_t *)path, n)) : NULL;
	}
	json_object_set_new(o, key, text ? text : json_null());
}

static int found(const struct survey_found *f, void *arg)
{
	struct survey_job *j = arg;
	json_t *o = json_pack("{s:s#, s:b, s:b, s:b}", "kind", &f->kind, (size_t)1, "own", f->own, "shared", f->shared,
		"held", f->held);
	int r;

	if (!o)
		return -ENOMEM;
	if (j->names)
		put_path(o, "path", f->path);
	json_object_set_new(o, "store", json_string(f->store));
	json_object_set_new(o, "size", json_integer(f->kind == 'f' ? (json_int_t)f->st->st_size : 0));
	json_object_set_new(o, "modified", json_integer((json_int_t)f->st->st_mtim.tv_sec));
	r = json_dumpf(o, j->out, JSON_COMPACT) == 0 && fputc('\n', j->out) != EOF ? 0 : -EIO;
	json_decref(o);
	return r;
}

static int labelled(char kind, const struct subjects *s, void *arg)
{
	struct survey_job *j = arg;
	json_t *list = json_array(), *o = json_pack("{s:s#, s:o}", "kind", &kind, (size_t)1, "subjects", list);
	const char *id;
	size_t at = 0, n;
	int r;

	while (subjects_next(s, &at, &id, &n))
		json_array_append_new(list, json_stringn(id, n));
	r = o && json_dumpf(o, j->out, JSON_COMPACT) == 0 && fputc('\n', j->out) != EOF ? 0 : -EIO;
	json_decref(o);
	return r;
}

static void relabelled(void *arg)
{
	struct survey_job *j = arg;

	resolve_dirs_drop(j->worker->resolver);
}

static void replaced(const struct stat *was, const struct stat *now, void *arg)
{
	struct survey_job *j = arg;

	inode_renumber(j->worker->inodes, was, now);
}

static void *run(void *arg)
{
	struct survey_job *j = arg;
	struct survey_counts counts = {0};
	char *store = NULL;
	int r = store_survey(j->worker->store, &j->opt, &counts, &store);

	if (j->out && fflush(j->out) != 0 && r == 0)
		r = -EIO;

	pthread_mutex_lock(&j->lock);
	j->counts = counts;
	j->store = store;
	j->result = r;
	j->done = true;
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

static int take_leaves(struct survey_options *o, int fd)
{
	struct bytes_reader r;
	scoped(freep) uint8_t *bytes = NULL;
	struct stat st;
	size_t n;
	int k;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < 0 || st.st_size > LEAVES_MAX || st.st_size % 8 != 0)
		return -EINVAL;
	bytes = malloc((size_t)st.st_size + 1);
	o->leaves = calloc((size_t)st.st_size / 8 + 1, 8);
	if (!bytes || !o->leaves)
		return -ENOMEM;
	k = backing_read(fd, bytes, (size_t)st.st_size, 0, &n);
	if (k < 0 || n != (size_t)st.st_size)
		return k < 0 ? k : -EINVAL;
	bytes_reader_init(&r, bytes, n);
	for (; o->leaves_n < n / 8; o->leaves_n++)
		o->leaves[o->leaves_n] = bytes_get_u64(&r);
	return 0;
}

/* Where the lines go: keyd's, in memory. */
static int take_list(struct survey_job *j, int fd)
{
	scoped(close_fdp) int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (own < 0)
		return -errno;
	j->out = fdopen(own, "w");
	if (!j->out)
		return -errno;
	own = -1;
	j->opt.found = found;
	j->opt.labelled = labelled;
	return 0;
}

bool survey_job_line(const json_t *v, uint64_t *ret)
{
	const char *text = json_string_value(v);

	if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
		return false;
	*ret = strtoull(text, NULL, 16);
	return true;
}

static int mode_of(const char *text, enum survey_mode *ret)
{
	static const char *const names[] = {[SURVEY_FIND] = "find",
		[SURVEY_LOOK] = "look",
		[SURVEY_CLASS] = "class",
		[SURVEY_MOVE] = "move",
		[SURVEY_ERASE] = "erase",
		[SURVEY_CHECK] = "check",
		[SURVEY_DUE] = "due",
		[SURVEY_SUBJECT] = "subject",
		[SURVEY_LABELS] = "labels"};

	for (size_t i = SURVEY_FIND; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(names[i], text) == 0) {
			*ret = (enum survey_mode)i;
			return 0;
		}
	return -EINVAL;
}

static int take_ids(json_t *ids, struct file_id **ret, size_t *ret_n)
{
	const char *text;
	json_t *v;
	size_t i, n;

	*ret = calloc(json_array_size(ids) + 1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	json_array_foreach(ids, i, v)
	{
		text = json_string_value(v);
		if (!text || sodium_hex2bin((*ret)[i].b, FILE_ID_BYTES, text, strlen(text), NULL, &n, NULL) < 0 ||
			n != FILE_ID_BYTES)
			return -EINVAL;
	}
	*ret_n = json_array_size(ids);
	return 0;
}

static int take_lines(struct survey_job *j, json_t *lines, json_t *classes)
{
	json_t *v;
	size_t i;

	j->keep_lines = calloc(json_array_size(lines) + 1, sizeof(*j->keep_lines));
	j->keep_classes = calloc(json_array_size(classes) + 1, sizeof(*j->keep_classes));
	if (!j->keep_lines || !j->keep_classes)
		return -ENOMEM;
	json_array_foreach(lines, i, v)
	{
		if (!survey_job_line(v, &j->keep_lines[i]))
			return -EINVAL;
	}
	json_array_foreach(classes, i, v)
	{
		j->keep_classes[i] = (uint16_t)json_integer_value(v);
	}
	j->opt.keep_lines = j->keep_lines;
	j->opt.keep_lines_n = json_array_size(lines);
	j->opt.keep_classes = j->keep_classes;
	j->opt.keep_classes_n = json_array_size(classes);
	return 0;
}

/* {files, directories, classes} on hold. */
static int take_held(struct survey_job *j, json_t *held)
{
	int r = take_ids(json_object_get(held, "directories"), &j->keep_dirs, &j->opt.keep_dirs_n);

	j->opt.keep_dirs = j->keep_dirs;
	return r < 0 ? r : take_lines(j, json_object_get(held, "files"), json_object_get(held, "classes"));
}

static int take_keep(struct survey_job *j, json_t *paths, json_t *ids)
{
	json_t *v;
	size_t i;
	int r = take_ids(ids, &j->keep_ids, &j->opt.keep_ids_n);

	j->keep = calloc(json_array_size(paths) + 1, sizeof(*j->keep));
	if (r < 0 || !j->keep)
		return r < 0 ? r : -ENOMEM;
	j->opt.keep = j->keep;
	j->opt.keep_ids = j->keep_ids;
	json_array_foreach(paths, i, v)
	{
		j->keep[j->opt.keep_n] = (char *)json_string_value(v);
		if (!j->keep[j->opt.keep_n++])
			return -EINVAL;
	}
	return 0;
}

static int take_params(struct survey_job *j)
{
	int by_name = 0, class = 0, before = 0, keep_class = 0, shared = 0;
	json_int_t since = INT64_MAX;
	json_t *paths = NULL, *ids = NULL, *held = NULL;
	int r;
	const char *mode, *only = NULL, *subject = NULL;

	j->sweep = json_object_size(j->params) == 1 && json_unpack(j->params, "{s:s}", "mode", &mode) == 0 &&
		   strcmp(mode, "sweep") == 0;
	if (j->sweep)
		return 0;
	if (json_unpack_ex(j->params, NULL, JSON_STRICT, "{s:s, s?s, s?b, s?i, s?i, s?I, s?o, s?o, s?i, s?o, s?s, s?b}",
		    "mode", &mode, "only", &only, "names", &by_name, "class", &class, "before", &before,
		    "modified_since", &since, "keep", &paths, "keep_ids", &ids, "keep_class",
		    &keep_class, "held", &held, "subject", &subject, "shared", &shared) < 0 ||
		mode_of(mode, &j->opt.mode) < 0 || class < 0 || class > UINT16_MAX || before < 0 ||
		before > UINT16_MAX || keep_class < 0 || keep_class > UINT16_MAX)
		return -EINVAL;
	if ((j->opt.mode == SURVEY_CLASS || j->opt.mode == SURVEY_MOVE || j->opt.mode == SURVEY_DUE) && class < CLASS_FIRST_POLICY)
		return -EINVAL;
	if ((j->opt.mode == SURVEY_SUBJECT && !subject) || (j->opt.mode == SURVEY_LABELS && only) ||
		(subject && (!subject_id_ok(subject, strlen(subject)) || only ||
				    (j->opt.mode != SURVEY_SUBJECT && j->opt.mode != SURVEY_ERASE))))
		return -EINVAL;
	j->opt.only = only;
	j->opt.subject = subject;
	j->opt.shared = shared;
	j->names = by_name;
	j->opt.by_name = by_name;
	j->opt.class = (uint16_t) class;
	j->opt.before = (uint16_t)before;
	j->opt.modified_since = since;
	j->opt.keep_class = (uint16_t)keep_class;
	r = take_keep(j, paths, ids);
	return r < 0 ? r : take_held(j, held);
}

static void job_free(struct survey_job *j)
{
	json_decref(j->params);
	json_decref(j->leaves);
	pthread_mutex_destroy(&j->lock);
	pthread_cond_destroy(&j->moved_on);
	if (j->out)
		fclose(j->out);
	free(j->opt.leaves);
	free(j->keep);
	free(j->keep_ids);
	free(j->keep_dirs);
	free(j->keep_lines);
	free(j->keep_classes);
	free(j->store);
	free(j);
}
DEFINE_SCOPED(struct survey_job *, job_free)

int survey_job_start(struct worker *w, json_t *params, int leaves_fd, struct survey_job **ret)
{
	scoped(job_freep) struct survey_job *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->moved_on, NULL);
	j->worker = w;
	j->root_fd = -1;
	j->params = json_incref(params);
	j->opt.names = &w->names;
	j->opt.hand_out = hand_out;
	j->opt.leaving = leaving;
	j->opt.step = step;
	j->opt.relabelled = relabelled;
	j->opt.replaced = replaced;
	j->opt.arg = j;
	r = take_params(j);
	if (r == 0)
		r = j->opt.mode == SURVEY_SUBJECT || j->opt.mode == SURVEY_LABELS ? take_list(j, leaves_fd) : take_leaves(&j->opt, leaves_fd);
	if (r == 0)
		r = thread_start(&j->thread, j->sweep ? run_sweep : run, j);
	if (r < 0)
		return r;
	*ret = take_ptr(&j);
	return 0;
}

int survey_job_sweep_dead(int root_fd, struct survey_job **ret)
{
	scoped(job_freep) struct survey_job *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->moved_on, NULL);
	j->root_fd = root_fd;
	j->sweep = true;
	r = thread_start(&j->thread, run_sweep, j);
	if (r < 0)
		return r;
	*ret = take_ptr(&j);
	return 0;
}

static json_t *swept_json(const struct sweep_counts *c)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "files", (json_int_t)c->files, "links",
		(json_int_t)c->links, "directories", (json_int_t)c->directories, "others",
		(json_int_t)c->others, "bytes", (json_int_t)c->bytes, "kept", (json_int_t)c->kept, "failed",
		(json_int_t)c->failed);
}

/* How what a path names is known again. */
static void add_found(json_t *o, const struct survey_counts *c)
{
	char hex[2 * sizeof(c->dir_id) + 1];

	if (c->kind == 'd') {
		sodium_bin2hex(hex, sizeof(hex), c->dir_id, sizeof(c->dir_id));
		json_object_set_new(o, "directory", json_string(hex));
	} else if (c->kind == 'f') {
		snprintf(hex, sizeof(hex), "%016" PRIx64, c->line);
		json_object_set_new(o, "file", json_string(hex));
	} else if (c->kind) {
		json_object_set_new(o, "other", json_string(c->kind == 'l' ? "symlink" : "empty"));
	}
}

static json_t *counts_json(const struct survey_counts *c)
{
	json_t *classes = json_array(), *o;

	for (size_t i = 0; i < c->classes_n; i++)
		json_array_append_new(classes,
			json_pack("{s:i, s:I, s:I}", "class", (int)c->classes[i].class, "files",
				(json_int_t)c->classes[i].files, "bytes", (json_int_t)c->classes[i].bytes));
	o = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "directories", (json_int_t)c->directories,
		"files", (json_int_t)c->files, "links", (json_int_t)c->links, "bytes", (json_int_t)c->bytes,
		"empty", (json_int_t)c->empty, "damaged", (json_int_t)c->damaged, "destroyed",
		(json_int_t)c->destroyed);
	json_object_set_new(o, "rewrapped", json_integer((json_int_t)c->rewrapped));
	json_object_set_new(o, "failed", json_integer((json_int_t)c->failed));
	json_object_set_new(o, "dying", json_integer((json_int_t)c->dying));
	json_object_set_new(o, "leaves", json_integer((json_int_t)c->leaves));
	json_object_set_new(o, "other_names", json_integer((json_int_t)c->other_names));
	json_object_set_new(o, "class", json_integer(c->class));
	json_object_set_new(o, "labelled", json_boolean(c->labelled));
	json_object_set_new(o, "moved", json_boolean(c->moved));
	json_object_set_new(o, "held", json_integer((json_int_t)c->held));
	json_object_set_new(o, "about", json_integer((json_int_t)c->about));
	json_object_set_new(o, "about_bytes", json_integer((json_int_t)c->about_bytes));
	json_object_set_new(o, "shared", json_integer((json_int_t)c->shared));
	json_object_set_new(o, "unclear", json_integer((json_int_t)c->unclear));
	add_found(o, c);
	if (c->oldest_day != UINT16_MAX) {
		json_object_set_new(o, "oldest_day", json_integer(c->oldest_day));
		json_object_set_new(o, "oldest_change", json_integer(c->oldest_change));
	}
	json_object_set_new(o, "classes", classes);
	return o;
}

static const char *error_text(int r)
{
	return r == -ENOENT    ? "there is no such file or directory in the share"
	       : r == -EDEADLK ? "two directories have the same key"
			       : strerror(-r);
}

json_t *survey_job_next(struct survey_job *j)
{
	json_t *o, *leaves;

	pthread_mutex_lock(&j->lock);
	if (j->batch == BATCH_GIVEN) {
		j->batch = BATCH_NOTED;
		pthread_cond_signal(&j->moved_on);
	}
	leaves = j->batch == BATCH_READY ? json_incref(j->leaves) : json_array();
	if (j->batch == BATCH_READY)
		j->batch = BATCH_GIVEN;
	o = json_pack("{s:s, s:s?, s:i, s:o, s:o, s:s?}", "state",
		!j->done         ? "running"
		: j->result == 0 ? "done"
				 : "failed",
		"error", j->done && j->result < 0 ? error_text(j->result) : NULL, "errno",
		j->done ? -j->result : 0, j->leaving ? "leaving" : "leaves", leaves, "counts",
		j->sweep ? swept_json(&j->swept) : counts_json(&j->counts), "store", j->store);
	pthread_mutex_unlock(&j->lock);
	return o;
}

void survey_job_stop(struct survey_job *j)
{
	if (!j)
		return;
	pthread_mutex_lock(&j->lock);
	j->stop = true;
	pthread_cond_signal(&j->moved_on);
	pthread_mutex_unlock(&j->lock);
	pthread_join(j->thread, NULL);
	job_free(j);
}
