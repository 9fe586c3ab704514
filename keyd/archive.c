#include "keyd/archive.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/children.h"
#include "keyd/head.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"

#define EVERY 3600	 /* ticks between two looks at what is due */
#define EVERY_MAKING 5	 /* while a month is being made */
#define FIRST 5		 /* after the start */
#define MONTHS_BACK 1200

static int64_t month_start(int64_t t, int back)
{
	time_t when = (time_t)t;
	struct tm tm;

	if (!gmtime_r(&when, &tm))
		return 0;
	tm = (struct tm){.tm_year = tm.tm_year, .tm_mon = tm.tm_mon - back, .tm_mday = 1};
	return timegm(&tm);
}

/* Months that ended up to then are due. */
static int64_t due_until(const struct keyd *k)
{
	int64_t now = keyd_now();

	for (int back = 0; back < MONTHS_BACK; back++) {
		int64_t start = month_start(now, back);

		if (policy_period_add(start, &k->policy->record_archive) <= now)
			return start;
	}
	return 0;
}

/* Nothing else is ever signed in that context. */
static int sign(const struct keyd *k, const char *statement, const char *kind, char hex[2 * SIGNATURE_BYTES + 1])
{
	json_auto_t *o = json_loads(statement, 0, NULL);
	const char *said = json_string_value(json_object_get(o, "kind"));
	uint8_t signature[SIGNATURE_BYTES];
	int r;

	if (!said || strcmp(said, kind) != 0)
		return -EBADMSG;
	r = keyring_sign(k->ring, ARCHIVE_CONTEXT, statement, strlen(statement), signature);
	if (r == 0)
		sodium_bin2hex(hex, 2 * SIGNATURE_BYTES + 1, signature, sizeof(signature));
	return r;
}

/* What is signed away must be what was signed as it grew: the book up to there leads to the head that we remember. */
static int check_head(struct keyd *k, const char *statement)
{
	json_auto_t *o = json_loads(statement, 0, NULL);
	struct fact_head known;
	json_int_t batch;
	int r;

	if (json_unpack(o, "{s:{s:I}}", "last", "batch", &batch) < 0)
		return -EBADMSG;
	r = head_sign(k, NULL); /* -ESTALE: the book is another one */
	if (r < 0)
		return r;
	r = facts_head_last(k->facts, &known);
	return r < 0 ? r : batch <= known.batch ? 0 : -ESTALE;
}

/* An error of coffer-fsd's own says more than its number. */
static int told(int r, const struct varlink_failure *failure)
{
	if (r == -EREMOTEIO && *failure->message)
		log_warning("coffer-fsd: %s (%s)", failure->message, failure->error);
	return r;
}

/* One step: begins, or looks how far it is, or signs what is ready.  *ret: {state, name?, records?, error?} */
static int step(struct keyd *k, int64_t until, struct actor by, json_t **ret)
{
	json_auto_t *answer = NULL, *taken = NULL;
	struct varlink_failure failure = {0};
	char hex[2 * SIGNATURE_BYTES + 1];
	const char *state, *statement, *name;
	int r = fsd_call(k, "org.coffer.fsd.Archive", json_pack("{s:I}", "until", (json_int_t)until), &answer, &failure);

	state = json_string_value(json_object_get(answer, "state"));
	if (r < 0 || !state)
		return r < 0 ? told(r, &failure) : -EBADMSG;
	k->archive_making = strcmp(state, "making") == 0 || strcmp(state, "ready") == 0;
	if (strcmp(state, "ready") != 0) {
		*ret = take_ptr(&answer);
		return 0;
	}
	statement = json_string_value(json_object_get(answer, "statement"));
	name = json_string_value(json_object_get(answer, "name"));
	r = statement && name ? check_head(k, statement) : -EBADMSG;
	if (r == 0)
		r = sign(k, statement, "archive", hex);
	if (r == 0)
		r = fsd_call(k, "org.coffer.fsd.ArchiveSigned",
			json_pack("{s:s, s:s, s:s, s:I}", "name", name, "signature", hex, "user", by.user, "uid",
				by.uid == (uid_t)-1 ? (json_int_t)-1 : (json_int_t)by.uid),
			&taken, &failure);
	if (r < 0)
		return told(r, &failure);
	k->traffic = true;
	*ret = json_pack("{s:s, s:s, s:O}", "state", "archived", "name", name, "records", json_object_get(taken, "records"));
	return *ret ? 0 : -ENOMEM;
}

