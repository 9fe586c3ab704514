/* A backup: a folder named by its moment, in a folder of them.
 *
 *	TO/2026-11-24T02:01:35Z/MANIFEST.json   {manifest, signature, public_key}
 *	                       /FILES           what lies in store/ (tree_copy.h has its lines)
 *	                       /store, keyd, ledger, outbox, policy.yaml     as in a state directory, without the slot
 *	TO/.unfinished                          one that was broken off */
#ifndef COFFER_TOOLS_BACKUP_DIR_H
#define COFFER_TOOLS_BACKUP_DIR_H

#include "keyd/backup.h"
#include "tools/public_key.h"

#define BACKUP_MANIFEST "MANIFEST.json"
#define BACKUP_FILES "FILES"
#define BACKUP_UNFINISHED ".unfinished"

/* The newest complete backup in `to`, its path; NULL: none. malloc'd. */
char *backup_newest(const char *to);
/* `from` itself if it is a backup, else the newest in it.  An exit code. */
int backup_find(const char *from, char **ret);
/* {manifest, signature, public_key} of a backup.  An exit code. */
int backup_manifest(const char *path, json_t **ret);

/* [{path, size, hash}] of all files below path/`folder`; BLAKE2b-256 in hex.  -errno. */
int backup_hash_folder(const char *path, const char *folder, json_t *rows);
int backup_hash_file(const char *path, const char *name, json_t **ret_row);

/* Compares a backup with its manifest: signature (key NULL: not looked at), hashes, sizes and times.  *ret_wrong:
 * [{path, what}]; empty: it is whole.  An exit code. */
int backup_check(const char *path, const struct public_key *key, json_t **ret_manifest, json_t **ret_wrong);

/* The newest backup in the folder where this one lies: for keys, facts and record, which when older would undo a
 * revocation, a hold or a destruction.  malloc'd. */
char *backup_newest_beside(const char *path);
/* Makes the state directory `to`, which is not there yet: the store of `path`, the rest of `state`; no slot.  An exit code. */
int backup_unpack(const char *path, const char *state, const char *to);
/* from/name as to/name; what is not needed may be missing.  An exit code. */
int backup_copy_part(const char *from, const char *to, const char *name, bool needed);

/* Compares path/FILES with `list`, its row of a manifest, and path/store with it; adds rows {path, what} to `wrong`. */
void backup_check_store(const char *path, const json_t *list, json_t *wrong);

/* Removes a whole tree; nothing there is fine.  -errno. */
int remove_tree(const char *path);

#endif
