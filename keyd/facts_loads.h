/* Which numbers of a client's key tree were given out.  Each time a worker is given the tree it is given numbers, too: they
 * are booked here, durably, before it has them, as given out on any day.  At its end, and when a day ends, it says which of
 * them it used and on which days, and the row becomes as narrow as that.  A worker that dies without a word leaves it wide.
 * So the rows are never less than what was given out; keyd/prune.h reads them. */
#ifndef COFFER_KEYD_FACTS_LOADS_H
#define COFFER_KEYD_FACTS_LOADS_H

#include "keyd/facts.h"

#define LOAD_NUMBERS (UINT64_C(1) << 32)	/* there are on a day */
#define LOAD_DAY_LAST UINT16_MAX

struct fact_load {
	int64_t row;
	uint64_t first, end;	/* first <= number < end <= LOAD_NUMBERS */
	uint16_t from_day, to_day;	/* both included */
};

/* On any day.  -EEXIST: some of these numbers were given out before. */
int facts_load_begin(struct facts *f, int64_t client, uint64_t first, uint64_t end, int64_t *ret_row);
/* -EEXIST: the next numbers were given out before. */
int facts_load_extend(struct facts *f, int64_t row, uint64_t end);
/* What is known of it now, for good; if nothing was used the row goes. */
int facts_load_end(struct facts *f, const struct fact_load *l);
/* The same, and another row for those from l->end up to `end`. */
int facts_load_split(struct facts *f, int64_t client, const struct fact_load *l, uint64_t end, int64_t *ret_row);
int facts_loads(struct facts *f, int64_t client, struct fact_load **ret, size_t *ret_n);	/* malloc'd; ascending by first */

/* What is known for a client at all.  Of days before `since` nobody knows what was given out (another installation had the
 * keys, or these facts may be older than the files); days before `pruned` were pruned, so nothing new is made on them. */
#define BOOK_NO_DAY UINT16_MAX	/* since: until the clock is sure, and somebody says which day it is */
struct fact_book {
	uint16_t since, pruned;
};
int facts_book(struct facts *f, int64_t client, struct fact_book *ret);	/* -ENOENT */
int facts_book_begin(struct facts *f, int64_t client, uint16_t since);
int facts_book_pruned(struct facts *f, int64_t client, uint16_t before);	/* never goes back */
int facts_book_doubt(struct facts *f, int64_t client);	/* since = BOOK_NO_DAY; client 0: of all */
int facts_book_settle(struct facts *f, int64_t client, uint16_t since);	/* if it is BOOK_NO_DAY */

/* Doubts all books when the database in D/keyd is not the file that it was: it came out of a backup, and loads after that
 * are not in it.  keyd_fd: the folder.  Once at start. */
int facts_book_check_file(struct facts *f, int keyd_fd);

#endif
