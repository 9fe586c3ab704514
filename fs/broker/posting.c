#include "fs/broker/posting.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/pathseal.h"
#include "common/scope.h"
#include "common/sql.h"

#define PAIRS_A_ROW 1024u /* some 3 KiB */

/* A pair: the key in the upper 32 bits, the group in the lower: sorting sorts both. */
struct pairs {
	uint64_t *v;
	size_t n, cap;
};

static void pairs_done(struct pairs *p)
{
	free(p->v);
}

static int pairs_add(struct pairs *p, uint32_t key, unsigned group)
{
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 1 << 16;
		uint64_t *v = realloc(p->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->v = v;
		p->cap = cap;
	}
	p->v[p->n++] = (uint64_t)key << 32 | group;
	return 0;
}

#define DIGIT_BITS 12u

/* By twelve bits at a time, the lowest first; group and key are 36 bits, the upper ones of the group are zero. */
static void pairs_radix(const uint64_t *from, uint64_t *to, size_t n, unsigned shift)
{
	size_t at[1u << DIGIT_BITS] = {0}, sum = 0;

	for (size_t i = 0; i < n; i++)
		at[from[i] >> shift & ((1u << DIGIT_BITS) - 1)]++;
	for (size_t d = 0; d < ARRAY_SIZE(at); d++) {
		size_t count = at[d];

		at[d] = sum;
		sum += count;
	}
	for (size_t i = 0; i < n; i++)
		to[at[from[i] >> shift & ((1u << DIGIT_BITS) - 1)]++] = from[i];
}

/* Sorted, each once. */
static int pairs_sort(struct pairs *p)
{
	static const unsigned shifts[] = {0, 32, 44, 56};
	scoped(freep) uint64_t *other = malloc((p->n + 1) * sizeof(*other));
	size_t kept = 0;

	_Static_assert(SEGMENT_GROUPS <= 1 << DIGIT_BITS, "a group is one digit");
	if (!other)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(shifts) && p->n; i += 2) {
		pairs_radix(p->v, other, p->n, shifts[i]);
		pairs_radix(other, p->v, p->n, shifts[i + 1]);
	}
	for (size_t i = 0; i < p->n; i++)
		if (i == 0 || p->v[i] != p->v[kept - 1])
			p->v[kept++] = p->v[i];
	p->n = kept;
	return 0;
}

uint32_t posting_name_key(const void *bytes, size_t n)
{
	return pathseal_key(bytes, n);
}

/* ---- gathering ---- */

/* Keys of paths: in the order of their ids, so that the table is read along. */
static int name_paths(sqlite3 *db, struct pairs *paths, struct pairs *names)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = pairs_sort(paths);
	uint32_t last = 0, key = 0;

	if (r == 0)
		r = sql_prepare(db, "SELECT sealed FROM path WHERE id=?", &st);
	for (size_t i = 0; r == 0 && i < paths->n; i++) {
		uint32_t id = (uint32_t)(paths->v[i] >> 32);

		if (i == 0 || id != last) {
			sqlite3_reset(st);
			sqlite3_bind_int64(st, 1, id);
			r = sql_step(st);
			if (r <= 0)
				return r < 0 ? r : -EUCLEAN;
			key = posting_name_key(sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
			last = id;
		}
		r = pairs_add(names, key, (unsigned)(paths->v[i] & 0xffffffff));
	}
	return r < 0 ? r : 0;
}

static int add_record(const struct pack_record *rec, unsigned group, struct pairs *names, struct pairs *paths,
	struct pairs *sessions)
{
	int r = 0;

