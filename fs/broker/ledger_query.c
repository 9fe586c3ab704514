/* Questions to the ledger: records and acts as one list, each in the order in which they came into the book, merged by time.
 * A question names the groups of records (blocks.h) that may have what it wants; only those are read. */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/pathseal.h"
#include "fs/broker/ledger_impl.h"
#include "fs/broker/ledger_rows.h"
#include "fs/broker/posting.h"

/* A page ends when it took this long, so that records go on coming in beside a search through everything. */
#define PAGE_NS 80000000
#define ACTS_AT_ONCE 65536 /* looked at before the clock is */
#define PATHS_REMEMBERED 65536u

/* ?1, ?11: the act after which to go on, and the last to look at; ?2, ?3: since, until (nanoseconds); ?4 to ?9: as in ledger_filter. */
static const char act_query[] =
	"SELECT " ROW_ACT_COLUMNS " FROM act a WHERE a.id>?1 AND a.time>=?2 AND a.time<?3 AND (?4 IS NULL OR a.user=?4)"
	" AND (?5 IS NULL OR a.client=?5) AND (?6 IS NULL OR a.purpose=?6) AND (?7 IS NULL OR a.session=?7)"
	" AND (?8 IS NULL OR a.uid=?8) AND (?9 IS NULL OR a.kind=?9) AND (?10 IS NULL OR (a.outcome IS NOT NULL AND"
	" a.outcome<>0)=?10) AND a.id<=?11 AND (?12 IS NULL OR a.kind NOT IN " CHAIN_MOVED_ACTS ")"
	" ORDER BY a.id";
static const char session_query[] =
	"SELECT id FROM session WHERE (?4 IS NULL OR user=?4) AND (?5 IS NULL OR client=?5) AND (?6 IS NULL OR purpose=?6)"
	" AND (?7 IS NULL OR number=?7) AND (?8 IS NULL OR uid=?8)";
static const char span_query[] =
	"SELECT id FROM block INDEXED BY block_span WHERE id>=?1 AND id<?2 AND to_time>=?3 AND from_time<?4";

struct search {
	const struct ledger_filter *f;
	struct ledger *l;
	struct ledger_records in; /* where it is looking */
	bool entered;
	struct row_maker *rows;
	sqlite3_stmt *acts, *spans, *find, *find_all, *sealed; /* all but acts of in.db */
	int64_t since, until; /* nanoseconds */
	bool by_session, by_name, no_acts;
	uint8_t *sessions;    /* bit n: the session with row id n */
	size_t sessions_n;    /* bits */
	int op;		      /* -1: any; -2: of no record */
	struct path_fits {
		int64_t id;
		bool fits;
	} *paths; /* PATHS_REMEMBERED; only when names are wanted */
	/* where it is */
	int64_t record, act, last_record; /* looked at so far; the newest there is */
	int64_t segment;		  /* whose groups are in `groups`; -1: none yet */
	uint64_t groups;
	struct pack_record next; /* the record that fits and is `record` */
	bool has_record, has_act;
	int64_t acts_to, acts_end, last_act; /* the last that the statement looks at; of this file; the newest there is */
	bool act_late;		   /* the time is over, and it is not known which act is next */
	int64_t allowed, deadline;
	bool moved; /* a page looks at some records, however late it is */
};

static void leave(struct search *s)
{
	row_maker_free(s->rows);
	sqlite3_finalize(s->spans);
	sqlite3_finalize(s->find);
	sqlite3_finalize(s->find_all);
	sqlite3_finalize(s->sealed);
	s->rows = NULL;
	s->spans = s->find = s->find_all = s->sealed = NULL;
	s->entered = false;
}

