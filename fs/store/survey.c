/* The walk of a survey: where it begins, directories, and in which order all is done. */
#include "fs/store/survey.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "fs/store/survey_impl.h"

/* ---- directories ---- */

static void count(struct survey *v, const struct item *i, int r)
{
	struct survey_counts *c = v->counts;

	if (v->second || v->linking)
		return;
	c->directories += i->kind == 'd' && r == 0;
	c->files += i->kind == 'f';
	c->links += i->kind == 'l';
	if (i->kind == 'f')
		c->bytes += (uint64_t)i->st.st_size;
	c->empty += r == -ENODATA && i->kind == 'f';
	c->destroyed += r == -ENOKEY;
	c->damaged += r == -EBADMSG;
}

static void pop(struct survey *v)
{
	struct frame *f = v->top;

	v->top = f->up;
	closedir(f->entries);
	store_dir_unref(f->dir);
	free(f->entry);
	free(f->name);
	free(f);
}

/* How what is in it is called. */
static int name_frame(const struct survey *v, struct frame *f, const struct item *i)
{
	char name[NAME_MAX_BYTES + 1];

	if (!v->opt->found || !i->dir || !i->entry)
		return 0;
	if (dir_entry_name(i->dir, i->entry, name) < 0)
		snprintf(name, sizeof(name), "?");
	f->entry = strdup(i->entry);
	f->name = strdup(name);
	return f->entry && f->name ? 0 : -ENOMEM;
}

/* Takes d. */
static int push(struct survey *v, struct store_dir *d, const struct item *i)
{
	struct frame *f = calloc(1, sizeof(*f));
	int fd = f ? openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0)
		f->entries = fdopendir(fd);
	if (!f || !f->entries) {
		int r = f ? -errno : -ENOMEM;

		close_fdp(&fd);
		free(f);
		store_dir_unref(d);
		return r;
	}
	f->dir = d;
	f->kept = i->kept;
	f->whole = i->chosen;
	f->self = (struct known){.leaf = leaf_index_u64(i->leaf), .kind = 'd', .ino = i->st.st_ino};
	memcpy(f->self.id, i->id, sizeof(f->self.id));
	f->up = v->top;
	v->top = f;
	return name_frame(v, f, i);
}

/* Its own label goes where the whole tree gets a class. */
static int label(struct survey *v, struct store_dir *d, bool top)
{
	bool labelled;
	int r = 0;

	if (v->opt->mode != SURVEY_CLASS)
		return 0;
	pthread_rwlock_wrlock(v->opt->names);
	(void)store_dir_class(d, &labelled);
	if (top)
		r = store_dir_set_class(d, v->opt->class);
	else if (labelled)
		r = store_dir_set_class(d, STORE_CLASS_NONE);
	if (r == 0)
		atomic_store(&d->class, v->opt->class);
	if ((top || labelled) && v->opt->relabelled)
		v->opt->relabelled(v->opt->arg);
	pthread_rwlock_unlock(v->opt->names);
	return r < 0 ? r : top || labelled ? store_dir_sync(d) : 0;
}

static int open_dir(struct survey *v, struct item *i, struct store_dir **ret)
{
	bool loose;
	int r;

	pthread_rwlock_rdlock(v->opt->names);
	r = dir_look_entry(i->dir, i->entry, ret, &loose);
	pthread_rwlock_unlock(v->opt->names);
	return r;
}

static int enter(struct survey *v, struct store_dir *d, struct item *i)
{
	int r;

	i->leaf = d->id.leaf;
	place_dir_bytes(&d->id, i->id);
	i->kept |= survey_is_kept_dir(v, i->id);
	if (v->opt->mode == SURVEY_LABELS)
		survey_labels_dir(v, d);
	if (v->opt->subject) {
		i->whose = survey_whose_dir(v, d);
		i->own = subjects_has(d->own, v->opt->subject, strlen(v->opt->subject));
	}
	if (i->top)
		v->counts->class = store_dir_class(d, &v->counts->labelled);
	r = survey_act_on(v, i);
	if (r == 0)
		r = label(v, d, i->top);
	if (r < 0) {
		store_dir_unref(d);
		return r;
	}
	return push(v, d, i);
}

/* An empty file that a session has open learns what its header is to say.  True: it has one by now. */
static bool tell_open(struct survey *v, const struct item *i)
{
	struct file *f = file_find(v->store, i->st.st_ino);
	bool has = false;

	if (!f)
		return false;
	pthread_rwlock_wrlock(&f->lock);
	has = f->has_header;
	if (!has)
		f->h.rec.origin_class = v->opt->class;
	pthread_rwlock_unlock(&f->lock);
	file_close(f);
	return has;
}

