#include "keyd/facts_loads.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/log.h"
#include "keyd/facts_sql.h"

#define FILE_KEY "facts-file"
#define FILE_NAME "facts.db"

static int row_of_last(struct facts *f, int64_t *ret)
{
	*ret = sqlite3_last_insert_rowid(f->db);
	return 0;
}

static int insert(struct facts *f, int64_t client, uint64_t first, uint64_t end, int64_t *ret_row)
{
	int r = facts_execute(f, NULL,
		"INSERT INTO load (client,first_number,end_number,from_day,to_day) VALUES (?,?,?,0,?)", "iiii", client,
		(int64_t)first, (int64_t)end, (int64_t)LOAD_DAY_LAST);

	return r < 0 ? r : row_of_last(f, ret_row);
}

int facts_load_begin(struct facts *f, int64_t client, uint64_t first, uint64_t end, int64_t *ret_row)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	if (first >= end || end > LOAD_NUMBERS)
		return -EINVAL;
	r = facts_prepare(f, &st, "SELECT 1 FROM load WHERE client = ? AND first_number < ? AND end_number > ? LIMIT 1",
		"iii", client, (int64_t)end, (int64_t)first);
	if (r == 0)
		r = sql_step(st);
	if (r != 0)
		return r < 0 ? r : -EEXIST;
	return insert(f, client, first, end, ret_row);
}

int facts_load_extend(struct facts *f, int64_t row, uint64_t end)
{
	int changes, r;

	if (end > LOAD_NUMBERS)
		return -EINVAL;
	r = facts_execute(f, &changes,
		"UPDATE load SET end_number = ?1 WHERE id = ?2 AND end_number < ?1 AND NOT EXISTS (SELECT 1 FROM load o"
		" WHERE o.client = load.client AND o.first_number >= load.end_number AND o.first_number < ?1)",
		"ii", (int64_t)end, row);
	return r < 0 || changes > 0 ? r : -EEXIST;
}

int facts_load_end(struct facts *f, const struct fact_load *l)
{
	if (l->first == l->end)
		return facts_execute(f, NULL, "DELETE FROM load WHERE id = ?", "i", l->row);
	return facts_execute(f, NULL,
		"UPDATE load SET end_number = ?, from_day = ?, to_day = ? WHERE id = ? AND first_number = ?", "iiiii",
		(int64_t)l->end, (int64_t)l->from_day, (int64_t)l->to_day, l->row, (int64_t)l->first);
}

int facts_load_split(struct facts *f, int64_t client, const struct fact_load *l, uint64_t end, int64_t *ret_row)
{
	scoped(facts_rollbackp) struct facts *open = NULL;
	int64_t row;
	int r = facts_begin(f);

	if (r < 0)
		return r;
	open = f;
	r = facts_load_end(f, l);
	if (r == 0)
		r = insert(f, client, l->end, end, &row);
	if (r == 0)
		r = facts_commit(f);
	if (r == 0)
		*ret_row = row;
	return r;
}

int facts_loads(struct facts *f, int64_t client, struct fact_load **ret, size_t *ret_n)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	scoped(freep) struct fact_load *all = NULL;
	size_t n = 0, cap = 0;
	int r;

	r = facts_prepare(f, &st,
		"SELECT id,first_number,end_number,from_day,to_day FROM load WHERE client = ? ORDER BY first_number", "i",
		client);
	if (r < 0)
		return r;
	while ((r = sql_step(st)) > 0) {
		if (n == cap) {
			struct fact_load *more = reallocarray(all, cap * 2 + 64, sizeof(*all));

			if (!more)
				return -ENOMEM;
			all = more;
			cap = cap * 2 + 64;
		}
		all[n++] = (struct fact_load){.row = sqlite3_column_int64(st, 0),
			.first = (uint64_t)sqlite3_column_int64(st, 1),
			.end = (uint64_t)sqlite3_column_int64(st, 2),
			.from_day = (uint16_t)sqlite3_column_int(st, 3),
			.to_day = (uint16_t)sqlite3_column_int(st, 4)};
	}
	if (r < 0)
		return r;
	*ret = take_ptr(&all);
	*ret_n = n;
	return 0;
}

int facts_book(struct facts *f, int64_t client, struct fact_book *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = facts_prepare(f, &st, "SELECT since,pruned FROM load_book WHERE client = ?", "i", client);

	r = facts_one(st, r);
	if (r < 0)
		return r;
	*ret = (struct fact_book){
		.since = (uint16_t)sqlite3_column_int(st, 0), .pruned = (uint16_t)sqlite3_column_int(st, 1)};
	return 0;
}

int facts_book_begin(struct facts *f, int64_t client, uint16_t since)
{
	return facts_execute(f, NULL, "INSERT INTO load_book (client,since,pruned) VALUES (?,?,0)", "ii", client,
		(int64_t)since);
}

int facts_book_pruned(struct facts *f, int64_t client, uint16_t before)
{
	return facts_execute(f, NULL, "UPDATE load_book SET pruned = max(pruned, ?) WHERE client = ?", "ii",
		(int64_t)before, client);
}

int facts_book_doubt(struct facts *f, int64_t client)
{
	return facts_execute(f, NULL, "UPDATE load_book SET since = ?1 WHERE ?2 = 0 OR client = ?2", "ii",
		(int64_t)BOOK_NO_DAY, client);
}

int facts_book_settle(struct facts *f, int64_t client, uint16_t since)
{
	return facts_execute(f, NULL, "UPDATE load_book SET since = ? WHERE client = ? AND since = ?", "iii",
		(int64_t)since, client, (int64_t)BOOK_NO_DAY);
}

/* A copy has another number and another time of birth.  "": that cannot be told. */
static void identity(int keyd_fd, char *buf, size_t n)
{
	struct statx st;

	buf[0] = '\0';
	if (statx(keyd_fd, FILE_NAME, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &st) == 0)
		snprintf(buf, n, "%" PRIu64 " %" PRId64 ".%09" PRIu32, (uint64_t)st.stx_ino,
			st.stx_mask & STATX_BTIME ? (int64_t)st.stx_btime.tv_sec : 0,
			st.stx_mask & STATX_BTIME ? st.stx_btime.tv_nsec : 0);
}

int facts_book_check_file(struct facts *f, int keyd_fd)
{
	scoped(facts_rollbackp) struct facts *open = NULL;
	char now[64], was[64] = "";
	int r = facts_state_get(f, FILE_KEY, was, sizeof(was));

	identity(keyd_fd, now, sizeof(now));
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && now[0] && strcmp(now, was) == 0)
		return 0;
	r = facts_begin(f);
	if (r < 0)
		return r;
	open = f;
	if (was[0]) {
		log_info("keyd/" FILE_NAME " is a copy: what was given out before today is never pruned");
		r = facts_book_doubt(f, 0);
	}
	if (r == 0)
		r = facts_state_set(f, FILE_KEY, now);
	return r < 0 ? r : facts_commit(f);
}
