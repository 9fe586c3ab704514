/* Archived months of the ledger: what the statement over an archive and the one over its destruction say, and how the file of
 * a month is made.  Needs the ledger's file only: for coffer-fsd, beside its loop, and for whoever verifies a copy. */
#ifndef COFFER_BROKER_ARCHIVE_H
#define COFFER_BROKER_ARCHIVE_H

#include <stdatomic.h>

#include "fs/broker/archive_file.h"
#include "fs/broker/chain.h"

#define ARCHIVE_CONTEXT "coffer-ledger-archive" /* of both statements' signatures */
#define ARCHIVE_NAME_MAX 24			 /* "2026-10", or "2026-10.2" when the clock came back to it */
#define ARCHIVE_FOLDER "archive"		 /* beside ledger.db */

struct archive {
	char name[ARCHIVE_NAME_MAX];
	char ledger[33];		  /* its id in hex */
	struct chain_batch before, last;  /* the batches behind `before` up to `last` */
	int64_t from_time, to_time;	  /* of its earliest and latest record, nanoseconds; to < from: it has none */
	bool acts_moved;		  /* acts of the kinds of CHAIN_MOVED_ACTS up to `last` leave the ledger; of older ones none */
	int64_t act_from, act_to;	  /* of its earliest and latest act, as above, if acts_moved */
	struct chain_hash kept;		  /* chain_kept_hash up to `last` when it was made */
	struct archive_index index;	  /* its file; at and end are not in the statement */
	int64_t made;			  /* seconds */
};

/* JSON in one line.  malloc'd. */
int archive_statement(const struct archive *a, char **ret);
/* -EUCLEAN: nothing that archive_statement makes. */
int archive_parse(const char *statement, struct archive *ret);

struct archive_end {
	char name[ARCHIVE_NAME_MAX];
	char ledger[33];
	int64_t from_record, to_record; /* to < from: it had none */
	struct chain_hash last;		/* of its last batch */
	int64_t time;			/* seconds */
	char why[200];
};
int archive_end_statement(const struct archive_end *e, char **ret);
int archive_end_parse(const char *statement, struct archive_end *ret);

/* By `key`, in ARCHIVE_CONTEXT. */
bool archive_signature_ok(const char *statement, const uint8_t signature[ARCHIVE_SIGNATURE_BYTES],
	const uint8_t key[CHAIN_KEY_BYTES]);

/* FOLDER-OF-LEDGER/archive/NAME.coffer-log.zst; malloc'd. */
char *archive_path(const char *ledger_path, const char *name);

/* ---- making one ---- */

/* The name of the month of a moment, and when the next begins.  -ERANGE */
int archive_month(int64_t time, char name[ARCHIVE_NAME_MAX], int64_t *ret_end);

struct archive_wanted {
	const char *ledger_path;
	int64_t until;		 /* seconds: batches that are older */
	const int64_t *journals; /* that are still written: what they named stays in the ledger */
	size_t journals_n;
	const atomic_bool *stop; /* or NULL */
	bool acts_stay;		 /* as before format 2: for tests */
};

struct archive_made {
	struct archive archive;
	char *statement, *partial; /* the path of the file that waits for its signature */
	int fd;			   /* of that */
	int64_t *paths, *processes; /* rows up to `last` that stay */
	size_t paths_n, processes_n;
};
/* Makes the file of the oldest month that is over before `until`, checks it, and says what is to be signed.  0: nothing is
 * old enough, ret->statement is NULL.  -ECANCELED: stopped.  -EUCLEAN: the ledger, or what was made of it, is damaged. */
int archive_make(const struct archive_wanted *w, struct archive_made *ret);
/* The signature into it, and under its name.  On disk when this returns 0. */
int archive_finish(struct archive_made *m, const char *ledger_path, const uint8_t signature[ARCHIVE_SIGNATURE_BYTES]);
void archive_made_done(struct archive_made *m);	/* removes a file that was not finished */
/* What a former process may have left half made. */
void archive_tidy(const char *ledger_path);

#endif
