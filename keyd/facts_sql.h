/* The few lines around SQLite that the facts need; for keyd/facts*.c alone. */
#ifndef COFFER_KEYD_FACTS_SQL_H
#define COFFER_KEYD_FACTS_SQL_H

#include <jansson.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/sql.h"

#define FACTS_CACHED_MAX 24

struct facts {
	sqlite3 *db;
	bool in_transaction;
	struct {	/* prepared once: see facts_cached() */
		const char *sql;
		sqlite3_stmt *st;
	} cached[FACTS_CACHED_MAX];
};

/* Prepares `sql` and binds what follows, one letter each in `types`: t text (NULL is NULL), i int64_t. */
int facts_prepare(struct facts *f, sqlite3_stmt **ret, const char *sql, const char *types, ...);

/* The same for what every decision asks: `sql` must be a literal, its statement is kept.  The caller resets *ret
 * (sql_resetp) before anybody asks for the same again, and does not finalize it. */
int facts_cached(struct facts *f, sqlite3_stmt **ret, const char *sql, const char *types, ...);

/* A statement without result; *ret_changes (or NULL): rows changed. */
int facts_execute(struct facts *f, int *ret_changes, const char *sql, const char *types, ...);

/* Steps to the row of a statement whose preparing went with `r`.  0: it is there.  -ENOENT: there is none. */
int facts_one(sqlite3_stmt *st, int r);

/* All rows as a JSON array of objects named by the columns; a column whose name ends in "?" is a boolean. */
int facts_rows(struct facts *f, json_t **ret, const char *sql, const char *types, ...);

/* Column `i` into a buffer, cut at its end; "" for NULL. */
void facts_text(sqlite3_stmt *st, int i, char *buf, size_t n);

#endif