	if (rec->path < 0 || rec->path > UINT32_MAX || rec->path2 < 0 || rec->path2 > UINT32_MAX || rec->session < 0 ||
		rec->session > UINT32_MAX)
		return -EUCLEAN;
	if (rec->has_file)
		r = pairs_add(names, posting_name_key(rec->file.b, sizeof(rec->file.b)), group);
	if (r == 0 && rec->path)
		r = pairs_add(paths, (uint32_t)rec->path, group);
	if (r == 0 && rec->path2)
		r = pairs_add(paths, (uint32_t)rec->path2, group);
	if (r == 0 && (!sessions->n || sessions->v[sessions->n - 1] != ((uint64_t)rec->session << 32 | group)))
		r = pairs_add(sessions, (uint32_t)rec->session, group);
	return r;
}

static int gather(sqlite3 *db, struct blocks *b, int64_t segment, struct posting_range range, struct pairs *names,
	struct pairs *sessions)
{
	scoped(pairs_done) struct pairs paths = {0};
	int64_t id = segment * SEGMENT_RECORDS + 1, end = id + SEGMENT_RECORDS;
	int r = 0;

	if (id < range.from)
		id = range.from;
	if (end > range.to + 1)
		end = range.to + 1;
	while (r == 0 && id < end) {
		const struct pack_record *rec;
		unsigned group = (unsigned)(block_group(id) % SEGMENT_GROUPS);
		size_t n;

		r = blocks_get(b, id, &rec, &n);
		if (r < 0)
			return r == -ENOENT ? -EUCLEAN : r;
		for (size_t i = 0; r == 0 && i < n && id + (int64_t)i < end; i++)
			r = add_record(&rec[i], group, names, &paths, sessions);
		id += (int64_t)n;
	}
	if (r == 0)
		r = name_paths(db, &paths, names);
	if (r == 0)
		r = pairs_sort(names);
	return r == 0 ? pairs_sort(sessions) : r;
}

/* ---- rows: differences of keys as in pack.c, each followed by its group ---- */

static size_t encode(const uint64_t *v, size_t n, uint8_t *to)
{
	uint32_t last = (uint32_t)(v[0] >> 32);
	uint8_t *p = to;

	for (size_t i = 0; i < n; i++) {
		uint32_t d = (uint32_t)(v[i] >> 32) - last;

		last += d;
		for (; d >= 0x80; d >>= 7)
			*p++ = (uint8_t)(d | 0x80);
		*p++ = (uint8_t)d;
		*p++ = (uint8_t)v[i];
	}
	return (size_t)(p - to);
}

/* All pairs of one key stand in one row. */
static size_t row_length(const uint64_t *v, size_t n)
{
	size_t i = n < PAIRS_A_ROW ? n : PAIRS_A_ROW;

	while (i < n && v[i] >> 32 == v[i - 1] >> 32)
		i++;
	return i;
}

typedef int row_fn(void *userdata, uint32_t first, const uint8_t *data, size_t n);

static int each_row(const struct pairs *p, row_fn *fn, void *userdata)
{
	uint8_t buf[(PAIRS_A_ROW + SEGMENT_GROUPS) * 6];
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->n;) {
		size_t n = row_length(p->v + i, p->n - i);

		r = fn(userdata, (uint32_t)(p->v[i] >> 32), buf, encode(p->v + i, n, buf));
		i += n;
	}
	return r;
}

static int insert_row(void *userdata, uint32_t first, const uint8_t *data, size_t n)
{
	sqlite3_stmt *st = userdata;
	int r;

	sqlite3_bind_int64(st, 3, first);
	sqlite3_bind_blob64(st, 4, data, n, SQLITE_STATIC);
	r = sql_step(st);
	sqlite3_reset(st);
	return r;
}

static int compare_row(void *userdata, uint32_t first, const uint8_t *data, size_t n)
{
	sqlite3_stmt *st = userdata;
	int r = sql_step(st);

	if (r < 0)
		return r;
	return r > 0 && sqlite3_column_int64(st, 1) == first && (size_t)sqlite3_column_bytes(st, 0) == n &&
			       memcmp(sqlite3_column_blob(st, 0), data, n) == 0
		       ? 0
		       : -EUCLEAN;
}