/* ---- its end ---- */

/* A hold on anybody may need the record of anybody. */
static bool anything_held(struct keyd *k)
{
	json_auto_t *rows = NULL;
	const json_t *row;
	size_t i;

	if (facts_holds(k->facts, NULL, &rows) < 0)
		return true;
	json_array_foreach(rows, i, row)
		if (json_is_null(json_object_get(row, "lifted_at")))
			return true;
	return false;
}

/* The end of the month in which a batch was, and then the period. */
static bool is_over(const struct keyd *k, int64_t last_time)
{
	int64_t end = month_start(last_time, -1);

	return policy_period_add(end, &k->policy->record_keep) <= keyd_now();
}

static int destroy_oldest(struct keyd *k, bool *ret_again)
{
	struct varlink_failure failure = {0};
	char hex[2 * SIGNATURE_BYTES + 1], why[160];
	json_auto_t *answer = NULL;
	const char *statement, *name;
	json_int_t last_time;
	int r;

	*ret_again = false;
	snprintf(why, sizeof(why), "the policy (%.40s, version %.40s) keeps the record for %uy %um %ud", k->policy->name,
		k->policy->version, k->policy->record_keep.years, k->policy->record_keep.months, k->policy->record_keep.days);
	r = fsd_call(k, "org.coffer.fsd.ArchiveEnd", json_pack("{s:s, s:I}", "why", why, "time", (json_int_t)keyd_now()), &answer,
		&failure);
	if (r == -EREMOTEIO && strcmp(failure.error, "org.coffer.fsd.NoArchive") == 0)
		return 0;
	if (r < 0)
		return told(r, &failure);
	if (json_unpack(answer, "{s:s, s:I, s:s}", "name", &name, "last_time", &last_time, "statement", &statement) < 0)
		return -EBADMSG;
	if (!is_over(k, last_time))
		return 0;
	r = sign(k, statement, "destroyed", hex);
	if (r == 0)
		r = fsd_call(k, "org.coffer.fsd.ArchiveDestroy", json_pack("{s:s, s:s}", "statement", statement, "signature", hex), NULL,
			&failure);
	if (r < 0)
		return told(r, &failure);
	log_info("the record of %s is destroyed: %s", name, why);
	k->traffic = true;
	*ret_again = true;
	return 0;
}

void archive_tick(struct keyd *k)
{
	json_auto_t *state = NULL;
	bool again = false;
	int r;

	if (k->tick < k->archive_next_at)
		return;
	if (k->archive_next_at == 0) {
		k->archive_next_at = k->tick + FIRST;
		return;
	}
	k->archive_next_at = k->tick + EVERY;
	if (k->clock.unconfirmed || !keyd_compare_ledger(k))
		return;
	r = step(k, due_until(k), FACTS_CLOCK, &state);
	if (r < 0)
		log_warning("a month of the ledger is not archived: %s", strerror(-r));
	if (r == 0 && k->archive_making)
		k->archive_next_at = k->tick + EVERY_MAKING;
	if (r == 0 && strcmp(json_string_value(json_object_get(state, "state")), "archived") == 0)
		k->archive_next_at = k->tick + EVERY_MAKING; /* there may be another */
	if (!k->policy->record_ends)
		return;
	if (anything_held(k)) {
		log_info("nothing of the record is destroyed while a hold is in force");
		return;
	}
	r = destroy_oldest(k, &again);
	if (r < 0)
		log_warning("an archive of the ledger that is over is not destroyed: %s", strerror(-r));
	if (again)
		k->archive_next_at = k->tick + EVERY_MAKING;
}

/* By hand: every month that is over, whatever the policy says of when. */
int keyd_ledger_archive(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	json_t *answer = NULL;
	int r;

	if (k->clock.unconfirmed)
		return varlink_error(call, "ClockUnconfirmed", "the clock is not confirmed: which months are over is not known",
			"a custodian runs `coffer clock confirm`");
	r = step(k, month_start(keyd_now(), 0), actor_of(call), &answer);
	if (r < 0)
		return reply_failure(k, call, r, "the months that are over cannot be archived");
	json_object_del(answer, "statement");
	return varlink_reply(call, answer);
}
