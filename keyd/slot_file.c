#include "keyd/slot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"
#include "keyd/disk.h"

#define FOLDER "slot"
#define SLOT_NAME "root.slot"
#define KEY_NAME "root.key"
#define TAG_NAME "CACHEDIR.TAG"
#define TAG_TEXT                                                                                             \
	"Signature: 8a477f597d28d172789f06886806bc55\n"                                                      \
	"# Coffer's root key lives here.  Leave this folder out of every backup: with a copy of it,\n"       \
	"# destroyed data can be opened again.  Keep the recovery of the root key apart from the data.\n"
#define SAY_SLOT "keyd/slot/" SLOT_NAME
#define SAY_KEY "keyd/slot/" KEY_NAME

struct slot_secrets {
	struct key32 protector;
	struct root_key newest, older;
};

struct slot_file {
	int dir_fd;
	struct slot_secrets *secrets; /* arena */
	struct slot_head head;        /* of the newest */
	unsigned newest;              /* which half: 0 A, 1 B */
	bool has_older;
	struct slot_head older_head;
};

struct halves {
	uint8_t raw[2][SLOT_RECORD_BYTES];
	struct slot_head head[2];
	enum slot_half state[2];
	int newest; /* -1: none is sound */
};

static const char *half_name(unsigned i)
{
	return i == 0 ? "A (bytes 0-4095)" : "B (bytes 4096-8191)";
}

static const char *half_state_word(enum slot_half s)
{
	static const char *const words[] = {
		[SLOT_HALF_SOUND] = "sound",
		[SLOT_HALF_EMPTY] = "has no record",
		[SLOT_HALF_DAMAGED] = "is torn or altered",
		[SLOT_HALF_UNREADABLE] = "cannot be read",
		[SLOT_HALF_UNKNOWN] = "is of a later version of Coffer",
	};

	return words[s];
}

static bool head_is_newer(const struct slot_head *a, const struct slot_head *b)
{
	return a->generation > b->generation || (a->generation == b->generation && a->sequence > b->sequence);
}

static enum slot_half half_state(int r)
{
	if (r == 0)
		return SLOT_HALF_SOUND;
	if (r == -ENODATA)
		return SLOT_HALF_EMPTY;
	return r == -EPROTONOSUPPORT ? SLOT_HALF_UNKNOWN : SLOT_HALF_DAMAGED;
}

/* Reads both; -ENOENT when the file is not there, else always 0. */
static int halves_read(int dir_fd, struct halves *h)
{
	int r;

	h->newest = -1;
	for (unsigned i = 0; i < 2; i++) {
		r = disk_read_block(dir_fd, SLOT_NAME, i, h->raw[i]);
		if (r == -ENOENT)
			return r;
		if (r < 0) {
			memset(h->raw[i], 0, sizeof(h->raw[i]));
			h->state[i] = SLOT_HALF_UNREADABLE;
			continue;
		}
		h->state[i] = half_state(slot_record_parse(h->raw[i], &h->head[i]));
		if (h->state[i] == SLOT_HALF_SOUND &&
			(h->newest < 0 || head_is_newer(&h->head[i], &h->head[h->newest])))
			h->newest = (int)i;
	}
	return 0;
}

static int halves_load(int dir_fd, struct halves *h, struct keys_error *err)
{
	int r;

	r = halves_read(dir_fd, h);
	if (r < 0) {
		keys_error_set(err, SAY_SLOT " is missing: restore it from where the root key is kept apart; "
					     "without it no client can be opened");
		return r;
	}
	/* A record we cannot read may be the newest: taking the other one could undo a destruction. */
	if (h->state[0] == SLOT_HALF_UNKNOWN || h->state[1] == SLOT_HALF_UNKNOWN) {
		keys_error_set(err, SAY_SLOT " was written by a later version of Coffer: start that version");
		return -EPROTONOSUPPORT;
	}
	if (h->newest < 0) {
		keys_error_set(err,
			SAY_SLOT " is damaged: half %s %s, half %s %s; put back the copy of the root "
				 "key that is kept apart from the data",
			half_name(0), half_state_word(h->state[0]), half_name(1),
			half_state_word(h->state[1]));
		return -EBADMSG;
	}
	return 0;
}

