/* The account of what a scenario has made, kept while it is played.  For play.c. */
#ifndef COFFER_POWERCUT_PLAY_ACCOUNT_H
#define COFFER_POWERCUT_PLAY_ACCOUNT_H

#include "play.h"

extern size_t account_line;	/* of the scenario, from 1: the one that is played */

void *play_must(void *p);	/* p; without memory nothing goes on */
char *play_text(const char *s);	/* a copy */

struct object *account_object(struct play *p, const char *path);	/* must be there */
struct object *account_new_object(struct play *p, char kind, mode_t mode);
void account_add(struct play *p, const char *path, struct object *o);
void account_drop(struct play *p, const char *path);	/* may be missing */
/* Everything at and below `from` is at `to` now; `mark` keeps what an exchange moved from being moved back. */
void account_move(struct play *p, const char *from, const char *to, const char *mark);
void account_unmark(struct play *p);
struct content *account_latest(struct object *o);
/* A new content, a copy of the one before with `size` bytes. */
struct content *account_new_content(struct object *o, size_t size, size_t began);
void account_new_sync(struct object *o, size_t log);	/* its latest content is on disk */
size_t account_log_now(const struct play *p);

#endif
