/* The copies of R for recovery keys, at their paths and in D/keyd/recovery, through rotations and crashes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/recovery_impl.h"

#define FOLDER "recovery"
#define SAY_FOLDER "keyd/" FOLDER
#define TAG_NAME "CACHEDIR.TAG"
#define TAG_TEXT                                                                                             \
	"Signature: 8a477f597d28d172789f06886806bc55\n"                                                      \
	"# Copies of Coffer's root key, sealed to recovery keys.  Leave this folder out of every backup: with\n"   \
	"# an old copy and its recovery key, destroyed data can be opened again.\n"

static int make_folder(const struct keyring *k)
{
	scoped(close_fdp) int fd = -1;
	int r;

	fd = recovery_open_below(k, FOLDER);
	if (fd == -ENOENT && mkdirat(keyring_folder(k), FOLDER, 0700) < 0)
		return -errno;
	if (fd == -ENOENT)
		fd = recovery_open_below(k, FOLDER);
	if (fd < 0)
		return fd;
	if (faccessat(fd, TAG_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return take_fd(&fd);
	disk_mark_private(fd);
	r = disk_replace(fd, TAG_NAME, TAG_TEXT, strlen(TAG_TEXT));
	if (r == 0)
		r = disk_sync_dir(keyring_folder(k));
	return r < 0 ? r : take_fd(&fd);
}

/* ---- copies ---- */

enum found { FOUND_NOTHING = 0, FOUND_OURS, FOUND_FOREIGN, FOUND_ERROR };

/* What stands under a name: a copy of this installation for this holder, or something else. */
static enum found look(int fd, const char *name, const struct recovery_set *s, const struct recovery_holder *h,
	uint64_t *ret_generation)
{
	scoped(freep) uint8_t *file = NULL;
	struct recovery_copy c;
	size_t n;
	int r = disk_read(fd, name, RECOVERY_COPY_BYTES, &file, &n);

	if (r == -ENOENT)
		return FOUND_NOTHING;
	if (r < 0 && r != -EMSGSIZE && r != -EBADMSG)
		return FOUND_ERROR;
	if (r < 0 || recovery_copy_parse(file, n, &c) < 0 ||
		memcmp(c.installation, s->installation, sizeof(c.installation)) != 0 ||
		memcmp(c.to.b, h->public.b, sizeof(c.to.b)) != 0)
		return FOUND_FOREIGN;
	*ret_generation = c.generation;
	return FOUND_OURS;
}

static int write_copy(int fd, const char *name, const struct recovery_set *s, const struct recovery_holder *h,
	uint64_t generation, const struct root_key *r)
{
	uint8_t bytes[RECOVERY_COPY_BYTES];
	struct recovery_copy c = {.generation = generation, .to = h->public};
	int rc;

	memcpy(c.installation, s->installation, sizeof(c.installation));
	rc = recovery_copy_seal(&c, r, bytes);
	return rc < 0 ? rc : disk_replace(fd, name, bytes, sizeof(bytes));
}

struct place { /* a holder's path, open */
	int fd;
	char base[RECOVERY_PATH_MAX], fresh[RECOVERY_PATH_MAX + 8], old[RECOVERY_PATH_MAX + 8];
};

static void place_done(struct place *p)
{
	close_fdp(&p->fd);
}

static int place_open(const struct recovery_holder *h, struct place *p)
{
	char folder[RECOVERY_PATH_MAX], *slash;

	p->fd = -1;
	snprintf(folder, sizeof(folder), "%s", h->path);
	slash = strrchr(folder, '/');
	if (*h->path != '/' || !slash[1])
		return -EINVAL;
	snprintf(p->base, sizeof(p->base), "%s", slash + 1);
	snprintf(p->fresh, sizeof(p->fresh), "%s.new", p->base);
	snprintf(p->old, sizeof(p->old), "%s.old", p->base);
	slash[slash == folder] = '\0';
	p->fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return p->fd < 0 ? -errno : 0;
}

/* What a write that was cut short left beside `name`: ours by its name, which was free when the holder was added. */
static void drop_half_written(int fd, const char *name)
{
	char tmp[RECOVERY_PATH_MAX + 16];

	snprintf(tmp, sizeof(tmp), "%s.tmp", name);
	(void)disk_destroy(fd, tmp);
}

