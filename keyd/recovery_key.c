/* A copy, version 1, integers little-endian:
 *
 *	offset  size  field                          on read
 *	0       8     magic "COFRRCPY"               else: no copy
 *	8       2     version = 1                    else refused
 *	10      6     zero                           must be zero
 *	16      8     generation of R                > 0; as inside
 *	24      16    installation                   as inside
 *	40      32    the recovery key's public half
 *	72      104   sealed box (X25519, XSalsa20-Poly1305): installation 16, generation 8, R 32
 *	176     32    BLAKE2b-256 of bytes 0..175    (no secret: tells torn from a wrong key)
 *
 * The secret's file is text: comments, then
 *
 *	coffer-recovery-key 1
 *	public coffer-recovery1...
 *	secret <64 hex digits>
 * or
 *	kdf argon2id <passes> <memory, bytes> <salt, 32 hex digits>
 *	sealed <208 hex digits>			a box (wrap.h), its ad the lines from the first to `kdf`
 */
#include "keyd/recovery_key.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/base64url.h"
#include "common/bytes.h"
#include "common/scope.h"
#include "keyd/wrap.h"

#define WORD "coffer-recovery1"
#define CHECK_BYTES 4
#define MAGIC "COFRRCPY"
#define MAGIC_BYTES 8
#define VERSION 1
#define INSIDE_BYTES (RECOVERY_INSTALLATION_BYTES + 8 + KEY_BYTES)
#define SUM_BYTES 32
#define SUM_OFFSET (RECOVERY_COPY_BYTES - SUM_BYTES)
#define BOX_OFFSET 72

static_assert(BOX_OFFSET + INSIDE_BYTES + crypto_box_SEALBYTES == SUM_OFFSET, "the table above");
static_assert(RECOVERY_KEY_BYTES == crypto_box_PUBLICKEYBYTES && KEY_BYTES == crypto_box_SECRETKEYBYTES, "X25519");