static void search_done(struct search *s)
{
	leave(s);
	sqlite3_finalize(s->acts);
	free(s->sessions);
	free(s->paths);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t ns(int64_t seconds)
{
	int64_t r;

	if (__builtin_mul_overflow(seconds, 1000000000, &r))
		return seconds < 0 ? INT64_MIN : INT64_MAX;
	return r;
}

/* ---- what to look for ---- */

static void bind_filter(sqlite3_stmt *st, const struct ledger_filter *f)
{
	sql_bind_text(st, 4, f->user);
	sql_bind_text(st, 5, f->client);
	sql_bind_text(st, 6, f->purpose);
	if (f->session)
		sqlite3_bind_int64(st, 7, (int64_t)f->session);
	if (f->uid >= 0)
		sqlite3_bind_int64(st, 8, f->uid);
}

static int find_sessions(struct search *s, sqlite3 *db)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, session_query, &st);

	if (r < 0)
		return r;
	bind_filter(st, s->f);
	while ((r = sql_step(st)) > 0) {
		size_t id = (size_t)sqlite3_column_int64(st, 0);

		if (id >= s->sessions_n) {
			size_t n = s->sessions_n ? s->sessions_n : 4096;
			uint8_t *p;

			while (n <= id)
				n *= 2;
			p = realloc(s->sessions, n / 8);
			if (!p)
				return -ENOMEM;
			memset(p + s->sessions_n / 8, 0, (n - s->sessions_n) / 8);
			s->sessions = p;
			s->sessions_n = n;
		}
		s->sessions[id / 8] |= (uint8_t)(1 << id % 8);
	}
	return r;
}

static bool session_wanted(void *userdata, uint32_t id)
{
	const struct search *s = userdata;

	return id < s->sessions_n && (s->sessions[id / 8] & 1 << id % 8);
}

static bool key_wanted(void *userdata, uint32_t key)
{
	const struct search *s = userdata;

	return s->f->names_bitmap && pathseal_bitmap_has(s->f->names_bitmap, key);
}

/* ---- which groups ---- */

static int groups_by_name(struct search *s, int64_t segment, uint64_t *ret)
{
	uint64_t groups = 0, some;
	int r = 0;

	if (s->f->file)
		r = posting_find(s->find, POSTING_NAME, segment,
			posting_name_key(s->f->file->b, sizeof(s->f->file->b)), &groups);
	for (size_t i = 0; r == 0 && i < s->f->names_n; i++) {
		const struct ledger_name *n = &s->f->names[i];

		r = posting_find(s->find, POSTING_NAME, segment, posting_name_key(n->sealed, n->n), &some);
		groups |= some;
	}
	if (r == 0 && s->f->names_bitmap) {
		r = posting_find_all(s->find_all, POSTING_NAME, segment, key_wanted, s, &some);
		groups |= some;
	}
	*ret = groups;
	return r;
}

static int groups_by_time(struct search *s, int64_t segment, uint64_t *ret)
{
	scoped(sql_resetp) sqlite3_stmt *st = s->spans;
	int r;

	*ret = 0;
	sqlite3_bind_int64(st, 1, segment * SEGMENT_RECORDS + 1);
	sqlite3_bind_int64(st, 2, (segment + 1) * SEGMENT_RECORDS + 1);
	sqlite3_bind_int64(st, 3, s->since);
	sqlite3_bind_int64(st, 4, s->until);
	while ((r = sql_step(st)) > 0)
		*ret |= (uint64_t)1 << block_group(sqlite3_column_int64(st, 0)) % SEGMENT_GROUPS;
	return r;
}

static int choose_groups(struct search *s, int64_t segment)
{
	bool whole = s->in.whole || (segment + 1) * SEGMENT_RECORDS <= s->last_record;
	uint64_t groups = UINT64_MAX, some;
	int r = 0;

	if (s->since != INT64_MIN || s->until != INT64_MAX)
		r = groups_by_time(s, segment, &groups);
	if (r == 0 && whole && groups && s->by_session) {
		r = posting_find_all(s->find_all, POSTING_SESSION, segment, session_wanted, s, &some);
		groups &= some;
	}
	if (r == 0 && whole && groups && s->by_name) {
		r = groups_by_name(s, segment, &some);
		groups &= some;
	}
	s->segment = segment;
	s->groups = groups;
	return r;
}

/* The next record to look at behind s->record; beyond `end`: none.  1: the time is over before it is known whether there is one;
 * up to *ret there is none. */
