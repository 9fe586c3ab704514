/* Where to look for records: which groups (blocks.h) of a segment of 16 groups tell of a path, a file or a session.  Table
 * `posting`, written once a segment is whole; the records behind the last whole segment are read through.  Nothing but
 * what the records say: a verification makes it anew and compares. */
#ifndef COFFER_BROKER_POSTING_H
#define COFFER_BROKER_POSTING_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"
#include "fs/broker/blocks.h"

#define SEGMENT_GROUPS 16
#define SEGMENT_RECORDS (SEGMENT_GROUPS * (int64_t)PACK_RECORDS_MAX)

enum posting_kind { /* part of the format */
	POSTING_NAME = 0,    /* key: posting_name_key of a sealed path or of a file id */
	POSTING_SESSION = 1, /* key: id of the row of table session */
};

uint32_t posting_name_key(const void *bytes, size_t n);

/* Where a database begins and ends within its first and last segment. */
struct posting_range {
	int64_t from, to; /* the first record, the last; all of a segment's that are in between are there */
};
/* Of segment 0, 1, ... */
int posting_write(sqlite3 *db, struct blocks *b, int64_t segment, struct posting_range range);
/* -EUCLEAN: not as posting_write makes it. */
int posting_check(sqlite3 *db, struct blocks *b, int64_t segment, struct posting_range range);

/* Bit g of *ret: group g of the segment has (or, rarely, has not) one of the key. */
int posting_find(sqlite3_stmt *find, enum posting_kind kind, int64_t segment, uint32_t key, uint64_t *ret);
#define POSTING_FIND "SELECT data,first FROM posting WHERE kind=? AND segment=? AND first<=? ORDER BY first DESC LIMIT 1"
/* The same for all keys of a kind for which `wanted` says yes; `all` is a prepared POSTING_ALL. */
int posting_find_all(sqlite3_stmt *all, enum posting_kind kind, int64_t segment,
	bool (*wanted)(void *userdata, uint32_t key), void *userdata, uint64_t *ret);
#define POSTING_ALL "SELECT data,first FROM posting WHERE kind=? AND segment=? ORDER BY first"

#endif
