#include "fs/worker/waits.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/scope.h"
#include "fs/store/file_impl.h"
#include "fs/worker/handle.h"
#include "fs/worker/ops.h"
#include "fs/worker/resolve.h"
#include "fs/worker/survey_job.h"
#include "fs/worker/worker.h"

void waits_done(struct waits *w)
{
	free(w->classes);
	free(w->dirs);
	*w = (struct waits){0};
}
DEFINE_SCOPED(struct waits *, waits_done)

/* ---- what keyd says ---- */

static int take_classes(const json_t *list, struct waits *ret)
{
	json_int_t since;
	int class, before;
	json_t *v;
	size_t i;

	ret->classes = calloc(json_array_size(list) + 1, sizeof(*ret->classes));
	if (!ret->classes)
		return -ENOMEM;
	json_array_foreach((json_t *)list, i, v)
	{
		if (json_unpack(v, "{s:i, s:i, s:I}", "class", &class, "before", &before, "modified_since", &since) < 0 ||
			class < CLASS_FIRST_POLICY || class > UINT16_MAX || before < 0 || before > UINT16_MAX)
			return -EINVAL;
		ret->classes[ret->classes_n++] = (struct waiting_class){(uint16_t) class, (uint16_t)before, since};
	}
	return 0;
}

static int take_dirs(const json_t *list, struct waits *ret)
{
	const char *text;
	json_t *v;
	size_t i, n;

	ret->dirs = calloc(json_array_size(list) + 1, sizeof(*ret->dirs));
	if (!ret->dirs)
		return -ENOMEM;
	json_array_foreach((json_t *)list, i, v)
	{
		text = json_string_value(v);
		if (!text || sodium_hex2bin(ret->dirs[i].b, FILE_ID_BYTES, text, strlen(text), NULL, &n, NULL) < 0 ||
			n != FILE_ID_BYTES)
			return -EINVAL;
		ret->dirs_n++;
	}
	return 0;
}

static int take_lines(const json_t *list, uint64_t **ret)
{
	json_t *v;
	size_t i;

	*ret = calloc(json_array_size(list) + 1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	json_array_foreach((json_t *)list, i, v)
	{
		if (!survey_job_line(v, &(*ret)[i]))
			return -EINVAL;
	}
	return 0;
}

int waits_set(struct worker *w, const json_t *params)
{
	const json_t *files = json_object_get(params, "files");
	scoped(waits_donep) struct waits *old = NULL;
	scoped(freep) uint64_t *lines = NULL;
	struct waits next = {0}, was;
	int r = take_classes(json_object_get(params, "waiting"), &next);

	if (r == 0)
		r = take_dirs(json_object_get(params, "directories"), &next);
	if (r == 0)
		r = take_lines(files, &lines);
	if (r < 0) {
		waits_done(&next);
		return r;
	}
	pthread_rwlock_wrlock(&w->names);
	r = store_set_held(w->store, lines, json_array_size(files));
	was = r < 0 ? next : w->waits;
	if (r == 0)
		w->waits = next;
	pthread_rwlock_unlock(&w->names);
	old = &was;
	return r;
}

/* ---- one file ---- */

static bool is_held_dir(const struct waits *w, const struct store_dir *d)
{
	uint8_t id[DIR_ID_BYTES];

	place_dir_bytes(&d->id, id);
	for (size_t k = 0; k < w->dirs_n; k++)
		if (memcmp(w->dirs[k].b, id, sizeof(id)) == 0)
			return true;
	return false;
}

/* In a directory on hold, at any depth.  What cannot be told counts as not held: it stays closed, and is not harmed. */
static bool is_below_held(struct worker *w, struct inode *i)
{
	const struct dentry *e = w->waits.dirs_n > 0 ? inode_name(w->inodes, i) : NULL;

	for (; e; e = inode_name(w->inodes, e->parent)) {
		scoped(store_dir_unrefp) struct store_dir *d = NULL;

		if (resolve_dir(w->resolver, e->parent, &d) < 0)
			return false;
		if (is_held_dir(&w->waits, d))
			return true;
	}
	return false;
}

static const struct waiting_class *find_class(struct worker *w, struct file *f)
{
	uint16_t class, day;
	struct stat st;
	uint64_t line;

	pthread_rwlock_rdlock(&f->lock);
	class = f->h.rec.origin_class;
	day = f->h.rec.origin_day;
	line = header_line(&f->h);
	pthread_rwlock_unlock(&f->lock);
	for (size_t k = 0; k < w->waits.classes_n; k++) {
		const struct waiting_class *c = &w->waits.classes[k];

		if (c->class == class && day < c->before)
			return file_stat(f, &st) == 0 && st.st_mtim.tv_sec >= c->modified_since ? NULL
				: store_is_held(w->store, line) ? NULL
								: c;
	}
	return NULL;
}

int waits_check(struct session *s, uint64_t number, struct inode *i, struct file *f)
{
	struct worker *w = s->worker;
	const struct waiting_class *c;

	if (w->waits.classes_n == 0)
		return 0;
	c = find_class(w, f);
	if (!c || is_below_held(w, i))
		return 0;
	atomic_store(&s->waits_class, c->class);
	atomic_store(&s->waits_number, number);
	atomic_fetch_add(s->late ? &s->waits_used : &s->waits_refused, 1);
	session_tell(s);
	return s->late ? 0 : -EKEYEXPIRED;
}

json_t *waits_news(struct session *s)
{
	unsigned used = atomic_exchange(&s->waits_used, 0), refused = atomic_exchange(&s->waits_refused, 0);

	if (used + refused == 0)
		return NULL;
	return json_pack("{s:s, s:I, s:i, s:i, s:i}", "event", "waiting-opened", "session",
		(json_int_t)atomic_load(&s->waits_number), "class", (int)atomic_load(&s->waits_class), "used",
		(int)used, "refused", (int)refused);
}

static void close_waiting(struct session *s)
{
	struct worker *w = s->worker;
	struct handle **open = NULL;
	size_t n;

	n = handle_files(s->handles, &open);
	for (size_t k = 0; k < n; k++) {
		struct handle *h = open[k];
		bool waits;

		pthread_rwlock_rdlock(&w->names);
		waits = find_class(w, h->file) && !is_below_held(w, h->inode);
		pthread_rwlock_unlock(&w->names);
		if (waits) {
			handle_kill(s->handles, h);
			notify_self(s, h->inode);
		}
		ops_handle_put(s, h);
	}
	free(open);
}

void waits_close(struct session *s)
{
	if (s->late || s->worker->waits.classes_n == 0)
		return;
	pthread_mutex_lock(&s->visit);
	if (atomic_load(&s->state) == SESSION_SERVING) /* else nothing of it is readable, and its handles may be gone */
		close_waiting(s);
	pthread_mutex_unlock(&s->visit);
}
