/* The database of an archive in the making: archive_make.c chooses what is in it, and packs it; archive_copy.c copies the rows. */
#ifndef COFFER_BROKER_ARCHIVE_COPY_H
#define COFFER_BROKER_ARCHIVE_COPY_H

#include "fs/broker/archive.h"
#include "fs/broker/ledger_impl.h"

/* Which rows of a table are referred to: bit n for row n. */
struct marks {
	uint8_t *bits;
	int64_t to; /* rows up to this one */
};

/* The caller frees bits, also those of before. */
int marks_init(struct marks *m, int64_t to);
/* Others than 1 to m->to are no concern of it. */
void marks_add(struct marks *m, int64_t id);
/* 0: none behind it. */
int64_t marks_next(const struct marks *m, int64_t after);

struct maker {
	const struct archive_wanted *w;
	struct archive *a;
	sqlite3 *from, *to; /* the ledger (of the daemon's own, read only); the database in the making */
	struct blocks *from_blocks, *to_blocks;
	struct marks paths, processes;
	char *database;
};

bool maker_is_stopped(const struct maker *m);
/* The paths and processes that they name. */
void maker_mark(struct maker *m, const struct pack_record *rec, size_t n);
/* Makes m->database: what is between a->before and a->last, and what these records name of former months.  Sets from_time and to_time
 * of the archive; m->to is closed.  -ECANCELED */
int maker_copy(struct maker *m);

#endif
