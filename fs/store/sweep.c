#include "fs/store/sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base64url.h"
#include "common/bytes.h"
#include "common/scope.h"
#include "fs/store/backing.h"
#include "fs/store/header.h"
#include "fs/store/place.h"
#include "fs/store/store_impl.h"

#define TEXT_MAX 6000 /* of a symlink's target, sealed */
#define LEAF_BYTES 8

enum fate { FATE_STAYS, FATE_DEAD, FATE_UNKNOWN };

struct sweep {
	const struct sweep_options *opt;
	struct sweep_counts *counts;
};

static enum fate fate_of(const struct sweep *s, struct leaf_index leaf)
{
	return s->opt->tree && keytree_holds(s->opt->tree, leaf) ? FATE_STAYS : FATE_DEAD;
}

/* ---- what opens it ---- */

static enum fate file_fate(const struct sweep *s, int dir, const char *entry, bool dead, const struct stat *st)
{
	scoped(close_fdp) int fd = -1;
	uint8_t head[HEADER_BYTES];
	struct header h;
	size_t n = 0;

	if (!s->opt->tree)
		return FATE_DEAD;
	if (st->st_size == 0)
		return dead ? FATE_DEAD : FATE_STAYS; /* it has a name and nothing else */
	fd = backing_open(dir, entry, O_RDONLY);
	if (fd < 0 || backing_read(fd, head, sizeof(head), 0, &n) < 0 || n < sizeof(head))
		return FATE_UNKNOWN;
	if (sodium_is_zero(head, sizeof(head)))
		return dead ? FATE_DEAD : FATE_STAYS;
	return header_peek(head, &h) < 0 ? FATE_UNKNOWN : fate_of(s, h.leaf);
}

/* "=LENGTH:SIDE"; "" when the text stands in the symlink itself. */
static void side_of(const char *text, char side[NAME_MAX_BYTES + 1])
{
	const char *colon = text[0] == '=' ? strchr(text, ':') : NULL;

	side[0] = 0;
	if (colon && strncmp(colon + 1, SIDE_TEXT_PREFIX, 2) == 0 && !strchr(colon + 1, '/') &&
		strlen(colon + 1) <= NAME_MAX_BYTES)
		memcpy(side, colon + 1, strlen(colon + 1) + 1);
}

static enum fate link_fate(const struct sweep *s, int dir, const char *entry, char side[NAME_MAX_BYTES + 1])
{
	char text[TEXT_MAX + 1];
	uint8_t sealed[TEXT_MAX];
	scoped(close_fdp) int fd = -1;
	struct bytes_reader r;
	ssize_t k = backing_readlink(dir, entry, text, sizeof(text));
	size_t n;

	side[0] = 0;
	if (k > 0)
		side_of(text, side);
	if (!s->opt->tree)
		return FATE_DEAD;
	if (k <= 0)
		return FATE_UNKNOWN;
	if (side[0]) {
		fd = backing_open(dir, side, O_RDONLY);
		if (fd < 0 || backing_read(fd, text, TEXT_MAX, 0, &n) < 0)
			return FATE_UNKNOWN;
		text[n] = 0;
	}
	if (base64url_decode(sealed, sizeof(sealed), text, strlen(text), &n) < 0 || n < LEAF_BYTES)
		return FATE_UNKNOWN;
	bytes_reader_init(&r, sealed, LEAF_BYTES);
	return fate_of(s, leaf_index_from_u64(bytes_get_u64(&r)));
}

/* Its id, for where it stands or is about to stand; without one it dies with what it is in. */
static bool dir_is_dead(const struct sweep *s, int fd, bool parent_dead)
{
	static const char *const ids[] = {DIR_ID, DIR_ID_NEW};
	char text[PLACE_DIR_TEXT + 1];
	struct place_mac mac;
	struct dir_id id;
	bool found = false;

	if (!s->opt->tree)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		ssize_t n = backing_readlink(fd, ids[i], text, sizeof(text));

		if (n < 0 || place_dir_decode(text, (size_t)n, &id, &mac) < 0)
			continue;
		if (fate_of(s, id.leaf) == FATE_STAYS)
			return false;
		found = true;
	}
	return found || parent_dead;
}

/* ---- removing ---- */

/* A session may have put another thing where the dead one stood: an editor saves by a rename. */
static bool is_still_dead(const struct sweep *s, int dir, const char *entry, bool dead, const struct stat *st)
{
	char side[NAME_MAX_BYTES + 1];

	if (S_ISREG(st->st_mode))
		return file_fate(s, dir, entry, dead, st) == FATE_DEAD;
	if (S_ISLNK(st->st_mode))
		return link_fate(s, dir, entry, side) == FATE_DEAD;
	return dead && !S_ISDIR(st->st_mode);
}

