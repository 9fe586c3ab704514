#include "fs/broker/whose.h"

#include "common/scope.h"

int whose_init(struct whose *w, sqlite3 *db, const char *client_id)
{
	*w = (struct whose){.client_id = client_id};
	return sql_prepare(db, "SELECT 1 FROM session WHERE id=? AND client_id=?", &w->find);
}

void whose_done(struct whose *w)
{
	sqlite3_finalize(w->find);
}

int whose_is(struct whose *w, int64_t session)
{
	scoped(sql_resetp) sqlite3_stmt *st = w->find;
	int r;

	if (session == w->session)
		return w->answer;
	sqlite3_bind_int64(st, 1, session);
	sql_bind_text(st, 2, w->client_id);
	r = sql_step(st);
	if (r < 0) /* not known is neither yes nor no */
		return r;
	w->session = session;
	w->answer = r;
	return r;
}
