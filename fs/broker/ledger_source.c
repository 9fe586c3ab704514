/* Rows that come from journals. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/broker/ledger_impl.h"

#define REFS_CACHED (1u << 20) /* 4 MiB a journal at most; larger numbers are looked up */

struct refs {
	uint32_t *ids; /* row id of reference i + 1; 0: not looked up */
	size_t n;
};

struct ledger_source {
	int64_t journal;
	uint64_t done, stored;
	uint64_t session; /* the last one looked up */
	int64_t session_row;
	struct refs paths, processes;
	char client_id[CLIENT_ID_HEX];
};

int ledger_add_journal(struct ledger *l, const char *client_id, int64_t pid, uint64_t *ret_id)
{
	sqlite3_stmt *st = l->st[ADD_JOURNAL];
	int r;

	sql_bind_text(st, 2, client_id);
	sqlite3_bind_int64(st, 3, pid);
	sqlite3_bind_int64(st, 4, time(NULL));
	r = ledger_add_row(l, CHAIN_JOURNAL, st);
	if (r < 0)
		return r;
	sqlite3_bind_int64(l->st[ADD_PROGRESS], 1, l->to[CHAIN_JOURNAL]);
	r = sql_run(l->st[ADD_PROGRESS]);
	if (r < 0)
		return r;
	*ret_id = (uint64_t)l->to[CHAIN_JOURNAL];
	return 0;
}

int ledger_source_new(struct ledger *l, uint64_t journal, const char *client_id, struct ledger_source **ret)
{
	sqlite3_stmt *st = l->st[GET_PROGRESS];
	struct ledger_source *s;
	int64_t done;
	int r;

	sqlite3_bind_int64(st, 1, (int64_t)journal);
	sql_bind_text(st, 2, client_id);
	r = ledger_lookup(st, &done);
	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->journal = (int64_t)journal;
	s->done = s->stored = (uint64_t)done;
	strncpy(s->client_id, client_id, sizeof(s->client_id) - 1);
	*ret = s;
	return 0;
}

void ledger_source_free(struct ledger_source *s)
{
	if (!s)
		return;
	free(s->paths.ids);
	free(s->processes.ids);
	free(s);
}

uint64_t ledger_source_done(const struct ledger_source *s)
{
	return s->done;
}

/* Only a cache: what does not fit is looked up again. */
static void refs_remember(struct refs *c, uint32_t ref, int64_t id)
{
	if (ref == 0 || ref > REFS_CACHED || id > UINT32_MAX)
		return;
	if (ref > c->n) {
		size_t n = c->n ? c->n : 64;
		uint32_t *ids;

		while (n < ref)
			n *= 2;
		ids = realloc(c->ids, n * sizeof(*ids));
		if (!ids)
			return;
		memset(ids + c->n, 0, (n - c->n) * sizeof(*ids));
		c->ids = ids;
		c->n = n;
	}
	c->ids[ref - 1] = (uint32_t)id;
}

/* 0 stays "none".  A reference that was never named: -EBADMSG. */
static int refs_find(struct refs *c, sqlite3_stmt *st, int64_t journal, uint32_t ref, int64_t *ret)
{
	int r;

	*ret = 0;
	if (ref == 0)
		return 0;
	if (ref <= c->n && c->ids[ref - 1]) {
		*ret = c->ids[ref - 1];
		return 0;
	}
	sqlite3_bind_int64(st, 1, journal);
	sqlite3_bind_int64(st, 2, ref);
	r = ledger_lookup(st, ret);
	if (r == 0)
		refs_remember(c, ref, *ret);
	return r == -ENOENT ? -EBADMSG : r;
}

/* A session that keyd never announced for this client: the record is kept, and says that nobody knows whose
 * it is. (A worker can lie about its own client only: the client is the journal's.) */
static int add_unknown_session(struct ledger *l, const struct ledger_source *s, uint64_t number)
{
	const struct ledger_session unknown = {.number = number, .client_id = s->client_id, .uid = -1};

	return ledger_add_session(l, &unknown);
}

static int find_session(struct ledger *l, struct ledger_source *s, uint64_t number, int64_t *ret)
{
	sqlite3_stmt *st = l->st[FIND_SESSION];
	int r;

	if (s->session_row && s->session == number) {
		*ret = s->session_row;
		return 0;
	}
	sqlite3_bind_int64(st, 1, (int64_t)number);
	sql_bind_text(st, 2, s->client_id);
	r = ledger_lookup(st, ret);
	if (r == -ENOENT) {
		r = add_unknown_session(l, s, number);
		*ret = l->to[CHAIN_SESSION];
	}
	if (r == 0) {
		s->session = number;
		s->session_row = *ret;
	}
	return r;
}

