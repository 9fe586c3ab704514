#include "keyd/window.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/erase.h"
#include "keyd/outbox.h"
#include "keyd/survey.h"

#define AT_ONCE 4 /* clients whose stores are walked at the same time: each takes a worker */

enum part_state { PART_NEW = 0, PART_MOVING, PART_READY, PART_OVER };

struct part { /* one class of a client */
	struct window *window;
	struct fact_client client;
	const struct policy_class *class;
	uint16_t before;
	int64_t notice, modified_since;
	char rule[FACT_TEXT_MAX], source[FACT_TEXT_MAX];
	enum part_state state;
	bool dropped; /* a hold came */
	bool reserved;
	struct erase *erase;
};

struct window {
	struct keyd *k;
	struct destruction **clients;
	size_t clients_n;
	struct part **parts;
	size_t parts_n;
	bool running; /* the batch: what it says starts nothing */
};

int window_new(struct keyd *k, struct window **ret)
{
	struct window *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->k = k;
	*ret = w;
	return 0;
}

void window_free(struct window *w)
{
	if (!w)
		return;
	w->running = true;
	for (size_t i = 0; i < w->clients_n; i++)
		destruction_free(w->clients[i]);
	for (size_t i = 0; i < w->parts_n; i++) {
		erase_free(w->parts[i]->erase);
		free(w->parts[i]);
	}
	free(w->clients);
	free(w->parts);
	free(w);
}

size_t window_count(const struct window *w)
{
	return w->clients_n + w->parts_n;
}

int window_add_client(struct window *w, struct destruction *d)
{
	struct destruction **more = reallocarray(w->clients, w->clients_n + 1, sizeof(struct destruction *));

	if (!more) {
		destruction_free(d);
		return -ENOMEM;
	}
	w->clients = more;
	w->clients[w->clients_n++] = d;
	return 0;
}

int window_add_class(struct window *w, const struct fact_client *c, const struct fact_class *l,
	const struct policy_class *class, const struct prefix_answer *a)
{
	struct part **more = reallocarray(w->parts, w->parts_n + 1, sizeof(struct part *)), *p;

	if (!more)
		return -ENOMEM;
	w->parts = more;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	*p = (struct part){.window = w,
		.client = *c,
		.class = class,
		.before = l->before,
		.notice = l->waiting,
		.modified_since = a->modified_since};
	expiry_rule_text(a->rule, p->rule, sizeof(p->rule));
	snprintf(p->source, sizeof(p->source), "%s", a->rule->source ? a->rule->source : "");
	w->parts[w->parts_n++] = p;
	return 0;
}

/* ---- one class ---- */

static void go_on(struct window *w);

static void not_done(struct part *p, int error)
{
	struct keyd *k = p->window->k;

	log_error("%s of %s is not destroyed in this window: %s", p->class->id, p->client.client,
		p->dropped	     ? "a hold was placed"
		: error == -ECANCELED ? "the record says why"
				      : strerror(-error));
	if (facts_look_tried(k->facts, p->client.row, p->class->number, keyd_now()) < 0)
		log_error("that it was tried is not kept");
}

static void done(struct keyd *k, int error, void *arg)
{
	struct part *p = arg;

	p->state = PART_OVER;
	if (error)
		not_done(p, error);
	if (!p->window->running)
		go_on(p->window);
}

static void ready(struct keyd *k, struct erase *e, void *arg)
{
	struct part *p = arg;

	p->erase = e;
	p->state = PART_READY;
	if (p->dropped)
		erase_free(take_ptr(&p->erase)); /* says that it is not done */
	else
		go_on(p->window);
}

static void move(struct part *p)
{
	const struct erase_class spec = {.class = p->class,
		.before = p->before,
		.modified_since = p->modified_since,
		.rule = p->rule,
		.source = p->source,
		.reason = "its notice ran out",
		.notice = p->notice,
		.by = FACTS_CLOCK,
		.ready = ready,
		.done = done,
		.arg = p};
	int r;

	p->state = PART_MOVING;
	r = erase_class(p->window->k, &p->client, &spec, NULL);
	if (r == 0)
		return;
	p->state = PART_OVER;
	not_done(p, r);
}

/* ---- all of them ---- */

static bool is_busy(const struct window *w, const char *client)
{
	for (size_t i = 0; i < w->parts_n; i++)
		if (w->parts[i]->state == PART_MOVING && strcmp(w->parts[i]->client.client, client) == 0)
			return true;
	return false;
}

static size_t count(const struct window *w, enum part_state state)
{
	size_t n = 0;

	for (size_t i = 0; i < w->parts_n; i++)
		n += w->parts[i]->state == state;
	return n;
}

static void destroy_all(struct window *w)
{
	struct batch_item *items = calloc(window_count(w) + 1, sizeof(*items));
	size_t n = 0;

	for (size_t i = 0; items && i < w->clients_n; i++)
		items[n++] = destruction_item(w->clients[i]);
	for (size_t i = 0; items && i < w->parts_n; i++)
		if (w->parts[i]->state == PART_READY && erase_item(w->parts[i]->erase, &items[n]) == 0)
			n++;
	w->running = true;
	if (n > 0 && batch_run(w->k, items, n) == 0)
		w->k->expiry_retry_at = 0; /* nothing is left that did not work */
	free(items);
}

/* What was destroyed said so; an erasure that did not says it when it is freed. */
static void end(struct window *w)
{
	struct keyd *k = w->k;

	destroy_all(w);
	for (size_t i = 0; i < w->parts_n; i++) {
		struct part *p = w->parts[i];
		struct erase *e = take_ptr(&p->erase);

		if (p->reserved)
			survey_release(k, p->client.client);
		erase_free(e);
	}
	k->window = NULL;
	k->expiry_again = true;
	window_free(w);
	(void)outbox_deliver(k);
}

static void go_on(struct window *w)
{
	for (size_t i = 0; i < w->parts_n && count(w, PART_MOVING) < AT_ONCE; i++)
		if (w->parts[i]->state == PART_NEW && !is_busy(w, w->parts[i]->client.client))
			move(w->parts[i]);
	if (count(w, PART_MOVING) + count(w, PART_NEW) == 0)
		end(w);
}

void window_begin(struct keyd *k, struct window *w)
{
	k->window = w;
	for (size_t i = 0; i < w->parts_n; i++) {
		w->parts[i]->reserved = survey_reserve(k, w->parts[i]->client.client) == 0;
		if (!w->parts[i]->reserved)
			w->parts[i]->state = PART_OVER; /* another time */
	}
	go_on(w);
}

bool window_concerns(const struct keyd *k, const char *client)
{
	for (size_t i = 0; k->window && i < k->window->parts_n; i++)
		if (strcmp(k->window->parts[i]->client.client, client) == 0)
			return true;
	return false;
}

void window_drop(struct keyd *k, const char *client)
{
	for (size_t i = 0; k->window && i < k->window->parts_n; i++) {
		struct part *p = k->window->parts[i];

		if (strcmp(p->client.client, client) != 0)
			continue;
		p->dropped = true;
		if (p->state == PART_NEW)
			p->state = PART_OVER;
	}
}