/* Nothing stands at the path, nor under the names that are needed beside it. */
static bool place_is_free(const struct place *p)
{
	static const char *const suffixes[] = {"", ".tmp", ".new", ".new.tmp", ".old"};
	char name[RECOVERY_PATH_MAX + 16];

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		snprintf(name, sizeof(name), "%s%s", p->base, suffixes[i]);
		if (faccessat(p->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
			return false;
	}
	return true;
}

/* Out of the way first: half overwritten it is no copy any more, and could not be told from somebody else's file. */
static int destroy_old(const struct place *p)
{
	if (renameat(p->fd, p->base, p->fd, p->old) < 0)
		return -errno;
	return disk_destroy(p->fd, p->old);
}

/* The copy at the holder's path becomes one of this R, and no other is there; what cannot be done is remembered. */
static void settle_place(struct recovery_set *s, struct recovery_holder *h, const struct root_key *r)
{
	scoped(place_done) struct place p;
	uint64_t there = 0, fresh = 0;
	enum found at, new;
	int gone;

	if (place_open(h, &p) < 0)
		return;
	drop_half_written(p.fd, p.base);
	drop_half_written(p.fd, p.fresh);
	gone = disk_destroy(p.fd, p.old);
	if (gone < 0 && gone != -ENOENT)
		return;
	if (gone == 0) /* it was us who took it away, before a crash */
		h->at_path = 0;
	at = look(p.fd, p.base, s, h, &there);
	new = look(p.fd, p.fresh, s, h, &fresh);
	if (new == FOUND_OURS && (fresh != s->generation || h->removed_at || (at == FOUND_OURS && there == fresh))) {
		if (disk_destroy(p.fd, p.fresh) < 0)
			return;
		new = FOUND_NOTHING;
	}
	if (at == FOUND_ERROR || at == FOUND_FOREIGN)
		return;
	if (at == FOUND_OURS && (there != s->generation || h->removed_at)) {
		h->at_path = there;
		if (destroy_old(&p) < 0)
			return;
		h->at_path = 0;
		at = FOUND_NOTHING;
	}
	/* With a new one beside it, it was us who destroyed the old one, before a crash. */
	if (at == FOUND_NOTHING && h->at_path && new != FOUND_OURS && h->at_path > h->astray)
		h->astray = h->at_path;
	if (at == FOUND_NOTHING)
		h->at_path = 0;
	if (h->removed_at)
		return;
	if (at == FOUND_NOTHING && new == FOUND_OURS && renameat(p.fd, p.fresh, p.fd, p.base) == 0)
		at = disk_sync_dir(p.fd) == 0 ? FOUND_OURS : FOUND_ERROR;
	else if (at == FOUND_NOTHING && write_copy(p.fd, p.base, s, h, s->generation, r) == 0)
		at = FOUND_OURS;
	if (at == FOUND_OURS)
		h->at_path = s->generation;
}

static void prepare_place(const struct recovery_set *s, struct recovery_holder *h, const struct keyring *next)
{
	scoped(place_done) struct place p;
	uint64_t there = 0;
	enum found new;

	if (place_open(h, &p) < 0)
		return;
	/* Gone before we touched it: that is for the certificate, and would be taken for our doing later. */
	if (look(p.fd, p.base, s, h, &there) == FOUND_NOTHING && h->at_path) {
		if (h->at_path > h->astray)
			h->astray = h->at_path;
		h->at_path = 0;
	}
	new = look(p.fd, p.fresh, s, h, &there);
	if (new == FOUND_OURS || new == FOUND_NOTHING)
		(void)write_copy(p.fd, p.fresh, s, h, keyring_generation(next), keyring_root(next));
}

/* ---- D/keyd/recovery ---- */

static int write_missing(int fd, const struct recovery_set *s, const struct recovery_holder *h, const struct keyring *k)
{
	char name[RECOVERY_ENTRY_MAX];
	uint64_t there = 0;

	if (look(fd, recovery_file_name(h->name, keyring_generation(k), name), s, h, &there) == FOUND_OURS &&
		there == keyring_generation(k))
		return 0;
	return write_copy(fd, name, s, h, keyring_generation(k), keyring_root(k));
}

/* Of ours, by its shape: a word, a number, perhaps a write that was cut short. */
static bool name_is_ours(const char *name)
{
	const char *dot = strchr(name, '.');
	size_t digits = dot ? strspn(dot + 1, "0123456789") : 0;

	if (!dot || dot == name || digits == 0 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != (size_t)(dot - name))
		return false;
	return dot[1 + digits] == '\0' || strcmp(dot + 1 + digits, ".tmp") == 0;
}

static bool is_wanted(const struct recovery_set *s, const char *name)
{
	char want[RECOVERY_ENTRY_MAX];

	for (size_t i = 0; i < s->count; i++)
		if (!s->holders[i].removed_at &&
			strcmp(name, recovery_file_name(s->holders[i].name, s->generation, want)) == 0)
			return true;
	return false;
}

/* A list of now, or none: names of `holders` in keys/ are ours, too. */
static bool is_old_list(const struct recovery_set *s, const char *name)
{
	char want[RECOVERY_ENTRY_MAX];

	return strncmp(name, RECOVERY_SET ".", sizeof(RECOVERY_SET)) == 0 && name_is_ours(name) &&
	       (s->count == 0 || strcmp(name, recovery_file_name(RECOVERY_SET, s->generation, want)) != 0);
}

static int sweep(const struct keyring *k, const char *folder, const struct recovery_set *s)
{
	int fd = recovery_open_below(k, folder), r = 0, one;
	bool copies = strcmp(folder, FOLDER) == 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		r = fd < 0 ? fd : -errno;
		close_fdp(&fd);
		return r == -ENOENT ? 0 : r;
	}
	for (errno = 0; (e = readdir(d)); errno = 0) {
		if (copies ? !name_is_ours(e->d_name) || is_wanted(s, e->d_name) : !is_old_list(s, e->d_name))
			continue;
		one = disk_destroy(fd, e->d_name);
		if (one < 0 && r == 0)
			r = one;
	}
	if (r == 0 && errno != 0)
		r = -errno;
	closedir(d);
	return r;
}

