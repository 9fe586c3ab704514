/* Whose a record is: the client of its session.  Records come many of one session behind each other, so the last answer is kept. */
#ifndef COFFER_BROKER_WHOSE_H
#define COFFER_BROKER_WHOSE_H

#include "common/sql.h"

struct whose {
	sqlite3_stmt *find;
	const char *client_id; /* the caller's */
	int64_t session;       /* that was asked about last; 0: none */
	int answer;
};

/* db: the ledger, which keeps all sessions, also those of archived months.  whose_done() also when it failed. */
int whose_init(struct whose *w, sqlite3 *db, const char *client_id);
void whose_done(struct whose *w);
/* 1: that client's.  0: another's. */
int whose_is(struct whose *w, int64_t session);

#endif
