/* A ledger in a folder of its own, and records to put into it: for the tests of it. */
#ifndef COFFER_TESTS_LEDGER_FIXTURE_H
#define COFFER_TESTS_LEDGER_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/journal.h"
#include "common/scope.h"
#include "fs/broker/drain.h"
#include "fs/broker/ledger.h"
#include "fs/broker/ledger_verify.h"
#include "tests/unit/folder.h"

#define ACME "00112233445566778899aabbccddeeff"
#define UMBRELLA "ffeeddccbbaa99887766554433221100"
#define SECOND 1000000000ull

struct fixture {
	char dir[64], path[96];
	int dirfd;
	struct ledger *l;
};

static inline int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dirfd = folder_make(f->dir, sizeof(f->dir), "/tmp", "ledger");
	assert_true(f->dirfd >= 0);
	snprintf(f->path, sizeof(f->path), "%s/ledger.db", f->dir);
	assert_int_equal(ledger_open(f->path, &f->l), 0);
	*state = f;
	return 0;
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	ledger_close(f->l);
	close(f->dirfd);
	folder_remove(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

static inline void add_session(struct ledger *l, uint64_t number, const char *client_id, const char *client,
	const char *user, int64_t uid)
{
	const struct ledger_session s = {.number = number,
		.client_id = client_id,
		.client = client,
		.user = user,
		.uid = uid,
		.purpose = number % 2 ? "data-migration" : "support",
		.ticket = "CHG-1",
		.rights = "rw",
		.begun_ns = 5};

	assert_int_equal(ledger_begin(l), 0);
	assert_int_equal(ledger_add_session(l, &s), 0);
	assert_int_equal(ledger_commit(l), 0);
}

static inline struct record make_path(uint32_t ref)
{
	static uint8_t sealed[32];

	memset(sealed, (int)ref, sizeof(sealed));
	return (struct record){.kind = RECORD_KIND_PATH,
		.path = {.ref = ref, .month = 2496, .sealed_len = sizeof(sealed), .sealed = sealed}};
}

static inline struct record make_process(uint32_t ref)
{
	return (struct record){.kind = RECORD_KIND_PROCESS,
		.process = {.ref = ref, .pid = 100 + ref, .loginuid = 1000, .comm = "cp"}};
}

static inline struct record make_open(uint64_t session, uint64_t second, uint32_t path, uint32_t process)
{
	return (struct record){.kind = RECORD_KIND_ACCESS,
		.access = {.session = session,
			.time_ns = second * SECOND,
			.op = RECORD_OPEN,
			.flags = RECORD_READ,
			.path = path,
			.process = process,
			.file = {.b = {1, 2, 3}},
			.size = 4096}};
}

static inline int verify_file(
	const char *path, const struct ledger_keys *keys, const struct ledger_head *expect, struct ledger_verdict *ret)
{
	return ledger_verify(path, &(struct ledger_verify_options){.keys = keys, .expect = expect}, ret);
}

static inline int64_t count_records(struct ledger *l)
{
	struct ledger_stats stats;

	assert_int_equal(ledger_stats(l, &stats), 0);
	return stats.records;
}

static inline int64_t count_rows(struct ledger *l, const char *table)
{
	char sql[64];
	sqlite3_stmt *st;
	int64_t n;

	snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
	assert_int_equal(sqlite3_prepare_v2(ledger_db(l), sql, -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return n;
}

#endif