static void drop_finished(struct recovery_set *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->count; i++)
		if (!s->holders[i].removed_at || s->holders[i].at_path || s->holders[i].astray)
			s->holders[n++] = s->holders[i];
	s->count = n;
}

static int settle(const struct keyring *k, struct recovery_set *s, bool *ret_changed)
{
	scoped(close_fdp) int fd = s->count > 0 ? make_folder(k) : -1;
	struct recovery_set before = *s;
	int r = s->count > 0 && fd < 0 ? fd : 0;

	for (size_t i = 0; r == 0 && i < s->count; i++) {
		if (!s->holders[i].removed_at)
			r = write_missing(fd, s, &s->holders[i], k);
		if (r == 0)
			settle_place(s, &s->holders[i], keyring_root(k));
	}
	drop_finished(s);
	if (r == 0 && memcmp(&before, s, sizeof(before)) != 0) {
		r = recovery_set_write(k, s);
		if (ret_changed)
			*ret_changed = true;
	}
	if (r == 0)
		r = sweep(k, FOLDER, s);
	return r == 0 ? sweep(k, RECOVERY_KEYS, s) : r;
}

int recovery_settle(const struct keyring *k, bool *ret_changed, struct keys_error *err)
{
	struct recovery_set s;
	int r;

	if (ret_changed)
		*ret_changed = false;
	r = recovery_load(k, &s, err);
	if (r < 0)
		return r;
	r = settle(k, &s, ret_changed);
	if (r < 0)
		keys_error_set(err, SAY_FOLDER ": copies of an older root key cannot be exchanged: %s", strerror(-r));
	return r;
}

int recovery_prepare(const struct keyring *now, const struct keyring *next, struct keys_error *err)
{
	scoped(close_fdp) int fd = -1;
	struct recovery_set s;
	int r;

	r = recovery_load(now, &s, err);
	if (r < 0 || s.count == 0)
		return r;
	fd = make_folder(now);
	if (fd < 0)
		r = fd;
	for (size_t i = 0; r == 0 && i < s.count; i++) {
		if (s.holders[i].removed_at)
			continue;
		r = write_missing(fd, &s, &s.holders[i], next);
		if (r == 0)
			prepare_place(&s, &s.holders[i], next);
	}
	s.generation = keyring_generation(next);
	if (r == 0)
		r = recovery_set_write(next, &s);
	if (r < 0)
		keys_error_set(err, SAY_FOLDER ": the new root key cannot be sealed to the recovery keys: %s", strerror(-r));
	return r;
}

/* ---- changes ---- */

static bool name_will_do(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n < RECOVERY_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n &&
	       strcmp(name, RECOVERY_SET) != 0;
}

static struct recovery_holder *find(struct recovery_set *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (strcmp(s->holders[i].name, name) == 0)
			return &s->holders[i];
	return NULL;
}

