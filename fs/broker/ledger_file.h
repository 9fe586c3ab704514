/* The file of a ledger, read only: for a verification. */
#ifndef COFFER_BROKER_LEDGER_FILE_H
#define COFFER_BROKER_LEDGER_FILE_H

#include <stdint.h>
#include <sqlite3.h>

/* -ENOENT, -EACCES, -EUCLEAN: no ledger. */
int ledger_file_open(const char *path, sqlite3 **ret);
/* What a query of one number answers.  -EUCLEAN: nothing. */
int ledger_file_number(sqlite3 *db, const char *sql, int64_t *ret);
/* -EPROTONOSUPPORT: of another version. */
int ledger_file_version_check(sqlite3 *db);

#endif
