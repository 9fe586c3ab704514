/* The few lines around SQLite that both daemons need: its codes as errnos. */
#ifndef COFFER_SQL_H
#define COFFER_SQL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sqlite3.h>

static inline int sql_errno(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_SCHEMA:
		return -EUCLEAN;
	case SQLITE_CANTOPEN:
		return -ENOENT;
	case SQLITE_ERROR: /* "no such table": not our database */
		return -EUCLEAN;
	default:
		return -EIO;
	}
}

static inline int sql_prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret)
{
	return sql_errno(sqlite3_prepare_v2(db, sql, -1, ret, NULL));
}

/* 1: a row; 0: done; or -errno. */
static inline int sql_step(sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	return rc == SQLITE_ROW ? 1 : sql_errno(rc);
}

static inline int sql_exec(sqlite3 *db, const char *sql)
{
	return sql_errno(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

/* The file may be of somebody who means harm: then what is a table to us is one, and nothing happens by itself. */
static inline int sql_distrust(sqlite3 *db)
{
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	return sql_exec(db, "PRAGMA trusted_schema=OFF");
}

/* Runs a statement that answers no row, and makes it ready for the next time. */
static inline int sql_run(sqlite3_stmt *st)
{
	int r = sql_step(st);

	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return r < 0 ? r : 0;
}

static inline void sql_finalizep(sqlite3_stmt **st)
{
	sqlite3_finalize(*st);
}

static inline void sql_closep(sqlite3 **db)
{
	sqlite3_close(*db);
}

static inline void sql_resetp(sqlite3_stmt **st)
{
	sqlite3_reset(*st);
}

/* Text that may be missing: NULL stays NULL. */
static inline void sql_bind_text(sqlite3_stmt *st, int i, const char *text)
{
	sqlite3_bind_text(st, i, text, -1, SQLITE_STATIC); /* NULL text binds NULL */
}

#endif
