/* The book: ledger.db.  Rows are only ever added; what changes (how far a journal was read) lies in a table that
 * the chain does not cover.  All SQL of coffer-fsd is in ledger*.c and chain.c.  Not thread-safe: lives on the loop.
 *
 * Rows are added between ledger_begin and ledger_commit; a commit that returned 0 is on disk (WAL with
 * synchronous=FULL) and has added one batch to the chain. */
#ifndef COFFER_BROKER_LEDGER_H
#define COFFER_BROKER_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

#include "common/record.h"
#include "fs/broker/archive.h"
#include "fs/broker/chain.h"

struct ledger;

/* Creates or migrates.  -EUCLEAN: no ledger, or rows that no batch covers: somebody wrote there. */
int ledger_open(const char *path, struct ledger **ret);
void ledger_close(struct ledger *l);

int ledger_begin(struct ledger *l);
bool ledger_in_batch(const struct ledger *l);
/* Nothing added: no batch.  On failure all is rolled back.  -ENOSPC: the disk is full. */
int ledger_commit(struct ledger *l);
void ledger_rollback(struct ledger *l);

/* ---- rows that come from coffer-keyd and from coffer-fsd itself ---- */
struct ledger_session {
	uint64_t number;
	const char *client_id, *client, *user, *purpose, *ticket, *rights; /* ticket may be NULL */
	int64_t uid, begun_ns;
};
int ledger_add_session(struct ledger *l, const struct ledger_session *s);

struct ledger_act {
	int64_t seq; /* of keyd's outbox; 0: an act of coffer-fsd itself */
	int64_t time_ns;
	const char *kind;
	const json_t *outcome; /* number, text or NULL */
	const char *user, *client, *purpose, *ticket;
	int64_t uid;	  /* -1: none */
	uint64_t session; /* 0: none */
	const char *detail; /* JSON text or NULL */
};
/* An act of keyd that is there already (same seq, time and kind) is not added again: 0 too. */
int ledger_add_act(struct ledger *l, const struct ledger_act *a);

/* ---- journals ---- */
int ledger_add_journal(struct ledger *l, const char *client_id, int64_t pid, uint64_t *ret_id);

/* One journal as the ledger knows it, with what was looked up for it.  Invalid after a rollback. */
struct ledger_source;
int ledger_source_new(struct ledger *l, uint64_t journal, const char *client_id, struct ledger_source **ret);
	/* -ENOENT: no such journal of this client was ever begun */
void ledger_source_free(struct ledger_source *s);
uint64_t ledger_source_done(const struct ledger_source *s); /* sequence of the last record that is in */
/* Adds what the record says.  One that is in already is skipped: 0; 1: a row came in.  -EBADMSG: it names a path or
 * process that this journal never named, or names one twice; or the one before it is missing. */
int ledger_add_record(struct ledger *l, struct ledger_source *s, uint64_t seq, const struct record *r);
/* Remembers, within the batch, how far this journal came. */
int ledger_source_store(struct ledger *l, struct ledger_source *s);

/* ---- heads ---- */
int ledger_head(struct ledger *l, struct chain_batch *ret);
int ledger_hash_at(struct ledger *l, int64_t batch, struct chain_hash *ret);	/* -ENOENT: no such batch */
int ledger_add_signature(struct ledger *l, int64_t batch, int64_t time, const uint8_t signature[CHAIN_SIGNATURE_BYTES]);

struct ledger_stats {
	int64_t records, acts; /* that there ever were */
	int64_t bytes, free;   /* of ledger.db, and of these not used */
	int64_t since;	       /* time of the first batch that is not destroyed, seconds; 0: there is none */
	int64_t archives, archives_bytes, archives_missing;
	int64_t destroyed_records;
	int64_t here_records, here_since; /* in ledger.db; since when, seconds */
};
int ledger_stats(struct ledger *l, struct ledger_stats *ret);

/* ---- archived months (ledger_archive.c) ---- */
/* Whether a month is over before `until` (seconds); -ENOENT: none.  *ret: when its oldest batch was. */
int ledger_archive_due(struct ledger *l, int64_t until, int64_t *ret);
/* Rows {name, from, to (seconds), records [first, last], batches [first, last], bytes (of the file; null: it is not there),
 * destroyed {time, why} or null}, oldest first. */
int ledger_archives(struct ledger *l, json_t **ret);
/* The month that archive_make made, signed: its file gets its name, and from then on its rows are read there.  `act` is
 * recorded with that.  -ESTALE: it does not follow the archives that there are. */
int ledger_archive_take(struct ledger *l, struct archive_made *m, const uint8_t signature[ARCHIVE_SIGNATURE_BYTES],
	const struct ledger_act *act);
/* Removes some of the rows that are in archives.  *ret_more: call it again. */
int ledger_archive_clean(struct ledger *l, bool *ret_more);
/* The oldest that is not destroyed, but for time and reason; when the newest that is in it was (seconds).  -ENOENT: there is none. */
int ledger_archive_oldest(struct ledger *l, struct archive_end *ret, int64_t *ret_time);
/* Only the oldest: -ESTALE else, or if the statement does not fit it.  What counts is that the book says so; on another
 * failure its file is removed at the next start. */