/* The lock is held.  -ESTALE: it is not what was to go. */
static int drop_locked(struct sweep *s, int dir, const char *entry, int flags, bool dead, struct stat *st)
{
	if (fstatat(dir, entry, st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (s->opt->names && entry[0] != '.' && !(flags & AT_REMOVEDIR) && !is_still_dead(s, dir, entry, dead, st))
		return -ESTALE;
	return unlinkat(dir, entry, flags) < 0 ? -errno : 0;
}

static int drop(struct sweep *s, int dir, const char *entry, int flags, bool dead)
{
	char side[NAME_MAX_BYTES + 4];
	struct stat st;
	mode_t mode;
	int r;

	if (s->opt->names)
		pthread_rwlock_wrlock(s->opt->names);
	backing_relax(dir, &mode);
	r = drop_locked(s, dir, entry, flags, dead, &st);
	if (r == 0 && s->opt->gone && (st.st_nlink == 1 || S_ISDIR(st.st_mode)))
		s->opt->gone(&st, s->opt->arg);
	if (r == 0 && entry[0] == '+') {
		snprintf(side, sizeof(side), SIDE_NAME_PREFIX "%s", entry + 1);
		(void)unlinkat(dir, side, 0);
	}
	backing_restore(dir, mode);
	if (s->opt->names)
		pthread_rwlock_unlock(s->opt->names);
	if (r < 0 && r != -ENOENT && r != -ESTALE)
		s->counts->failed++;
	return r;
}

static void sweep_file(struct sweep *s, int dir, const char *entry, bool dead, struct stat *st)
{
	enum fate f = file_fate(s, dir, entry, dead, st);

	if (f != FATE_DEAD) {
		s->counts->kept += dead;
	} else if (drop(s, dir, entry, 0, dead) == 0) {
		s->counts->files++;
		s->counts->bytes += st->st_nlink == 1 ? (uint64_t)st->st_size : 0;
	}
}

static void sweep_link(struct sweep *s, int dir, const char *entry, bool dead)
{
	char side[NAME_MAX_BYTES + 1];
	enum fate f = link_fate(s, dir, entry, side);

	if (f != FATE_DEAD) {
		s->counts->kept += dead;
	} else if (drop(s, dir, entry, 0, dead) == 0) {
		s->counts->links++;
		if (side[0])
			(void)drop(s, dir, side, 0, dead);
	}
}

static int sweep_dir(struct sweep *s, int fd, bool dead);

/* The id is the last to go: until then one who begins again sees that it is dead. */
static void remove_dir(struct sweep *s, int parent, int fd, const char *entry)
{
	static const char *const ids[] = {DIR_ID_NEW, DIR_ID};
	mode_t mode;

	backing_relax(fd, &mode);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		(void)unlinkat(fd, ids[i], 0);
	if (drop(s, parent, entry, AT_REMOVEDIR, true) == 0)
		s->counts->directories++;
}

static int sweep_below(struct sweep *s, int parent, const char *entry, bool parent_dead)
{
	scoped(close_fdp) int fd = backing_open(parent, entry, O_RDONLY | O_DIRECTORY);
	uint64_t stays = s->counts->kept + s->counts->failed;
	bool dead;
	int r;

	if (fd < 0) {
		s->counts->failed += fd != -ENOENT;
		return 0;
	}
	dead = dir_is_dead(s, fd, parent_dead);
	if (!dead && parent_dead)
		s->counts->kept++;
	r = sweep_dir(s, fd, dead);
	if (r == 0 && dead && s->counts->kept + s->counts->failed == stays)
		remove_dir(s, parent, fd, entry);
	return r;
}

static int sweep_entry(struct sweep *s, int dir, const char *entry, bool dead)
{
	struct stat st;

	s->counts->looked++;
	if (fstatat(dir, entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (S_ISDIR(st.st_mode))
		return sweep_below(s, dir, entry, dead);
	if (S_ISREG(st.st_mode))
		sweep_file(s, dir, entry, dead, &st);
	else if (S_ISLNK(st.st_mode))
		sweep_link(s, dir, entry, dead);
	else if (dead && drop(s, dir, entry, 0, dead) == 0)
		s->counts->others++;
	return s->opt->step(s->counts, s->opt->arg) ? 0 : -ECANCELED;
}

static bool is_id(const char *entry)
{
	return strcmp(entry, DIR_ID) == 0 || strcmp(entry, DIR_ID_NEW) == 0;
}

/* Our own entries: after the names, and only of what is dead. */
static void sweep_sides(struct sweep *s, int fd, DIR *d)
{
	const struct dirent *e;

	rewinddir(d);
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && e->d_name[0] == '.' &&
			!is_id(e->d_name))
			(void)drop(s, fd, e->d_name, 0, true);
}

static int sweep_dir(struct sweep *s, int fd, bool dead)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	uint64_t stays = s->counts->kept + s->counts->failed;
	DIR *d = own < 0 ? NULL : fdopendir(own);
	const struct dirent *e;

	if (!d) {
		s->counts->failed++;
		close_fdp(&own);
		return 0;
	}
	while (r == 0 && (e = readdir(d)))
		if (e->d_name[0] != '.')
			r = sweep_entry(s, fd, e->d_name, dead);
	if (r == 0 && dead && s->counts->kept + s->counts->failed == stays)
		sweep_sides(s, fd, d);
	closedir(d);
	return r;
}

int store_sweep(int root_fd, const struct sweep_options *opt, struct sweep_counts *ret)
{
	struct sweep s = {.opt = opt, .counts = ret};
	scoped(close_fdp) int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool dead;
	int r;

	if (fd < 0)
		return -errno;
	dead = dir_is_dead(&s, fd, false);
	if (dead && opt->tree)
		return -ENOKEY; /* another client's tree: nothing of this is to be judged by it */
	r = sweep_dir(&s, fd, dead);
	if (r == 0 && dead) { /* the folder itself stays */
		(void)unlinkat(fd, DIR_ID_NEW, 0);
		(void)unlinkat(fd, DIR_ID, 0);
	}
	return r;
}
