#include "fs/store/survey.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "fs/store/backing.h"
#include "fs/store/check_impl.h"
#include "fs/store/survey_impl.h"

#define BATCH 128
#define HAND_OUT 4096

/* ---- what is handed out ---- */

static int flush_out(struct survey *v)
{
	size_t n = v->out_n;

	v->out_n = 0;
	v->counts->leaves += n;
	return n > 0 ? v->opt->hand_out(v->out, n, v->opt->arg) : 0;
}

static int hand_out(struct survey *v, uint64_t leaf)
{
	v->out[v->out_n++] = leaf;
	return v->out_n == HAND_OUT ? flush_out(v) : 0;
}

/* ---- what moves ---- */

static void move_done(struct move *m)
{
	file_close(m->file);
	store_dir_unref(m->dir);
}

/* So short that nobody waits; what must be on disk is waited for afterwards. */
static int move_one(struct survey *v, struct move *m)
{
	struct link_moved moved;
	int r;

	pthread_rwlock_wrlock(v->opt->names);
	r = m->file ? file_rewrap(m->file, &m->to) : link_rewrap(m->dir, m->entry, m->to.class, m->to.day, &moved);
	if (r == -ENOKEY && !m->file) {
		uint16_t today = (uint16_t)atomic_load(&v->store->today);

		r = link_rewrap(m->dir, m->entry, m->to.class, today < v->opt->before ? v->opt->before : today, &moved);
	}
	if (r == 0 && !m->file && v->opt->replaced)
		v->opt->replaced(&moved.was, &moved.now, v->opt->arg);
	pthread_rwlock_unlock(v->opt->names);
	return r;
}

static int flush_moves(struct survey *v)
{
	uint64_t old[BATCH];
	int r = 0, k;

	for (size_t i = 0; i < v->moves_n; i++)
		old[i] = v->moves[i].old;
	v->counts->leaves += v->moves_n;
	if (v->moves_n > 0)
		r = v->opt->leaving(old, v->moves_n, v->opt->arg);
	for (size_t i = 0; i < v->moves_n; i++) {
		struct move *m = &v->moves[i];

		k = r == 0 ? move_one(v, m) : -ECANCELED;
		if (k == 0)
			k = m->file ? file_wait(m->file, true) : store_dir_sync(m->dir);
		if (k == 0)
			v->counts->rewrapped++;
		else if (r == 0 && k != -ENOENT)
			v->counts->failed++;
		move_done(m);
	}
	v->moves_n = 0;
	return r;
}

/* The file is opened at once: so it is found again wherever it is renamed to. */
static int plan_move(struct survey *v, const struct item *i, const struct rewrap *to)
{
	struct move *m = &v->moves[v->moves_n];
	int r;

	*m = (struct move){.to = *to, .old = leaf_index_u64(i->leaf)};
	if (i->kind == 'f') {
		pthread_rwlock_rdlock(v->opt->names);
		r = file_open_entry(i->dir, i->entry, &m->file);
		pthread_rwlock_unlock(v->opt->names);
		if (r < 0) {
			v->counts->failed += r != -ENOENT;
			return 0;
		}
	}
	m->dir = store_dir_ref(i->dir);
	snprintf(m->entry, sizeof(m->entry), "%s", i->entry);
	return ++v->moves_n == BATCH ? flush_moves(v) : 0;
}

/* ---- what stands at an entry ---- */

static int look_file(struct survey *v, struct item *i)
{
	scoped(key32_wipe) struct key32 wrap = {0};
	scoped(key32_wipe) struct key32 content = {0};
	scoped(close_fdp) int fd = -1;
	uint8_t head[HEADER_BYTES];
	struct header h;
	size_t n;
	int r;

	fd = backing_open(i->dir->fd, i->entry, O_RDONLY);
	if (fd < 0)
		return fd;
	if (fstat(fd, &i->st) < 0)
		return -errno;
	if (i->st.st_size == 0)
		return -ENODATA;
	r = backing_read(fd, head, sizeof(head), 0, &n);
	if (r < 0)
		return r;
	if (n < sizeof(head))
		return -EBADMSG;
	if (sodium_is_zero(head, sizeof(head)))
		return -ENODATA;
	if (header_peek(head, &h) < 0)
		return -EBADMSG;
	i->leaf = h.leaf;
	r = keytree_derive(v->store->tree, h.leaf, KEY_USE_WRAP, &wrap);
	if (r == 0)
		r = header_open(head, &wrap, &h, &content);
	if (r < 0)
		return r;
	i->class = h.rec.origin_class;
	i->day = h.rec.origin_day;
	memcpy(i->id, h.id.b, sizeof(i->id));
	i->line = header_line(&h);
	if (v->opt->subject)
		survey_whose_file(v, fd, &content, i);
	return 0;
}

