#include "keyd/facts_sealed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/facts_sql.h"

void fact_sealed_done(struct fact_sealed *s)
{
	free(s->content);
	s->content = NULL;
}

int facts_sealed_put(struct facts *f, const struct fact_sealed *s, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"INSERT INTO sealed (content,nonce,commitment,until,recorded_at,recorded_by,recorded_uid) VALUES (?,?,?,?,?,?,?)",
		"tttiiti", s->content, s->nonce, s->commitment, s->until, now, by.user, (int64_t)by.uid);
}

int facts_sealed_due(struct facts *f, int64_t now, struct fact_sealed *ret)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r = facts_cached(f, &st,
		"SELECT id, until, nonce, commitment, content FROM sealed WHERE opened_at IS NULL AND until <= ?"
		" ORDER BY until LIMIT 1",
		"i", now);

	r = facts_one(st, r);
	if (r < 0)
		return r;
	ret->row = sqlite3_column_int64(st, 0);
	ret->until = sqlite3_column_int64(st, 1);
	facts_text(st, 2, ret->nonce, sizeof(ret->nonce));
	facts_text(st, 3, ret->commitment, sizeof(ret->commitment));
	ret->content = strdup((const char *)sqlite3_column_text(st, 4));
	return ret->content ? 0 : -ENOMEM;
}

int facts_sealed_opened(struct facts *f, int64_t row, int64_t now)
{
	return facts_execute(f, NULL, "UPDATE sealed SET opened_at = ? WHERE id = ? AND opened_at IS NULL", "ii", now, row);
}

int facts_sealed(struct facts *f, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT until, commitment, content FROM sealed WHERE opened_at IS NULL ORDER BY until", "");
}
