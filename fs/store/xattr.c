/* Extended attributes on disk: name = "user.coffer.x." base64url(SIV(name)), value = nonce 24,
 * XChaCha20-Poly1305(value), tag 16, with owner's id (16) and the name as stored as AAD.
 * Keys: BLAKE2b-512 of the file's content key, or of the directory's name key: 32 for names, 32 for values.
 */
#include <errno.h>
#include <linux/limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "common/base64url.h"
#include "common/pathseal.h"
#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

#define PREFIX "user.coffer.x."
#define PREFIX_LEN (sizeof(PREFIX) - 1)
#define VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define ATTR_MAX 156 /* 156 + 24 bytes are 240 characters, with the prefix 254 */
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define OVERHEAD (NONCE_BYTES + crypto_aead_xchacha20poly1305_ietf_ABYTES)
#define ID_BYTES 16

static const uint8_t personal_file[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-file-xatt";
static const uint8_t personal_dir[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-dirs-xatt";

struct stored {
	char name[XATTR_NAME_MAX + 1];
};

void xattr_keys_wipe(struct xattr_keys *k)
{
	sodium_memzero(k, sizeof(*k));
}

static void derive(const struct key32 *key, const uint8_t *personal, struct xattr_keys *ret)
{
	crypto_generichash_blake2b_salt_personal(
		(uint8_t *)ret, sizeof(*ret), NULL, 0, key->b, sizeof(key->b), NULL, personal);
}

void xattr_keys_of_file(const struct key32 *content, struct xattr_keys *ret)
{
	derive(content, personal_file, ret);
}

void xattr_keys_of_dir(const struct key32 *names, struct xattr_keys *ret)
{
	derive(names, personal_dir, ret);
}

int xattr_check_name(const char *attr)
{
	const char *dot = strchr(attr, '.');

	if (strncmp(attr, "user.", 5) != 0 && strncmp(attr, "security.", 9) != 0)
		return -EOPNOTSUPP;
	if (dot[1] == 0)
		return -EINVAL;
	return strlen(attr) > ATTR_MAX ? -ERANGE : 0;
}

static void seal_name(const struct xattr_owner *o, const char *attr, struct stored *ret)
{
	uint8_t sealed[ATTR_MAX + PATHSEAL_OVERHEAD];
	size_t n = strlen(attr);

	pathseal_seal(&o->keys->name, NULL, 0, attr, n, sealed);
	memcpy(ret->name, PREFIX, PREFIX_LEN);
	sodium_bin2base64(ret->name + PREFIX_LEN, sizeof(ret->name) - PREFIX_LEN, sealed,
		n + PATHSEAL_OVERHEAD, VARIANT);
}

static size_t associated_data(
	const struct xattr_owner *o, const struct stored *s, uint8_t ad[ID_BYTES + XATTR_NAME_MAX + 1])
{
	size_t n = strlen(s->name);

	memcpy(ad, o->id, ID_BYTES);
	memcpy(ad + ID_BYTES, s->name, n);
	return ID_BYTES + n;
}

static int open_value(
	const struct xattr_owner *o, const struct stored *s, const uint8_t *in, size_t n, void *buf)
{
	uint8_t ad[ID_BYTES + XATTR_NAME_MAX + 1];
	size_t ad_len = associated_data(o, s, ad);

	if (crypto_aead_xchacha20poly1305_ietf_decrypt(
		    buf, NULL, NULL, in + NONCE_BYTES, n - NONCE_BYTES, ad, ad_len, in, o->keys->value.b) < 0)
		return store_damage("xattr");
	return (int)(n - OVERHEAD);
}

int xattr_get(const struct xattr_owner *o, const char *attr, void *buf, size_t cap)
{
	scoped(freep) uint8_t *in = NULL;
	struct stored s;
	ssize_t n;

	seal_name(o, attr, &s);
	n = backing_getxattr(o->fd, s.name, NULL, 0);
	if (n < 0)
		return (int)n;
	if ((size_t)n < OVERHEAD)
		return store_damage("xattr");
	if (cap == 0)
		return (int)(n - (ssize_t)OVERHEAD);
	if (cap < (size_t)n - OVERHEAD)
		return -ERANGE;
	in = malloc((size_t)n);
	if (!in)
		return -ENOMEM;
	n = backing_getxattr(o->fd, s.name, in, (size_t)n);
	if (n < 0)
		return (int)n;
	if ((size_t)n < OVERHEAD)
		return store_damage("xattr");
	return open_value(o, &s, in, (size_t)n, buf);
}

int xattr_set(const struct xattr_owner *o, const char *attr, const void *val, size_t n, int flags)
{
	scoped(freep) uint8_t *out = NULL;
	uint8_t ad[ID_BYTES + XATTR_NAME_MAX + 1];
	struct stored s;
	size_t ad_len;
	int r;

	if (n > XATTR_SIZE_MAX)
		return -E2BIG;
	if (n > XATTR_SIZE_MAX - OVERHEAD)
		return -ENOSPC;
	out = malloc(n + OVERHEAD);
	if (!out)
		return -ENOMEM;
	seal_name(o, attr, &s);
	ad_len = associated_data(o, &s, ad);
	randombytes_buf(out, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(
		out + NONCE_BYTES, NULL, val, n, ad, ad_len, NULL, out, o->keys->value.b);
	r = backing_setxattr(o->fd, s.name, out, n + OVERHEAD, flags);
	return r == -ERANGE ? -ENOSPC : r;
}

int xattr_remove(const struct xattr_owner *o, const char *attr)
{
	struct stored s;

	seal_name(o, attr, &s);
	return backing_removexattr(o->fd, s.name);
}

/* The stored names, NUL-separated. */
static int raw_list(int fd, char **ret, size_t *ret_n)
{
	scoped(freep) char *list = NULL;
	ssize_t n;

	list = malloc(XATTR_LIST_MAX);
	if (!list)
		return -ENOMEM;
	n = flistxattr(fd, list, XATTR_LIST_MAX);
	if (n < 0)
		return -errno;
	*ret = take_ptr(&list);
	*ret_n = (size_t)n;
	return 0;
}

static int open_name(const struct xattr_owner *o, const char *stored, char attr[ATTR_MAX + 1])
{
	uint8_t sealed[ATTR_MAX + PATHSEAL_OVERHEAD];
	const char *text = stored + PREFIX_LEN;
	size_t n;

	if (base64url_decode(sealed, sizeof(sealed), text, strlen(text), &n) < 0)
		return store_damage("xattr");
	if (pathseal_open(&o->keys->name, NULL, 0, sealed, n, attr) < 0)
		return store_damage("xattr");
	attr[n - PATHSEAL_OVERHEAD] = 0;
	return 0;
}

int xattr_list(const struct xattr_owner *o, char *buf, size_t cap)
{
	scoped(freep) char *list = NULL;
	char attr[ATTR_MAX + 1];
	size_t n = 0, at, len, used = 0;
	int r;

	r = raw_list(o->fd, &list, &n);
	if (r < 0)
		return r;
	for (at = 0; at < n; at += strlen(list + at) + 1) {
		if (strncmp(list + at, PREFIX, PREFIX_LEN) != 0)
			continue;
		r = open_name(o, list + at, attr);
		if (r < 0)
			return r;
		if (strcmp(attr, SUBJECTS_ATTR) == 0)
			continue;
		len = strlen(attr) + 1;
		if (cap > 0 && used + len > cap)
			return -ERANGE;
		if (cap > 0)
			memcpy(buf + used, attr, len);
		used += len;
	}
	return (int)used;
}

void xattr_remove_all(int fd)
{
	scoped(freep) char *list = NULL;
	size_t n = 0, at;

	if (raw_list(fd, &list, &n) < 0)
		return;
	for (at = 0; at < n; at += strlen(list + at) + 1)
		if (strncmp(list + at, PREFIX, PREFIX_LEN) == 0 || strcmp(list + at, CLASS_XATTR) == 0)
			(void)fremovexattr(fd, list + at);
}
