#include "tools/backup_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/tool.h"
#include "tools/progress.h"
#include "tools/tree_copy.h"

#define HASH_BYTES 32
#define WALK_FDS 32
#define ROOT_MODE 0711 /* as `coffer up` makes it: others must reach the sockets */

static char *join(const char *a, const char *b)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s", a, b) < 0 ? NULL : path;
}

static bool is_backup(const char *path)
{
	scoped(freep) char *manifest = join(path, BACKUP_MANIFEST);

	return manifest && access(manifest, F_OK) == 0;
}

static int is_shown(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

/* Their names are their moments. */
char *backup_newest(const char *to)
{
	struct dirent **names = NULL;
	int n = scandir(to, &names, is_shown, alphasort);
	char *found = NULL;

	for (int i = n - 1; i >= 0; i--) {
		scoped(freep) char *path = found ? NULL : join(to, names[i]->d_name);

		if (path && is_backup(path))
			found = take_ptr(&path);
		free(names[i]);
	}
	free(names);
	return found;
}

int backup_find(const char *from, char **ret)
{
	*ret = is_backup(from) ? strdup(from) : backup_newest(from);
	if (!*ret)
		return fail(EXIT_NOT_FOUND, "%s: there is no complete backup; `coffer backup` makes one", from);
	return EXIT_OK;
}

int backup_manifest(const char *path, json_t **ret)
{
	scoped(freep) char *file = join(path, BACKUP_MANIFEST);
	json_auto_t *o = NULL;
	json_error_t err;

	o = json_load_file(file ? file : "", JSON_REJECT_DUPLICATES, &err);
	if (!o || !json_is_object(json_object_get(o, "manifest")))
		return fail(EXIT_DAMAGED, "%s: %s", file, o ? "this is no manifest" : err.text);
	*ret = take_ptr(&o);
	return EXIT_OK;
}

/* ---- hashes ---- */

static int hash_fd(int fd, char ret[2 * HASH_BYTES + 1], int64_t *ret_size)
{
	crypto_generichash_state state;
	uint8_t hash[HASH_BYTES], buf[65536];
	ssize_t n;

	*ret_size = 0;
	crypto_generichash_init(&state, NULL, 0, sizeof(hash));
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		crypto_generichash_update(&state, buf, (size_t)n);
		*ret_size += n;
	}
	if (n < 0)
		return -errno;
	crypto_generichash_final(&state, hash, sizeof(hash));
	sodium_bin2hex(ret, 2 * HASH_BYTES + 1, hash, sizeof(hash));
	return 0;
}

int backup_hash_file(const char *path, const char *name, json_t **ret_row)
{
	scoped(freep) char *full = join(path, name);
	scoped(close_fdp) int fd = full ? open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	char hash[2 * HASH_BYTES + 1];
	int64_t size;
	int r = fd < 0 ? -errno : hash_fd(fd, hash, &size);

	if (r == 0)
		*ret_row = json_pack("{s:s, s:I, s:s}", "path", name, "size", (json_int_t)size, "hash", hash);
	return r;
}

