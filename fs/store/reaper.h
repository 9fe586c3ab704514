/* Closes, in the background, descriptors of files that have lost their last name.  The backing file system frees
 * a file's blocks when the last descriptor goes, and that takes longer than all the rest of an unlink (ext4: a tenth of
 * a millisecond, most of it waiting): nobody needs to wait for it. */
#ifndef COFFER_REAPER_H
#define COFFER_REAPER_H

#include <stdbool.h>

#include "common/scope.h"

struct reaper;

int reaper_new(struct reaper **ret);	/* where no thread can be started, all is closed at once */
void reaper_free(struct reaper *r);	/* after all is closed; NULL is fine */
void reaper_close(struct reaper *r, int fd);	/* takes fd (-1: nothing); closes it here when too many wait */
DEFINE_SCOPED(struct reaper *, reaper_free)
/* Waits until everything given so far is closed, so that its room is free.  True: there was something. */
bool reaper_drain(struct reaper *r);

#endif
