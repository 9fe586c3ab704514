/* The members of a shared session: who is wanted, decided, gone. */
#include "fs/worker/control_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/worker/classes.h"
#include "fs/worker/member.h"
#include "fs/worker/recorder.h"

static void member_record_end(struct control *c, uint64_t number, const char *reason)
{
	struct record_access a = {.session = number, .op = RECORD_SESSION_END};

	snprintf(a.detail, sizeof(a.detail), "%s", reason);
	recorder_append(c->worker.recorder, &a);
}

/* Without a parting he ended by what keyd had told us: that is `why`. */
static void member_gone(struct control *c, struct entry *e, uint64_t number, const char *why)
{
	struct parting **p = &e->partings, *gone;

	while (*p && (*p)->number != number)
		p = &(*p)->next;
	gone = *p;
	why = gone ? gone->reason : why ? why : "ended";
	member_record_end(c, number, why);
	control_tell_end(c->watch_keyd, number, why);
	control_tell_end(c->watch_fsd, number, why);
	if (!gone)
		return;
	*p = gone->next;
	control_ended(gone->end);
	free(gone);
}

void control_members_look(struct control *c, struct entry *e)
{
	struct members *m = e->session->members;
	uint64_t number;
	const char *why;
	uid_t uid;
	gid_t gid;

	while (members_next_gone(m, &number, &why))
		member_gone(c, e, number, why);
	while (c->watch_keyd && members_next_wanted(m, &uid, &gid))
		varlink_reply_more(c->watch_keyd, json_pack("{s:s,s:I,s:I,s:I}", "event", "member-wanted",
							  "session", (json_int_t)e->session->number, "uid",
							  (json_int_t)uid, "gid", (json_int_t)gid));
}

void control_partings_done(struct entry *e)
{
	for (struct parting *p = e->partings, *next; p; p = next) {
		next = p->next;
		control_ended(p->end);
		free(p);
	}
	e->partings = NULL;
}

void control_member_end(struct control *c, struct ending *end, uint64_t number, const char *reason, int error)
{
	struct parting *p = calloc(1, sizeof(*p));
	struct entry *e = c->entries;

	while (e && !(e->session->members && members_end(e->session->members, number, error) == 0))
		e = e->next;
	if (!e || !p) {
		/* It has ended: nothing of it is readable.  Without memory nobody is told when it is so, and keyd kills. */
		if (!e)
			control_ended(end);
		free(p);
		return;
	}
	p->number = number;
	snprintf(p->reason, sizeof(p->reason), "%s", reason);
	p->end = end;
	p->next = e->partings;
	e->partings = p;
}

int control_member_decided(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	json_int_t number, uid, member, until, idle = 0;
	struct member_terms t;
	const char *rights;
	struct entry *e;
	json_error_t error;
	json_t *classes = NULL, *uncached = NULL;
	const struct class_set *set = NULL;
	int refused, r;

	if (json_unpack_ex(params, &error, 0, "{s:I,s:I,s:I,s:s,s:I,s:i,s?o,s?o,s?I}", "session", &number, "uid", &uid,
		    "member", &member, "rights", &rights, "until", &until, "errno", &refused, "classes", &classes,
		    "uncached", &uncached, "idle", &idle) < 0)
		return control_bad_parameters(call, &error);
	r = refused ? 0 : class_set_get(&c->worker.class_sets, classes, uncached, &set);
	if (r < 0)
		return r;
	e = control_entry_find(c, number);
	if (!e || !e->session->members)
		return control_no_session(call);
	t = (struct member_terms){.uid = (uid_t)uid,
		.number = (uint64_t)member,
		.read_only = strcmp(rights, "rw") != 0,
		.classes = set,
		.until = until,
		.idle = (uint64_t)idle,
		.error = refused};
	if (members_decide(e->session->members, &t) < 0)
		return varlink_error(call, "NotWanted", "that user does not wait for a decision", NULL);
	return varlink_reply(call, NULL);
}

int control_access_list(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	json_int_t number;
	struct entry *e;
	json_error_t error;
	json_t *rows;
	int r;

	if (json_unpack_ex(params, &error, 0, "{s:I,s:o}", "session", &number, "access", &rows) < 0)
		return control_bad_parameters(call, &error);
	e = control_entry_find(c, number);
	if (!e || !e->session->members)
		return control_no_session(call);
	r = members_set_access(e->session->members, rows);
	if (r == -EINVAL)
		return varlink_error(call, "InvalidParameter", "access: {id, group, rights} each", NULL);
	if (r < 0)
		return r;
	return varlink_reply(call, NULL);
}