static int skip(struct search *s, int64_t end, int64_t *ret)
{
	int64_t id = s->record + 1;

	while (id <= end) {
		int64_t group = block_group(id), segment = group / SEGMENT_GROUPS;
		bool late = segment != s->segment && id > s->record + 1 && now_ns() > s->deadline;
		int r = segment == s->segment || late ? 0 : choose_groups(s, segment);

		if (r < 0)
			return r;
		if (late) {
			*ret = id - 1;
			return 1;
		}
		if (s->groups & (uint64_t)1 << group % SEGMENT_GROUPS)
			break;
		id = (s->groups ? group + 1 : (segment + 1) * SEGMENT_GROUPS) * (int64_t)PACK_RECORDS_MAX + 1;
	}
	*ret = id;
	return 0;
}

/* ---- one record after the other ---- */

static bool name_wanted(const struct search *s, const void *sealed, size_t n)
{
	for (size_t i = 0; i < s->f->names_n; i++)
		if (s->f->names[i].n == n && memcmp(s->f->names[i].sealed, sealed, n) == 0)
			return true;
	return key_wanted((void *)s, posting_name_key(sealed, n));
}

/* 1 or 0, or negative: as the others here. */
static int path_wanted(struct search *s, int64_t id)
{
	scoped(sql_resetp) sqlite3_stmt *st = s->sealed;
	unsigned slot = (unsigned)id % PATHS_REMEMBERED;
	int r;

	if (!id || !s->paths)
		return 0;
	if (s->paths[slot].id == id)
		return s->paths[slot].fits;
	sqlite3_bind_int64(st, 1, id);
	r = sql_step(st);
	if (r < 0)
		return r;
	s->paths[slot].id = id;
	s->paths[slot].fits = r > 0 && name_wanted(s, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
	return s->paths[slot].fits;
}

static int record_fits(struct search *s, const struct pack_record *r)
{
	int wanted;

	if (r->time < s->since || r->time >= s->until)
		return 0;
	if (s->by_session && !session_wanted(s, (uint32_t)r->session))
		return 0;
	if ((s->op != -1 && r->op != s->op) || (s->f->outcome != LEDGER_ANY && (r->outcome != 0) != (s->f->outcome == LEDGER_FAILED)))
		return 0;
	if (!s->by_name || (s->f->file && r->has_file && memcmp(&r->file, s->f->file, sizeof(r->file)) == 0))
		return 1;
	wanted = path_wanted(s, r->path);
	return wanted == 0 ? path_wanted(s, r->path2) : wanted;
}

/* What has the next record: an archive, or the ledger.  An archive in which nothing can fit is passed over. */
static int enter(struct search *s)
{
	int r;

	leave(s);
	do
		r = ledger_source_of(s->l, s->record + 1, s->since, s->until, &s->in);
	while (r == 0 && !s->in.db && (s->record = s->in.last) < s->last_record);
	if (r < 0 || !s->in.db)
		return r;
	s->segment = -1;
	r = row_maker_new(s->l->db, s->in.db, &s->rows);
	if (r == 0)
		r = sql_prepare(s->in.db, span_query, &s->spans);
	if (r == 0)
		r = sql_prepare(s->in.db, POSTING_FIND, &s->find);
	if (r == 0)
		r = sql_prepare(s->in.db, POSTING_ALL, &s->find_all);
	if (r == 0)
		r = sql_prepare(s->in.db, "SELECT sealed FROM path WHERE id=?", &s->sealed);
	s->entered = r == 0;
	return r;
}

/* Finds the next record, or the end, or has no time left. */
static int next_record(struct search *s)
{
	s->has_record = false;
	while (s->record < s->last_record && !s->has_record && (!s->moved || now_ns() < s->deadline)) {
		const struct pack_record *rec;
		int64_t id, end;
		size_t n = 0;
		int r = s->entered && s->record < s->in.last ? 0 : enter(s);

		if (r < 0 || !s->entered)
			return r;
		end = s->in.last < s->last_record ? s->in.last : s->last_record;
		r = skip(s, end, &id);
		if (r > 0) {
			s->record = id;
			break;
		}
		if (r == 0 && id <= end)
			r = blocks_get(s->in.blocks, id, &rec, &n);
		if (r < 0)
			return r == -ENOENT ? -EUCLEAN : r;
		s->moved = true;
		s->record = id <= end ? id - 1 : end;
		for (size_t i = 0; i < n && !s->has_record && s->record < end; i++) {
			r = record_fits(s, &rec[i]);
			if (r < 0)
				return r;
			s->record++;
			s->has_record = r > 0;
			s->next = rec[i];
		}
	}
	if (s->record > s->last_record)
		s->record = s->last_record;
	return 0;
}

/* In an archive, or the ledger. */
static int enter_acts(struct search *s)
{
	sqlite3 *db = NULL;
	bool kept;
	int r;

	sqlite3_finalize(take_ptr(&s->acts));
	do
		r = ledger_acts_of(s->l, s->act, s->since, s->until, &db, &s->acts_end, &kept);
	while (r == 0 && !db && (s->act = s->acts_end) < s->last_act);
	if (r < 0 || !db)
		return r;
	r = sql_prepare(db, act_query, &s->acts);
	if (r < 0)
		return r;
	sqlite3_bind_int64(s->acts, 2, s->since);
	sqlite3_bind_int64(s->acts, 3, s->until);
	bind_filter(s->acts, s->f);
	sql_bind_text(s->acts, 9, s->f->op);
	if (s->f->outcome != LEDGER_ANY)
		sqlite3_bind_int(s->acts, 10, s->f->outcome == LEDGER_FAILED);
	if (kept) /* rows that are to go with what was destroyed may still be there */
		sqlite3_bind_int(s->acts, 12, 1);
	return 0;
}

static void look_at_acts(struct search *s)
{
	s->acts_to = s->acts_end - s->act > ACTS_AT_ONCE ? s->act + ACTS_AT_ONCE : s->acts_end;
	sqlite3_reset(s->acts);
	sqlite3_bind_int64(s->acts, 1, s->act);
	sqlite3_bind_int64(s->acts, 11, s->acts_to);
}

/* The next act, or the end, or there is no time left: some were looked at in any case. */
static int next_act(struct search *s)
{
	int r = 0;

	s->has_act = false;
	while (s->acts && (r = sql_step(s->acts)) == 0 && s->acts_to < s->last_act) {
		s->act = s->acts_to;
		s->act_late = now_ns() > s->deadline;
		if (s->act_late)
			return 0;
		r = s->act < s->acts_end ? 0 : enter_acts(s);
		if (r < 0)
			return r;
		if (s->acts)
			look_at_acts(s);
	}
	s->has_act = r > 0;
	if (r > 0)
		s->act = sqlite3_column_int64(s->acts, 0);
	return r < 0 ? r : 0;
}

/* ---- both lists, merged ---- */

/* Where to go on: "r<record>a<act>", the last of each that was answered or passed over. */
static int position_parse(const char *text, int64_t *ret_record, int64_t *ret_act)
{
	int64_t record, act;
	int used = 0;

	if (sscanf(text, "r%" SCNd64 "a%" SCNd64 "%n", &record, &act, &used) != 2 || text[used] || record < 0 || act < 0)
		return -EINVAL;
	*ret_record = record;
	*ret_act = act;
	return 0;
}

static int start_acts(struct search *s)
{
	int r;

	if (s->by_name || s->no_acts)
		return 0; /* acts have no path */
	s->last_act = s->l->last.to[CHAIN_ACT];
	r = enter_acts(s);
	if (r == 0 && s->acts)
		look_at_acts(s);
	return r;
}

static int op_number(const char *name)
{
	if (!name)
		return -1;
	for (int op = 1; op < 256; op++)
		if (strcmp(record_op_name((unsigned)op), name) == 0)
			return op;
	return -2;
}

static int search_start(struct search *s, struct ledger *l)
{
	sqlite3 *db = ledger_db(l);
	int64_t to = 0, no_act;
	int r = 0;

	s->l = l;
	s->since = ns(s->f->since);
	s->until = ns(s->f->until);
	s->last_record = l->last.to[CHAIN_RECORD];
	if (s->f->last_record && s->f->last_record < s->last_record)
		s->last_record = s->f->last_record;
	s->segment = -1;
	s->op = op_number(s->f->op);
	s->by_session = s->f->user || s->f->client || s->f->purpose || s->f->session || s->f->uid >= 0;
	s->by_name = s->f->names_n || s->f->names_bitmap || s->f->file;
	if (s->f->names_n || s->f->names_bitmap) {
		s->paths = calloc(PATHS_REMEMBERED, sizeof(*s->paths));
		if (!s->paths)
			return -ENOMEM;
	}
	if (r == 0 && s->f->to)
		r = position_parse(s->f->to, &to, &no_act);
	if (r == 0 && s->f->to && to < s->last_record)
		s->last_record = to;
	if (r == 0 && s->f->after)
		r = position_parse(s->f->after, &s->record, &s->act);
	if (r == 0 && s->by_session)
		r = find_sessions(s, db);
	if ((s->by_session && !s->sessions_n) || s->op == -2)
		s->record = s->last_record;
	if (r == 0)
		r = start_acts(s);
	s->deadline = now_ns() + s->allowed;
	if (r == 0)
		r = next_record(s);
	return r == 0 ? next_act(s) : r;
}

/* A record of which it is not known yet when it was comes before every act. */
static bool act_is_next(const struct search *s)
{
	if (!s->has_act || (!s->has_record && s->record < s->last_record))
		return false;
	return !s->has_record || sqlite3_column_int64(s->acts, 1) < s->next.time;
}

static int add_next(struct search *s, json_t *rows)
{
	bool is_act = act_is_next(s);
	json_t *row = NULL;
	int r = 0;

	if (is_act)
		row = row_of_act(s->acts);
	else
		r = row_of_record(s->rows, s->record, &s->next, &row);
	if (r < 0)
		return r;
	if (json_array_append_new(rows, row) < 0)
		return -ENOMEM;
	return is_act ? next_act(s) : next_record(s);
}

int ledger_query(struct ledger *l, const struct ledger_filter *f, json_t **ret_rows, char **ret_next)
{
	unsigned limit = f->limit && f->limit <= LEDGER_QUERY_MAX ? f->limit : LEDGER_QUERY_MAX;
	scoped(json_decrefp) json_t *rows = json_array();
	scoped(search_done) struct search s = {.f = f, .allowed = PAGE_NS};
	char *next = NULL;
	int r;

	r = search_start(&s, l);
	while (r == 0 && !s.act_late && (s.has_record || act_is_next(&s)) && json_array_size(rows) < limit)
		r = add_next(&s, rows);
	if (r < 0)
		return r;
	if ((s.has_record || s.has_act || s.act_late || s.record < s.last_record) &&
		asprintf(&next, "r%" PRId64 "a%" PRId64, s.record - s.has_record, s.act - s.has_act) < 0)
		return -ENOMEM;
	*ret_rows = take_ptr(&rows);
	*ret_next = next;
	return 0;
}

int ledger_each(struct ledger *l, const struct ledger_filter *f, int64_t ns_allowed,
	int (*take)(void *userdata, const struct pack_record *r), void *userdata, char **ret_next)
{
	scoped(search_done) struct search s = {.f = f, .no_acts = true, .allowed = ns_allowed};
	char *next = NULL;
	int r;

	r = search_start(&s, l);
	while (r == 0 && s.has_record) {
		r = take(userdata, &s.next);
		s.has_record = false;
		if (r == 0)
			r = next_record(&s); /* finds none when the time is over */
	}
	if (r == 0 && s.record < s.last_record && asprintf(&next, "r%" PRId64 "a0", s.record) < 0)
		r = -ENOMEM;
	if (r == 0)
		*ret_next = next;
	return r;
}

int ledger_newest(struct ledger *l, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int64_t newest;
	int r;

	r = sql_prepare(ledger_db(l),
		"SELECT max(ifnull((SELECT max(to_time) FROM block),0), ifnull((SELECT max(time) FROM act WHERE id>?1),0))", &st);
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, ledger_acts_moved(l));
	r = sql_step(st);
	if (r < 0)
		return r;
	newest = sqlite3_column_int64(st, 0);
	for (size_t i = 0; i < l->parts.n; i++) {
		const struct archive *a = &l->parts.list[i].a;

		if (a->to_time > newest)
			newest = a->to_time;
		if (a->acts_moved && a->act_to > newest)
			newest = a->act_to;
	}
	*ret = newest / 1000000000;
	return 0;
}