int ledger_archive_destroy(struct ledger *l, const char *statement, const uint8_t signature[ARCHIVE_SIGNATURE_BYTES],
	const struct ledger_act *act);

/* ---- questions (ledger_query.c) ---- */
/* When the newest record or act was, in seconds; 0: there is none. */
int ledger_newest(struct ledger *l, int64_t *ret);
#define LEDGER_QUERY_MAX 10000
#define LEDGER_NAMES_MAX 200 /* each is looked for in every part of the index */
struct ledger_name {
	const uint8_t *sealed;
	size_t n;
};
struct ledger_filter {
	const char *user, *client, *purpose; /* NULL: any */
	uint64_t session;		     /* 0: any */
	int64_t since, until;		     /* seconds; INT64_MIN, INT64_MAX: open */
	int64_t uid;			     /* >= 0: rows of this uid only */
	const char *op;			     /* of a record, or the kind of an act; NULL: any */
	enum { LEDGER_ANY, LEDGER_OK, LEDGER_FAILED } outcome;
	const struct ledger_name *names;     /* records of any of these sealed paths, or of `file` (or NULL): then no acts */
	size_t names_n;
	const uint8_t *names_bitmap;	     /* or of any path that this has (pathseal_bitmap_has), or NULL */
	const struct file_id *file;
	const char *after;		     /* what `next` said, or NULL */
	const char *to;			     /* no record behind this place, or NULL; of acts it says nothing */
	unsigned limit;
	int64_t last_record;		     /* ledger_each: the last record to look at; 0: the newest */
};
/* Rows as doc/PROTOCOL.md has them: records in the order in which they came into the book, a batch in the order of time,
 * and the acts between them.  At most `limit`, and fewer (even none) when the search took long; *ret_next: where to go on
 * (malloc'd), NULL at the end.  -EINVAL: `after` is nothing that was ever answered. */
int ledger_query(struct ledger *l, const struct ledger_filter *f, json_t **ret_rows, char **ret_next);
/* The sealed paths that records may name, of one client (or NULL): {client_id, month, sealed}, some several times.  Some thousand
 * at a time; *ret_next (malloc'd) as `after` of the next; NULL: that was all.  So who can open them finds which are meant, and asks
 * ledger_query() for those.  -EINVAL: `after` is nothing that was ever answered. */
int ledger_paths(struct ledger *l, const char *client, const char *after, json_t **ret_rows, char **ret_next);
/* Calls take(userdata, record) for each record (no act) that fits, until it fails, the end, or `ns` have passed; at least
 * one, if there is one.  *ret_next: as above. */
struct pack_record;
int ledger_each(struct ledger *l, const struct ledger_filter *f, int64_t ns,
	int (*take)(void *userdata, const struct pack_record *r), void *userdata, char **ret_next);

/* ---- what files were last known to be (ledger_versions.c) ---- */
#define LEDGER_VERSIONS_MAX 10000
/* Up to LEDGER_VERSIONS_MAX files of the client, after file id `after` (hex; "" at first, then what *ret_next said), each
 * [file, version, size, time]: the newest record that tells its version (size -1: it does not tell the size).  In the
 * first answer also what was accepted by `coffer fsck`.  *ret_next: where to go on (malloc'd), NULL at the end.  The
 * records are gathered first, some at a time: answers without rows.  -EINVAL. */
int ledger_versions(struct ledger *l, const char *client_id, const char *client, const char *after, json_t **ret_rows,
	char **ret_next);

/* ---- what took names away (ledger_removals.c) ---- */
/* Of the client's records behind `after`, in order, those that removed or renamed something: each [detail (store_gone_word),
 * rename, month, sealed (base64), month, sealed]: the path, and of a rename the new one; null where none is known.  Some at a
 * time: *ret_next is what to go on behind. */
int ledger_removals(
	struct ledger *l, const char *client_id, int64_t after, json_t **ret_rows, int64_t *ret_next, bool *ret_end);

/* ---- what was done with one client's data, counted (ledger_accesses.c) ---- */
#define LEDGER_ACCESSES_FILES 500  /* told; how many there were is told, too */
#define LEDGER_ACCESSES_ACTS 1000
struct ledger_accesses_wanted {
	const char *client;
	const char *without;  /* a purpose of which nothing is told; or NULL */
	int64_t since, until; /* seconds */
	const char *after;    /* NULL at first, then what *ret_next said */
};
struct ledger_accesses_place { /* how far it is, of which there are so many */
	int64_t records, of;
};
/* Counts some of the records, then looks at some of the files, for some milliseconds, and says in *ret_next (malloc'd) where to go on; at the end *ret_next is
 * NULL and *ret what PROTOCOL.md has for Accesses.  One count at a time: a new one ends the one before.  -EINVAL: `after` is
 * of another one, or nothing that was ever answered. */
int ledger_accesses(struct ledger *l, const struct ledger_accesses_wanted *w, json_t **ret, char **ret_next,
	struct ledger_accesses_place *ret_place);

sqlite3 *ledger_db(struct ledger *l);	/* for ledger_query.c */

#endif
