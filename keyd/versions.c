#include "keyd/versions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "common/keytree.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/audit_names.h"
#include "keyd/children.h"
#include "keyd/keyd.h"

#define REMOVALS_MAX 4000000u /* some 600 MB, which are locked as all our memory is: more counts as not readable */

struct versions {
	struct keyd *k;
	struct fact_client client;
	sd_event_source *source;
	struct audit_names names;
	struct removal *all;
	size_t n, cap;
	json_int_t after;
	bool end;
	void (*done)(struct keyd *k, int error, void *arg);
	void *arg;
};

DEFINE_SCOPED(struct keytree *, keytree_free)

void versions_free(struct versions *v)
{
	if (!v)
		return;
	sd_event_source_disable_unref(v->source);
	audit_names_done(&v->names);
	for (size_t i = 0; i < v->n; i++) {
		free(v->all[i].path);
		free(v->all[i].path2);
	}
	free(v->all);
	free(v);
}
DEFINE_SCOPED(struct versions *, versions_free)

static char *name_of(struct versions *v, const json_t *row, size_t at)
{
	const char *sealed = json_string_value(json_array_get(row, at + 1));
	json_t *name = sealed ? audit_name(&v->names, json_integer_value(json_array_get(row, at)), sealed) : NULL;
	const char *text = json_string_value(name);
	char *copy = text ? strdup(text) : NULL;

	json_decref(name);
	return copy;
}

static int take_row(struct versions *v, const json_t *row)
{
	const char *detail = json_string_value(json_array_get(row, 0));
	struct removal e = {.rename = json_is_true(json_array_get(row, 1))};

	if (!detail || !removal_parse(detail, &e))
		return 0; /* of another making */
	if (v->n == v->cap) {
		size_t cap = v->cap * 2 + 256;
		struct removal *more = v->n < REMOVALS_MAX ? reallocarray(v->all, cap, sizeof(*more)) : NULL;

		if (!more)
			return -ENOMEM;
		v->all = more;
		v->cap = cap;
	}
	e.path = name_of(v, row, 2);
	e.path2 = e.rename ? name_of(v, row, 4) : NULL;
	v->all[v->n++] = e;
	return 0;
}

/* The keys for the names are in memory only as long as this runs. */
static int ask(struct versions *v)
{
	struct varlink_failure failure = {0};
	json_t *answer = NULL, *row;
	size_t i;
	int r;

	if (keyd_is_sealed(v->k)) /* names that do not open would be passed over in silence */
		return -ENOKEY;
	r = fsd_call(v->k, "org.coffer.fsd.Removals", json_pack("{s:s, s:I}", "client_id", v->client.hex, "after", v->after),
		&answer, &failure);
	audit_names_switch(v->k, &v->names, v->client.hex, true);
	json_array_foreach(json_object_get(answer, "rows"), i, row)
	{
		if (r == 0)
			r = take_row(v, row);
	}
	audit_names_done(&v->names);
	if (r == 0) {
		v->after = json_integer_value(json_object_get(answer, "next"));
		v->end = json_is_true(json_object_get(answer, "end"));
	} else
		log_error("what was removed of %s cannot be told: %s", v->client.client,
			r == -EREMOTEIO ? failure.message : strerror(-r));
	json_decref(answer);
	return r;
}

static int on_piece(sd_event_source *source, void *userdata)
{
	struct versions *v = userdata;
	int r = ask(v);

	if (r == 0 && !v->end)
		r = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	if (r < 0 || v->end)
		v->done(v->k, r, v->arg); /* which may free v */
	return 0;
}

int versions_start(struct keyd *k, const struct fact_client *c, void (*done)(struct keyd *k, int error, void *arg), void *arg,
	struct versions **ret)
{
	scoped(versions_freep) struct versions *v = calloc(1, sizeof(*v));
	int r = v ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	v->k = k;
	v->client = *c;
	v->done = done;
	v->arg = arg;
	r = sd_event_add_defer(k->event, &v->source, on_piece, v);
	if (r < 0)
		return r;
	(void)sd_event_source_set_priority(v->source, SD_EVENT_PRIORITY_IDLE);
	*ret = take_ptr(&v);
	return 0;
}

int versions_update(struct versions *v)
{
	int r;

	do
		r = ask(v);
	while (r == 0 && !v->end);
	return r;
}

/* What is destroyed already, or was never given out, counts for nothing. */
static int drop_dead(const struct versions *v, struct versions_found *f)
{
	scoped(keytree_freep) struct keytree *tree = NULL;
	struct client_id id;
	size_t kept = 0;
	int r = client_id_parse(v->client.hex, &id);

	if (r == 0)
		r = keyring_tree(v->k->ring, &id, &tree, NULL);
	for (size_t i = 0; r == 0 && i < f->n; i++)
		if (keytree_holds(tree, leaf_index_from_u64(f->leaves[i])))
			f->leaves[kept++] = f->leaves[i];
	f->n = kept;
	return r;
}

int versions_find(struct versions *v, char *const *paths, size_t paths_n, struct versions_found *ret)
{
	scoped(versions_found_done) struct versions_found f = {0};
	int r = keyd_is_sealed(v->k) ? -ENOKEY : removals_follow(v->all, v->n, paths, paths_n, &f);

	if (r == 0 && f.n > 0)
		r = drop_dead(v, &f);
	if (r < 0)
		return r;
	*ret = f;
	f = (struct versions_found){0};
	return 0;
}
