/* Forged and damaged key states: slot records, rings, trees, recovery keys with their copies and holders, links of signing
 * keys.  What is not authenticated is refused, whatever is in it; of what is (an earlier defect, a hostile successor's or
 * predecessor's tree) nothing is read past its end, and what is taken has one form only. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/keytree.h"
#include "keyd/recovery.h"
#include "keyd/ring_file.h"
#include "keyd/signing.h"
#include "keyd/slot.h"
#include "keyd/wrap.h"

#define HEAD_BYTES 40 /* of rings, trees and lists of holders */
#define FILE_MAX 8192

static int top = -1, keys = -1; /* a directory in memory, and keys/ in it */
static struct keyring *installation;
static struct recovery_pair *pair;
static struct root_key root;

static void try_slot(struct fuzz_input *in)
{
	const struct slot_head head = {.protection = SLOT_BY_KEY_FILE};
	struct key32 protector, secret;
	struct root_key opened;
	struct slot_record rec, got;
	uint8_t raw[SLOT_RECORD_BYTES];
	size_t at = fuzz_u64(in) % sizeof(raw);

	memset(&protector, 5, sizeof(protector));
	slot_record_new(&head, &protector, &rec);
	fuzz_check(slot_record_write(&rec, 3, &root, raw) == 0);
	for (; in->left > 0 && at < sizeof(raw); at++)
		raw[at] ^= fuzz_byte(in);
	if (slot_record_parse(raw, &got) == 0 && slot_record_unlock(&got, &protector, &secret) == 0 &&
		slot_record_open(&got, &secret, &opened) == 0)
		fuzz_check(memcmp(&opened, &root, sizeof(root)) == 0);
}