static int hash_entry(const char *path, const char *name, json_t *rows)
{
	scoped(freep) char *full = join(path, name);
	json_t *row = NULL;
	struct stat st;
	int r;

	if (!full || lstat(full, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return backup_hash_folder(path, name, rows);
	r = S_ISREG(st.st_mode) ? backup_hash_file(path, name, &row) : 0;
	if (row)
		json_array_append_new(rows, row);
	return r;
}

int backup_hash_folder(const char *path, const char *folder, json_t *rows)
{
	scoped(freep) char *top = join(path, folder);
	struct dirent **names = NULL;
	int n = top ? scandir(top, &names, is_shown, alphasort) : -1, r = n < 0 ? -errno : 0;

	for (int i = 0; i < n; i++) {
		scoped(freep) char *name = join(folder, names[i]->d_name);

		if (r == 0)
			r = name ? hash_entry(path, name, rows) : -ENOMEM;
		free(names[i]);
	}
	free(names);
	return r;
}

/* ---- is it whole ---- */

static void wrong(json_t *list, const char *path, const char *what)
{
	json_array_append_new(list, json_pack("{s:s, s:s}", "path", path, "what", what));
}

static void check_hash(const char *path, const json_t *row, json_t *list)
{
	const char *name = json_string_value(json_object_get(row, "path"));
	json_auto_t *now = NULL;

	if (!name || strstr(name, ".."))
		wrong(list, name ? name : "?", "the manifest is damaged");
	else if (backup_hash_file(path, name, &now) < 0)
		wrong(list, name, "it is missing");
	else if (!json_equal(now, row))
		wrong(list, name, "its content is another");
}

/* One line of FILES against what lies there. */
static void check_row(int store, const json_t *row, json_t *list)
{
	const char *path = "?", *kind = "?";
	json_int_t size = 0, mtime = 0;
	struct stat st;

	if (json_unpack((json_t *)row, "[s, s, I, I]", &path, &kind, &size, &mtime) < 0)
		wrong(list, BACKUP_FILES, "a line is damaged");
	else if (fstatat(store, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		wrong(list, path, "it is missing");
	else if ((*kind == 'f') != S_ISREG(st.st_mode) || (*kind == 'd') != S_ISDIR(st.st_mode) ||
		 (*kind == 'l') != S_ISLNK(st.st_mode))
		wrong(list, path, "it is of another kind");
	else if (*kind == 'f' && (st.st_size != size || st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec != mtime))
		wrong(list, path, "its size or time is another");
}

static void check_files(const char *path, json_t *list)
{
	scoped(freep) char *name = join(path, BACKUP_FILES), *top = join(path, "store");
	scoped(close_fdp) int store = top ? open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	FILE *f = name ? fopen(name, "re") : NULL;
	json_t *row;

	if (!f || store < 0)
		wrong(list, f ? "store" : BACKUP_FILES, "it is missing");
	while (f && store >= 0 && (row = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL))) {
		check_row(store, row, list);
		json_decref(row);
	}
	if (f)
		fclose(f);
}

void backup_check_store(const char *path, const json_t *list, json_t *wrong_list)
{
	check_hash(path, list, wrong_list);
	check_files(path, wrong_list);
}

static int check_signature(const uint8_t *key, const void *envelope)
{
	scoped(freep) char *text = json_dumps(json_object_get(envelope, "manifest"), JSON_SORT_KEYS | JSON_COMPACT);
	const char *hex = json_string_value(json_object_get(envelope, "signature"));
	uint8_t signature[SIGNATURE_BYTES];
	size_t n = 0;

	if (!text || !hex || sodium_hex2bin(signature, sizeof(signature), hex, strlen(hex), NULL, &n, NULL) != 0 ||
		n != sizeof(signature))
		return -EBADMSG;
	return keyring_signature_check(key, BACKUP_CONTEXT, text, strlen(text), signature);
}

static bool is_signed(const json_t *envelope, const struct public_key *key)
{
	const json_t *made = json_object_get(json_object_get(envelope, "manifest"), "made_at");

	return public_key_any(key, json_string_value(made), check_signature, envelope);
}

int backup_check(const char *path, const struct public_key *key, json_t **ret_manifest, json_t **ret_wrong)
{
	json_auto_t *envelope = NULL, *list = json_array();
	json_t *manifest, *row;
	size_t i;
	int r = backup_manifest(path, &envelope);

	if (r != EXIT_OK)
		return r;
	manifest = json_object_get(envelope, "manifest");
	if (key && !json_is_string(json_object_get(envelope, "signature")))
		wrong(list, BACKUP_MANIFEST, "it is not signed: coffer-keyd was not there, or sealed");
	else if (key && !is_signed(envelope, key))
		wrong(list, BACKUP_MANIFEST, "it is not signed by this key, or was altered since");
	check_hash(path, json_object_get(manifest, "list"), list);
	json_array_foreach(json_object_get(manifest, "state"), i, row)
	{
		check_hash(path, row, list);
	}
	check_files(path, list);
	*ret_manifest = json_incref(manifest);
	*ret_wrong = take_ptr(&list);
	return EXIT_OK;
}

/* ---- unpacking ---- */

int backup_copy_part(const char *from, const char *to, const char *name, bool needed)
{
	struct progress progress;
	struct tree_copy c = {.progress = &progress};
	int r;

	progress_begin(&progress, false);
	r = tree_copy(&c, from, to, name);
	progress_clear(&progress);

	if (r == -ENOENT && !needed)
		r = 0;
	if (r < 0)
		r = fail(EXIT_FAILED, "%s/%s: %s", from, c.failed ? c.failed : name, strerror(-r));
	tree_copy_done(&c);
	return r;
}

char *backup_newest_beside(const char *path)
{
	scoped(freep) char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;

	if (!slash)
		return strdup(path);
	*slash = '\0';
	slash = backup_newest(*folder ? folder : "/");
	return slash ? slash : strdup(path);
}

int backup_unpack(const char *path, const char *state, const char *to)
{
	int r = EXIT_OK;

	if (mkdir(to, ROOT_MODE) < 0)
		return fail(EXIT_USAGE, "%s: %s; name a directory that is not there yet", to, strerror(errno));
	if (chmod(to, ROOT_MODE) < 0)
		return fail(EXIT_FAILED, "%s: %s", to, strerror(errno));
	r = backup_copy_part(path, to, "store", true);
	if (r == EXIT_OK)
		r = backup_copy_part(state, to, "keyd", true);
	if (r == EXIT_OK)
		r = backup_copy_part(state, to, "ledger", true);
	if (r == EXIT_OK)
		r = backup_copy_part(state, to, "outbox", false);
	return r == EXIT_OK ? backup_copy_part(state, to, "policy.yaml", false) : r;
}

/* ---- removing ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

int remove_tree(const char *path)
{
	if (access(path, F_OK) < 0)
		return errno == ENOENT ? 0 : -errno;
	return nftw(path, remove_one, WALK_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 ? -errno : 0;
}