static void check_of(const struct recovery_public *p, uint8_t ret[CHECK_BYTES])
{
	static const uint8_t personal[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-recovery1";
	uint8_t hash[crypto_generichash_blake2b_BYTES];

	(void)crypto_generichash_blake2b_salt_personal(
		hash, sizeof(hash), p->b, sizeof(p->b), NULL, 0, NULL, personal);
	memcpy(ret, hash, CHECK_BYTES);
}

char *recovery_public_format(const struct recovery_public *p, char buf[RECOVERY_LINE_MAX])
{
	uint8_t both[RECOVERY_KEY_BYTES + CHECK_BYTES];
	size_t n = strlen(WORD);

	memcpy(both, p->b, RECOVERY_KEY_BYTES);
	check_of(p, both + RECOVERY_KEY_BYTES);
	memcpy(buf, WORD, n);
	sodium_bin2base64(
		buf + n, RECOVERY_LINE_MAX - n, both, sizeof(both), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return buf;
}

int recovery_public_parse(const char *line, struct recovery_public *ret)
{
	uint8_t both[RECOVERY_KEY_BYTES + CHECK_BYTES], check[CHECK_BYTES];
	size_t n = strcspn(line, "\n"), got = 0, word = strlen(WORD);
	struct recovery_public p;

	if (n <= word || memcmp(line, WORD, word) != 0)
		return -EINVAL;
	if (base64url_decode(both, sizeof(both), line + word, n - word, &got) < 0 || got != sizeof(both))
		return -EBADMSG;
	memcpy(p.b, both, sizeof(p.b));
	check_of(&p, check);
	if (memcmp(check, both + RECOVERY_KEY_BYTES, sizeof(check)) != 0)
		return -EBADMSG;
	*ret = p;
	return 0;
}

/* X25519 ignores these bits of a secret (RFC 7748, 5); fixed, so that one key has one text. */
static void fix_bits(uint8_t secret[KEY_BYTES])
{
	secret[0] &= 248;
	secret[31] &= 127;
	secret[31] |= 64;
}

static bool bits_are_fixed(const uint8_t secret[KEY_BYTES])
{
	return (secret[0] & 7) == 0 && (secret[31] & 192) == 64;
}

int recovery_pair_new(struct recovery_pair **ret)
{
	struct recovery_pair *p = secret_alloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	randombytes_buf(p->secret.b, KEY_BYTES);
	fix_bits(p->secret.b);
	(void)crypto_scalarmult_base(p->public.b, p->secret.b);
	*ret = p;
	return 0;
}

/* ---- the secret's file ---- */

#define COMMENT                                                                                              \
	"# A recovery key of Coffer.  Whoever has this file, and a copy of the root key that is sealed to it,\n"    \
	"# opens everything that has not been destroyed.  Keep it off the host: on paper, on a medium in a safe.\n"
#define HEAD_MAX 320
#define SEALED_BYTES (KEY_BYTES + WRAP_OVERHEAD)

struct file_head {
	struct recovery_public public;
	bool sealed;
	struct slot_kdf kdf;
	uint8_t salt[SLOT_SALT_BYTES];
};

/* The lines that say what is not secret, as they are authenticated: the length. */
static size_t head_text(const struct file_head *h, char buf[HEAD_MAX])
{
	char line[RECOVERY_LINE_MAX], salt[2 * SLOT_SALT_BYTES + 1];
	int n = snprintf(buf, HEAD_MAX, "coffer-recovery-key 1\npublic %s\n", recovery_public_format(&h->public, line));

	if (h->sealed) {
		sodium_bin2hex(salt, sizeof(salt), h->salt, sizeof(h->salt));
		n += snprintf(buf + n, HEAD_MAX - (size_t)n, "kdf argon2id %" PRIu64 " %" PRIu64 " %s\n", h->kdf.passes,
			h->kdf.memory, salt);
	}
	return (size_t)n;
}

static void secret_freep(char **p)
{
	secret_free(*p);
}

int recovery_file_format(const struct recovery_pair *pair, const void *passphrase, size_t passphrase_n,
	const struct slot_kdf *kdf, char **ret, size_t *ret_n)
{
	struct file_head h = {.public = pair->public, .sealed = passphrase != NULL};
	scoped(key32_wipe) struct key32 protector = {0};
	scoped(secret_freep) char *text = secret_alloc(RECOVERY_FILE_MAX);
	uint8_t sealed[SEALED_BYTES];
	char head[HEAD_MAX];
	size_t n, at = strlen(COMMENT);
	int r;

	if (!text)
		return -ENOMEM;
	if (passphrase) {
		h.kdf = *kdf;
		randombytes_buf(h.salt, sizeof(h.salt));
		r = slot_protector_from_passphrase(passphrase, passphrase_n, kdf, h.salt, &protector);
		if (r < 0)
			return r;
	}
	n = head_text(&h, head);
	memcpy(text, COMMENT, at);
	memcpy(text + at, head, n);
	at += n;
	if (passphrase) {
		wrap_seal(&protector, WRAP_RECOVERY_KEY, head, n, pair->secret.b, KEY_BYTES, sealed);
		at += (size_t)snprintf(text + at, RECOVERY_FILE_MAX - at, "sealed ");
		sodium_bin2hex(text + at, RECOVERY_FILE_MAX - at, sealed, sizeof(sealed));
		at += 2 * sizeof(sealed);
	} else {
		at += (size_t)snprintf(text + at, RECOVERY_FILE_MAX - at, "secret ");
		sodium_bin2hex(text + at, RECOVERY_FILE_MAX - at, pair->secret.b, KEY_BYTES);
		at += 2 * KEY_BYTES;
	}
	text[at++] = '\n';
	*ret = take_ptr(&text);
	*ret_n = at;
	return 0;
}

/* A line of *text behind `word` and a blank, which is taken; NULL: another.  Comments before it are passed over. */
static const char *take_line(const char **text, const char *end, const char *word, size_t *ret_n)
{
	const char *newline, *line;
	size_t w = strlen(word);

	do {
		line = *text;
		newline = line < end ? memchr(line, '\n', (size_t)(end - line)) : NULL;
		if (!newline)
			return NULL;
		*text = newline + 1;
	} while (*line == '#' || newline == line);
	if ((size_t)(newline - line) <= w || memcmp(line, word, w) != 0 || line[w] != ' ') {
		*text = line;
		return NULL;
	}
	*ret_n = (size_t)(newline - line) - w - 1;
	return line + w + 1;
}

static bool from_hex(const char *hex, size_t n, uint8_t *ret, size_t size)
{
	size_t got = 0;

	return n == 2 * size && sodium_hex2bin(ret, size, hex, n, NULL, &got, NULL) == 0 && got == size;
}

static bool parse_kdf(const char *line, size_t n, struct file_head *h)
{
	char text[128], salt[2 * SLOT_SALT_BYTES + 1];
	int end = 0;

	if (n >= sizeof(text))
		return false;
	memcpy(text, line, n);
	text[n] = '\0';
	if (sscanf(text, "argon2id %" SCNu64 " %" SCNu64 " %32[0-9a-f]%n", &h->kdf.passes, &h->kdf.memory, salt,
		    &end) != 3 ||
		(size_t)end != n)
		return false;
	h->sealed = true;
	return from_hex(salt, strlen(salt), h->salt, sizeof(h->salt));
}

static int open_secret(const struct file_head *h, const char *hex, size_t n, const void *passphrase,
	size_t passphrase_n, struct recovery_pair *p)
{
	scoped(key32_wipe) struct key32 protector = {0};
	uint8_t sealed[SEALED_BYTES];
	char head[HEAD_MAX];
	int r;

	if (!from_hex(hex, n, sealed, sizeof(sealed)))
		return -EBADMSG;
	if (!passphrase)
		return -ENOKEY;
	r = slot_protector_from_passphrase(passphrase, passphrase_n, &h->kdf, h->salt, &protector);
	if (r < 0)
		return r == -EINVAL ? -EBADMSG : r;
	return wrap_open(&protector, WRAP_RECOVERY_KEY, head, head_text(h, head), sealed, sizeof(sealed), p->secret.b);
}

static void pair_freep(struct recovery_pair **p)
{
	secret_free(*p);
}

int recovery_file_parse(
	const char *text, size_t n, const void *passphrase, size_t passphrase_n, struct recovery_pair **ret)
{
	scoped(pair_freep) struct recovery_pair *p = secret_alloc(sizeof(*p));
	uint8_t public[RECOVERY_KEY_BYTES];
	const char *end = text + n, *line;
	struct file_head h = {0};
	size_t len = 0;
	int r;

	if (!p)
		return -ENOMEM;
	line = take_line(&text, end, "coffer-recovery-key", &len);
	if (!line || len != 1 || *line != '1')
		return -EBADMSG;
	line = take_line(&text, end, "public", &len);
	if (!line || recovery_public_parse(line, &h.public) < 0)
		return -EBADMSG;
	line = take_line(&text, end, "kdf", &len);
	if (line && !parse_kdf(line, len, &h))
		return -EBADMSG;
	line = take_line(&text, end, h.sealed ? "sealed" : "secret", &len);
	if (!line)
		return -EBADMSG;
	if (h.sealed)
		r = open_secret(&h, line, len, passphrase, passphrase_n, p);
	else
		r = from_hex(line, len, p->secret.b, KEY_BYTES) ? 0 : -EBADMSG;
	if (r < 0)
		return r;
	if (!bits_are_fixed(p->secret.b) || crypto_scalarmult_base(public, p->secret.b) < 0 || memcmp(public, h.public.b, sizeof(public)) != 0)
		return -EBADMSG;
	p->public = h.public;
	*ret = take_ptr(&p);
	return 0;
}

/* ---- a copy of R ---- */

struct inside {
	uint8_t b[INSIDE_BYTES];
};

static void inside_wipe(struct inside *i)
{
	sodium_memzero(i, sizeof(*i));
}

int recovery_copy_seal(
	const struct recovery_copy *head, const struct root_key *r, uint8_t out[RECOVERY_COPY_BYTES])
{
	scoped(inside_wipe) struct inside in;
	struct bytes_writer w;

	bytes_writer_init(&w, in.b, sizeof(in.b));
	bytes_put(&w, head->installation, RECOVERY_INSTALLATION_BYTES);
	bytes_put_u64(&w, head->generation);
	bytes_put(&w, r->key.b, KEY_BYTES);
	bytes_writer_init(&w, out, RECOVERY_COPY_BYTES);
	bytes_put(&w, MAGIC, MAGIC_BYTES);
	bytes_put_u16(&w, VERSION);
	bytes_put_zeros(&w, 6);
	bytes_put_u64(&w, head->generation);
	bytes_put(&w, head->installation, RECOVERY_INSTALLATION_BYTES);
	bytes_put(&w, head->to.b, RECOVERY_KEY_BYTES);
	assert(bytes_writer_size(&w) == BOX_OFFSET);
	if (crypto_box_seal(out + BOX_OFFSET, in.b, sizeof(in.b), head->to.b) < 0)
		return -EINVAL;
	crypto_generichash(out + SUM_OFFSET, SUM_BYTES, out, SUM_OFFSET, NULL, 0);
	return 0;
}

int recovery_copy_parse(const uint8_t *buf, size_t n, struct recovery_copy *ret)
{
	struct recovery_copy c = {0};
	struct bytes_reader rd;
	uint8_t sum[SUM_BYTES];

	if (n < MAGIC_BYTES || memcmp(buf, MAGIC, MAGIC_BYTES) != 0)
		return -ENODATA;
	if (n != RECOVERY_COPY_BYTES)
		return -EBADMSG;
	crypto_generichash(sum, sizeof(sum), buf, SUM_OFFSET, NULL, 0);
	if (memcmp(sum, buf + SUM_OFFSET, sizeof(sum)) != 0)
		return -EBADMSG;
	bytes_reader_init(&rd, buf + MAGIC_BYTES, SUM_OFFSET - MAGIC_BYTES);
	if (bytes_get_u16(&rd) != VERSION)
		return -EPROTONOSUPPORT;
	(void)bytes_get_zeros(&rd, 6);
	c.generation = bytes_get_u64(&rd);
	bytes_get(&rd, c.installation, sizeof(c.installation));
	bytes_get(&rd, c.to.b, sizeof(c.to.b));
	(void)bytes_get_ref(&rd, INSIDE_BYTES + crypto_box_SEALBYTES);
	if (!bytes_reader_end(&rd) || c.generation == 0)
		return -EBADMSG;
	*ret = c;
	return 0;
}

int recovery_copy_open(const uint8_t *buf, size_t n, const struct recovery_pair *pair, struct root_key *ret)
{
	scoped(inside_wipe) struct inside in = {0};
	uint8_t installation[RECOVERY_INSTALLATION_BYTES];
	struct recovery_copy c;
	struct bytes_reader rd;
	int r;

	r = recovery_copy_parse(buf, n, &c);
	if (r < 0)
		return r;
	if (memcmp(c.to.b, pair->public.b, sizeof(c.to.b)) != 0)
		return -EKEYREJECTED;
	if (crypto_box_seal_open(in.b, buf + BOX_OFFSET, INSIDE_BYTES + crypto_box_SEALBYTES, pair->public.b,
		    pair->secret.b) < 0)
		return -EBADMSG;
	bytes_reader_init(&rd, in.b, sizeof(in.b));
	bytes_get(&rd, installation, sizeof(installation));
	if (memcmp(installation, c.installation, sizeof(installation)) != 0 || bytes_get_u64(&rd) != c.generation)
		return -EBADMSG;
	bytes_get(&rd, ret->key.b, KEY_BYTES);
	return 0;
}
