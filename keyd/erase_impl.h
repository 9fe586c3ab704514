/* What the sources of an erasure share among themselves. */
#ifndef COFFER_KEYD_ERASE_IMPL_H
#define COFFER_KEYD_ERASE_IMPL_H

#include "common/scope.h"
#include "keyd/batch.h"
#include "keyd/erase.h"
#include "keyd/facts_leaves.h"
#include "keyd/prefix.h"
#include "keyd/versions.h"

struct survey_result;

struct erase {
	struct keyd *k;
	struct fact_client client;
	struct client_id id;
	char *user;
	uid_t uid;
	struct job *job;
	bool preview;
	struct peer peer;	/* who asks: of one by path or subject */
	bool confirm;		/* what another asked for */
	char *asked_by;		/* that other; NULL: nobody but him */
	char *subject;	/* instead of a path: all that is about that person alone; NULL: else */
	json_t *book;	/* ... {subject}: sealed for the book */
	bool shared;	/* ... also what is about others as well */
	char *reason;
	struct fact_erasure fact;
	json_t *held;		/* what is on hold (facts_held), as it was when the walk began */
	int64_t hold_newest;	/* by then */
	uint64_t *leaves, *dying;
	size_t n, dying_n, covered_n;	/* behind the dying_n: what the prefixes take with them */
	char *path, *store;	/* as it was asked for, and found; path NULL: a subject, a class; store NULL: nothing is there any more */
	char **paths;		/* of whose former versions the keys go, too */
	size_t paths_n;
	int list_fd;		/* what is about the subject, a line each; 0: none */
	struct versions *record;	/* what was removed; NULL: a class */
	bool record_unread;	/* ... it cannot be told */
	struct versions_found versions;
	uint64_t *looked_at;
	const struct policy_class *class;	/* one class before a date; NULL: a path */
	uint16_t before;
	struct prefix prefixes[PREFIXES_MAX];
	unsigned prefixes_n;
	struct keyring_cut *cuts;		/* of its item */
	char *rule, *source;
	void (*go_on)(struct erase *e);	/* when the record was read */
	void (*ready)(struct keyd *k, struct erase *e, void *arg);
	void (*done)(struct keyd *k, int error, void *arg);
	void *arg;
};

/* NULL: no memory. */
struct erase *erase_new(struct keyd *k, const struct fact_client *c, struct actor by, const char *reason);
void erase_free(struct erase *e);	/* says that it is not done, if nobody said anything else */
DEFINE_SCOPED(struct erase *, erase_free)

struct actor erase_actor(const struct erase *e);
/* Says why not, to the book and to whoever asked. */
void erase_refuse(struct erase *e, const char *error, const char *remedy, const char *text);
/* ---- erase_versions.c ---- */
/* Reads what the record says of what was removed, then calls e->go_on, which gets e.  Takes e. */
void erase_read_record(struct erase *e);
/* What stood at e's paths before.  -EBUSY: it is of a class on hold. */
int erase_find_versions(struct erase *e);
/* How many, how many cannot be told, where something may be left: for certificate and asker. */
int erase_count_versions(struct erase *e);
int erase_add_path(struct erase *e, const char *path);	/* as somebody wrote it */
int erase_add_subject_paths(struct erase *e);	/* out of e->list_fd */

/* The same of an errno (negative); text may be NULL. */
void erase_failed(struct erase *e, int error, const char *text);
/* Its leaves are known: old ones that wait are looked at, then it is destroyed, or handed to who collects.  Takes e. */
void erase_proceed(struct erase *e);

#endif