/* Whoever can write to the folder could have us overwrite what he puts there. */
static int check_place(const struct recovery_holder *h, struct keys_error *err)
{
	scoped(place_done) struct place p;
	struct stat st;
	int r = place_open(h, &p);

	if (r == 0 && fstat(p.fd, &st) < 0)
		r = -errno;
	if (r == 0 && faccessat(p.fd, ".", W_OK, AT_EACCESS) < 0)
		r = -errno;
	if (r == -EROFS) {
		keys_error_set(err, "%s: coffer-keyd cannot write there: mounted read-only, or the service may not (ReadWritePaths=)",
			h->path);
		return r;
	}
	if (r == 0 && (st.st_mode & 022)) {
		keys_error_set(err, "%s: others can write to that folder (mode %04o): take one that only its owner can",
			h->path, (unsigned)st.st_mode & 07777);
		return -EPERM;
	}
	if (r < 0)
		keys_error_set(err, "%s: %s; name a file in a folder that is there, by its whole path", h->path, strerror(-r));
	else if (!place_is_free(&p)) {
		keys_error_set(err, "%s: something is there already, or at that name with .new, .old or .tmp: name another file", h->path);
		r = -EINVAL;
	}
	return r;
}

static int may_add(struct recovery_set *s, const struct recovery_holder *h, struct keys_error *err)
{
	uint8_t bytes[RECOVERY_COPY_BYTES];
	struct root_key none = {0};

	for (size_t i = 0; i < s->count; i++) {
		if (strcmp(s->holders[i].name, h->name) != 0 && strcmp(s->holders[i].path, h->path) != 0 &&
			memcmp(s->holders[i].public.b, h->public.b, RECOVERY_KEY_BYTES) != 0)
			continue;
		keys_error_set(err, "there is a recovery key of that name, path or public key: %s%s", s->holders[i].name,
			s->holders[i].removed_at ? ", removed, whose copy may remain: coffer recovery confirm" : "");
		return -EEXIST;
	}
	if (!name_will_do(h->name)) {
		keys_error_set(err, "%s: a name has 1 to %d of a-z, 0-9 and -, and is not \"" RECOVERY_SET "\"", h->name, RECOVERY_NAME_MAX - 1);
		return -EINVAL;
	}
	if (recovery_copy_seal(&(struct recovery_copy){.generation = 1, .to = h->public}, &none, bytes) < 0) {
		keys_error_set(err, "nothing can be sealed to that key");
		return -EINVAL;
	}
	if (s->count < RECOVERY_HOLDERS_MAX)
		return check_place(h, err);
	keys_error_set(err, "there are %d recovery keys, which is the limit", RECOVERY_HOLDERS_MAX);
	return -ENOSPC;
}

int recovery_add(const struct keyring *k, const struct recovery_holder *h, struct keys_error *err)
{
	struct recovery_set s;
	int r = recovery_load(k, &s, err);

	if (r == 0)
		r = may_add(&s, h, err);
	if (r < 0)
		return r;
	if (bytes_are_zero(s.installation, sizeof(s.installation)))
		randombytes_buf(s.installation, sizeof(s.installation));
	s.holders[s.count] = *h;
	s.holders[s.count].at_path = s.holders[s.count].astray = 0;
	s.holders[s.count++].removed_at = 0;
	/* The list before the copy: there is none that nobody knows of. */
	r = recovery_set_write(k, &s);
	if (r == 0)
		r = settle(k, &s, NULL);
	if (r < 0)
		return recovery_say(r, SAY_FOLDER, err);
	if (s.holders[s.count - 1].at_path == s.generation)
		return 0;
	keys_error_set(err, "%s: the copy cannot be written there", h->path);
	s.holders[s.count - 1].removed_at = h->added_at;
	(void)settle(k, &s, NULL);
	return -EIO;
}

int recovery_remove(const struct keyring *k, const char *name, int64_t now, struct keys_error *err)
{
	struct recovery_holder *h;
	struct recovery_set s;
	int r = recovery_load(k, &s, err);

	if (r < 0)
		return r;
	h = find(&s, name);
	if (!h || h->removed_at) {
		keys_error_set(err, "there is no recovery key %s", name);
		return -ENOENT;
	}
	h->removed_at = now;
	r = recovery_set_write(k, &s);
	if (r == 0)
		r = settle(k, &s, NULL);
	return r < 0 ? recovery_say(r, SAY_FOLDER, err) : 0;
}

