/* What stood at a path before: files, directories and symlinks that are gone, but whose keys still open older backups.
 * The record tells which key went with each name that was removed or replaced; here it is followed, in memory: versions that
 * saving replaced, also where the document lay before it was renamed, and what was renamed away and removed elsewhere.
 * The record is not authenticated by the files' keys: the caller looks whether something that is there is under such a key.
 * On keyd's loop. */
#ifndef COFFER_KEYD_VERSIONS_H
#define COFFER_KEYD_VERSIONS_H

#include "keyd/facts.h"

struct keyd;
struct versions;

/* Reads the record of the client, piece by piece; then calls `done`, once, never from within this.  error 0, or -EREMOTEIO,
 * -ENOTCONN, ...  *ret: freed by the caller, also before `done`. */
int versions_start(struct keyd *k, const struct fact_client *c, void (*done)(struct keyd *k, int error, void *arg), void *arg,
	struct versions **ret);
/* After `done`: what came since, at once. */
int versions_update(struct versions *v);
void versions_free(struct versions *v);

struct versions_found {
	uint64_t *leaves; /* malloc'd; each once, and alive in the client's tree of now */
	size_t n;
	size_t unknown;	  /* removals whose key the record does not tell: of an earlier version of Coffer, or damaged */
	size_t elsewhere; /* names outside that something was renamed to, and was not removed from since */
};
void versions_found_done(struct versions_found *f);
/* Of each path (in the share, without slashes at its ends) and all below it. */
int versions_find(struct versions *v, char *const *paths, size_t paths_n, struct versions_found *ret);

/* ---- the part that is pure ---- */
struct removal {
	char *path, *path2; /* malloc'd; path2: of a rename the new one; NULL: not known */
	bool rename;
	char kind; /* 'k': `leaf` went with it; '-': no key; '?': not known; 'd': a directory was renamed; 'x': exchanged; 0: older */
	uint64_t leaf;
};
bool removal_parse(const char *detail, struct removal *ret); /* kind and leaf */
int removals_follow(const struct removal *all, size_t n, char *const *paths, size_t paths_n, struct versions_found *ret);

#endif