/* Its leaf stands there in clear: only what opens under it says that it is its own. */
static int look_link(struct survey *v, struct item *i)
{
	char target[LINK_TARGET_MAX + 1];
	int r = link_leaf(i->dir, i->entry, &i->leaf);

	if (r == 0 && !keytree_holds(v->store->tree, i->leaf))
		r = -ENOKEY;
	if (r == 0)
		r = link_read(i->dir, i->entry, target);
	i->class = i->leaf.class;
	i->day = i->leaf.day;
	return r;
}

/* What somebody with the disk copied to where it is to be erased is no second name of it: else its key would go. */
static int is_at_its_place(const struct item *i)
{
	char name[NAME_MAX_BYTES + 1];
	struct file *f;
	int r = file_open_entry(i->dir, i->entry, &f);

	if (r < 0)
		return r;
	file_close(f);
	/* Of several links no place is known, but a name of this directory only this directory's key makes. */
	return dir_entry_name(i->dir, i->entry, name);
}

/* Under the lock for names.  -ENODATA: it has no key. */
static int look(struct survey *v, struct item *i)
{
	if (fstatat(i->dir->fd, i->entry, &i->st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	for (size_t k = 0; k < v->opt->keep_n; k++)
		i->kept |= v->keep[k] == i->st.st_ino;
	if (S_ISDIR(i->st.st_mode)) {
		i->kind = 'd';
		return 0;
	}
	i->kind = S_ISREG(i->st.st_mode) ? 'f' : S_ISLNK(i->st.st_mode) ? 'l' : 'o';
	if (v->linking && i->st.st_nlink < 2)
		return -ENODATA;
	if (v->opt->subject)
		i->whose = survey_whose_dir(v, i->dir);
	if (i->kind == 'f') {
		int r = look_file(v, i);
		bool taken = v->opt->subject ? i->whose != 0 : v->opt->mode == SURVEY_ERASE;

		return r == 0 && !v->second && taken ? is_at_its_place(i) : r;
	}
	if (v->opt->subject && i->st.st_nlink > 1)
		survey_whose_linked(v, i);
	return i->kind == 'l' ? look_link(v, i) : -ENODATA;
}

/* ---- the modes ---- */

static void count_class(struct survey_counts *c, const struct item *i)
{
	size_t k;

	for (k = 0; k < c->classes_n && c->classes[k].class != i->class; k++)
		;
	if (k == SURVEY_CLASSES)
		return;
	if (k == c->classes_n)
		c->classes[c->classes_n++].class = i->class;
	c->classes[k].files++;
	c->classes[k].bytes += (uint64_t)i->st.st_size;
}

static int do_class(struct survey *v, const struct item *i)
{
	const struct rewrap to = {v->opt->class, i->day, v->opt->class};

	if (i->leaf.class == to.class && i->class == to.class)
		return 0;
	return plan_move(v, i, &to);
}

bool survey_is_kept(const struct survey *v, const struct item *i)
{
	if (i->kept)
		return true;
	/* Another of its names may be in a directory on hold. */
	if (i->kind != 'd' && i->st.st_nlink > 1 && v->opt->keep_dirs_n > 0)
		return true;
	for (size_t k = 0; k < v->opt->keep_ids_n; k++)
		if (memcmp(v->opt->keep_ids[k].b, i->id, sizeof(i->id)) == 0)
			return true;
	for (size_t k = 0; i->kind == 'f' && k < v->opt->keep_lines_n; k++)
		if (v->opt->keep_lines[k] == i->line)
			return true;
	return false;
}

static bool is_kept_dir(const struct survey *v, const uint8_t id[16])
{
	for (size_t k = 0; k < v->opt->keep_dirs_n; k++)
		if (memcmp(v->opt->keep_dirs[k].b, id, FILE_ID_BYTES) == 0)
			return true;
	return false;
}

/* Written before it was made, says a time that somebody set: it counts from when it was made. */
static bool is_doomed(const struct survey *v, const struct item *i)
{
	const struct survey_options *o = v->opt;

	return i->class == o->class && i->day < o->before && i->st.st_mtim.tv_sec < o->modified_since;
}

static int do_move(struct survey *v, const struct item *i)
{
	const struct survey_options *o = v->opt;
	bool inside = i->leaf.class == o->class && i->leaf.day < o->before, kept = survey_is_kept(v, i);
	bool doomed = is_doomed(v, i) && !kept;
	struct rewrap to = {i->class, i->day, i->class};

	v->counts->held += kept && is_doomed(v, i);
	if (inside && doomed)
		v->counts->dying++;
	if (inside == doomed)
		return 0;
	if (doomed)
		return hand_out(v, leaf_index_u64(i->leaf));
	if (kept && o->keep_class)
		to.class = o->keep_class;
	if (to.class == o->class && to.day < o->before) {
		to.day = (uint16_t)atomic_load(&v->store->today);
		/* Whoever set `before` knows the day better than we, who are told of it: never into what is to die. */
		if (to.day < o->before)
			to.day = o->before;
	}
	return plan_move(v, i, &to);
}

static void do_due(struct survey *v, const struct item *i)
{
	struct survey_counts *c = v->counts;

	if (i->class != v->opt->class)
		return;
	if (c->oldest_day == UINT16_MAX || i->st.st_mtim.tv_sec < c->oldest_change)
		c->oldest_change = i->st.st_mtim.tv_sec;
	if (i->day < c->oldest_day)
		c->oldest_day = i->day;
	if (is_doomed(v, i))
		(*(survey_is_kept(v, i) ? &c->held : &c->dying))++;
}

static int by_leaf(const void *a, const void *b)
{
	const struct known *x = a, *y = b;

	return x->leaf < y->leaf ? -1 : x->leaf > y->leaf;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

int survey_remember(struct survey *v, const struct known *k)
{
	struct known *more;

	if (v->known_n == v->known_cap) {
		more = reallocarray(v->known, v->known_cap * 2 + 64, sizeof(*more));
		if (!more)
			return -ENOMEM;
		v->known = more;
		v->known_cap = v->known_cap * 2 + 64;
	}
	v->known[v->known_n++] = *k;
	return 0;
}

static int remember(struct survey *v, const struct item *i)
{
	struct known k = {.leaf = leaf_index_u64(i->leaf), .kind = i->kind, .ino = i->st.st_ino};

	memcpy(k.id, i->id, sizeof(k.id));
	return survey_remember(v, &k);
}

/* Somebody outside of what is to be erased.  Another name of the same thing goes with it; whoever else shares
 * its leaf (two loads that drew the same numbers) must not. */
static int do_others(struct survey *v, const struct item *i)
{
	const struct known key = {.leaf = leaf_index_u64(i->leaf)}, *k;
	const struct rewrap to = {i->class, i->day, i->class};

	k = v->known_n ? bsearch(&key, v->known, v->known_n, sizeof(key), by_leaf) : NULL;
	if (!k)
		return 0;
	while (k > v->known && k[-1].leaf == key.leaf)
		k--;
	for (const struct known *self = k; v->opt->subject && self < v->known + v->known_n && self->leaf == key.leaf; self++)
		if (self->kind == i->kind && self->ino == i->st.st_ino)
			return 0; /* what is to be erased, wherever it is */
	for (; k < v->known + v->known_n && k->leaf == key.leaf; k++)
		if (k->kind == i->kind && memcmp(k->id, i->id, sizeof(k->id)) == 0 &&
			(i->kind != 'l' || i->st.st_nlink > 1)) {
			v->counts->other_names++;
			return 0;
		}
	return i->kind == 'd' ? -EDEADLK : plan_move(v, i, &to);
}

static int do_check(struct survey *v, const struct item *i)
{
	uint64_t leaf = leaf_index_u64(i->leaf);

	if (v->opt->leaves_n == 0 ||
		!bsearch(&leaf, v->opt->leaves, v->opt->leaves_n, sizeof(leaf), by_number))
		return 0;
	return hand_out(v, leaf);
}

static bool is_kept_class(const struct survey *v, const struct item *i)
{
	for (size_t k = 0; k < v->opt->keep_classes_n; k++)
		if (v->opt->keep_classes[k] == i->class)
			return true;
	return false;
}

static int act_on(struct survey *v, struct item *i)
{
	if (v->linking)
		return i->kind == 'd' ? 0 : survey_note_linked(v, i);
	switch (v->opt->mode) {
	case SURVEY_FIND:
		return 0;
	case SURVEY_LOOK:
		if (i->kind == 'f')
			count_class(v->counts, i);
		return 0;
	case SURVEY_CLASS:
		return i->kind == 'd' ? 0 : do_class(v, i);
	case SURVEY_MOVE:
		return i->kind == 'd' ? 0 : do_move(v, i);
	case SURVEY_DUE:
		if (i->kind != 'd')
			do_due(v, i);
		return 0;
	case SURVEY_ERASE:
		if (v->second)
			return do_others(v, i);
		if (v->opt->subject)
			return survey_choose(v, i);
		v->counts->held += survey_is_kept(v, i) || (i->kind != 'd' && is_kept_class(v, i));
		return remember(v, i);
	case SURVEY_CHECK:
		return do_check(v, i);
	case SURVEY_SUBJECT:
		return survey_tell(v, i);
	}
	return -EINVAL;
}

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

/* ---- directories ---- */

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
	i->kept |= is_kept_dir(v, i->id);
	if (v->opt->subject) {
		i->whose = survey_whose_dir(v, d);
		i->own = subjects_has(d->own, v->opt->subject, strlen(v->opt->subject));
	}
	if (i->top)
		v->counts->class = store_dir_class(d, &v->counts->labelled);
	r = act_on(v, i);
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
	r = look(v, i);
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
		return act_on(v, i);
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
	v->below_kept |= is_kept_dir(v, id);
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
	struct store_dir *d;
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
		r = look(v, &i);
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

	if (v->known_n > 0)
		qsort(v->known, v->known_n, sizeof(*v->known), by_leaf);
	v->second = true;
	if (v->opt->subject || (v->opt->only && *v->opt->only))
		r = walk_root(v);
	if (v->counts->other_names > 0 && v->only_is_leaf)
		v->counts->other_names--; /* its own */
	if (r == 0)
		r = flush_moves(v);
	for (size_t i = 0; r == 0 && i < v->known_n; i++)
		if (i == 0 || v->known[i].leaf != v->known[i - 1].leaf)
			r = hand_out(v, v->known[i].leaf);
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

	if (v->opt->mode == SURVEY_CHECK && v->opt->leaves_n > 0)
		qsort(v->opt->leaves, v->opt->leaves_n, sizeof(uint64_t), by_number);
	if (r == 0 && v->opt->subject)
		r = look_for_linked(v);
	if (r == 0)
		r = walk_only(v, ret_store);
	if (r == 0)
		r = flush_moves(v);
	if (r == 0 && v->opt->mode == SURVEY_ERASE)
		r = erase_others(v);
	return r < 0 ? r : flush_out(v);
}

int store_survey(
	struct store *s, const struct survey_options *opt, struct survey_counts *ret, char **ret_store)
{
	struct survey v = {.store = s, .opt = opt, .counts = ret};
	unsigned long moves = atomic_load(&s->renames);
	scoped(freep) char *at = NULL;
	int r = -ENOMEM;

	ret->oldest_day = UINT16_MAX;
	v.out = calloc(HAND_OUT, sizeof(*v.out));
	v.moves = calloc(BATCH, sizeof(*v.moves));
	if (v.out && v.moves)
		r = run(&v, &at);
	ret->moved = atomic_load(&s->renames) != moves;
	while (v.top)
		pop(&v);
	for (size_t i = 0; i < v.moves_n; i++)
		move_done(&v.moves[i]);
	free(v.moves);
	free(v.out);
	free(v.known);
	free(v.linked);
	free(v.keep);
	if (r == 0 && ret_store)
		*ret_store = take_ptr(&at);
	return r;
}
