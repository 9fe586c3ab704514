/* The walk: directories in the order of their entries, so that it can go on where it stopped. */
#include "fs/store/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/store/backing.h"
#include "fs/store/check_impl.h"

struct frame { /* one open directory */
	struct frame *up;
	struct store_dir *dir;
	char **entries; /* sorted */
	size_t n, next;
	size_t path_n, at_n; /* of the two paths, without this directory's entries */
	bool path_known;
	const char *after; /* what remains of where to go on; or NULL */
};

/* ---- paths ---- */

static int text_cut(struct text *t, size_t n, const char *more)
{
	size_t k = strlen(more), need = n + k + 2;
	char *s;

	if (need > t->cap) {
		s = realloc(t->s, need * 2);
		if (!s)
			return -ENOMEM;
		t->s = s;
		t->cap = need * 2;
	}
	if (n > 0 && k > 0)
		t->s[n++] = '/';
	memcpy(t->s + n, more, k + 1);
	t->n = n + k;
	return 0;
}

/* ---- findings ---- */

bool check_is_swept(const struct check *c, const char *what)
{
	return c->opt->sweep_due && strcmp(what, "destroyed") == 0;
}

void check_report(struct check *c, struct check_finding *f)
{
	struct check_counts *n = c->counts;

	if (c->quiet)
		return;
	if (check_is_swept(c, f->what))
		f->damage = false;
	f->path = c->path_known ? c->path.s : NULL;
	f->store = c->at.s;
	if (strcmp(f->done, "repaired") == 0)
		n->repaired++;
	else if (strcmp(f->done, "isolated") == 0)
		n->isolated++;
	else if (strcmp(f->done, "accepted") == 0)
		n->accepted++;
	else if (f->damage)
		n->damaged++;
	else if (check_is_swept(c, f->what))
		n->destroyed++;
	else
		n->leftovers++;
	c->opt->found(f, c->opt->arg);
}

static void report(struct check *c, const char *what, bool damage, const char *done)
{
	struct check_finding f = {.what = what, .damage = damage, .done = done};

	check_report(c, &f);
}

bool check_step(struct check *c)
{
	return c->opt->step(c->counts, NULL, c->opt->arg);
}

#define ISOLATED ".damaged-"
#define ISOLATED_TRIES 100

/* "name.damaged-2026-11-23-2", cut where a character begins, so that it is a name. */
static void isolated_name(const char *name, const char *today, int i, char out[NAME_MAX_BYTES + 1])
{
	char tail[64];
	size_t n = strlen(name), room;

	if (i == 0)
		snprintf(tail, sizeof(tail), ISOLATED "%s", today);
	else
		snprintf(tail, sizeof(tail), ISOLATED "%s-%d", today, i + 1);
	room = NAME_MAX_BYTES - strlen(tail);
	if (n > room)
		for (n = room; n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80; n--)
			;
	memcpy(out, name, n);
	snprintf(out + n, NAME_MAX_BYTES + 1 - n, "%s", tail);
}

/* What the store itself cannot move any more is moved below it: under its new name it opens as little as before. */
static int move_entry(const struct check_entry *e, const char *new_name)
{
	struct name_entry n;
	int r = -EBADMSG;

	if (e->name)
		r = store_rename(e->dir, e->name, e->dir, new_name, RENAME_NOREPLACE);
	if (r != -EBADMSG && r != -ENOKEY)
		return r;
	r = name_seal(&e->dir->keys->name, new_name, &n);
	if (r == 0)
		r = dir_write_side(e->dir, &n);
	if (r < 0)
		return r;
	if (renameat2(e->dir->fd, e->entry, e->dir->fd, n.entry, RENAME_NOREPLACE) < 0)
		return -errno;
	dir_drop_side(e->dir, e->entry);
	return 0;
}

