/* The archives that a ledger names, oldest first, as its table `archive` has them: nothing in it is checked but its form. */
#ifndef COFFER_BROKER_PARTS_H
#define COFFER_BROKER_PARTS_H

#include <stddef.h>
#include <sqlite3.h>

#include "common/scope.h"
#include "fs/broker/archive.h"

struct part {
	struct archive a;
	char *statement;
	uint8_t signature[ARCHIVE_SIGNATURE_BYTES];
	char *destroyed; /* statement of its end, or NULL */
	uint8_t destroyed_signature[ARCHIVE_SIGNATURE_BYTES];
	struct archive_end end;
};

struct parts {
	struct part *list;
	size_t n;
};

/* -EUCLEAN: a row is damaged: *ret has those before it. */
int parts_read(sqlite3 *db, struct parts *ret);
void parts_done(struct parts *p);
/* The one whose batches have this one; NULL: it lies behind them all. */
const struct part *parts_of_batch(const struct parts *p, int64_t batch);

#endif
