/* What a decision costs at size: 10,000 clients with 10 grants each, 1,000 of which are one user's.
 *
 *	build/tests/bench/decisions FOLDER      makes FOLDER/facts.db there (a minute), measures, removes it
 *
 * "with groups": as for a mount, the user's groups asked of NSS each time; without: the decision itself, facts read from
 * SQLite and the walk of decide().  Times are of the processor.  The user is who runs it. */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/scope.h"
#include "keyd/decision.h"
#include "keyd/facts_terms.h"
#include "keyd/keyd.h"
#include "keyd/methods.h"
#include "keyd/rules.h"

#define CLIENTS 10000
#define GRANTS 10 /* a client */
#define MINE 1000 /* clients with a grant of ours */
#define ROUNDS 20000

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts); /* others use the machine, too: what it costs, not how long it waits */
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void check(int r, const char *what)
{
	if (r < 0)
		errx(1, "%s: %s", what, strerror(-r));
}

static void fill(struct keyd *k, const struct peer *me)
{
	static const char *const purposes[] = {"support", "consulting", "training", "data-migration", "improve-services"};
	const struct actor by = {"bench", 0};
	int64_t t = keyd_now() - 1000, id;

	check(facts_begin(k->facts), "begin");
	for (int i = 0; i < CLIENTS; i++) {
		char name[32], hex[CLIENT_ID_HEX];
		struct fact_client c;

		snprintf(name, sizeof(name), "client-%d", i);
		snprintf(hex, sizeof(hex), "%032x", i);
		check(facts_client_add(k->facts, name, hex, "A client", "a@b.example", by, t), "client");
		check(facts_client(k->facts, name, FACTS_LATEST, &c), "client");
		check(facts_engagement_begin(k->facts, c.row, "*", t, 0, by, t), "engagement");
		for (int g = 0; g < GRANTS; g++) {
			bool mine = g == GRANTS - 1 && i % (CLIENTS / MINE) == 0;
			char user[32];
			struct fact_grant f = {.subject = mine ? me->user : user, .uid = mine ? me->uid : (uid_t)(10000 + g),
				.purpose = mine ? "support" : purposes[g % 5], .rights = RIGHTS_READ, .from = t};

			snprintf(user, sizeof(user), "user-%d", (i + g) % 2000);
			check(facts_grant_add(k->facts, c.row, &f, by, t, &id), "grant");
		}
	}
	check(facts_commit(k->facts), "commit");
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(struct keyd *k, const struct peer *me, bool groups_each)
{
	scoped(decision_groups_done) struct decision_groups groups = {0};
	static double took[ROUNDS];

	check(decision_groups(me->user, me->uid, &groups), "groups");
	for (int i = 0; i < ROUNDS; i++) {
		char name[32];
		struct asked a = {.user = me->user, .uid = me->uid, .client = name, .purpose = "support"};
		struct decision d;
		double begin;

		snprintf(name, sizeof(name), "client-%d", (i * 7919) % CLIENTS / (CLIENTS / MINE) * (CLIENTS / MINE));
		begin = now();
		check(groups_each ? decision_make(k, &a, FACTS_LATEST, keyd_now(), &d)
				  : decision_make_with(k, &a, &groups, FACTS_LATEST, keyd_now(), &d),
			"decision");
		took[i] = now() - begin;
		if (d.verdict != VERDICT_ALLOW)
			errx(1, "refused: %s", d.message);
	}
	qsort(took, ROUNDS, sizeof(*took), by_value);
	printf("a decision%s: median %.1f us, 99%% below %.1f us\n", groups_each ? " with groups" : "", took[ROUNDS / 2] * 1e6,
		took[ROUNDS * 99 / 100] * 1e6);
}

static void measure_shares(struct keyd *k, const struct peer *me)
{
	double best = 1e9;
	size_t n = 0;

	for (int i = 0; i < 10; i++) {
		double begin = now();
		json_t *rows = NULL;

		check(shares_of(k, me, &rows), "shares");
		n = json_array_size(rows);
		json_decref(rows);
		best = now() - begin < best ? now() - begin : best;
	}
	printf("shares of a user with %zu clients: %.1f ms (best of 10)\n", n, best * 1e3);
}

int main(int argc, char **argv)
{
	static struct keyd k;
	struct peer me;
	char path[4096];

	if (argc != 2)
		errx(2, "usage: decisions FOLDER");
	snprintf(path, sizeof(path), "%s/facts.db", argv[1]);
	check(peer_from_uid(getuid(), (uid_t)-1, &me), "user");
	check(facts_open(path, &k.facts), path);
	check(rules_start(&k, NULL, NULL), "policy");
	fill(&k, &me);
	measure(&k, &me, false);
	measure(&k, &me, true);
	measure_shares(&k, &me);
	rules_done(&k);
	facts_close(k.facts);
	unlink(path);
	return 0;
}
