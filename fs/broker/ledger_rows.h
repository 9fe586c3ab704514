/* Rows of an answer as JSON, as doc/PROTOCOL.md has them.  For ledger_query.c. */
#ifndef COFFER_BROKER_LEDGER_ROWS_H
#define COFFER_BROKER_LEDGER_ROWS_H

#include <jansson.h>

#include "common/scope.h"
#include "fs/broker/ledger_impl.h"

/* What looks up sessions in the one, paths and processes in the other (an archive, or the same). */
struct row_maker;
int row_maker_new(sqlite3 *sessions, sqlite3 *db, struct row_maker **ret);
void row_maker_free(struct row_maker *m);
DEFINE_SCOPED(struct row_maker *, row_maker_free)

int row_of_record(struct row_maker *m, int64_t id, const struct pack_record *rec, json_t **ret);

/* The columns of an act, as row_of_act wants them. */
#define ROW_ACT_COLUMNS                                                                                               \
	"a.id,a.time,a.kind,a.outcome,a.user,a.uid,a.client,(SELECT client_id FROM session WHERE number=a.session"    \
	" AND client=a.client),a.purpose,a.ticket,a.session,a.detail"
json_t *row_of_act(sqlite3_stmt *st);

#endif
