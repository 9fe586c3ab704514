#include "keyd/slot_protector.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"
#include "keyd/tpm2.h"

#define TEXT_MAX 1024 /* of a credential; as of a passphrase */

static const char *const names[] = {
	[SLOT_BY_KEY_FILE] = "key file",
	[SLOT_BY_PASSPHRASE] = "passphrase",
	[SLOT_BY_CREDENTIAL] = "credential",
	[SLOT_BY_SYSTEMD] = "systemd",
	[SLOT_BY_TPM] = "tpm2",
};

const char *slot_protection_name(enum slot_protection p)
{
	return p >= SLOT_BY_KEY_FILE && p <= SLOT_PROTECTION_LAST ? names[p] : "?";
}

int slot_protection_parse(const char *text, enum slot_protection *ret)
{
	for (enum slot_protection p = SLOT_BY_KEY_FILE; p <= SLOT_PROTECTION_LAST; p++) {
		if (strcmp(text, names[p]) == 0) {
			*ret = p;
			return 0;
		}
	}
	return -EINVAL;
}

static void text_freep(char **p)
{
	secret_free(*p);
}

/* Without the newline at its end, as a passphrase comes in. */
static int read_credential(const char *path, char **ret, size_t *ret_n, struct keys_error *err)
{
	scoped(text_freep) char *buf = secret_alloc(TEXT_MAX + 1);
	scoped(close_fdp) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	if (fd < 0 || fstat(fd, &st) < 0) {
		int saved = errno;

		keys_error_set(err, "the credential %s cannot be opened: %s", path, strerror(saved));
		return saved == ENOENT ? -ENOKEY : -saved;
	}
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077)) {
		keys_error_set(err, "the credential %s must be a file that nobody else can read (mode %04o): chmod 600, and think "
				    "who has read it",
			path, (unsigned)st.st_mode & 07777);
		return -EPERM;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		keys_error_set(err, "the credential %s belongs to another user: chown it", path);
		return -EPERM;
	}
	n = read(fd, buf, TEXT_MAX + 1);
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	if (n < 1 || n > TEXT_MAX) {
		keys_error_set(err, "the credential %s must have 1 to %d bytes", path, TEXT_MAX);
		return -EBADMSG;
	}
	*ret = take_ptr(&buf);
	*ret_n = (size_t)n;
	return 0;
}

static int say_tpm(const char *where, int r, struct keys_error *err)
{
	keys_error_set(err, "the key in the TPM %s: %s", where,
		r == -EINVAL		? "no such place: INDEX or INDEX@TCTI"
		: r == -ENXIO		? "there is no TPM, or it may not be used by this user"
		: r == -ENOENT		? "the index is not there any more"
		: r == -EEXIST		? "the index is in use: take another"
		: r == -EOPNOTSUPP	? "this build of Coffer has no part for TPMs"
					: strerror(-r));
	return r == -ENOENT || r == -ENODATA || r == -ENXIO ? -ENOKEY : r;
}

static int read_from_tpm(const char *where, struct key32 *ret, struct keys_error *err)
{
	struct tpm2_place p;
	int r = tpm2_place_parse(where, &p);

	if (r == 0)
		r = tpm2_read(&p, 0, ret->b, KEY_BYTES);
	return r < 0 ? say_tpm(where, r, err) : 0;
}

static int make_in_tpm(const char *where, struct key32 *ret, struct keys_error *err)
{
	struct tpm2_place p;
	struct key32 key;
	int r = tpm2_place_parse(where, &p);

	if (r == 0)
		r = tpm2_define(&p, 0, KEY_BYTES);
	if (r < 0)
		return say_tpm(where, r, err);
	randombytes_buf(key.b, KEY_BYTES);
	r = tpm2_write(&p, 0, key.b, KEY_BYTES);
	if (r == 0)
		*ret = key;
	key32_wipe(&key);
	return r < 0 ? say_tpm(where, r, err) : 0;
}

void slot_protector_forget(const struct slot_head *head)
{
	uint8_t noise[KEY_BYTES];
	struct tpm2_place p;

	if (head->protection != SLOT_BY_TPM || tpm2_place_parse(head->locator, &p) < 0)
		return;
	randombytes_buf(noise, sizeof(noise));
	(void)tpm2_write(&p, 0, noise, sizeof(noise));
	(void)tpm2_undefine(&p, 0);
}

static int credential_path(const struct slot_head *head, char ret[512], struct keys_error *err)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	int k;

	if (head->protection == SLOT_BY_CREDENTIAL) {
		k = snprintf(ret, 512, "%s", head->locator);
		return k < 512 ? 0 : -ENAMETOOLONG;
	}
	if (!folder || !*folder) {
		keys_error_set(err, "$CREDENTIALS_DIRECTORY is not set: coffer-keyd was not started by a systemd unit with "
				    "LoadCredential=%s:...",
			head->locator);
		return -ENOKEY;
	}
	k = snprintf(ret, 512, "%s/%s", folder, head->locator);
	return k < 512 ? 0 : -ENAMETOOLONG;
}

int slot_protector_find(const struct slot_medium *m, const struct slot_head *head, const void *passphrase, size_t n,
	struct key32 *ret, struct keys_error *err)
{
	scoped(text_freep) char *text = NULL;
	char path[512];
	int r;

	if (head->protection == SLOT_BY_KEY_FILE)
		return m->ops->key_read(m, ret, err);
	if (head->protection == SLOT_BY_TPM)
		return read_from_tpm(head->locator, ret, err);
	if (head->protection != SLOT_BY_PASSPHRASE) {
		r = credential_path(head, path, err);
		if (r == 0)
			r = read_credential(path, &text, &n, err);
		if (r < 0)
			return r;
		passphrase = text;
	}
	if (!passphrase) {
		keys_error_set(err, "%s is protected by a passphrase: coffer unseal", m->label);
		return -ENOKEY;
	}
	r = slot_protector_from_passphrase(passphrase, n, &head->kdf, head->salt, ret);
	if (r < 0)
		keys_error_set(err, "Argon2id wants %llu MiB of memory: %s", (unsigned long long)head->kdf.memory >> 20,
			strerror(-r));
	return r;
}

int slot_protector_make(const struct slot_medium *m, const struct slot_head *head, const void *passphrase, size_t n,
	struct key32 *ret, struct keys_error *err)
{
	if (head->protection == SLOT_BY_TPM)
		return make_in_tpm(head->locator, ret, err);
	return slot_protector_find(m, head, passphrase, n, ret, err);
}

int slot_protector_say(const struct slot_medium *m, const struct slot_head *head, int r, struct keys_error *err)
{
	if (r != -EKEYREJECTED)
		keys_error_set(err, "%s was altered: put back the copy kept apart", m->label);
	else if (head->protection == SLOT_BY_PASSPHRASE)
		keys_error_set(err, "wrong passphrase");
	else if (head->protection == SLOT_BY_KEY_FILE)
		keys_error_set(err, "%s does not belong to %s: put back the one that was made with it", m->key_label, m->label);
	else
		keys_error_set(err, "the %s %s does not open %s: put back what it was sealed by", slot_protection_name(head->protection),
			head->locator, m->label);
	return r;
}
