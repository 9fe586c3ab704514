#include "tools/tree_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/progress.h"

#define TRIES 5
#define STILL_NS 20000000 /* clocks of file systems tick at 1 to 10 ms: a younger change may have a later twin */
#define CHUNK (1u << 20)

/* One name in both trees. */
struct item {
	const char *path; /* below the top, for lists and messages */
	const char *name;
	int from, to; /* folders */
	struct stat st;
};

struct hardlink {
	ino_t ino;
	char *path;
};

int tree_path_compare(const char *a, const char *b)
{
	for (;; a++, b++) {
		int x = *a == '/' ? 1 : (unsigned char)*a, y = *b == '/' ? 1 : (unsigned char)*b;

		if (x != y || !x)
			return x - y;
	}
}

static int64_t ns(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static char kind_of(mode_t mode)
{
	return S_ISREG(mode) ? 'f' : S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : 's';
}

static json_t *row_of(const struct item *e)
{
	const char kind[2] = {kind_of(e->st.st_mode), '\0'};

	return json_pack("[s, s, I, I, I, I]", e->path, kind, (json_int_t)e->st.st_size, (json_int_t)ns(e->st.st_mtim),
		(json_int_t)ns(e->st.st_ctim), (json_int_t)e->st.st_ino);
}

static int put_row(struct tree_copy *c, const struct item *e)
{
	json_auto_t *row = row_of(e);
	int r;

	if (!c->list)
		return 0;
	r = row ? json_dumpf(row, c->list, JSON_COMPACT) : -1;
	return r < 0 || putc('\n', c->list) == EOF ? -EIO : 0;
}

/* ---- the earlier copy ---- */

static const char *row_path(const json_t *row)
{
	const char *path = json_string_value(json_array_get(row, 0));

	return path ? path : "";
}

/* Whether the earlier list has this very row: nothing was done to the file since.  Its inode's time of change cannot
 * be set, so a header that was written in place shows. */
static bool is_unchanged(struct tree_copy *c, const struct item *e)
{
	json_auto_t *mine = row_of(e);

	while (c->earlier_list && (!c->row || tree_path_compare(row_path(c->row), e->path) < 0)) {
		json_decref(c->row);
		c->row = json_loadf(c->earlier_list, JSON_DISABLE_EOF_CHECK, NULL);
		if (!c->row)
			c->earlier_list = NULL;
	}
	return c->row && mine && json_equal(c->row, mine);
}

static int link_earlier(struct tree_copy *c, const struct item *e)
{
	scoped(freep) char *old = NULL;

	if (!is_unchanged(c, e) || asprintf(&old, "%s/%s", c->earlier, e->path) < 0)
		return -ENOENT;
	if (linkat(AT_FDCWD, old, e->to, e->name, 0) < 0)
		return -errno;
	c->linked++;
	return 0;
}

/* ---- several names of one file ---- */

static int compare_hardlinks(const void *a, const void *b)
{
	const struct hardlink *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void hardlink_free(void *p)
{
	struct hardlink *h = p;

	free(h->path);
	free(h);
}

/* 0: it was copied under another name before, and is linked to that. */
static int link_twin(struct tree_copy *c, const char *to, const struct item *e)
{
	struct hardlink key = {.ino = e->st.st_ino}, **found;
	scoped(freep) char *twin = NULL;

	if (e->st.st_nlink < 2)
		return -ENOENT;
	found = tfind(&key, &c->hardlinks, compare_hardlinks);
	if (!found || asprintf(&twin, "%s/%s", to, (*found)->path) < 0)
		return -ENOENT;
	return linkat(AT_FDCWD, twin, e->to, e->name, 0) < 0 ? -errno : 0;
}

static int remember_twin(struct tree_copy *c, const struct item *e)
{
	struct hardlink *h;

	if (e->st.st_nlink < 2)
		return 0;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->ino = e->st.st_ino;
	h->path = strdup(e->path);
	if (!h->path || !tsearch(h, &c->hardlinks, compare_hardlinks)) {
		hardlink_free(h);
		return -ENOMEM;
	}
	return 0;
}

/* ---- one thing ---- */

static int copy_attributes(int from, int to)
{
	char names[65536], value[65536];
	ssize_t n = flistxattr(from, names, sizeof(names));

	if (n < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	for (const char *name = names; name < names + n; name += strlen(name) + 1) {
		ssize_t size = fgetxattr(from, name, value, sizeof(value));

		if (size < 0 && errno == ENODATA)
			continue;
		if (size < 0 || fsetxattr(to, name, value, (size_t)size, 0) < 0)
			return -errno;
	}
	return 0;
}

/* Who is not root keeps what he may give: everything is his anyway. */
static int copy_owner(int fd, const char *name, const struct stat *st)
{
	int r = *name ? fchownat(fd, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) : fchown(fd, st->st_uid, st->st_gid);

	return r < 0 && (errno != EPERM || geteuid() == 0) ? -errno : 0;
}

static int copy_status(int from, int to, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	int r = copy_owner(to, "", st);

	if (r == 0)
		r = copy_attributes(from, to);
	if (r == 0 && (fchmod(to, st->st_mode & 07777) < 0 || futimens(to, times) < 0))
		r = -errno;
	return r;
}

static int copy_range(int from, int to, off_t at, off_t end)
{
	scoped(freep) char *buf = NULL;

	while (at < end) {
		off_t in = at, out = at;
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - at), 0);

		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) {
			if (!buf)
				buf = malloc(CHUNK);
			if (!buf)
				return -ENOMEM;
			n = pread(from, buf, end - at < CHUNK ? (size_t)(end - at) : CHUNK, at);
			if (n > 0 && pwrite(to, buf, (size_t)n, at) != n)
				return errno ? -errno : -EIO;
		}
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0; /* it was cut meanwhile: seen afterwards */
		at += n;
	}
	return 0;
}