int recovery_confirm(const struct keyring *k, const char *name, struct keys_error *err)
{
	struct recovery_holder *h;
	struct recovery_set s;
	int r = recovery_load(k, &s, err);

	if (r < 0)
		return r;
	h = find(&s, name);
	if (!h || !recovery_may_remain(&s, h)) {
		keys_error_set(err, h ? "no copy of %s may remain: there is nothing to confirm" : "there is no recovery key %s", name);
		return -ENOENT;
	}
	h->astray = 0;
	if (h->at_path != s.generation || h->removed_at)
		h->at_path = 0;
	drop_finished(&s);
	r = recovery_set_write(k, &s);
	return r < 0 ? recovery_say(r, SAY_FOLDER, err) : 0;
}

/* ---- what can be said ---- */

bool recovery_may_remain(const struct recovery_set *s, const struct recovery_holder *h)
{
	return h->astray || (h->at_path && (h->removed_at || h->at_path != s->generation));
}

bool recovery_is_behind(const struct recovery_set *s, const struct recovery_holder *h)
{
	return h->removed_at ? h->at_path != 0 : h->at_path != s->generation;
}

static json_t *remains_text(const struct recovery_set *s, const struct recovery_holder *h)
{
	if (h->astray)
		return json_sprintf("a copy of the root key of generation %" PRIu64
				    " was not at %s any more when it was to be replaced",
			h->astray, h->path);
	if (recovery_may_remain(s, h))
		return json_sprintf("the copy of the root key of generation %" PRIu64 " at %s could not be %s", h->at_path,
			h->path, h->removed_at ? "removed" : "replaced");
	return NULL;
}

json_t *recovery_json(const struct recovery_set *s)
{
	json_t *rows = json_array(), *row;
	char line[RECOVERY_LINE_MAX];

	for (size_t i = 0; i < s->count; i++) {
		const struct recovery_holder *h = &s->holders[i];

		row = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:b, s:o*}", "name", h->name, "public_key",
			recovery_public_format(&h->public, line), "path", h->path, "added_by", h->by, "added_at",
			(json_int_t)h->added_at, "generation", (json_int_t)h->at_path, "current",
			!h->removed_at && h->at_path == s->generation, "may_remain", remains_text(s, h));
		if (h->removed_at)
			json_object_set_new(row, "removed_at", json_integer(h->removed_at));
		json_array_append_new(rows, row);
	}
	return rows;
}

/* ---- opening ---- */

/* The newest copy for this key in a folder; what is none is passed over. */
static int find_in_folder(int folder, const struct recovery_public *to, uint8_t ret[RECOVERY_COPY_BYTES])
{
	DIR *d = fdopendir(folder);
	struct recovery_copy c;
	uint64_t newest = 0;
	struct dirent *e;

	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		scoped(freep) uint8_t *file = NULL;
		size_t n;

		if (disk_read(folder, e->d_name, RECOVERY_COPY_BYTES, &file, &n) < 0 || recovery_copy_parse(file, n, &c) < 0 ||
			memcmp(c.to.b, to->b, sizeof(c.to.b)) != 0 || c.generation <= newest)
			continue;
		newest = c.generation;
		memcpy(ret, file, RECOVERY_COPY_BYTES);
	}
	closedir(d);
	return newest ? 0 : -ENOENT;
}

int recovery_copy_find(
	const char *path, const struct recovery_public *to, uint8_t ret[RECOVERY_COPY_BYTES], struct keys_error *err)
{
	scoped(freep) uint8_t *file = NULL;
	struct recovery_copy c;
	size_t n;
	int fd, r;

	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		r = find_in_folder(fd, to, ret);
		if (r < 0)
			keys_error_set(err, "%s: no copy of the root key for this recovery key is in it", path);
		return r;
	}
	r = disk_read(AT_FDCWD, path, RECOVERY_COPY_BYTES, &file, &n);
	if (r == 0)
		r = recovery_copy_parse(file, n, &c);
	if (r == 0 && memcmp(c.to.b, to->b, sizeof(c.to.b)) != 0)
		r = -EKEYREJECTED;
	if (r < 0) {
		keys_error_set(err, "%s: %s", path,
			r == -EKEYREJECTED                     ? "this copy is sealed to another recovery key"
			: r == -EBADMSG                        ? "this copy is torn or altered"
			: r == -ENODATA || r == -EMSGSIZE      ? "this is no copy of a root key"
			: r == -EPROTONOSUPPORT                ? "of a later version of Coffer"
							       : strerror(-r));
		return r;
	}
	memcpy(ret, file, RECOVERY_COPY_BYTES);
	return 0;
}
