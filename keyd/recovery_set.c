/* A set, version 1: magic "COFRRSET" 8, version 2, zero 6, generation 8, installation 16; then a box (wrap.h) under R
 * with these 40 bytes as its ad: {"holders": [{...}]}, JSON. */
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
#include "keyd/wrap.h"

#define MAGIC "COFRRSET"
#define MAGIC_BYTES 8
#define VERSION 1
#define HEAD_BYTES 40
#define SET_FILE_MAX (64u << 10)

int recovery_say(int r, const char *what, struct keys_error *err)
{
	keys_error_set(err, "%s: %s", what, r == -EBADMSG || r == -EKEYREJECTED
						    ? "altered, or of another installation: remove it, then add the recovery keys anew"
						    : strerror(-r));
	return r;
}

int recovery_open_below(const struct keyring *k, const char *name)
{
	int fd = openat(keyring_folder(k), name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

char *recovery_file_name(const char *name, uint64_t generation, char buf[RECOVERY_ENTRY_MAX])
{
	(void)snprintf(buf, RECOVERY_ENTRY_MAX, "%s.%" PRIu64, name, generation);
	return buf;
}

static json_t *holder_json(const struct recovery_holder *h)
{
	char line[RECOVERY_LINE_MAX];

	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "name", h->name, "public_key",
		recovery_public_format(&h->public, line), "path", h->path, "by", h->by, "added_at", (json_int_t)h->added_at,
		"removed_at", (json_int_t)h->removed_at, "at_path", (json_int_t)h->at_path, "astray",
		(json_int_t)h->astray);
}

static int holder_parse(json_t *o, struct recovery_holder *h)
{
	const char *name, *line, *path, *by;
	json_int_t added, removed, at_path, astray;

	if (json_unpack(o, "{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "name", &name, "public_key", &line, "path", &path,
		    "by", &by, "added_at", &added, "removed_at", &removed, "at_path", &at_path, "astray", &astray) < 0 ||
		strlen(name) >= sizeof(h->name) || strlen(path) >= sizeof(h->path) ||
		recovery_public_parse(line, &h->public) < 0)
		return -EBADMSG;
	snprintf(h->name, sizeof(h->name), "%s", name);
	snprintf(h->path, sizeof(h->path), "%s", path);
	snprintf(h->by, sizeof(h->by), "%s", by);
	h->added_at = added;
	h->removed_at = removed;
	h->at_path = (uint64_t)at_path;
	h->astray = (uint64_t)astray;
	return 0;
}

int recovery_set_write(const struct keyring *k, const struct recovery_set *s)
{
	scoped(close_fdp) int fd = recovery_open_below(k, RECOVERY_KEYS);
	json_t *o = json_pack("{s:[]}", "holders");
	scoped(freep) uint8_t *file = NULL;
	scoped(freep) char *text = NULL;
	char name[RECOVERY_ENTRY_MAX];
	struct bytes_writer w;
	size_t n;

	for (size_t i = 0; i < s->count; i++)
		json_array_append_new(json_object_get(o, "holders"), holder_json(&s->holders[i]));
	text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(o);
	n = text ? strlen(text) : 0;
	file = malloc(HEAD_BYTES + n + WRAP_OVERHEAD);
	if (fd < 0)
		return fd;
	if (!text || !file)
		return -ENOMEM;
	bytes_writer_init(&w, file, HEAD_BYTES);
	bytes_put(&w, MAGIC, MAGIC_BYTES);
	bytes_put_u16(&w, VERSION);
	bytes_put_zeros(&w, 6);
	bytes_put_u64(&w, s->generation);
	bytes_put(&w, s->installation, sizeof(s->installation));
	wrap_seal(&keyring_root(k)->key, WRAP_RECOVERY_SET, file, HEAD_BYTES, text, n, file + HEAD_BYTES);
	return disk_replace(fd, recovery_file_name(RECOVERY_SET, s->generation, name), file, HEAD_BYTES + n + WRAP_OVERHEAD);
}

static int holders_parse(const char *text, size_t n, struct recovery_set *s)
{
	json_t *o = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL), *row, *rows = json_object_get(o, "holders");
	size_t i;
	int r = json_is_array(rows) && json_array_size(rows) <= RECOVERY_HOLDERS_MAX ? 0 : -EBADMSG;

	json_array_foreach(rows, i, row)
	{
		if (r == 0)
			r = holder_parse(row, &s->holders[i]);
	}
	s->count = json_array_size(rows);
	json_decref(o);
	return r;
}

static int set_decode(const uint8_t *file, size_t n, uint64_t generation, const struct root_key *root,
	struct recovery_set *s)
{
	scoped(freep) char *text = NULL;
	struct bytes_reader rd;
	int r;

	if (n < HEAD_BYTES + WRAP_OVERHEAD || memcmp(file, MAGIC, MAGIC_BYTES) != 0)
		return -EBADMSG;
	bytes_reader_init(&rd, file + MAGIC_BYTES, HEAD_BYTES - MAGIC_BYTES);
	if (bytes_get_u16(&rd) != VERSION)
		return -EPROTONOSUPPORT;
	(void)bytes_get_zeros(&rd, 6);
	s->generation = bytes_get_u64(&rd);
	bytes_get(&rd, s->installation, sizeof(s->installation));
	if (!bytes_reader_end(&rd) || s->generation != generation)
		return -EBADMSG;
	text = malloc(n);
	if (!text)
		return -ENOMEM;
	r = wrap_open(&root->key, WRAP_RECOVERY_SET, file, HEAD_BYTES, file + HEAD_BYTES, n - HEAD_BYTES, text);
	return r < 0 ? r : holders_parse(text, n - HEAD_BYTES - WRAP_OVERHEAD, s);
}

int recovery_load(const struct keyring *k, struct recovery_set *ret, struct keys_error *err)
{
	scoped(close_fdp) int fd = recovery_open_below(k, RECOVERY_KEYS);
	char name[RECOVERY_ENTRY_MAX], what[RECOVERY_ENTRY_MAX + 16];
	scoped(freep) uint8_t *file = NULL;
	size_t n;
	int r = fd;

	memset(ret, 0, sizeof(*ret));
	ret->generation = keyring_generation(k);
	if (fd >= 0)
		r = disk_read(fd, recovery_file_name(RECOVERY_SET, ret->generation, name), SET_FILE_MAX, &file, &n);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = set_decode(file, n, ret->generation, keyring_root(k), ret);
	if (r < 0) {
		(void)snprintf(what, sizeof(what), "keyd/" RECOVERY_KEYS "/%s", recovery_file_name(RECOVERY_SET, keyring_generation(k), name));
		(void)recovery_say(r, what, err);
	}
	return r;
}