/* A session may have put a sound thing in the place of the damaged one. */
static bool is_still_there(const struct check_entry *e)
{
	struct stat st;

	return fstatat(e->dir->fd, e->entry, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == e->ino;
}

static int move_aside(const struct check *c, const struct check_entry *e)
{
	char name[NAME_MAX_BYTES + 1];
	int r = -EEXIST, i;

	for (i = 0; i < ISOLATED_TRIES && r == -EEXIST; i++) {
		isolated_name(e->name ? e->name : "unnamed", c->opt->today, i, name);
		r = move_entry(e, name);
	}
	return r;
}

const char *check_isolate(struct check *c, const struct check_entry *e)
{
	int r;

	if (e->name && strstr(e->name, ISOLATED))
		return "isolated"; /* by an earlier check */
	if (!c->opt->isolate || c->quiet)
		return "";
	pthread_rwlock_wrlock(c->opt->names);
	r = is_still_there(e) ? move_aside(c, e) : -EBUSY;
	pthread_rwlock_unlock(c->opt->names);
	return r == 0 ? "isolated" : r == -EBUSY ? "busy" : "failed";
}

/* For what is neither file nor directory. */
static void report_damage(struct check *c, const struct check_entry *e, const char *what)
{
	report(c, what, true, check_is_swept(c, what) ? "" : check_isolate(c, e));
}

int check_xattrs(const struct xattr_owner *o)
{
	scoped(subjects_freep) struct subjects *subjects = NULL;
	scoped(freep) char *list = malloc(XATTR_LIST_MAX), *value = malloc(XATTR_SIZE_MAX);
	int n, at, r;

	if (!list || !value)
		return 0;
	if (subjects_read(o, &subjects) == -EBADMSG)
		return -EBADMSG;
	n = xattr_list(o, list, XATTR_LIST_MAX);
	if (n < 0)
		return n == -EBADMSG ? n : 0;
	for (at = 0; at < n; at += (int)strlen(list + at) + 1) {
		r = xattr_get(o, list + at, value, XATTR_SIZE_MAX);
		if (r == -EBADMSG)
			return r;
	}
	return 0;
}

/* ---- entries of ours ---- */

struct uses {
	const char *side;
	bool found;
};

static int for_names(int fd, void (*each)(int fd, const char *entry, struct uses *u), struct uses *u)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *e;

	if (!dir) {
		close_fdp(&own);
		return -errno;
	}
	while (!u->found && (e = readdir(dir)))
		if (e->d_name[0] != '.')
			each(fd, e->d_name, u);
	closedir(dir);
	return 0;
}

/* "=LENGTH:SIDE" */
static void points_at(int fd, const char *entry, struct uses *u)
{
	char text[64];
	const char *colon;

	if (backing_readlink(fd, entry, text, sizeof(text)) <= 0 || text[0] != '=')
		return;
	colon = strchr(text, ':');
	u->found = colon && strcmp(colon + 1, u->side) == 0;
}