static int visit(struct survey *v, struct item *i)
{
	struct store_dir *d = NULL;
	int r;

	pthread_rwlock_rdlock(v->opt->names);
	r = survey_look(v, i);
	pthread_rwlock_unlock(v->opt->names);
	if (r == -ENOENT || r == -ELOOP)
		return 0; /* gone meanwhile */
	if (v->second && i->kind == 'd' && i->st.st_ino == v->only_ino)
		return 0; /* what is to be erased itself */
	if (r == 0 && i->kind == 'd')
		r = open_dir(v, i, &d);
	count(v, i, r);
	if (v->opt->subject && (r == -EBADMSG || (r < 0 && r != -ENODATA && r != -ENOKEY)))
		survey_stays(v);
	if (d)
		return enter(v, d, i);
	if (r == 0 && i->top)
		v->counts->class = i->class;
	if (r == 0 && i->kind != 'd')
		return survey_act_on(v, i);
	if (r == -ENODATA && i->kind == 'f' && v->opt->mode == SURVEY_SUBJECT && !v->linking)
		return survey_tell(v, i);
	if (r == -ENODATA && i->kind == 'f' && v->opt->mode == SURVEY_CLASS)
		return tell_open(v, i) ? visit(v, i) : 0;
	if (r == 0 || r == -ENODATA || r == -ENOKEY || r == -EBADMSG)
		return 0;
	return r == -ENOMEM ? r : (v->counts->failed++, 0);
}

static int walk(struct survey *v, const struct frame *base)
{
	const struct dirent *e;
	int r = 0;

	while (r == 0 && v->top != base) {
		e = readdir(v->top->entries);
		if (!e) {
			r = survey_leave(v);
			pop(v);
		} else if (e->d_name[0] != '.') {
			struct item i = {.dir = v->top->dir, .entry = e->d_name, .kept = v->top->kept};

			r = visit(v, &i);
		}
		if (r == 0 && !v->opt->step(v->counts, v->opt->arg))
			r = -ECANCELED;
	}
	return r;
}

/* ---- where it begins ---- */

static void note_kept(struct survey *v, const struct store_dir *d)
{
	uint8_t id[DIR_ID_BYTES];

	place_dir_bytes(&d->id, id);
	v->below_kept |= survey_is_kept_dir(v, id);
}

/* The directory and the entry that a path names; the entry is "" for the share itself. */
static int find(
	struct survey *v, const char *path, struct store_dir **ret, char entry[NAME_MAX_BYTES + 1], FILE *at)
{
	scoped(freep) char *copy = strdup(path);
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	char *part, *next, *save = NULL;
	bool loose;
	int r = copy ? store_dir_root(v->store, &d) : -ENOMEM;

	entry[0] = 0;
	part = r == 0 ? strtok_r(copy, "/", &save) : NULL;
	v->below_kept = false;
	if (r == 0)
		note_kept(v, d);
	for (; r == 0 && part; part = next) {
		struct store_dir *sub = NULL;

		next = strtok_r(NULL, "/", &save);
		r = check_find_entry(d, part, v->opt->by_name, entry);
		if (r == 0 && at)
			fprintf(at, "%s%s", ftell(at) > 0 ? "/" : "", entry);
		if (r < 0 || !next)
			continue;
		r = dir_look_entry(d, entry, &sub, &loose);
		if (r == 0 && !sub)
			r = -ENOENT;
		store_dir_unref(d);
		d = sub;
		if (d)
			note_kept(v, d);
	}
	if (r == 0)
		*ret = take_ptr(&d);
	return r == -ENOTDIR || r == -ELOOP ? -ENOENT : r;
}

static int find_kept(struct survey *v)
{
	char entry[NAME_MAX_BYTES + 1];
	struct store_dir *d = NULL;
	struct stat st;
	int r;

	v->keep = calloc(v->opt->keep_n + 1, sizeof(*v->keep));
	if (!v->keep)
		return -ENOMEM;
	for (size_t k = 0; k < v->opt->keep_n; k++) {
		r = find(v, v->opt->keep[k], &d, entry, NULL);
		if (r == -ENOENT)
			continue; /* it is not there (any more): nothing to be saved */
		if (r < 0)
			return r;
		if (fstatat(d->fd, entry, &st, entry[0] ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH) == 0)
			v->keep[k] = st.st_ino;
		store_dir_unref(d);
	}
	return 0;
}

static int walk_root(struct survey *v)
{
	struct item i = {.kind = 'd', .top = true};
	struct store_dir *d;
	int r = store_dir_root(v->store, &d);

	if (r < 0)
		return r;
	if (fstat(d->fd, &i.st) < 0)
		i.st.st_ino = 0;
	for (size_t k = 0; k < v->opt->keep_n; k++)
		i.kept |= v->keep[k] == i.st.st_ino;
	count(v, &i, 0);
	r = enter(v, d, &i);
	return r < 0 ? r : walk(v, NULL);
}

/* An empty file that is given a class of its own gets its header for it. */
static int give_header(struct survey *v, const struct item *i)
{
	const struct rewrap to = {v->opt->class, 0, v->opt->class};
	struct file *f;
	int r;

	pthread_rwlock_wrlock(v->opt->names);
	r = file_open_entry(i->dir, i->entry, &f);
	if (r == 0) {
		r = file_rewrap(f, &to);
		pthread_rwlock_wrlock(&f->lock);
		if (r == 0)
			r = file_need_header(f, 0);
		pthread_rwlock_unlock(&f->lock);
		if (r == 0)
			r = file_wait(f, true);
		file_close(f);
	}
	pthread_rwlock_unlock(v->opt->names);
	return r;
}

