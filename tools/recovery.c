#include "tools/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/scope.h"
#include "keyd/facts.h"
#include "keyd/keyring.h"
#include "keyd/recovery.h"
#include "keyd/slot_set.h"
#include "tools/passphrase.h"

DEFINE_SCOPED(struct keyring *, keyring_free)
DEFINE_SCOPED(struct slot_set *, slot_set_close)

static void secret_freep(char **p)
{
	secret_free(*p);
}

int recovery_begin(void)
{
	int r = secret_init(RECOVERY_ARENA_BYTES);

	if (r == 0)
		r = secret_harden_process();
	return r < 0 ? fail(EXIT_FAILED, "keys need locked memory, and the limit (ulimit -l) does not allow 4 MiB: %s",
			       strerror(-r))
		     : EXIT_OK;
}

/* ---- the secret's file ---- */

static int read_text(const char *file, char *buf, size_t *ret_n)
{
	scoped(close_fdp) int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	ssize_t n = fd < 0 ? -1 : read(fd, buf, RECOVERY_FILE_MAX);

	if (n < 0 || fstat(fd, &st) < 0)
		return fail(EXIT_USAGE, "%s: %s", file, strerror(errno));
	if (S_ISREG(st.st_mode) && (st.st_mode & 077))
		(void)fail(EXIT_OK, "%s: others can read this secret (mode %04o): chmod 600, and think who has", file,
			(unsigned)st.st_mode & 07777);
	*ret_n = (size_t)n;
	return EXIT_OK;
}

static int parse_with_passphrase(
	const char *file, const char *text, size_t n, int passphrase_fd, struct recovery_pair **ret)
{
	scoped(secret_freep) char *passphrase = secret_alloc(PASSPHRASE_BYTES_MAX);
	scoped(close_fdp) int fd = -1;
	ssize_t got;
	int r = passphrase_ask(passphrase_fd, "Passphrase of the recovery key", false, &fd);

	if (r != EXIT_OK)
		return r;
	got = passphrase ? read(fd, passphrase, PASSPHRASE_BYTES_MAX) : -1;
	if (got < 0)
		return fail(EXIT_FAILED, "the passphrase cannot be read");
	r = recovery_file_parse(text, n, passphrase, (size_t)got, ret);
	if (r == -EKEYREJECTED)
		return fail(EXIT_REFUSED, "%s: wrong passphrase", file);
	return r < 0 ? fail(EXIT_DAMAGED, "%s: %s", file, r == -EBADMSG ? "altered" : strerror(-r)) : EXIT_OK;
}

int recovery_read(const char *file, int passphrase_fd, struct recovery_pair **ret)
{
	scoped(secret_freep) char *text = secret_alloc(RECOVERY_FILE_MAX);
	size_t n = 0;
	int r;

	if (!text)
		return fail(EXIT_FAILED, "no locked memory left");
	r = read_text(file, text, &n);
	if (r != EXIT_OK)
		return r;
	r = recovery_file_parse(text, n, NULL, 0, ret);
	if (r == -ENOKEY)
		return parse_with_passphrase(file, text, n, passphrase_fd, ret);
	if (r == -EBADMSG)
		return fail(EXIT_DAMAGED, "%s: this is no recovery key, or it was altered; `coffer recovery keygen` makes one", file);
	return r < 0 ? fail(EXIT_FAILED, "%s: %s", file, strerror(-r)) : EXIT_OK;
}

/* ---- opening ---- */

int recovery_open_copy(const char *copy, const struct recovery_pair *pair, struct root_key **ret, uint64_t *ret_generation)
{
	struct root_key *root = secret_alloc(sizeof(*root));
	uint8_t bytes[RECOVERY_COPY_BYTES];
	struct keys_error err = {0};
	struct recovery_copy c;
	int r;

	if (!root)
		return fail(EXIT_FAILED, "no locked memory left");
	r = recovery_copy_find(copy, &pair->public, bytes, &err);
	if (r < 0) {
		secret_free(root);
		return fail(r == -ENOENT ? EXIT_NOT_FOUND : r == -EKEYREJECTED ? EXIT_REFUSED : EXIT_DAMAGED, "%s", err.text);
	}
	r = recovery_copy_open(bytes, sizeof(bytes), pair, root);
	if (r == 0)
		r = recovery_copy_parse(bytes, sizeof(bytes), &c);
	if (r < 0) {
		secret_free(root);
		return fail(EXIT_DAMAGED, "%s: this copy does not open: it was altered", copy);
	}
	*ret = root;
	*ret_generation = c.generation;
	return EXIT_OK;
}

static int say_other_keys(const char *root, uint64_t generation, int r, const struct keys_error *err)
{
	if (r == -ENOENT)
		return fail(EXIT_NOT_FOUND,
			"%s/keyd/keys has no keys of generation %" PRIu64 ", which this copy of the root key opens: each "
			"destruction makes a new root key, so take the newest copy, and the newest backup",
			root, generation);
	return fail(EXIT_DAMAGED, "the keys in %s/keyd/keys do not open with this copy of the root key: %s", root, err->text);
}

/* For the next start of coffer-keyd, which takes it into the book. */
static int put_on_record(const struct statedir *d, const struct recovery_pair *pair, uint64_t generation)
{
	char line[RECOVERY_LINE_MAX], *path = NULL;
	const struct passwd *me = getpwuid(getuid());
	scoped(facts_closep) struct facts *f = NULL;
	json_t *entry;
	int r;

	if (asprintf(&path, "%s/keyd/facts.db", d->root) < 0)
		return -ENOMEM;
	r = facts_open(path, &f);
	free(path);
	if (r < 0)
		return r;
	entry = json_pack("{s:s, s:i, s:s, s:I, s:{s:s, s:I}}", "kind", "recovery-open", "outcome", 0, "user",
		me ? me->pw_name : "?", "uid", (json_int_t)getuid(), "detail", "public_key",
		recovery_public_format(&pair->public, line), "generation", (json_int_t)generation);
	r = facts_outbox_put(f, (int64_t)time(NULL), entry);
	json_decref(entry);
	return r;
}

int recovery_make_slot(
	const struct statedir *d, const struct recovery_pair *pair, const struct root_key *r, uint64_t generation)
{
	scoped(close_fdp) int keyd = statedir_open(d, "keyd", O_RDONLY | O_DIRECTORY, 0);
	scoped(slot_set_closep) struct slot_set *slot = NULL;
	scoped(keyring_freep) struct keyring *ring = NULL;
	struct keys_error err = {0};
	int e;

	if (keyd < 0)
		return fail(EXIT_USAGE, "%s/keyd: %s", d->root, strerror(-keyd));
	if (faccessat(keyd, "slot/root.slot", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return fail(EXIT_REFUSED,
			"%s/keyd/slot has a slot: if it is not the right one, move the folder away first", d->root);
	e = keyring_load(keyd, r, generation, &ring, &err);
	if (e == 0)
		e = keyring_check(ring, NULL, &err);
	if (e < 0)
		return say_other_keys(d->root, generation, e, &err);
	e = put_on_record(d, pair, generation);
	if (e < 0)
		return fail(EXIT_FAILED, "%s/keyd/facts.db: it cannot be recorded: %s", d->root, strerror(-e));
	e = slot_set_recreate(keyd, r, generation, &slot, &err);
	return e < 0 ? fail(EXIT_FAILED, "%s", err.text) : EXIT_OK;
}
