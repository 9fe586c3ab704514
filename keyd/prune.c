#include "keyd/prune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/keyd.h"
#include "keyd/ring_file.h"

/* Ascending by first, as all loads are. */
static bool find_day(struct prune_book *b, uint16_t day)
{
	if (b->day_loads && b->day == day)
		return true;
	if (!b->day_loads)
		b->day_loads = calloc(b->n + 1, sizeof(struct fact_load *));
	if (!b->day_loads)
		return false;
	b->day = day;
	b->day_n = 0;
	for (size_t i = 0; i < b->n; i++)
		if (b->loads[i].from_day <= day && day <= b->loads[i].to_day)
			b->day_loads[b->day_n++] = &b->loads[i];
	return true;
}

/* Whether some of the numbers first..last of that day were given out.  Rows do not overlap (facts_load_begin), so the last
 * one that begins before the end of them tells. */
static bool any_on_day(struct prune_book *b, uint16_t day, uint32_t first, uint32_t last)
{
	size_t lo = 0, hi;

	if (!find_day(b, day))
		return true;
	hi = b->day_n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (b->day_loads[mid]->first <= last)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo > 0 && b->day_loads[lo - 1]->end > first;
}

bool prune_keep(uint64_t first, uint64_t last, void *arg)
{
	struct leaf_index a = leaf_index_from_u64(first), z = leaf_index_from_u64(last);
	struct prune_book *b = arg;

	/* Several classes at once, the months' keys of the ledger's paths, and days of which not all is known. */
	if (a.class != z.class || a.class == CLASS_AUDIT || a.day < b->since || z.day >= b->before)
		return true;
	if (a.day == z.day)
		return any_on_day(b, a.day, a.number, z.number);
	for (size_t i = 0; i < b->n; i++)
		if (b->loads[i].from_day <= z.day && a.day <= b->loads[i].to_day)
			return true;
	return false;
}

/* In another process there may be a tree that is not pruned, which gives out numbers that are not there any more. */
static bool is_in_use(struct keyd *k, const char *hex)
{
	for (struct worker *w = k->children.workers; w; w = w->next)
		if (strcmp(w->hex, hex) == 0)
			return true;
	return false;
}

static int prune(struct keyd *k, const char *hex, struct keytree *tree)
{
	scoped(freep) const struct fact_load **days = NULL;
	scoped(freep) struct fact_load *loads = NULL;
	struct prune_book b = {0};
	struct fact_book book;
	size_t dropped;
	int64_t client;
	uint16_t today = date_day(keyd_now());
	int r = facts_client_row(k->facts, hex, &client);

	if (r == 0)
		r = facts_book(k->facts, client, &book);
	/* Another day, if it must be. */
	if (r == 0 && book.since == BOOK_NO_DAY)
		r = facts_book_settle(k->facts, client, (uint16_t)(today + 1));
	if (r < 0 || today < PRUNE_DAYS || book.since >= today - PRUNE_DAYS + 1)
		return r == -ENOENT ? 0 : r;
	b.since = book.since;
	b.before = (uint16_t)(today - PRUNE_DAYS + 1);
	r = facts_loads(k->facts, client, &loads, &b.n);
	b.loads = loads;
	/* Noted first: should the clock go back, no file is made on one of these days. */
	if (r == 0)
		r = facts_book_pruned(k->facts, client, b.before);
	if (r < 0)
		return r;
	r = keytree_prune(tree, prune_keep, &b, &dropped);
	days = b.day_loads;
	if (r == 0 && dropped > 0)
		log_info("%zu nodes of the key tree of %s, below which nothing was ever given out, are dropped", dropped, hex);
	return r;
}

int prune_tree(const struct client_id *client, struct keytree *tree, void *arg)
{
	struct keyd *k = arg;
	char hex[CLIENT_ID_HEX];
	int r;

	(void)client_hex(client, hex);
	if (k->clock.unconfirmed || is_in_use(k, hex))
		return 0;
	r = prune(k, hex, tree);
	if (r < 0)
		log_warning("the key tree of %s stays as large as it is: %s", hex, strerror(-r));
	return 0;
}