static int copy_data(int from, int to, off_t size)
{
	off_t data = 0, hole;
	int r = 0;

	if (ftruncate(to, 0) < 0 || ftruncate(to, size) < 0)
		return -errno;
	while (r == 0 && data < size) {
		data = lseek(from, data, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		r = copy_range(from, to, data, hole < size ? hole : size);
		data = hole;
	}
	return r;
}

static bool is_still(const struct stat *a, const struct stat *b)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return a->st_size == b->st_size && ns(a->st_mtim) == ns(b->st_mtim) && ns(a->st_ctim) == ns(b->st_ctim) &&
	       ns(now) - ns(b->st_ctim) > STILL_NS;
}

static void note_unsettled(struct tree_copy *c, const char *path)
{
	if (json_array_size(c->unsettled) < UNSETTLED_MAX)
		json_array_append_new(c->unsettled, json_string(path));
}

/* Again until it did not change meanwhile. */
static int copy_still(struct tree_copy *c, struct item *e, int from, int to)
{
	const struct timespec pause = {.tv_nsec = STILL_NS + 1000000};
	struct stat after;
	int r = 0;

	for (int i = 0; i < TRIES && r == 0; i++) {
		if (i > 0)
			nanosleep(&pause, NULL);
		if (fstat(from, &e->st) < 0)
			return -errno;
		r = copy_data(from, to, e->st.st_size);
		if (r == 0)
			r = copy_status(from, to, &e->st);
		if (r == 0 && fstat(from, &after) < 0)
			return -errno;
		if (r == 0 && is_still(&e->st, &after))
			return 0;
	}
	if (r == 0)
		note_unsettled(c, e->path);
	e->st.st_ctim = (struct timespec){0}; /* never taken for unchanged */
	return r;
}