int posting_write(sqlite3 *db, struct blocks *b, int64_t segment, struct posting_range range)
{
	scoped(pairs_done) struct pairs names = {0}, sessions = {0};
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = gather(db, b, segment, range, &names, &sessions);

	if (r == 0)
		r = sql_prepare(db, "INSERT INTO posting VALUES (?,?,?,?)", &st);
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 2, segment);
	sqlite3_bind_int64(st, 1, POSTING_NAME);
	r = each_row(&names, insert_row, st);
	sqlite3_bind_int64(st, 1, POSTING_SESSION);
	return r == 0 ? each_row(&sessions, insert_row, st) : r;
}

static int check_kind(sqlite3_stmt *st, enum posting_kind kind, const struct pairs *p)
{
	int r;

	sqlite3_reset(st);
	sqlite3_bind_int64(st, 1, kind);
	r = each_row(p, compare_row, st);
	if (r == 0)
		r = sql_step(st);
	return r > 0 ? -EUCLEAN : r; /* rows too many */
}

int posting_check(sqlite3 *db, struct blocks *b, int64_t segment, struct posting_range range)
{
	scoped(pairs_done) struct pairs names = {0}, sessions = {0};
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = gather(db, b, segment, range, &names, &sessions);

	if (r == 0)
		r = sql_prepare(db, POSTING_ALL, &st);
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 2, segment);
	r = check_kind(st, POSTING_NAME, &names);
	return r == 0 ? check_kind(st, POSTING_SESSION, &sessions) : r;
}

/* ---- finding ---- */

struct row_reader {
	const uint8_t *p, *end;
	uint32_t key;
};

static bool row_next(struct row_reader *r, unsigned *ret_group)
{
	uint32_t d = 0;
	uint8_t b = 0x80;

	for (unsigned shift = 0; b & 0x80; shift += 7) {
		if (r->p == r->end || shift > 28)
			return false;
		b = *r->p++;
		d |= (uint32_t)(b & 0x7f) << shift;
	}
	if (r->p == r->end)
		return false;
	r->key += d;
	*ret_group = *r->p++ % SEGMENT_GROUPS;
	return true;
}

static struct row_reader row_open(sqlite3_stmt *st, uint32_t first)
{
	const uint8_t *p = sqlite3_column_blob(st, 0);

	return (struct row_reader){p, p + sqlite3_column_bytes(st, 0), first};
}

int posting_find(sqlite3_stmt *find, enum posting_kind kind, int64_t segment, uint32_t key, uint64_t *ret)
{
	scoped(sql_resetp) sqlite3_stmt *st = find;
	struct row_reader row;
	unsigned group;
	int r;

	*ret = 0;
	sqlite3_bind_int64(st, 1, kind);
	sqlite3_bind_int64(st, 2, segment);
	sqlite3_bind_int64(st, 3, key);
	r = sql_step(st);
	if (r <= 0)
		return r;
	row = row_open(st, (uint32_t)sqlite3_column_int64(st, 1));
	while (row_next(&row, &group) && row.key <= key)
		if (row.key == key)
			*ret |= (uint64_t)1 << group;
	return 0;
}

int posting_find_all(sqlite3_stmt *all, enum posting_kind kind, int64_t segment, bool (*wanted)(void *userdata, uint32_t key),
	void *userdata, uint64_t *ret)
{
	scoped(sql_resetp) sqlite3_stmt *st = all;
	unsigned group;
	int r;

	*ret = 0;
	sqlite3_bind_int64(st, 1, kind);
	sqlite3_bind_int64(st, 2, segment);
	while ((r = sql_step(st)) > 0) {
		struct row_reader row = row_open(st, (uint32_t)sqlite3_column_int64(st, 1));

		while (row_next(&row, &group))
			if (wanted(userdata, row.key))
				*ret |= (uint64_t)1 << group;
	}
	return r;
}