static int found_dir(struct survey *v, struct item *i)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	bool loose;
	int r = 0;

	if (i->entry[0])
		r = dir_look_entry(i->dir, i->entry, &d, &loose);
	if (r == 0 && (d || !i->entry[0])) {
		v->counts->kind = 'd';
		place_dir_bytes(d ? &d->id : &i->dir->id, v->counts->dir_id);
	}
	return r == -EBADMSG || r == -ENOKEY ? 0 : r;
}

/* What stands there, and how it is known again under another name. */
static int tell_found(struct survey *v, struct store_dir *d, const char *entry)
{
	struct item i = {.dir = d, .entry = entry, .kind = 'd'};
	int r = 0;

	pthread_rwlock_rdlock(v->opt->names);
	if (entry[0])
		r = survey_look(v, &i);
	if (r == -ENODATA && i.kind == 'f')
		v->counts->kind = 'e';
	else if (r == 0 && i.kind == 'd')
		r = found_dir(v, &i);
	else if (r == 0) {
		v->counts->kind = i.kind;
		v->counts->line = i.line;
	}
	pthread_rwlock_unlock(v->opt->names);
	return r == -ENODATA || r == -EBADMSG || r == -ENOKEY ? 0 : r;
}

static int walk_only(struct survey *v, char **ret_store)
{
	char entry[NAME_MAX_BYTES + 1];
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	size_t n = 0;
	FILE *at = open_memstream(ret_store, &n);
	int r = at ? 0 : -ENOMEM;

	pthread_rwlock_rdlock(v->opt->names);
	if (r == 0)
		r = find(v, v->opt->only ? v->opt->only : "", &d, entry, at);
	pthread_rwlock_unlock(v->opt->names);
	if (at)
		fclose(at);
	if (r < 0)
		return r;
	if (v->opt->mode == SURVEY_FIND)
		return tell_found(v, d, entry);
	if (entry[0] == 0)
		return walk_root(v);
	struct item i = {.dir = d, .entry = entry, .top = true, .kept = v->below_kept};

	r = visit(v, &i);
	v->only_ino = i.st.st_ino;
	v->only_is_leaf = i.kind != 'd';
	if (r == 0 && v->opt->mode == SURVEY_CLASS && i.kind == 'f' && i.st.st_size == 0)
		r = give_header(v, &i);
	return r < 0 ? r : walk(v, NULL);
}

static int erase_others(struct survey *v)
{
	int r = 0;

	survey_sort_known(v);
	v->second = true;
	if (v->opt->subject || (v->opt->only && *v->opt->only))
		r = walk_root(v);
	if (v->counts->other_names > 0 && v->only_is_leaf)
		v->counts->other_names--; /* its own */
	if (r == 0)
		r = survey_flush_moves(v);
	for (size_t i = 0; r == 0 && i < v->known_n; i++)
		if (i == 0 || v->known[i].leaf != v->known[i - 1].leaf)
			r = survey_hand_out(v, v->known[i].leaf);
	return r;
}

/* What has several names is whose any of them is: so those are looked at before the first is judged by. */
static int look_for_linked(struct survey *v)
{
	int r;

	v->linking = true;
	r = walk_root(v);
	v->linking = false;
	survey_sort_linked(v);
	return r;
}

static int run(struct survey *v, char **ret_store)
{
	int r = find_kept(v);

	if (v->opt->mode == SURVEY_CHECK)
		survey_sort_leaves(v);
	if (r == 0 && v->opt->subject)
		r = look_for_linked(v);
	if (r == 0)
		r = walk_only(v, ret_store);
	if (r == 0)
		r = survey_flush_moves(v);
	if (r == 0 && v->opt->mode == SURVEY_ERASE)
		r = erase_others(v);
	return r < 0 ? r : survey_flush_out(v);
}

int store_survey(
	struct store *s, const struct survey_options *opt, struct survey_counts *ret, char **ret_store)
{
	struct survey v = {.store = s, .opt = opt, .counts = ret};
	unsigned long moves = atomic_load(&s->renames);
	scoped(freep) char *at = NULL;
	int r = -ENOMEM;

	ret->oldest_day = UINT16_MAX;
	v.out = calloc(SURVEY_HAND_OUT, sizeof(*v.out));
	v.moves = calloc(SURVEY_BATCH, sizeof(*v.moves));
	if (v.out && v.moves)
		r = run(&v, &at);
	ret->moved = atomic_load(&s->renames) != moves;
	while (v.top)
		pop(&v);
	survey_drop_moves(&v);
	free(v.moves);
	free(v.out);
	free(v.known);
	free(v.linked);
	subjects_free(v.labels);
	free(v.keep);
	if (r == 0 && ret_store)
		*ret_store = take_ptr(&at);
	return r;
}
