/* From an inode to what the store needs: its directory, its name, its open file.  Keeps few directories open (the
 * last used) and one `struct file` per inode while somebody has it open.  Callers hold the namespace lock. */
#ifndef COFFER_RESOLVE_H
#define COFFER_RESOLVE_H

#include "fs/worker/inode.h"
#include "fs/store/store.h"

struct resolver;
struct file;

int resolve_new(struct store *s, struct inode_table *t, struct resolver **ret);
void resolve_free(struct resolver *b);

/* The open directory of `dir`, with a reference (store_dir_unref).  -ENOTDIR; -ESTALE: it was removed. */
int resolve_dir(struct resolver *b, struct inode *dir, struct store_dir **ret);
/* The directory and the name of what is not the root; *ret_name stays while the namespace lock is held. */
int resolve_name(struct resolver *b, struct inode *i, struct store_dir **ret, const char **ret_name);
/* A directory moved or is gone: open it anew next time. */
void resolve_dirs_drop(struct resolver *b);	/* all of them */
void resolve_dir_drop(struct resolver *b, struct inode *dir);

int resolve_stat(struct resolver *b, struct inode *i, struct stat *ret);

/* The open file of `i`, opened if it is not; resolve_file_put for each. */
int resolve_file_get(struct resolver *b, struct inode *i, struct file **ret);
/* What file_create just opened becomes the open file of `i`, or is closed when another was opened meanwhile. */
struct file *resolve_file_adopt(struct resolver *b, struct inode *i, struct file *f);
/* Needs no namespace lock, only a reference on i.  True: it is closed now. */
bool resolve_file_put(struct resolver *b, struct inode *i);
/* As resolve_file_get, but only if it is open; else NULL. */
struct file *resolve_file_peek(struct resolver *b, struct inode *i);

#endif