static bool halves_are_mirrored(const struct halves *h)
{
	return h->newest >= 0 && h->state[0] == SLOT_HALF_SOUND && h->state[1] == SLOT_HALF_SOUND &&
	       memcmp(h->raw[0], h->raw[1], SLOT_RECORD_BYTES) == 0;
}

static int open_folder(int keyd_fd, int *ret_fd)
{
	int fd = openat(keyd_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static int open_folder_said(int keyd_fd, int *ret_fd, struct keys_error *err)
{
	int r = open_folder(keyd_fd, ret_fd);

	if (r < 0)
		keys_error_set(
			err, "keyd/" FOLDER " cannot be opened (%s): the root key lives there", strerror(-r));
	return r;
}

static bool key_file_exists(int dir_fd)
{
	return faccessat(dir_fd, KEY_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void status_say(struct slot_status *st)
{
	if (st->settled) {
		(void)snprintf(st->text, sizeof(st->text), "both halves are sound");
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (st->half[i] == SLOT_HALF_SOUND)
			continue;
		(void)snprintf(st->text, sizeof(st->text),
			SAY_SLOT ": half %s %s; the next unseal writes it anew", half_name(i),
			half_state_word(st->half[i]));
		return;
	}
	(void)snprintf(st->text, sizeof(st->text),
		SAY_SLOT
		": an exchange of the root key or its protection is not finished; the next unseal does");
}

int slot_file_inspect(int keyd_fd, struct slot_status *ret, struct keys_error *err)
{
	scoped(close_fdp) int dir_fd = -1;
	struct slot_status st = {0};
	struct halves h = {0};
	int r;

	r = open_folder_said(keyd_fd, &dir_fd, err);
	if (r < 0)
		return r;
	r = halves_load(dir_fd, &h, err);
	if (r < 0)
		return r;
	st.half[0] = h.state[0];
	st.half[1] = h.state[1];
	st.head = h.head[h.newest];
	st.settled = halves_are_mirrored(&h) &&
		     !(st.head.protection == SLOT_BY_PASSPHRASE && key_file_exists(dir_fd));
	status_say(&st);
	*ret = st;
	return 0;
}

void slot_file_close(struct slot_file *s)
{
	if (!s)
		return;
	secret_free(s->secrets);
	close_fdp(&s->dir_fd);
	free(s);
}
DEFINE_SCOPED(struct slot_file *, slot_file_close)

static int slot_file_alloc(struct slot_file **ret)
{
	scoped(slot_file_closep) struct slot_file *s = NULL;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->dir_fd = -1;
	s->secrets = secret_alloc(sizeof(*s->secrets));
	if (!s->secrets)
		return -ENOMEM;
	*ret = take_ptr(&s);
	return 0;
}

/* Creates `name` with n bytes; never over something. */
static int write_fresh(int dir_fd, const char *name, const void *buf, size_t n)
{
	scoped(close_fdp) int fd = -1;
	ssize_t k;

	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	disk_mark_private(fd);
	k = pwrite(fd, buf, n, 0);
	if (k < 0)
		return -errno;
	if ((size_t)k != n)
		return -ENOSPC;
	return fsync(fd) < 0 ? -errno : 0;
}

/* A folder left by a creation that was cut short has no slot yet: its key file protects nothing. */
static int prepare_folder(int keyd_fd, int *ret_fd)
{
	scoped(close_fdp) int fd = -1;
	int r;

	if (mkdirat(keyd_fd, FOLDER, 0700) < 0 && errno != EEXIST)
		return -errno;
	r = open_folder(keyd_fd, &fd);
	if (r < 0)
		return r;
	disk_mark_private(fd);
	if (faccessat(fd, SLOT_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	(void)unlinkat(fd, KEY_NAME, 0);
	(void)unlinkat(fd, SLOT_NAME ".new", 0);
	r = disk_replace(fd, TAG_NAME, TAG_TEXT, strlen(TAG_TEXT));
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int write_first(struct slot_file *s)
{
	uint8_t both[2 * SLOT_RECORD_BYTES];
	int r;

	r = write_fresh(s->dir_fd, KEY_NAME, s->secrets->protector.b, KEY_BYTES);
	if (r < 0)
		return r;
	slot_record_seal(&s->head, &s->secrets->protector, &s->secrets->newest, both);
	memcpy(both + SLOT_RECORD_BYTES, both, SLOT_RECORD_BYTES);
	/* Not in place: until it has its name there is no slot, and creation begins again. */
	r = write_fresh(s->dir_fd, SLOT_NAME ".new", both, sizeof(both));
	if (r < 0)
		return r;
	if (renameat(s->dir_fd, SLOT_NAME ".new", s->dir_fd, SLOT_NAME) < 0)
		return -errno;
	return disk_sync_dir(s->dir_fd);
}

/* root NULL: a fresh one. */
static int create(int keyd_fd, const struct root_key *root, uint64_t generation, struct slot_file **ret,
	struct keys_error *err)
{
	scoped(slot_file_closep) struct slot_file *s = NULL;
	int r;

	r = slot_file_alloc(&s);
	if (r < 0)
		return r;
	r = prepare_folder(keyd_fd, &s->dir_fd);
	if (r == 0) {
		randombytes_buf(s->secrets->protector.b, KEY_BYTES);
		randombytes_buf(s->secrets->newest.key.b, KEY_BYTES);
		if (root)
			s->secrets->newest = *root;
		s->head = (struct slot_head){
			.protection = SLOT_BY_KEY_FILE, .generation = generation, .sequence = 1};
		r = write_first(s);
	}
	if (r == 0)
		r = disk_sync_dir(keyd_fd);
	if (r < 0) {
		keys_error_set(err, "keyd/slot: the root key cannot be made there: %s",
			r == -EEXIST ? "there is one already" : strerror(-r));
		return r;
	}
	*ret = take_ptr(&s);
	return 0;
}

int slot_file_create(int keyd_fd, struct slot_file **ret, struct keys_error *err)
{
	return create(keyd_fd, NULL, 1, ret, err);
}

int slot_file_recreate(int keyd_fd, const struct root_key *r, uint64_t generation, struct slot_file **ret,
	struct keys_error *err)
{
	return create(keyd_fd, r, generation, ret, err);
}

static int read_key_file(int dir_fd, struct key32 *ret, struct keys_error *err)
{
	scoped(close_fdp) int fd = -1;
	uint8_t buf[KEY_BYTES + 1]; /* one more shows a file that is too long */
	struct stat st;
	ssize_t n;

	fd = openat(dir_fd, KEY_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		int saved = errno;

		keys_error_set(err, SAY_KEY " cannot be opened (%s): it opens " SAY_SLOT "; put it back",
			strerror(saved));
		return saved == ENOENT ? -ENOKEY : -saved;
	}
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077)) {
		keys_error_set(err,
			SAY_KEY " can be read by others (mode %04o): chmod 600, and think who has read it",
			(unsigned)st.st_mode & 07777);
		return -EPERM;
	}
	n = read(fd, buf, sizeof(buf));
	if (n != KEY_BYTES) {
		sodium_memzero(buf, sizeof(buf));
		keys_error_set(err,
			SAY_KEY
			" is damaged: it must be %d bytes; put back the copy that belongs to " SAY_SLOT,
			KEY_BYTES);
		return -EBADMSG;
	}
	memcpy(ret->b, buf, KEY_BYTES);
	sodium_memzero(buf, sizeof(buf));
	return 0;
}

static int find_protector(struct slot_file *s, const void *passphrase, size_t n, struct keys_error *err)
{
	int r;

	if (s->head.protection == SLOT_BY_KEY_FILE)
		return read_key_file(s->dir_fd, &s->secrets->protector, err);
	if (!passphrase) {
		keys_error_set(err, SAY_SLOT " is protected by a passphrase: coffer unseal");
		return -ENOKEY;
	}
	r = slot_protector_from_passphrase(passphrase, n, &s->head.kdf, s->head.salt, &s->secrets->protector);
	if (r < 0)
		keys_error_set(err, "Argon2id wants %llu MiB of memory: %s",
			(unsigned long long)s->head.kdf.memory >> 20, strerror(-r));
	return r;
}

static int say_not_opened(const struct slot_file *s, int r, struct keys_error *err)
{
	if (r == -EKEYREJECTED && s->head.protection == SLOT_BY_PASSPHRASE)
		keys_error_set(err, "wrong passphrase");
	else if (r == -EKEYREJECTED)
		keys_error_set(err,
			SAY_KEY " does not belong to " SAY_SLOT ": put back the one that was made with it");
	else
		keys_error_set(err, SAY_SLOT ", half %s was altered: put back the copy kept apart",
			half_name(s->newest));
	return r;
}

/* The other half counts as the older R only when it is one: sound, of a lower generation, under the same
 * protector.  Else it is something that settling overwrites. */
static void take_older(struct slot_file *s, const struct halves *h)
{
	unsigned other = 1 - s->newest;

	if (h->state[other] != SLOT_HALF_SOUND || h->head[other].generation >= s->head.generation)
		return;
	if (slot_record_open(h->raw[other], &s->secrets->protector, &s->secrets->older) < 0)
		return;
	s->older_head = h->head[other];
	s->has_older = true;
}

int slot_file_open(
	int keyd_fd, const void *passphrase, size_t n, struct slot_file **ret, struct keys_error *err)
{
	scoped(slot_file_closep) struct slot_file *s = NULL;
	struct halves h = {0};
	int r;

	r = slot_file_alloc(&s);
	if (r < 0)
		return r;
	r = open_folder_said(keyd_fd, &s->dir_fd, err);
	if (r < 0)
		return r;
	r = halves_load(s->dir_fd, &h, err);
	if (r < 0)
		return r;
	s->newest = (unsigned)h.newest;
	s->head = h.head[s->newest];
	r = find_protector(s, passphrase, n, err);
	if (r < 0)
		return r;
	r = slot_record_open(h.raw[s->newest], &s->secrets->protector, &s->secrets->newest);
	if (r < 0)
		return say_not_opened(s, r, err);
	take_older(s, &h);
	*ret = take_ptr(&s);
	return 0;
}

uint64_t slot_file_generation(const struct slot_file *s)
{
	return s->head.generation;
}

enum slot_protection slot_file_protection(const struct slot_file *s)
{
	return s->head.protection;
}

const struct root_key *slot_file_root(const struct slot_file *s)
{
	return &s->secrets->newest;
}

const struct root_key *slot_file_older_root(const struct slot_file *s)
{
	return s->has_older ? &s->secrets->older : NULL;
}

uint64_t slot_file_older_generation(const struct slot_file *s)
{
	return s->has_older ? s->older_head.generation : 0;
}

static int say_not_written(int r, unsigned half, struct keys_error *err)
{
	keys_error_set(err, SAY_SLOT ", half %s: %s", half_name(half),
		r == -EIO ? "what was written does not read back; the disk is failing" : strerror(-r));
	return r;
}

int slot_file_advance(struct slot_file *s, const struct root_key *fresh, struct keys_error *err)
{
	struct slot_head head = s->head;
	uint8_t raw[SLOT_RECORD_BYTES];
	unsigned other = 1 - s->newest;
	int r;

	/* An unsettled half holds something that must not be lost before it was looked at. */
	if (s->has_older)
		return -EBUSY;
	head.generation++;
	head.sequence = 1;
	slot_record_seal(&head, &s->secrets->protector, fresh, raw);
	r = disk_write_block(s->dir_fd, SLOT_NAME, other, raw);
	if (r < 0)
		return say_not_written(r, other, err);
	s->secrets->older = s->secrets->newest;
	s->older_head = s->head;
	s->has_older = true;
	s->secrets->newest = *fresh;
	s->head = head;
	s->newest = other;
	return 0;
}

static int overwrite_half(struct slot_file *s, unsigned half, struct keys_error *err)
{
	uint8_t noise[SLOT_RECORD_BYTES];
	int r;

	randombytes_buf(noise, sizeof(noise));
	r = disk_write_block(s->dir_fd, SLOT_NAME, half, noise);
	return r < 0 ? say_not_written(r, half, err) : 0;
}

static int destroy_key_file(struct slot_file *s, struct keys_error *err)
{
	int r;

	if (s->head.protection != SLOT_BY_PASSPHRASE)
		return 0;
	r = disk_destroy(s->dir_fd, KEY_NAME);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		keys_error_set(err,
			SAY_KEY
			" cannot be destroyed (%s): the passphrase protects nothing while it is there",
			strerror(-r));
	return r;
}

int slot_file_settle(struct slot_file *s, struct keys_error *err)
{
	struct halves h = {0};
	int r;

	r = halves_load(s->dir_fd, &h, err);
	if (r < 0)
		return r;
	if (h.newest < 0 || h.head[h.newest].generation != s->head.generation) {
		keys_error_set(err, SAY_SLOT " was changed by somebody else while it was in use");
		return -ESTALE;
	}
	s->newest = (unsigned)h.newest;
	if (!halves_are_mirrored(&h)) {
		r = overwrite_half(s, 1 - s->newest, err);
		if (r < 0)
			return r;
	}
	root_key_wipe(&s->secrets->older);
	s->has_older = false;
	if (!halves_are_mirrored(&h)) {
		r = disk_write_block(s->dir_fd, SLOT_NAME, 1 - s->newest, h.raw[s->newest]);
		if (r < 0)
			return say_not_written(r, 1 - s->newest, err);
	}
	return destroy_key_file(s, err);
}

int slot_file_revert(struct slot_file *s, struct keys_error *err)
{
	/* After a failed advance `newest` is still the old half, and the other one holds nobody knows what.
	 */
	unsigned doomed = s->has_older ? s->newest : 1 - s->newest;
	int r;

	r = overwrite_half(s, doomed, err);
	if (r < 0)
		return r;
	if (s->has_older) {
		s->secrets->newest = s->secrets->older;
		s->head = s->older_head;
		s->newest = 1 - doomed;
		root_key_wipe(&s->secrets->older);
		s->has_older = false;
	}
	return slot_file_settle(s, err);
}

int slot_file_set_passphrase(struct slot_file *s, const void *passphrase, size_t n,
	const struct slot_kdf *kdf, struct keys_error *err)
{
	scoped(key32_wipe) struct key32 protector = {0};
	struct slot_head head = s->head;
	uint8_t raw[SLOT_RECORD_BYTES];
	unsigned other = 1 - s->newest;
	int r;

	if (s->has_older)
		return -EBUSY;
	head.protection = SLOT_BY_PASSPHRASE;
	head.sequence++;
	head.kdf = *kdf;
	randombytes_buf(head.salt, sizeof(head.salt));
	r = slot_protector_from_passphrase(passphrase, n, kdf, head.salt, &protector);
	if (r < 0) {
		keys_error_set(err, "the passphrase cannot be worked into a key: %s", strerror(-r));
		return r;
	}
	slot_record_seal(&head, &protector, &s->secrets->newest, raw);
	r = disk_write_block(s->dir_fd, SLOT_NAME, other, raw);
	if (r < 0) {
		(void)say_not_written(r, other, err);
		(void)slot_file_revert(s, NULL);
		return r;
	}
	s->secrets->protector = protector;
	s->head = head;
	s->newest = other;
	return slot_file_settle(s, err);
}
