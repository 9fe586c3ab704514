#include "tools/subject_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/openat2.h>
#include <signal.h>
#include <sodium.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/progress.h"
#include "tools/tool.h"

#define CHUNK (1u << 20)
#define OPEN_MAX_DIRS 32 /* of nftw */

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
	interrupted = 1;
}

/* What is half done is taken away: it is somebody's data in clear. */
static void catch_interrupts(void)
{
	const struct sigaction a = {.sa_handler = interrupt};

	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	sigaction(SIGHUP, &a, NULL);
}

/* ---- reading ---- */

/* Below the mount, through no symlink and into no other mount. */
static int open_below(int at, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
	long fd = syscall(SYS_openat2, at, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* The path as bytes; NULL: it is none that may be written below a directory. */
static char *path_bytes(const json_t *row)
{
	const json_t *v = json_object_get(row, "path");
	const char *text = json_string_value(v), *hex = json_string_value(json_object_get(v, "hex"));
	scoped(freep) char *path = text ? strdup(text) : hex ? calloc(1, strlen(hex) / 2 + 1) : NULL;
	size_t n;

	if (hex && path && sodium_hex2bin((uint8_t *)path, strlen(hex) / 2, hex, strlen(hex), NULL, &n, NULL) < 0)
		return NULL;
	for (const char *p = path; p && *p; p += strspn(p, "/")) {
		n = strcspn(p, "/");
		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return NULL;
		p += n;
	}
	return path && *path ? take_ptr(&path) : NULL;
}

/* ---- writing ---- */

/* The directory that the last part of path goes into, made if need be; *ret_name: that part. */
static int make_parent(int root, char *path, const char **ret_name)
{
	scoped(close_fdp) int at = fcntl(root, F_DUPFD_CLOEXEC, 0);
	char *name = path, *slash;
	int next;

	for (; at >= 0 && (slash = strchr(name, '/')); name = slash + 1) {
		*slash = 0;
		if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
			return -errno;
		next = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		*slash = '/';
		if (next < 0)
			return -errno;
		close(at);
		at = next;
	}
	if (at < 0)
		return -errno;
	*ret_name = name;
	return take_fd(&at);
}

static int write_all(int fd, const uint8_t *buf, size_t n)
{
	while (n > 0) {
		ssize_t put = write(fd, buf, n);

		if (put < 0 && errno == EINTR && !interrupted)
			continue;
		if (put < 0)
			return -errno;
		buf += put;
		n -= (size_t)put;
	}
	return 0;
}

/* A row of the index, of what was read. */
struct copied {
	uint64_t size;
	char sha256[2 * crypto_hash_sha256_BYTES + 1];
	bool unreadable; /* else what failed is the writing */
};

static int pump(int in, int out, struct copied *ret)
{
	scoped(freep) uint8_t *buf = malloc(CHUNK);
	uint8_t digest[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state hash;
	ssize_t n = 1;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	crypto_hash_sha256_init(&hash);
	while (r == 0 && n > 0) {
		n = read(in, buf, CHUNK);
		if (n < 0) {
			ret->unreadable = true;
			return -errno;
		}
		crypto_hash_sha256_update(&hash, buf, (size_t)n);
		if (n > 0 && sodium_is_zero(buf, (size_t)n))
			r = lseek(out, n, SEEK_CUR) < 0 ? -errno : 0; /* a hole */
		else
			r = write_all(out, buf, (size_t)n);
		ret->size += (uint64_t)n;
		if (interrupted)
			r = -EINTR;
	}
	if (r == 0 && ftruncate(out, (off_t)ret->size) < 0)
		r = -errno;
	crypto_hash_sha256_final(&hash, digest);
	sodium_bin2hex(ret->sha256, sizeof(ret->sha256), digest, sizeof(digest));
	return r;
}

static int copy_file(const struct subject_copy *c, int root, char *path, struct copied *ret, struct stat *st)
{
	scoped(close_fdp) int in = open_below(c->from, path, O_RDONLY | O_NONBLOCK), dir = -1, out = -1;
	const char *name = path;
	int r;

	ret->unreadable = true;
	if (in < 0)
		return in;
	if (fstat(in, st) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode))
		return -ESTALE; /* it was a file when it was found */
	ret->unreadable = false;
	dir = make_parent(root, path, &name);
	if (dir < 0)
		return dir;
	out = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	r = pump(in, out, ret);
	if (r == 0)
		(void)futimens(out, (struct timespec[2]){{.tv_nsec = UTIME_OMIT}, st->st_mtim});
	else
		(void)unlinkat(dir, name, 0);
	return r;
}

static int read_link(const struct subject_copy *c, const char *path, char target[4096])
{
	scoped(close_fdp) int at = open_below(c->from, path, O_PATH);
	ssize_t n = at < 0 ? at : readlinkat(at, "", target, 4095);

	if (n < 0)
		return at < 0 ? at : -errno;
	target[n] = 0;
	return 0;
}

/* ---- all of it ---- */

struct making {
	struct subject_copy *c;
	int root; /* DIR/files */
	json_t *files, *links;
};

static json_t *time_text(time_t t)
{
	char text[DATE_TEXT_MAX];

	return json_string(date_format(t, text));
}

/* -ENODATA: left out. */
static int left_out(struct making *m, const char *path, int error)
{
	progress_interrupt();
	fputs("coffer: ", stderr);
	put_escaped(stderr, path);
	fprintf(stderr, " cannot be read, and is left out: %s\n", strerror(-error));
	m->c->failed++;
	return -ENODATA;
}

static int take_link(struct making *m, const json_t *row, const char *path)
{
	char target[4096];
	json_t *o;
	int r = read_link(m->c, path, target);

	if (r < 0)
		return left_out(m, path, r);
	o = json_string(target);
	json_array_append_new(m->links, json_pack("{s:O, s:o}", "path", json_object_get(row, "path"), "target",
						o ? o : json_string("(no text)")));
	m->c->links++;
	return 0;
}

static int take_file(struct making *m, const json_t *row, char *path)
{
	struct copied copied = {0};
	struct stat st;
	int r = copy_file(m->c, m->root, path, &copied, &st);

	if (r < 0 && copied.unreadable)
		return left_out(m, path, r);
	if (r < 0)
		return r;
	json_array_append_new(m->files,
		json_pack("{s:O, s:I, s:o, s:s}", "path", json_object_get(row, "path"), "size", (json_int_t)copied.size, "modified",
			time_text(st.st_mtime), "sha256", copied.sha256));
	m->c->files++;
	m->c->bytes += copied.size;
	return 0;
}

static int take_rows(struct making *m, const json_t *rows)
{
	struct progress progress;
	const json_t *row;
	size_t i;
	int r = 0;

	progress_begin(&progress, false);
	json_array_foreach((json_t *)rows, i, row)
	{
		scoped(freep) char *path = path_bytes(row);
		const char *kind = json_string_value(json_object_get(row, "kind"));

		progress_show(&progress, i, json_array_size(rows), "copying: %zu of %zu", i, json_array_size(rows));
		if (interrupted)
			r = -EINTR;
		if (r < 0)
			break;
		if (!path || !kind)
			(void)left_out(m, "a path", -EINVAL);
		else if (*kind == 'f')
			r = take_file(m, row, path);
		else if (*kind == 'l')
			r = take_link(m, row, path);
		if (r == -ENODATA)
			r = 0;
	}
	progress_clear(&progress);
	return r;
}

static int write_index(const struct making *m, int dir, const json_t *about)
{
	scoped(close_fdp) int fd = openat(dir, "index.json", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	json_auto_t *o = json_copy((json_t *)about);
	scoped(freep) char *text = NULL;
	int r;

	if (fd < 0)
		return -errno;
	json_object_set(o, "files", m->files);
	json_object_set(o, "links", m->links);
	text = json_dumps(o, JSON_INDENT(2));
	if (!text)
		return -ENOMEM;
	r = write_all(fd, (const uint8_t *)text, strlen(text));
	if (r == 0)
		r = write_all(fd, (const uint8_t *)"\n", 1);
	return r < 0 ? r : fsync(fd) < 0 ? -errno : 0;
}

int subject_copy_make(struct subject_copy *c, const char *dir, const json_t *rows, const json_t *about)
{
	scoped(close_fdp) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), root = -1;
	json_auto_t *files = json_array(), *links = json_array();
	struct making m = {.c = c, .files = files, .links = links};
	int r = fd < 0 ? -errno : 0;

	catch_interrupts();
	if (r == 0 && mkdirat(fd, "files", 0700) < 0)
		r = -errno;
	if (r == 0)
		m.root = root = openat(fd, "files", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r == 0 && root < 0)
		r = -errno;
	if (r == 0)
		r = take_rows(&m, rows);
	if (r == 0)
		r = write_index(&m, fd, about);
	if (r == -EINTR)
		return fail(EXIT_FAILED, "interrupted");
	return r < 0 ? fail(EXIT_FAILED, "%s: %s", dir, strerror(-r)) : EXIT_OK;
}

/* ---- as one file ---- */

static int run_tar(const char *dir, int out)
{
	extern char **environ;
	const char *const argv[] = {"tar", "--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--directory", dir,
		"--", "files", "index.json", NULL};
	posix_spawn_file_actions_t actions;
	int status, r;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	r = posix_spawnp(&pid, "tar", &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		return fail(EXIT_FAILED, "tar: %s", strerror(r));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return fail(EXIT_FAILED, "tar: %s", strerror(errno));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 && !interrupted ? EXIT_OK
									       : fail(EXIT_FAILED, "tar has failed");
}

int subject_copy_tar(const char *dir, const char *file)
{
	scoped(close_fdp) int out = open(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (out < 0)
		return fail(EXIT_FAILED, "%s: %s", file, strerror(errno));
	r = run_tar(dir, out);
	if (r == EXIT_OK && fsync(out) < 0)
		r = fail(EXIT_FAILED, "%s: %s", file, strerror(errno));
	if (r != EXIT_OK)
		(void)unlink(file);
	return r;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)remove(path);
	return 0;
}

void subject_copy_remove(const char *dir)
{
	(void)nftw(dir, remove_one, OPEN_MAX_DIRS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}