static int copy_file(struct tree_copy *c, const char *top, struct item *e)
{
	scoped(close_fdp) int from = -1, to = -1;
	int r;

	c->files++;
	c->bytes += (uint64_t)e->st.st_size;
	if (c->progress)
		progress_show(c->progress, 0, 0, "copying: %llu files, %.1f MB", (unsigned long long)c->files, (double)c->bytes / 1e6);
	if (link_twin(c, top, e) == 0)
		return 0;
	if (link_earlier(c, e) == 0)
		return remember_twin(c, e);
	from = openat(e->from, e->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOATIME);
	if (from < 0 && errno == EPERM)
		from = openat(e->from, e->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (from < 0)
		return -errno;
	to = openat(e->to, e->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	r = copy_still(c, e, from, to);
	if (r < 0)
		return r;
	c->copied_bytes += (uint64_t)e->st.st_size;
	return remember_twin(c, e);
}

static int copy_symlink(const struct item *e)
{
	const struct timespec times[2] = {e->st.st_atim, e->st.st_mtim};
	char target[4097];
	ssize_t n = readlinkat(e->from, e->name, target, sizeof(target) - 1);
	int r;

	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (symlinkat(target, e->to, e->name) < 0)
		return -errno;
	r = copy_owner(e->to, e->name, &e->st);
	if (r == 0 && utimensat(e->to, e->name, times, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r;
}

static int copy_special(const struct item *e)
{
	if (!S_ISFIFO(e->st.st_mode) && !S_ISSOCK(e->st.st_mode))
		return 0; /* none of ours */
	if (mknodat(e->to, e->name, e->st.st_mode, 0) < 0)
		return -errno;
	return copy_owner(e->to, e->name, &e->st);
}

/* ---- folders ---- */

static int copy_folder(struct tree_copy *c, const char *top, const struct item *e);

static int copy_entry(struct tree_copy *c, const char *top, struct item *e)
{
	int r = -ENOENT;

	if (fstatat(e->from, e->name, &e->st, AT_SYMLINK_NOFOLLOW) == 0)
		r = S_ISDIR(e->st.st_mode) ? put_row(c, e) : 0;
	if (r < 0)
		return r;
	r = S_ISDIR(e->st.st_mode)   ? copy_folder(c, top, e)
	    : S_ISREG(e->st.st_mode) ? copy_file(c, top, e)
	    : S_ISLNK(e->st.st_mode) ? copy_symlink(e)
				     : copy_special(e);
	return r < 0 || S_ISDIR(e->st.st_mode) ? r : put_row(c, e);
}

static int is_name(const struct dirent *d)
{
	return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int copy_one(struct tree_copy *c, const char *top, const struct item *folder, int from, int to, const char *name)
{
	scoped(freep) char *path = NULL;
	struct item e = {.name = name, .from = from, .to = to};
	int r;

	if (asprintf(&path, "%s/%s", folder->path, name) < 0)
		return -ENOMEM;
	e.path = path;
	r = copy_entry(c, top, &e);
	if (r == -ENOENT)
		return 0; /* removed or renamed meanwhile */
	if (r < 0 && !c->failed)
		c->failed = take_ptr(&path);
	return r;
}

/* Its id says where it belongs: one that was renamed meanwhile may have been copied with that of another place. */
static bool is_in_place(const struct item *e, int from, int to)
{
	char was[256] = "", is[256] = "";
	struct stat named, opened;

	if (fstatat(e->from, e->name, &named, AT_SYMLINK_NOFOLLOW) < 0 || fstat(from, &opened) < 0)
		return false;
	if (readlinkat(to, ".id", was, sizeof(was) - 1) < 0 || readlinkat(from, ".id", is, sizeof(is) - 1) < 0)
		return named.st_ino == opened.st_ino && errno == ENOENT; /* none yet, or none of ours */
	return named.st_ino == opened.st_ino && strcmp(was, is) == 0;
}

static int copy_folder(struct tree_copy *c, const char *top, const struct item *e)
{
	scoped(close_fdp) int from = openat(e->from, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), to = -1;
	struct dirent **names = NULL;
	int n, r = 0;

	if (from < 0)
		return -errno;
	if (mkdirat(e->to, e->name, 0700) < 0)
		return -errno;
	to = openat(e->to, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	n = to < 0 ? -1 : scandirat(from, ".", &names, is_name, by_bytes);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = copy_one(c, top, e, from, to, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	if (r == 0 && !is_in_place(e, from, to))
		note_unsettled(c, e->path);
	return r == 0 ? copy_status(from, to, &e->st) : r;
}

int tree_copy(struct tree_copy *c, const char *from, const char *to, const char *name)
{
	scoped(close_fdp) int from_fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	scoped(close_fdp) int to_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct item e = {.path = name, .name = name, .from = from_fd, .to = to_fd};
	int r;

	if (!c->unsettled)
		c->unsettled = json_array();
	if (from_fd < 0 || to_fd < 0)
		return -errno;
	r = copy_entry(c, to, &e);
	if (r < 0 && !c->failed)
		c->failed = strdup(name);
	return r;
}

void tree_copy_done(struct tree_copy *c)
{
	tdestroy(c->hardlinks, hardlink_free);
	json_decref(c->unsettled);
	json_decref(c->row);
	free(c->failed);
	*c = (struct tree_copy){0};
}