/* The namespace lock is held for writing. */
static bool side_is_stale(struct store_dir *d, const char *side, const char **ret_what)
{
	char entry[NAME_MAX_BYTES + 1];
	struct uses u = {.side = side};
	struct stat st;
	struct file *f;

	*ret_what = "side";
	if (fstatat(d->fd, side, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (strncmp(side, SIDE_NAME_PREFIX, 2) == 0) {
		snprintf(entry, sizeof(entry), "+%s", side + 2);
		return fstatat(d->fd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
	}
	if (strncmp(side, SIDE_FILE_PREFIX, 2) == 0) {
		*ret_what = "unnamed";
		f = file_find(d->store, st.st_ino);
		file_close(f);
		return !f;
	}
	return for_names(d->fd, points_at, &u) == 0 && !u.found;
}

static bool is_side(const char *entry)
{
	return strncmp(entry, SIDE_NAME_PREFIX, 2) == 0 || strncmp(entry, SIDE_TEXT_PREFIX, 2) == 0 ||
	       strncmp(entry, SIDE_FILE_PREFIX, 2) == 0;
}

/* An entry that begins with a dot. */
static void check_own(struct check *c, struct store_dir *d, const char *entry)
{
	const char *what = "side", *done = "";
	bool stale;

	if (strcmp(entry, DIR_ID) == 0 || strcmp(entry, DIR_ID_NEW) == 0)
		return;
	c->path_known = false;
	if (!is_side(entry)) {
		report(c, "foreign", true, "");
		return;
	}
	pthread_rwlock_wrlock(c->opt->names);
	stale = side_is_stale(d, entry, &what);
	if (stale && c->opt->repair && !c->quiet)
		done = unlinkat(d->fd, entry, 0) == 0 ? "repaired" : "failed";
	pthread_rwlock_unlock(c->opt->names);
	if (stale)
		report(c, what, false, done);
}

/* ---- directories ---- */

static void frame_free(struct frame *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->entries[i]);
	free(f->entries);
	store_dir_unref(f->dir);
	free(f);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_entry(struct frame *f, size_t *cap, const char *entry)
{
	char **more, *copy;

	if (f->n == *cap) {
		more = reallocarray(f->entries, *cap * 2 + 16, sizeof(char *));
		if (!more)
			return -ENOMEM;
		f->entries = more;
		*cap = *cap * 2 + 16;
	}
	copy = strdup(entry);
	if (!copy)
		return -ENOMEM;
	f->entries[f->n++] = copy;
	return 0;
}

static int read_entries(struct frame *f)
{
	int fd = openat(f->dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	size_t cap = 0;

	if (!dir) {
		r = -errno;
		close_fdp(&fd);
		return r;
	}
	while (r == 0 && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = add_entry(f, &cap, e->d_name);
	closedir(dir);
	if (r == 0 && f->n > 0)
		qsort(f->entries, f->n, sizeof(char *), by_text);
	return r;
}

/* Takes d. */
static int push(struct check *c, struct frame **top, struct store_dir *d, const char *after)
{
	struct frame *f = calloc(1, sizeof(*f));
	int r;

	if (!f) {
		store_dir_unref(d);
		return -ENOMEM;
	}
	f->up = *top;
	f->dir = d;
	f->path_n = c->path.n;
	f->at_n = c->at.n;
	f->path_known = c->path_known;
	f->after = after;
	*top = f;
	r = read_entries(f);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		report(c, "unreadable", true, "");
	return 0;
}

static void check_dir_xattrs(struct check *c, struct store_dir *d)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	struct xattr_owner o = {.fd = d->fd, .keys = &keys};

	xattr_keys_of_dir(&d->keys->name, &keys);
	place_dir_bytes(&d->id, o.id);
	if (check_xattrs(&o) < 0 || (atomic_load(&d->labelled) && atomic_load(&d->bad_label)))
		report(c, "xattr", true, "");
}

static const char *adopt(struct check *c, const struct check_entry *e)
{
	int r;

	pthread_rwlock_wrlock(c->opt->names);
	r = dir_adopt_entry(e->dir, e->entry);
	pthread_rwlock_unlock(c->opt->names);
	return r == 0 ? "accepted" : "failed";
}

/* The id does not fit: 0 and *ret when somebody vouches for it. */
static int foreign_dir(struct check *c, const struct check_entry *e, int error, struct store_dir **ret)
{
	const char *what = error == -EBADMSG ? "directory" : error == -ENOKEY ? "destroyed" : "unreadable";
	bool loose;

	if (error == -EBADMSG && c->opt->accept && strcmp(adopt(c, e), "accepted") == 0 &&
		dir_look_entry(e->dir, e->entry, ret, &loose) == 0) {
		report(c, what, true, "accepted");
		return 0;
	}
	report_damage(c, e, what);
	return 0;
}

static const char *mend_id(struct check *c, const struct check_entry *e, struct store_dir **d)
{
	int r;

	if (!c->opt->repair || c->quiet)
		return "";
	store_dir_unref(take_ptr(d));
	pthread_rwlock_wrlock(c->opt->names);
	r = dir_open_entry(e->dir, e->entry, d);
	pthread_rwlock_unlock(c->opt->names);
	return r == 0 ? "repaired" : "failed";
}

/* Under the lock: a rename has two ids for a moment. */
static int look_dir(struct check *c, const struct check_entry *e, struct store_dir **ret, bool *ret_loose)
{
	int r;

	pthread_rwlock_rdlock(c->opt->names);
	r = dir_look_entry(e->dir, e->entry, ret, ret_loose);
	if (r == -EBADMSG) /* or it has just been moved from here */
		r = faccessat(e->dir->fd, e->entry, F_OK, AT_SYMLINK_NOFOLLOW) < 0 ? -ENOENT : r;
	pthread_rwlock_unlock(c->opt->names);
	return r;
}

static int check_dir(struct check *c, struct frame **top, const struct check_entry *e, const char *after)
{
	struct store_dir *d = NULL;
	bool loose = false;
	int r;

	r = look_dir(c, e, &d, &loose);
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP)
		return 0;
	if (r < 0)
		r = foreign_dir(c, e, r, &d);
	else if (loose)
		report(c, "id", false, mend_id(c, e, &d));
	if (!d)
		return r;
	c->counts->directories++;
	check_dir_xattrs(c, d);
	return push(c, top, d, after);
}

/* ---- one entry ---- */

static void check_link(struct check *c, const struct check_entry *e)
{
	char target[LINK_TARGET_MAX + 1];
	int r;

	pthread_rwlock_rdlock(c->opt->names);
	r = link_read(e->dir, e->entry, target);
	pthread_rwlock_unlock(c->opt->names);
	if (r == -EBADMSG)
		report_damage(c, e, "link");
	else if (r == -ENOKEY)
		report_damage(c, e, "destroyed");
}

/* 0: *st and name are filled in; e->name stays NULL where it is none. */
static int look_entry(struct check *c, struct check_entry *e, char name[NAME_MAX_BYTES + 1], struct stat *st)
{
	int r;

	pthread_rwlock_rdlock(c->opt->names);
	r = fstatat(e->dir->fd, e->entry, st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	e->ino = st->st_ino;
	if (r == 0 && dir_entry_name(e->dir, e->entry, name) == 0)
		e->name = name;
	pthread_rwlock_unlock(c->opt->names);
	return r;
}

static int check_entry(struct check *c, struct frame **top, const char *entry, const char *after)
{
	struct frame *f = *top;
	struct check_entry e = {.dir = f->dir, .entry = entry};
	char name[NAME_MAX_BYTES + 1];
	struct stat st;
	int r;

	r = text_cut(&c->at, f->at_n, entry);
	if (r < 0)
		return r;
	if (entry[0] == '.') {
		check_own(c, f->dir, entry);
		return 0;
	}
	r = look_entry(c, &e, name, &st);
	if (r < 0)
		return 0; /* gone meanwhile */
	c->path_known = f->path_known && e.name;
	r = text_cut(&c->path, f->path_n, e.name ? e.name : "");
	if (r < 0)
		return r;
	if (!e.name) {
		report_damage(c, &e, "name");
		return 0;
	}
	if (S_ISREG(st.st_mode))
		return check_file(c, &e);
	if (S_ISDIR(st.st_mode))
		return check_dir(c, top, &e, after);
	if (S_ISLNK(st.st_mode))
		check_link(c, &e);
	else if (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))
		report_damage(c, &e, "foreign");
	return 0;
}

/* ---- the walk ---- */

/* How `entry` stands to the first component of `after`; *ret_rest: what follows that one. */
static int compare_first(const char *entry, const char *after, const char **ret_rest)
{
	size_t n = strcspn(after, "/"), k = strlen(entry);
	int r = memcmp(entry, after, n < k ? n : k);

	*ret_rest = after[n] ? after + n + 1 : "";
	return r != 0 ? r : k < n ? -1 : k > n;
}

/* 1: nothing to be done. */
static int next_entry(struct check *c, struct frame **top)
{
	struct frame *f = *top;
	const char *entry = f->entries[f->next++], *rest = NULL;
	int order;

	if (f->after) {
		order = compare_first(entry, f->after, &rest);
		if (order < 0 || (order == 0 && !*rest))
			return 1; /* done the last time */
		c->quiet = order == 0;
		if (order > 0)
			f->after = rest = NULL;
	}
	return check_entry(c, top, entry, rest);
}

/* Until the frame `base` is on top again. */
static int walk(struct check *c, struct frame **top, const struct frame *base)
{
	bool finished = true;
	struct frame *f;
	int r = 0;

	while (r == 0 && *top != base) {
		f = *top;
		if (f->next < f->n) {
			r = next_entry(c, top);
			c->quiet = false;
			if (r > 0) {
				r = 0;
				continue;
			}
			finished = *top == f; /* else its own entries come first */
		} else {
			*top = f->up;
			r = text_cut(&c->at, f->at_n, "");
			finished = true;
			frame_free(f);
		}
		if (r == 0 && !c->opt->step(c->counts, finished ? c->at.s : NULL, c->opt->arg))
			r = -ECANCELED;
	}
	return r;
}

static void sort_out(struct frame **top)
{
	struct frame *f;

	while ((f = *top)) {
		*top = f->up;
		frame_free(f);
	}
}

/* One component: an entry, or a name. */
int check_find_entry(struct store_dir *d, const char *part, bool by_name, char entry[NAME_MAX_BYTES + 1])
{
	struct name_entry n;
	struct stat st;
	int r;

	if (strlen(part) > NAME_MAX_BYTES)
		return -ENOENT;
	if (part[0] != '.' && fstatat(d->fd, part, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		memcpy(entry, part, strlen(part) + 1);
		return 0;
	}
	r = by_name ? name_seal(&d->keys->name, part, &n) : -ENOENT;
	if (r < 0 || fstatat(d->fd, n.entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -ENOENT;
	memcpy(entry, n.entry, strlen(n.entry) + 1);
	return 0;
}

/* Down to where `only` stands; each directory on the way is left as a frame without entries. */
static int walk_only(struct check *c, struct frame **top)
{
	scoped(freep) char *path = strdup(c->opt->only);
	char entry[NAME_MAX_BYTES + 1], *part, *next, *save = NULL;
	const struct frame *base;
	struct frame *f;
	int r = path ? 0 : -ENOMEM;

	part = path ? strtok_r(path, "/", &save) : NULL;
	for (; r == 0 && part; part = next) {
		next = strtok_r(NULL, "/", &save);
		f = *top;
		f->next = f->n;
		r = check_find_entry(f->dir, part, c->opt->by_name, entry);
		if (r < 0)
			return r;
		base = f;
		c->quiet = next != NULL;
		r = check_entry(c, top, entry, NULL);
		c->quiet = false;
		if (r == 0 && next && *top == base)
			return -ENOENT;
		if (r == 0 && !next)
			return walk(c, top, base);
	}
	return r < 0 ? r : walk(c, top, NULL); /* it named the share itself */
}

static int by_file(const void *a, const void *b)
{
	const struct check_recorded *x = a, *y = b;
	int r = memcmp(x->file.b, y->file.b, FILE_ID_BYTES);

	return r != 0 ? r : x->time < y->time ? -1 : x->time > y->time;
}

static uint64_t count_tree(int at, const char *entry, struct check *c)
{
	int fd = openat(at, entry, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint64_t total = 0;
	struct dirent *e;
	struct stat st;

	if (!dir) {
		close_fdp(&fd);
		return 0;
	}
	while (!c->stopped && (e = readdir(dir))) {
		c->stopped = !check_step(c);
		if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			total += count_tree(dirfd(dir), e->d_name, c);
		else if (S_ISREG(st.st_mode) && st.st_size >= 2 * SECTOR_BYTES)
			total += (uint64_t)(st.st_blocks * 512 < st.st_size ? st.st_blocks * 512 : st.st_size) /
				 SECTOR_BYTES * SECTOR_BYTES - SECTOR_BYTES;
	}
	closedir(dir);
	return total;
}

int store_check(struct store *s, const struct check_options *opt, struct check_counts *ret)
{
	struct check c = {.store = s, .opt = opt, .counts = ret, .path_known = true};
	struct frame *top = NULL;
	struct store_dir *root;
	int r;

	if (opt->recorded_n > 0)
		qsort(opt->recorded, opt->recorded_n, sizeof(*opt->recorded), by_file);
	if (!opt->only)
		ret->total = count_tree(s->root_fd, ".", &c);
	r = c.stopped ? -ECANCELED : text_cut(&c.path, 0, "");
	if (r == 0)
		r = text_cut(&c.at, 0, "");
	if (r == 0)
		r = store_dir_root(s, &root);
	if (r == 0) {
		ret->directories++;
		check_dir_xattrs(&c, root);
		r = push(&c, &top, root, opt->after);
	}
	if (r == 0)
		r = opt->only ? walk_only(&c, &top) : walk(&c, &top, NULL);
	sort_out(&top);
	free(c.path.s);
	free(c.at.s);
	return r;
}
