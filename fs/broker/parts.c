#include "fs/broker/parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/sql.h"

static bool get_signature(sqlite3_stmt *st, int column, uint8_t to[ARCHIVE_SIGNATURE_BYTES])
{
	if (sqlite3_column_bytes(st, column) != ARCHIVE_SIGNATURE_BYTES)
		return false;
	memcpy(to, sqlite3_column_blob(st, column), ARCHIVE_SIGNATURE_BYTES);
	return true;
}

static int part_from_row(sqlite3_stmt *st, struct part *p)
{
	const char *statement = (const char *)sqlite3_column_text(st, 0), *destroyed = (const char *)sqlite3_column_text(st, 2);

	p->statement = statement ? strdup(statement) : NULL;
	p->destroyed = destroyed ? strdup(destroyed) : NULL;
	if (!p->statement || !p->destroyed != !destroyed)
		return statement ? -ENOMEM : -EUCLEAN;
	if (archive_parse(p->statement, &p->a) < 0 || !get_signature(st, 1, p->signature))
		return -EUCLEAN;
	if (destroyed && (archive_end_parse(destroyed, &p->end) < 0 || !get_signature(st, 3, p->destroyed_signature)))
		return -EUCLEAN;
	return 0;
}

static void part_done(struct part *p)
{
	free(p->statement);
	free(p->destroyed);
}

int parts_read(sqlite3 *db, struct parts *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	*ret = (struct parts){0};
	r = sql_prepare(db, "SELECT statement,signature,destroyed,destroyed_signature FROM archive ORDER BY id", &st);
	while (r >= 0 && (r = sql_step(st)) > 0) {
		struct part *list = realloc(ret->list, (ret->n + 1) * sizeof(*list));

		if (!list)
			return -ENOMEM;
		ret->list = list;
		list[ret->n] = (struct part){0};
		r = part_from_row(st, &list[ret->n]);
		if (r < 0)
			part_done(&list[ret->n]);
		else
			ret->n++;
	}
	return r;
}

void parts_done(struct parts *p)
{
	for (size_t i = 0; i < p->n; i++)
		part_done(&p->list[i]);
	free(p->list);
	*p = (struct parts){0};
}

const struct part *parts_of_batch(const struct parts *p, int64_t batch)
{
	for (size_t i = 0; i < p->n; i++)
		if (batch <= p->list[i].a.last.batch)
			return &p->list[i];
	return NULL;
}
