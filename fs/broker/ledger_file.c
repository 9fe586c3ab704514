#include "fs/broker/ledger_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"
#include "common/sql.h"
#include "fs/broker/chain.h"

static int look_at(sqlite3 *db)
{
	int r = sql_distrust(db);

	return r == 0 ? sql_exec(db, "SELECT 1 FROM ledger") : r;
}

/* A copy may lie where nothing can be written: then SQLite needs to be told that nobody else writes either.
 * Not with a write-ahead log beside it, whose rows would be left out. */
int ledger_file_open(const char *path, sqlite3 **ret)
{
	scoped(sql_closep) sqlite3 *db = NULL;
	char uri[4200], wal[4200];
	struct stat st;
	int r;

	if (access(path, R_OK) < 0 || stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EUCLEAN; /* a pipe would be waited for */
	r = sql_errno(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL));
	if (r == 0)
		r = look_at(db);
	if (r == -ENOENT || r == -EROFS || r == -EIO) {
		snprintf(wal, sizeof(wal), "%s-wal", path);
		if (access(wal, F_OK) == 0 || strpbrk(path, "?#%"))
			return r;
		sqlite3_close(take_ptr(&db));
		snprintf(uri, sizeof(uri), "file:%s?immutable=1", path);
		r = sql_errno(sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL));
		if (r == 0)
			r = look_at(db);
	}
	if (r < 0)
		return r;
	sqlite3_busy_timeout(db, 2000);
	*ret = take_ptr(&db);
	return 0;
}

int ledger_file_number(sqlite3 *db, const char *sql, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, sql, &st);

	if (r == 0)
		r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -EUCLEAN;
	*ret = sqlite3_column_int64(st, 0);
	return 0;
}

/* An older ledger gets its new form when coffer-fsd starts. */
int ledger_file_version_check(sqlite3 *db)
{
	int64_t version;
	int r = ledger_file_number(db, "PRAGMA user_version", &version);

	return r < 0 ? r : version == LEDGER_VERSION ? 0 : version ? -EPROTONOSUPPORT : -EUCLEAN;
}
