#include "keyd/numbers.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#include "common/date.h"
#include "common/log.h"
#include "keyd/children.h"
#include "keyd/facts_loads.h"
#include "keyd/keyd.h"

/* A worker makes some ten thousand files in a second at most, and is asked every ten. */
#define AHEAD (UINT64_C(1) << 20)
#define AHEAD_MIN (UINT64_C(1) << 12) /* where so many workers of a client died without a word that it gets narrow */
#define TRIES 16
/* Of the upper end no load begins, so that one can go on for a long time. */
#define FIRST_MAX (UINT32_C(15) << 28)

/* The clock may be behind what was pruned. */
static uint16_t day_for(const struct worker *w)
{
	uint16_t today = date_day(keyd_now());

	return today > w->pruned ? today : w->pruned;
}

static int know_client(struct keyd *k, struct worker *w)
{
	struct fact_book book = {0};
	int r = facts_client_row(k->facts, w->hex, &w->row);

	if (r == 0)
		r = facts_book(k->facts, w->row, &book);
	if (r == 0 && book.since == BOOK_NO_DAY && !k->clock.unconfirmed)
		r = facts_book_settle(k->facts, w->row, (uint16_t)(date_day(keyd_now()) + 1));
	w->pruned = book.pruned;
	return r;
}

/* At random, since facts that came out of a backup do not know what was given out after it. */
static int book(struct keyd *k, struct worker *w)
{
	int r = -EEXIST;

	for (uint64_t ahead = AHEAD; r == -EEXIST && ahead >= AHEAD_MIN; ahead /= 2)
		for (int i = 0; r == -EEXIST && i < TRIES; i++) {
			w->load.first = randombytes_uniform(FIRST_MAX);
			w->load.end = w->load.first + ahead;
			r = facts_load_begin(k->facts, w->row, w->load.first, w->load.end, &w->load.row);
		}
	return r;
}

int numbers_begin(struct keyd *k, struct worker *w, json_t *params)
{
	int r = know_client(k, w);

	if (r == 0)
		r = book(k, w);
	if (r < 0) {
		log_error("no numbers can be booked for %s: %s", w->client, strerror(-r));
		json_decref(params);
		return r;
	}
	json_object_set_new(params, "today", json_integer(day_for(w)));
	json_object_set_new(params, "numbers",
		json_pack("{s:I, s:I}", "first", (json_int_t)w->load.first, "end", (json_int_t)w->load.end));
	return 0;
}

/* As it was booked, but as narrow as the worker says; false: it says nothing that can be. */
static bool heard(const struct worker *w, const json_t *answer, struct fact_load *ret)
{
	json_int_t first, next;
	int from, to;

	if (w->load.row == 0 ||
		json_unpack((json_t *)answer, "{s:{s:I, s:I, s:i, s:i}}", "numbers", "first", &first, "next", &next,
			"from_day", &from, "to_day", &to) < 0)
		return false;
	if (first < 0 || (uint64_t)first != w->load.first || next < first || (uint64_t)next > w->load.end || from < 0 ||
		to < from || to > LOAD_DAY_LAST)
		return false;
	*ret = (struct fact_load){.row = w->load.row, .first = (uint64_t)first, .end = (uint64_t)next,
		.from_day = (uint16_t)from, .to_day = (uint16_t)to};
	return true;
}

static int ask(struct worker *w, const char *method, json_t *params, json_t **ret)
{
	return worker_ask(w, method, params, WORKER_TIMEOUT_MS, ret);
}

/* Booked first, then told. */
static void more(struct worker *w, uint64_t next)
{
	uint64_t end = next + AHEAD < LOAD_NUMBERS ? next + AHEAD : LOAD_NUMBERS;
	int r;

	if (end <= w->load.end)
		return;
	r = facts_load_extend(w->keyd->facts, w->load.row, end);
	if (r < 0) {
		log_warning("%" PRIu64 " files can be made of %s until its worker ends: %s", w->load.end - next, w->client,
			strerror(-r));
		return;
	}
	w->load.end = end;
	(void)worker_call(w, "org.coffer.worker.Numbers", json_pack("{s:I}", "end", (json_int_t)end), WORKER_TIMEOUT_MS,
		NULL);
}

void numbers_ping(struct worker *w)
{
	json_t *answer = NULL;
	struct fact_load l;

	if (w->doomed || ask(w, "org.coffer.worker.Ping", NULL, &answer) < 0)
		return;
	if (heard(w, answer, &l) && w->load.end - l.end < AHEAD / 2)
		more(w, l.end);
	json_decref(answer);
}

void numbers_new_day(struct worker *w)
{
	json_t *answer = NULL;
	struct fact_load l;
	int r;

	if (ask(w, "org.coffer.worker.Today", json_pack("{s:i}", "today", (int)day_for(w)), &answer) < 0)
		return;
	if (heard(w, answer, &l) && l.first < l.end && l.end < w->load.end) {
		r = facts_load_split(w->keyd->facts, w->row, &l, w->load.end, &w->load.row);
		if (r == 0)
			w->load.first = l.end;
		else
			log_warning("what was made of %s on a day is not written down: %s", w->client, strerror(-r));
	}
	json_decref(answer);
}

void numbers_end(struct worker *w, const json_t *answer)
{
	struct fact_load l;
	int r;

	if (!heard(w, answer, &l))
		return;
	r = facts_load_end(w->keyd->facts, &l);
	if (r < 0)
		log_warning("what was made of %s is not written down: %s", w->client, strerror(-r));
}