static int add_path(struct ledger *l, struct ledger_source *s, const struct record_path *p)
{
	sqlite3_stmt *st = l->st[ADD_PATH];
	int r;

	sqlite3_bind_int64(st, 2, s->journal);
	sqlite3_bind_int64(st, 3, p->ref);
	sqlite3_bind_int64(st, 4, p->month);
	sqlite3_bind_blob(st, 5, p->sealed, p->sealed_len, SQLITE_STATIC);
	r = ledger_add_row(l, CHAIN_PATH, st);
	if (r == 0)
		refs_remember(&s->paths, p->ref, l->to[CHAIN_PATH]);
	return r == -EEXIST ? -EBADMSG : r;
}

static int add_process(struct ledger *l, struct ledger_source *s, const struct record_process *p)
{
	sqlite3_stmt *st = l->st[ADD_PROCESS];
	int r;

	sqlite3_bind_int64(st, 2, s->journal);
	sqlite3_bind_int64(st, 3, p->ref);
	sqlite3_bind_int64(st, 4, p->pid);
	if (p->loginuid != UINT32_MAX)
		sqlite3_bind_int64(st, 5, p->loginuid);
	sqlite3_bind_blob(st, 6, p->comm, (int)strnlen(p->comm, sizeof(p->comm)), SQLITE_STATIC);
	r = ledger_add_row(l, CHAIN_PROCESS, st);
	if (r == 0)
		refs_remember(&s->processes, p->ref, l->to[CHAIN_PROCESS]);
	return r == -EEXIST ? -EBADMSG : r;
}

static int add_access(struct ledger *l, struct ledger_source *s, const struct record_access *a)
{
	static const struct file_id no_file;
	struct pack_record rec = {.time = (int64_t)a->time_ns,
		.op = a->op,
		.flags = a->flags,
		.outcome = a->outcome,
		.size = (int64_t)a->size,
		.bytes_read = (int64_t)a->bytes_read,
		.bytes_written = (int64_t)a->bytes_written};
	int r;

	r = find_session(l, s, a->session, &rec.session);
	if (r == 0)
		r = refs_find(&s->paths, l->st[FIND_PATH], s->journal, a->path, &rec.path);
	if (r == 0)
		r = refs_find(&s->paths, l->st[FIND_PATH], s->journal, a->path2, &rec.path2);
	if (r == 0)
		r = refs_find(&s->processes, l->st[FIND_PROCESS], s->journal, a->process, &rec.process);
	if (r < 0)
		return r;
	if (memcmp(&a->file, &no_file, sizeof(no_file)) != 0) {
		rec.has_file = true;
		rec.file = a->file;
	}
	_Static_assert(sizeof(a->detail) == PACK_DETAIL_MAX, "a detail fits, less its zero");
	rec.detail_len = (uint8_t)strnlen(a->detail, sizeof(a->detail) - 1);
	memcpy(rec.detail, a->detail, rec.detail_len);
	return ledger_add_pending(l, &rec);
}

int ledger_add_record(struct ledger *l, struct ledger_source *s, uint64_t seq, const struct record *rec)
{
	int r = -EBADMSG;

	if (seq <= s->done)
		return 0;
	if (seq != s->done + 1)
		return -EBADMSG; /* the journal was released further than we ever came */
	switch (rec->kind) {
	case RECORD_KIND_PATH:
		r = add_path(l, s, &rec->path);
		break;
	case RECORD_KIND_PROCESS:
		r = add_process(l, s, &rec->process);
		break;
	case RECORD_KIND_ACCESS:
		r = add_access(l, s, &rec->access);
		break;
	}
	if (r < 0)
		return r;
	s->done = seq;
	return 1;
}

int ledger_source_store(struct ledger *l, struct ledger_source *s)
{
	sqlite3_stmt *st = l->st[SET_PROGRESS];
	int r;

	if (s->done == s->stored)
		return 0;
	sqlite3_bind_int64(st, 1, s->journal);
	sqlite3_bind_int64(st, 2, (int64_t)s->done);
	r = sql_run(st);
	if (r == 0)
		s->stored = s->done; /* a rollback makes the whole source invalid */
	return r;
}
