#include "fs/broker/blocks.h"

#include <errno.h>
#include <string.h>

#include "common/sql.h"

struct blocks {
	sqlite3 *db;
	sqlite3_stmt *get, *find, *add, *remove;
	int64_t floor;
	int64_t first; /* of `records`; 0: nothing was read */
	size_t n;
	struct pack_record records[PACK_RECORDS_MAX];
	struct pack_record making[PACK_RECORDS_MAX]; /* blocks_append */
};

int blocks_new(sqlite3 *db, struct blocks **ret)
{
	scoped(blocks_freep) struct blocks *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->db = db;
	r = sql_prepare(db, "SELECT id,records,from_time,to_time,data FROM block WHERE id<=? ORDER BY id DESC LIMIT 1", &b->get);
	if (r == 0)
		*ret = take_ptr(&b);
	return r;
}

void blocks_free(struct blocks *b)
{
	if (!b)
		return;
	sqlite3_finalize(b->get);
	sqlite3_finalize(b->find);
	sqlite3_finalize(b->add);
	sqlite3_finalize(b->remove);
	free(b);
}

void blocks_forget(struct blocks *b)
{
	b->first = 0;
}

void blocks_set_floor(struct blocks *b, int64_t floor)
{
	b->floor = floor;
	b->first = 0;
}

static void time_span(const struct pack_record *records, size_t n, int64_t *ret_from, int64_t *ret_to)
{
	*ret_from = *ret_to = records[0].time;
	for (size_t i = 1; i < n; i++) {
		if (records[i].time < *ret_from)
			*ret_from = records[i].time;
		if (records[i].time > *ret_to)
			*ret_to = records[i].time;
	}
}

/* The block that holds record `id` into `records`. */
static int read_block(struct blocks *b, int64_t id, struct pack_record *records, int64_t *ret_first, size_t *ret_n)
{
	scoped(sql_resetp) sqlite3_stmt *st = b->get;
	int64_t first, from, to;
	size_t n;
	int r;

	if (id <= b->floor)
		return -ENOENT;
	sqlite3_bind_int64(st, 1, id);
	r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	first = sqlite3_column_int64(st, 0);
	r = pack_decode(sqlite3_column_blob(st, 4), (size_t)sqlite3_column_bytes(st, 4), records, &n);
	if (r < 0)
		return r;
	if (first < 1 || (int64_t)n != sqlite3_column_int64(st, 1) ||
		block_group(first) != block_group(first + (int64_t)n - 1))
		return -EUCLEAN;
	time_span(records, n, &from, &to);
	if (from != sqlite3_column_int64(st, 2) || to != sqlite3_column_int64(st, 3))
		return -EUCLEAN; /* a search would pass it over */
	if (id >= first + (int64_t)n)
		return -ENOENT;
	*ret_first = first;
	*ret_n = n;
	return 0;
}

int blocks_get(struct blocks *b, int64_t id, const struct pack_record **ret, size_t *ret_n)
{
	int r;

	if (!b->first || id < b->first || id >= b->first + (int64_t)b->n) {
		b->first = 0;
		r = read_block(b, id, b->records, &b->first, &b->n);
		if (r < 0)
			return r;
	}
	*ret = b->records + (id - b->first);
	*ret_n = b->n - (size_t)(id - b->first);
	return 0;
}

/* ---- adding ---- */

static int prepare_writing(struct blocks *b)
{
	int r = 0;

	if (!b->find)
		r = sql_prepare(b->db, "SELECT id,records FROM block WHERE id<=? ORDER BY id DESC LIMIT 1", &b->find);
	if (r == 0 && !b->add)
		r = sql_prepare(b->db, "INSERT INTO block VALUES (?,?,?,?,?)", &b->add);
	if (r == 0 && !b->remove)
		r = sql_prepare(b->db, "DELETE FROM block WHERE id>=? AND id<?", &b->remove);
	return r;
}

