/* Numbers of leaves: keyd books them before this worker may give them out, and is told which were used. */
#include "fs/worker/control_impl.h"

#include <errno.h>

#include "common/scope.h"

json_t *control_numbers_of(struct control *c, bool begin_anew)
{
	struct store_numbers n;

	if (!c->open)
		return json_object();
	store_numbers(c->worker.store, begin_anew, &n);
	return json_pack("{s:{s:I, s:I, s:i, s:i}}", "numbers", "first", (json_int_t)n.first, "next", (json_int_t)n.next,
		"from_day", (int)n.from_day, "to_day", (int)n.to_day);
}

/* Whatever would still want one gets an error now: better than a key that nobody has written down. */
json_t *control_numbers_last(struct control *c)
{
	if (c->open)
		store_set_numbers_end(c->worker.store, 0);
	return control_numbers_of(c, false);
}

/* What was used until now is told, and what comes is counted anew. */
int control_today(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	json_error_t e;
	int today;

	if (json_unpack_ex(params, &e, 0, "{s:i}", "today", &today) < 0)
		return control_bad_parameters(call, &e);
	if (c->open)
		store_set_today(c->worker.store, (uint16_t)today);
	return varlink_reply(call, control_numbers_of(c, true));
}

int control_ping(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	json_t *answer = control_numbers_of(c, false);

	(void)params;
	c->last_ping = control_seconds();
	json_object_set_new(answer, "sessions", json_integer(atomic_load(&c->worker.session_count)));
	json_object_set_new(answer, "inodes", json_integer(c->open ? inode_table_count(c->worker.inodes) : 0));
	json_object_set_new(answer, "files", json_integer(atomic_load(&c->worker.open_files)));
	return varlink_reply(call, answer);
}

int control_numbers(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	json_int_t end;
	json_error_t e;

	if (json_unpack_ex(params, &e, 0, "{s:I}", "end", &end) < 0)
		return control_bad_parameters(call, &e);
	if (!c->open)
		return varlink_error(call, "NotOpen", "this worker has no client", NULL);
	store_set_numbers_end(c->worker.store, (uint64_t)end);
	return varlink_reply(call, NULL);
}