static void put_file(const char *name, const uint8_t *bytes, size_t n)
{
	int fd = openat(keys, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	fuzz_check(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
	close(fd);
}

static void try_ring(struct fuzz_input *in)
{
	char name[RING_NAME_MAX];
	struct keys_error err;
	struct ring *ring;

	put_file(ring_name(9, name), in->p, in->left);
	fuzz_check(ring_read(keys, 9, &root, &ring, &err) < 0);
}

/* A head with some of its bytes from the input, and all the rest of it sealed behind it. */
static size_t seal_rest(struct fuzz_input *in, const char *magic, const uint8_t rest_of_head[24], const struct key32 *key,
	enum wrap_use use, uint8_t file[FILE_MAX])
{
	unsigned changes = fuzz_byte(in) % 4;

	memcpy(file, magic, 8);
	memset(file + 8, 0, 8);
	file[8] = 1;
	memcpy(file + 16, rest_of_head, 24);
	for (; changes > 0; changes--) {
		size_t at = fuzz_byte(in) % HEAD_BYTES;

		file[at] ^= fuzz_byte(in);
	}
	if (in->left > FILE_MAX - HEAD_BYTES - WRAP_OVERHEAD)
		in->left = FILE_MAX - HEAD_BYTES - WRAP_OVERHEAD;
	wrap_seal(key, use, file, HEAD_BYTES, in->p, in->left, file + HEAD_BYTES);
	return HEAD_BYTES + WRAP_OVERHEAD + in->left;
}

static void try_sealed_ring(struct fuzz_input *in)
{
	uint8_t file[FILE_MAX], rest[24] = {9};
	char name[RING_NAME_MAX];
	struct ring *ring;

	rest[16] = (uint8_t)((in->left > 33 ? in->left - 33 : 0) / 56);
	put_file(ring_name(9, name), file, seal_rest(in, "COFRRING", rest, &root.key, WRAP_RING, file));
	if (ring_read(keys, 9, &root, &ring, NULL) < 0)
		return;
	for (size_t i = 1; i < ring->count; i++)
		fuzz_check(memcmp(&ring->entries[i - 1].client, &ring->entries[i].client, CLIENT_ID_BYTES) < 0);
	secret_free(ring);
}

/* What was taken is canonical, and can be punctured. */
static void use_tree(struct keytree *t, const uint8_t *bytes, size_t n, uint64_t prefix, unsigned bits)
{
	struct leaf_index leaf = leaf_index_from_u64(prefix);
	struct keytree *again;
	struct key32 key;
	uint8_t *out;
	size_t out_n;

	fuzz_check(keytree_serialise(t, &out, &out_n) == 0 && out_n == n && memcmp(out, bytes, n) == 0);
	secret_free(out);
	fuzz_check((keytree_derive(t, leaf, KEY_USE_WRAP, &key) == 0) == keytree_holds(t, leaf));
	fuzz_check(keytree_puncture(t, prefix, bits) == 0 && !keytree_holds(t, leaf));
	fuzz_check(keytree_serialise(t, &out, &out_n) == 0 && keytree_parse(out, out_n, &again) == 0);
	secret_free(out);
	keytree_free(again);
}

static void try_tree(struct fuzz_input *in)
{
	uint64_t prefix = fuzz_u64(in);
	unsigned bits = fuzz_byte(in) % 65;
	struct keytree *t;

	if (keytree_parse(in->p, in->left, &t) < 0)
		return;
	use_tree(t, in->p, in->left, prefix, bits);
	keytree_free(t);
}

static void try_sealed_tree(struct fuzz_input *in)
{
	struct ring_entry e = {.client = {{7}}, .tree = 2};
	uint8_t file[FILE_MAX], rest[24] = {7};
	char name[TREE_NAME_MAX];
	struct keytree *t;
	size_t n;

	rest[16] = 2;
	memset(&e.key, 8, sizeof(e.key));
	n = seal_rest(in, "COFRTREE", rest, &e.key.key, WRAP_TREE, file);
	put_file(tree_name(&e.client, e.tree, name), file, n);
	if (tree_read(keys, &e, &t, NULL) < 0)
		return;
	use_tree(t, in->p, in->left, 0, 64);
	keytree_free(t);
}

static void try_holders(struct fuzz_input *in)
{
	uint8_t file[FILE_MAX], rest[24] = {1};
	struct recovery_set s;
	size_t n;

	n = seal_rest(in, "COFRRSET", rest, &keyring_root(installation)->key, WRAP_RECOVERY_SET, file);
	put_file("holders.1", file, n);
	if (recovery_load(installation, &s, NULL) < 0)
		return;
	fuzz_check(s.count <= RECOVERY_HOLDERS_MAX);
	for (size_t i = 0; i < s.count; i++)
		fuzz_check(strnlen(s.holders[i].name, RECOVERY_NAME_MAX) < RECOVERY_NAME_MAX &&
			strnlen(s.holders[i].path, RECOVERY_PATH_MAX) < RECOVERY_PATH_MAX);
	json_decref(recovery_json(&s));
}

static void try_recovery(struct fuzz_input *in)
{
	struct recovery_copy c = {.generation = 3, .to = pair->public};
	uint8_t raw[RECOVERY_COPY_BYTES];
	char text[RECOVERY_LINE_MAX * 8], line[RECOVERY_LINE_MAX];
	struct recovery_public public;
	struct recovery_pair *other;
	struct root_key got;
	size_t n = in->left < sizeof(text) - 1 ? in->left : sizeof(text) - 1, at;

	memcpy(text, in->p, n);
	text[n] = 0;
	if (recovery_public_parse(text, &public) == 0) {
		recovery_public_format(&public, line);
		at = strcspn(line, "\n");
		fuzz_check(strncmp(text, line, at) == 0);
	}
	if (recovery_file_parse(text, n, NULL, 0, &other) == 0)
		secret_free(other);
	fuzz_check(recovery_copy_seal(&c, &root, raw) == 0);
	for (at = fuzz_byte(in) % sizeof(raw); in->left > 0 && at < sizeof(raw); at++)
		raw[at] ^= fuzz_byte(in);
	recovery_copy_parse(raw, sizeof(raw), &c);
	if (recovery_copy_open(raw, sizeof(raw), pair, &got) == 0)
		fuzz_check(memcmp(&got, &root, sizeof(root)) == 0);
}

static void try_signing(struct fuzz_input *in)
{
	static const uint8_t trusted[SIGNING_KEY_BYTES] = {1};
	struct signing_keys found;
	struct signing_link l;
	char text[FILE_MAX];
	size_t n = in->left < sizeof(text) - 1 ? in->left : sizeof(text) - 1;

	memcpy(text, in->p, n);
	text[n] = 0;
	(void)signing_link_parse(text, &l);
	signing_keys_collect(trusted, text, &found);
	fuzz_check(found.n >= 1 && found.n <= SIGNING_KEYS_MAX && memcmp(found.keys[0].b, trusted, sizeof(trusted)) == 0);
	free(signing_links_of(trusted, text));
}

static void remove_all(void)
{
	static const char *const folders[] = {"keys", "recovery", "."};
	char path[64], name[64];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", top);
	n = readlink(name, path, sizeof(path) - 1);
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		int fd = openat(top, folders[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *d = fd < 0 ? NULL : fdopendir(fd);
		const struct dirent *e;

		while (d && (e = readdir(d)))
			if (e->d_name[0] != '.')
				(void)unlinkat(fd, e->d_name, e->d_type == DT_DIR ? AT_REMOVEDIR : 0);
		if (d)
			closedir(d);
	}
	if (n > 0) {
		path[n] = 0;
		(void)rmdir(path);
	}
}

static void begin(void)
{
	char path[] = "/dev/shm/coffer-fuzz-XXXXXX";

	fuzz_check(secret_init(4 << 20) == 0 && mkdtemp(path));
	memset(&root, 6, sizeof(root));
	top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fuzz_check(top >= 0 && keyring_create(top, &root, &installation, NULL) == 0 && recovery_pair_new(&pair) == 0);
	keys = openat(top, "keys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fuzz_check(keys >= 0);
	atexit(remove_all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static void (*const targets[])(struct fuzz_input *) = {try_ring, try_slot, try_slot, try_sealed_ring, try_tree,
		try_sealed_tree, try_holders, try_recovery, try_signing};
	struct fuzz_input in = {data, n};

	if (top < 0)
		begin();
	targets[fuzz_byte(&in) % (sizeof(targets) / sizeof(*targets))](&in);
	return 0;
}
