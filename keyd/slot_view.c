/* The slots as people see them: see slot_set.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/slot_set_impl.h"

const char *slot_state_name(enum slot_state s)
{
	static const char *const names[] = {
		[SLOT_OK] = "ok",
		[SLOT_AWAY] = "away",
		[SLOT_MISSING] = "missing",
		[SLOT_UNSETTLED] = "unsettled",
		[SLOT_OLD] = "old",
		[SLOT_TORN] = "torn",
		[SLOT_DAMAGED] = "damaged",
		[SLOT_FOREIGN] = "foreign",
		[SLOT_ERASING] = "erasing",
		[SLOT_GONE] = "lost",
	};

	return names[s];
}

#define say(v, ...) ((void)snprintf((v)->text, sizeof((v)->text), __VA_ARGS__))

static void say_unreachable(struct slot_view *v, bool up_to_date)
{
	v->state = up_to_date ? SLOT_AWAY : SLOT_MISSING;
	if (up_to_date)
		say(v, "%s is not at hand: when last seen it held the root key of now", v->label);
	else
		say(v, "%s is not at hand and may hold an old root key: plug it in; if it is lost for good: coffer slot remove %s --lost",
			v->label, v->ref.name);
}

static void view_sound(struct slot_view *v, const struct slot_look *l)
{
	for (unsigned i = 0; i < 2; i++) {
		if (l->half[i] == SLOT_HALF_SOUND)
			continue;
		v->state = SLOT_TORN;
		say(v, "%s: half %s is torn or altered; the next unseal or destruction writes it anew", v->label, i == 0 ? "A" : "B");
		return;
	}
	if (!l->mirrored || l->stray_key) {
		v->state = SLOT_UNSETTLED;
		say(v, "%s: an exchange of the root key or its protection is not finished; it is tried again, and at the next unseal",
			v->label);
	}
}

/* generation 0: it is not known which is in force. */
static void view_medium(const struct slot_medium *m, struct slot_view *v, uint64_t generation, uint64_t noted)
{
	struct keys_error err = {0};
	struct slot_look l;
	int r = slot_pair_look(m, &l, &err);

	v->assurance = m->ops->assurance;
	(void)snprintf(v->label, sizeof(v->label), "%s", m->label);
	m->ops->device(m, v->device);
	if (r == -EBADMSG || r == -ENODATA || r == -EPROTONOSUPPORT) {
		v->state = SLOT_DAMAGED;
		say(v, "%s", err.text);
	} else if (r < 0) {
		say_unreachable(v, generation && noted == generation);
	} else {
		const struct slot_record *rec = &l.rec[l.newest];

		v->has_head = true;
		v->head = rec->head;
		view_sound(v, &l);
		if (memcmp(v->ref.id, (const uint8_t[SLOT_ID_BYTES]){0}, SLOT_ID_BYTES) != 0 &&
			memcmp(v->ref.id, rec->head.id, SLOT_ID_BYTES) != 0) {
			v->state = SLOT_FOREIGN;
			say(v, "%s is another slot than the one called %s: put the right one there, or coffer slot replace %s", v->label,
				v->ref.name, v->ref.name);
		} else if (rec->generation < generation) {
			v->state = SLOT_OLD;
			say(v, "%s holds an old root key (number %llu, now it is %llu): it is renewed within a minute", v->label,
				(unsigned long long)rec->generation, (unsigned long long)generation);
		}
	}
}

/* What looks damaged, or foreign for having the identity of before (NULL: none), is not, where an exchange was interrupted. */
static void view_interrupted(struct slot_view *v, const uint8_t *before)
{
	bool is_before = v->state == SLOT_FOREIGN && before && memcmp(v->head.id, before, SLOT_ID_BYTES) == 0;

	if (v->state != SLOT_DAMAGED && !is_before)
		return;
	v->state = SLOT_UNSETTLED;
	say(v, "%s: it was being made, or sealed anew, when the process ended; that is finished when the keys are opened", v->label);
}

size_t slot_set_count(const struct slot_set *s)
{
	return s->count;
}

void slot_set_view(const struct slot_set *s, size_t i, struct slot_view *ret)
{
	const struct slot_member *m = &s->members[i];
	struct slot_view v = {.ref = m->pair.ref};

	view_medium(&m->pair.medium, &v, s->generation, m->noted);
	if (m->pair.has_next)
		view_interrupted(&v, m->pair.has_replaces ? m->pair.replaces : NULL);
	v.open = m->pair.secrets != NULL;
	if (v.ref.role == SLOT_LOST) {
		v.state = SLOT_GONE;
		say(&v, "was lost: whoever finds it can open copies of the keys from before (root key number %llu)",
			(unsigned long long)v.ref.left_generation);
	} else if (v.ref.role == SLOT_LEAVING) {
		v.state = SLOT_ERASING;
		say(&v, m->erased ? "was removed and overwritten" : "was removed, and is not overwritten yet: plug it in");
	}
	*ret = v;
}

int slot_set_look(int keyd_fd, struct slot_view **ret, size_t *ret_n)
{
	scoped(freep) struct slot_view *views = NULL;
	struct slot_notes places;
	uint64_t newest = 0;
	size_t n = 0;

	slot_set_places(keyd_fd, &places);
	views = calloc(places.count, sizeof(*views));
	if (!views)
		return -ENOMEM;
	/* Which R is in force nobody knows without a key: the newest that is seen. */
	for (size_t i = 0; i < places.count; i++) {
		struct slot_medium m;
		struct slot_look l;

		slot_medium_init(&m, keyd_fd, places.notes[i].ref.kind, places.notes[i].ref.where);
		if (slot_pair_look(&m, &l, NULL) == 0 && l.rec[l.newest].generation > newest)
			newest = l.rec[l.newest].generation;
	}
	for (size_t i = 0; i < places.count; i++) {
		const struct slot_note *note = &places.notes[i];
		struct slot_medium m;

		if (note->ref.role != SLOT_MEMBER)
			continue;
		views[n].ref = note->ref;
		slot_medium_init(&m, keyd_fd, note->ref.kind, note->ref.where);
		view_medium(&m, &views[n], newest, note->generation);
		if (note->has_next)
			view_interrupted(&views[n], note->has_before ? note->before : NULL);
		n++;
	}
	*ret = take_ptr(&views);
	*ret_n = n;
	return 0;
}

int slot_set_find(int keyd_fd, enum slot_opening *ret, struct keys_error *err)
{
	enum slot_opening best = SLOT_OPENS_NOTHING;
	struct slot_notes places;
	int worst = -ENOENT;
	bool any = false;

	slot_set_places(keyd_fd, &places);
	for (size_t i = 0; i < places.count; i++) {
		struct keys_error why = {0};
		struct slot_medium m;
		struct slot_look l;
		int r;

		slot_medium_init(&m, keyd_fd, places.notes[i].ref.kind, places.notes[i].ref.where);
		r = slot_pair_look(&m, &l, &why);
		if (r < 0 && worst == -ENOENT) {
			worst = r;
			keys_error_set(err, "%s", why.text);
		}
		if (r < 0)
			continue;
		any = true;
		if (l.rec[l.newest].head.protection == SLOT_BY_KEY_FILE)
			best = SLOT_OPENS_KEY_FILE;
		else if (l.rec[l.newest].head.protection != SLOT_BY_PASSPHRASE && best == SLOT_OPENS_NOTHING)
			best = SLOT_OPENS_CREDENTIAL;
	}
	*ret = best;
	return any ? 0 : worst;
}