/* How many records the block has that ends at `id`. */
static int length_before(struct blocks *b, int64_t id, int64_t *ret)
{
	scoped(sql_resetp) sqlite3_stmt *st = b->find;
	int r;

	sqlite3_bind_int64(st, 1, id);
	r = sql_step(st);
	if (r <= 0 || sqlite3_column_int64(st, 0) + sqlite3_column_int64(st, 1) - 1 != id)
		return r < 0 ? r : -EUCLEAN;
	*ret = sqlite3_column_int64(st, 1);
	return 0;
}

/* Where the block is to begin that ends with the `n` records from `first` on.  A former block that is not longer joins it, so
 * that a group of single records is read and written again twelve times and no more; all do when the group is whole. */
static int choose_start(struct blocks *b, int64_t first, int64_t n, int64_t *ret)
{
	int64_t group_start = block_group(first) * PACK_RECORDS_MAX + 1, start = first, before;
	bool whole = first + n == group_start + PACK_RECORDS_MAX;

	if (group_start <= b->floor)
		group_start = b->floor + 1;
	while (start > group_start) {
		int r = length_before(b, start - 1, &before);

		if (r < 0)
			return r;
		if (!whole && before > first + n - start)
			break;
		start -= before;
	}
	*ret = start;
	return start < group_start ? -EUCLEAN : 0;
}

static int write_block(struct blocks *b, int64_t first, const struct pack_record *records, size_t n)
{
	scoped(freep) uint8_t *data = NULL;
	int64_t from, to;
	size_t data_n;
	int r;

	time_span(records, n, &from, &to);
	r = pack_encode(records, n, &data, &data_n);
	if (r < 0)
		return r;
	sqlite3_bind_int64(b->add, 1, first);
	sqlite3_bind_int64(b->add, 2, (int64_t)n);
	sqlite3_bind_int64(b->add, 3, from);
	sqlite3_bind_int64(b->add, 4, to);
	sqlite3_bind_blob64(b->add, 5, data, data_n, SQLITE_STATIC);
	return sql_run(b->add);
}

/* All of one group. */
static int append_some(struct blocks *b, int64_t first, const struct pack_record *records, size_t n)
{
	int64_t start;
	int r;

	r = choose_start(b, first, (int64_t)n, &start);
	if (r < 0)
		return r;
	if (start == first)
		return write_block(b, first, records, n);
	for (int64_t at = start; at < first;) {
		int64_t got;
		size_t count;

		r = read_block(b, at, b->making + (at - start), &got, &count);
		if (r < 0 || got != at || at + (int64_t)count > first)
			return r < 0 ? r : -EUCLEAN;
		at += (int64_t)count;
	}
	memcpy(b->making + (first - start), records, n * sizeof(*records));
	sqlite3_bind_int64(b->remove, 1, start);
	sqlite3_bind_int64(b->remove, 2, first);
	r = sql_run(b->remove);
	return r < 0 ? r : write_block(b, start, b->making, n + (size_t)(first - start));
}

int blocks_split(struct blocks *b)
{
	size_t n, skip;
	int64_t first;
	int r = prepare_writing(b);

	b->first = 0;
	if (r == 0)
		r = read_block(b, b->floor + 1, b->making, &first, &n);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* none lies behind it */
	if (first > b->floor)
		return 0;
	skip = (size_t)(b->floor + 1 - first);
	sqlite3_bind_int64(b->remove, 1, first);
	sqlite3_bind_int64(b->remove, 2, first + 1);
	r = sql_run(b->remove);
	return r < 0 ? r : write_block(b, b->floor + 1, b->making + skip, n - skip);
}

int blocks_append(struct blocks *b, int64_t first, const struct pack_record *records, size_t n)
{
	int r = prepare_writing(b);

	b->first = 0;
	while (r == 0 && n > 0) {
		size_t room = (size_t)((block_group(first) + 1) * PACK_RECORDS_MAX - first + 1), now = n < room ? n : room;

		r = append_some(b, first, records, now);
		first += (int64_t)now;
		records += now;
		n -= now;
	}
	return r;
}
