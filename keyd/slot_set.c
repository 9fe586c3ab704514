#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/keyring.h"
#include "keyd/slot_protector.h"
#include "keyd/slot_set_impl.h"

void slot_set_close(struct slot_set *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++)
		slot_pair_done(&s->members[i].pair);
	secret_free(s->secrets);
	free(s);
}
DEFINE_SCOPED(struct slot_set *, slot_set_close)

int slot_set_alloc(int keyd_fd, struct slot_set **ret)
{
	scoped(slot_set_closep) struct slot_set *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->keyd_fd = keyd_fd;
	s->secrets = secret_alloc(sizeof(*s->secrets));
	if (!s->secrets)
		return -ENOMEM;
	*ret = take_ptr(&s);
	return 0;
}

int slot_set_append(struct slot_set *s, const struct slot_ref *ref, struct slot_member **ret)
{
	struct slot_medium medium;
	struct slot_member *m;

	if (s->count == SLOT_LIST_MAX)
		return -ENOSPC;
	slot_medium_init(&medium, s->keyd_fd, ref->kind, ref->where);
	m = &s->members[s->count++];
	memset(m, 0, sizeof(*m));
	slot_pair_init(&m->pair, &medium, ref);
	*ret = m;
	return 0;
}

void slot_set_drop(struct slot_set *s, size_t i)
{
	slot_pair_done(&s->members[i].pair);
	memmove(&s->members[i], &s->members[i + 1], (s->count - i - 1) * sizeof(s->members[0]));
	s->count--;
}

struct slot_member *slot_set_member(struct slot_set *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (slot_is_member(&s->members[i]) && strcmp(s->members[i].pair.ref.name, name) == 0)
			return &s->members[i];
	return NULL;
}

static const struct slot_ref main_ref = {.kind = SLOT_FILE, .name = SLOT_MAIN};

void slot_set_places(int keyd_fd, struct slot_notes *ret)
{
	if (slot_notes_read(keyd_fd, ret) < 0)
		memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < ret->count; i++)
		if (ret->notes[i].ref.kind == SLOT_FILE && !*ret->notes[i].ref.where)
			return;
	if (ret->count < SLOT_LIST_MAX) {
		memmove(&ret->notes[1], &ret->notes[0], ret->count * sizeof(ret->notes[0]));
		ret->notes[0] = (struct slot_note){.ref = main_ref};
		ret->count++;
	}
}

/* ---- making and opening ---- */

static int first_record(struct slot_set *s, struct slot_pair *p)
{
	scoped(key32_wipe) struct key32 protector;
	const struct slot_head head = {.protection = SLOT_BY_KEY_FILE};
	int r = p->medium.ops->prepare(&p->medium);

	if (r < 0)
		return r;
	randombytes_buf(protector.b, KEY_BYTES);
	r = p->medium.ops->key_write(&p->medium, &protector);
	if (r < 0)
		return r;
	p->blank = true;
	slot_pair_renew(p, &head, &protector);
	return slot_pair_settle(p, s->generation, &s->secrets->newest, NULL);
}

int slot_set_recreate(int keyd_fd, const struct root_key *root, uint64_t generation, struct slot_set **ret,
	struct keys_error *err)
{
	scoped(slot_set_closep) struct slot_set *s = NULL;
	struct slot_member *m;
	int r = slot_set_alloc(keyd_fd, &s);

	if (r == 0)
		r = slot_set_append(s, &main_ref, &m);
	if (r < 0)
		return r;
	s->generation = generation;
	s->secrets->newest = *root;
	r = first_record(s, &m->pair);
	if (r == 0) /* what counts is what the disk says */
		r = slot_pair_open(&m->pair, NULL, 0, NULL);
	if (r < 0) {
		keys_error_set(err, "keyd/slot: the root key cannot be made there: %s",
			r == -EEXIST ? "there is one already" : strerror(-r));
		return r;
	}
	*ret = take_ptr(&s);
	return 0;
}

static void root_key_freep(struct root_key **p)
{
	secret_free(*p);
}

int slot_set_create(int keyd_fd, struct slot_set **ret, struct keys_error *err)
{
	scoped(root_key_freep) struct root_key *fresh = secret_alloc(sizeof(*fresh));

	if (!fresh) {
		keys_error_set(err, "no locked memory left for a root key");
		return -ENOMEM;
	}
	randombytes_buf(fresh, sizeof(*fresh));
	return slot_set_recreate(keyd_fd, fresh, 1, ret, err);
}

/* Which failure says most of why nothing opens. */
static int weight(int r)
{
	switch (r) {
	case -ENOENT:
		return 0;
	case -ENODATA:
		return 1;
	case -EPERM:
		return 4;
	case -ENOKEY:
		return 5;
	case -EKEYREJECTED:
		return 6;
	case -EPROTONOSUPPORT:
		return 7;
	}
	return 2;
}

static const struct slot_pair *opened(const struct slot_set *s, size_t i)
{
	return s->members[i].pair.secrets ? &s->members[i].pair : NULL;
}

static void take_newest(struct slot_set *s)
{
	const struct slot_pair *p, *newest = NULL;

	for (size_t i = 0; i < s->count; i++) {
		p = opened(s, i);
		if (p && (!newest || p->generation > newest->generation))
			newest = p;
	}
	if (!newest || newest->generation < s->generation)
		return; /* what it came from does not count any more, but it is R */
	s->generation = newest->generation;
	s->secrets->newest = newest->secrets->newest;
	s->older_generation = 0;
	for (size_t i = 0; i < s->count; i++) {
		p = opened(s, i);
		if (!p)
			continue;
		if (p->generation == s->generation && p->older_generation > s->older_generation) {
			s->older_generation = p->older_generation;
			s->secrets->older = p->secrets->older;
		} else if (p->generation < s->generation && p->generation > s->older_generation) {
			s->older_generation = p->generation;
			s->secrets->older = p->secrets->newest;
		}
	}
}

/* Of the same generation, but another R: what an attempt that was given up has left, or no slot of ours. */
static void drop_strangers(struct slot_set *s)
{
	for (size_t i = 0; i < s->count; i++) {
		struct slot_pair *p = &s->members[i].pair;

		if (!p->secrets || p->generation != s->generation ||
			sodium_memcmp(&p->secrets->newest, &s->secrets->newest, sizeof(struct root_key)) == 0)
			continue;
		secret_free(p->secrets);
		p->secrets = NULL;
		p->known = 0;
	}
}

static bool same_place(const struct slot_ref *a, const struct slot_ref *b)
{
	return a->kind == b->kind && strcmp(a->where, b->where) == 0;
}

/* One that was being replaced where it is has two notes. */
static bool has_place(const struct slot_set *s, const struct slot_ref *ref)
{
	for (size_t i = 0; i < s->count; i++)
		if (same_place(&s->members[i].pair.ref, ref))
			return true;
	return false;
}

int slot_set_open(int keyd_fd, const void *passphrase, size_t n, struct slot_set **ret, struct keys_error *err)
{
	scoped(slot_set_closep) struct slot_set *s = NULL;
	struct slot_notes places;
	int r = slot_set_alloc(keyd_fd, &s), worst = -ENOENT;
	bool any = false, said = false;

	if (r < 0) {
		keys_error_set(err, "no locked memory left for a root key");
		return r;
	}
	slot_set_places(keyd_fd, &places);
	for (size_t i = 0; i < places.count; i++) {
		struct keys_error why = {0};
		struct slot_member *m;

		if (places.notes[i].ref.role == SLOT_LOST || has_place(s, &places.notes[i].ref) || slot_set_append(s, &places.notes[i].ref, &m) < 0)
			continue;
		r = slot_pair_open(&m->pair, passphrase, n, &why);
		any |= r == 0;
		if (r < 0 && (!said || weight(r) > weight(worst))) {
			worst = r;
			said = true;
			keys_error_set(err, "%s", why.text);
		}
	}
	if (!any)
		return worst;
	take_newest(s);
	drop_strangers(s);
	*ret = take_ptr(&s);
	return 0;
}

uint64_t slot_set_generation(const struct slot_set *s)
{
	return s->generation;
}

const struct root_key *slot_set_root(const struct slot_set *s)
{
	return &s->secrets->newest;
}

const struct root_key *slot_set_older_root(const struct slot_set *s)
{
	return s->older_generation ? &s->secrets->older : NULL;
}

uint64_t slot_set_older_generation(const struct slot_set *s)
{
	return s->older_generation;
}

/* ---- what the ring says ---- */

/* A member that keys on the disk did not name: it is looked at now. */
static void add_listed(struct slot_set *s, const struct slot_ref *ref)
{
	struct slot_member *m;
	struct slot_look l;

	if (slot_set_append(s, ref, &m) < 0 || ref->role != SLOT_MEMBER)
		return;
	if (slot_pair_open(&m->pair, NULL, 0, NULL) < 0 && slot_pair_look(&m->pair.medium, &l, NULL) == 0) {
		m->pair.rec = l.rec[l.newest];
		m->pair.has_rec = true;
	}
}

/* Who has R is ours, whatever his id (a slot made anew with a recovery key): the next ring will name it so. */
static void take_listed(struct slot_set *s, struct slot_member *m, const struct slot_ref *ref)
{
	struct slot_pair *p = &m->pair;
	uint8_t id[SLOT_ID_BYTES];
	bool has_root = p->secrets && p->generation == s->generation;

	memcpy(id, has_root ? p->ref.id : ref->id, sizeof(id));
	p->ref = *ref;
	memcpy(p->ref.id, id, sizeof(id));
	if (p->has_rec && memcmp(p->rec.head.id, id, sizeof(id)) != 0) {
		p->has_rec = false;
		p->known = 0;
		secret_free(p->secrets);
		p->secrets = NULL;
	}
}

static void take_notes(struct slot_set *s, const struct keyring *k)
{
	struct slot_notes notes;

	if (slot_notes_read_signed(s->keyd_fd, k, &notes) < 0)
		return;
	for (size_t i = 0; i < s->count; i++) {
		struct slot_member *m = &s->members[i];

		for (size_t j = 0; j < notes.count; j++) {
			const struct slot_note *n = &notes.notes[j];
			bool is_next = memcmp(n->ref.id, m->pair.ref.id, SLOT_ID_BYTES) == 0;
			/* Of an exchange that did not take place. */
			bool is_before = n->has_before && memcmp(n->before, m->pair.ref.id, SLOT_ID_BYTES) == 0;

			if (n->ref.number != m->pair.ref.number || (!is_next && !is_before))
				continue;
			m->noted = n->generation;
			memcpy(m->noted_hash, n->hash, SLOT_HASH_BYTES);
			m->erased = n->erased;
			if (is_next && n->has_next) {
				m->pair.next = n->next;
				m->pair.has_next = true;
				m->pair.has_replaces = n->has_before;
				memcpy(m->pair.replaces, n->before, SLOT_ID_BYTES);
			}
			if (!m->pair.known && n->generation == s->generation) {
				m->pair.known = n->generation;
				memcpy(m->pair.hash, n->hash, SLOT_HASH_BYTES);
			}
		}
	}
}

bool slot_set_adopt(struct slot_set *s, const struct keyring *k)
{
	uint64_t before = s->generation;
	const struct slot_list *list = keyring_slots(k);
	bool listed[SLOT_LIST_MAX];

	for (size_t i = s->count; i-- > 0;) {
		struct slot_member *m = &s->members[i];
		bool keep = list->count == 0 && same_place(&m->pair.ref, &main_ref);

		for (size_t j = 0; j < list->count && !keep; j++)
			if (list->refs[j].role != SLOT_LOST && same_place(&m->pair.ref, &list->refs[j]))
				keep = true;
		if (!keep)
			slot_set_drop(s, i);
	}
	memset(listed, 0, sizeof(listed));
	for (size_t i = 0; i < s->count; i++) {
		for (size_t j = 0; j < list->count; j++) {
			if (listed[j] || list->refs[j].role == SLOT_LOST ||
				!same_place(&s->members[i].pair.ref, &list->refs[j]))
				continue;
			take_listed(s, &s->members[i], &list->refs[j]);
			listed[j] = true;
			break;
		}
	}
	for (size_t j = 0; j < list->count; j++)
		if (!listed[j])
			add_listed(s, &list->refs[j]);
	take_newest(s);
	if (s->generation != before)
		return true;
	take_notes(s, k);
	return false;
}

bool slot_set_can_decide(const struct slot_set *s, uint16_t reachable, const char **ret_name)
{
	for (size_t i = 0; i < s->count; i++) {
		const struct slot_pair *p = &s->members[i].pair;

		if (!slot_is_member(&s->members[i]) || !(reachable & 1u << p->ref.number))
			continue;
		if (!p->has_rec || p->rec.generation > s->generation) {
			*ret_name = p->ref.name;
			return false;
		}
	}
	return true;
}

bool slot_set_can_revert(const struct slot_set *s)
{
	for (size_t i = 0; i < s->count; i++) {
		const struct slot_pair *p = &s->members[i].pair;

		if (slot_is_member(&s->members[i]) && p->has_rec && p->rec.generation == s->generation && !p->has_before)
			return false;
	}
	return true;
}

void slot_set_list(const struct slot_set *s, struct slot_list *ret)
{
	struct slot_list l = {0};

	for (size_t i = 0; i < s->count; i++) {
		const struct slot_member *m = &s->members[i];
		struct slot_ref *ref = &l.refs[l.count];
		struct slot_look look;

		if (m->erased)
			continue;
		*ref = m->pair.ref;
		if (m->plan == PLAN_LEAVE || m->plan == PLAN_LOSE) {
			ref->role = m->plan == PLAN_LEAVE ? SLOT_LEAVING : SLOT_LOST;
			ref->left_generation = m->noted ? m->noted : s->generation;
			ref->left_at = m->plan_at;
		}
		l.count++;
		if (ref->role == SLOT_MEMBER && (m->pair.blank || slot_pair_look(&m->pair.medium, &look, NULL) == 0))
			l.reachable |= (uint16_t)(1u << ref->number);
	}
	*ret = l;
}

/* ---- the three moves ---- */

static void commit_plan(struct slot_set *s)
{
	struct slot_list next;

	slot_set_list(s, &next);
	for (size_t i = s->count; i-- > 0;) {
		struct slot_member *m = &s->members[i];

		if (m->erased) {
			slot_set_drop(s, i);
			continue;
		}
		for (size_t j = 0; j < next.count; j++)
			if (next.refs[j].number == m->pair.ref.number)
				m->pair.ref = next.refs[j];
		if (m->plan == PLAN_JOIN || m->plan == PLAN_SEAL) { /* until it is settled */
			m->pair.next = m->pair.rec;
			m->pair.has_next = true;
			m->pair.has_replaces = m->plan == PLAN_SEAL && m->pair.has_before;
			memcpy(m->pair.replaces, m->pair.before.head.id, SLOT_ID_BYTES);
		}
		m->plan = PLAN_NONE;
	}
}

int slot_set_advance(struct slot_set *s, const struct root_key *fresh, struct keys_error *err)
{
	struct keys_error why = {0};
	int first = -ENOENT;
	bool said = false, any = false;

	for (size_t i = 0; i < s->count; i++) {
		struct slot_member *m = &s->members[i];
		int r;

		if (!slot_is_member(m) || m->plan == PLAN_LEAVE || m->plan == PLAN_LOSE)
			continue;
		r = slot_pair_advance(&m->pair, s->generation + 1, fresh, &why);
		any |= r == 0;
		if (r < 0 && !said) {
			first = r;
			said = true;
			keys_error_set(err, "%s", why.text);
		}
	}
	if (!any)
		return first;
	commit_plan(s);
	s->secrets->older = s->secrets->newest;
	s->older_generation = s->generation;
	s->secrets->newest = *fresh;
	s->generation++;
	return 0;
}

/* What slot_pair_look() says of a medium that cannot be read now. */
static bool is_away(int r)
{
	return r < 0 && r != -EBADMSG && r != -ENODATA && r != -EPROTONOSUPPORT;
}

static int settle_member(struct slot_set *s, struct slot_member *m, struct keys_error *err)
{
	struct slot_look l;
	int r = slot_pair_settle(&m->pair, s->generation, &s->secrets->newest, err);

	if (r == 0) {
		m->noted = s->generation;
		memcpy(m->noted_hash, m->pair.hash, SLOT_HASH_BYTES);
		return 0;
	}
	/* Away, and seen with nothing but this R. */
	if (m->noted == s->generation && is_away(slot_pair_look(&m->pair.medium, &l, NULL)))
		return 0;
	return r;
}

/* What was being written for the first time, or under a new identity, when a crash came cannot be told from another's
 * slot: only who knows what lies there may have it overwritten. */
static const char *remedy(const struct slot_member *m, int r, char *text, size_t n)
{
	if (!slot_is_member(m) || (r != -EBADMSG && r != -ENODATA && r != -EXDEV))
		return "";
	(void)snprintf(text, n, " (if it is no other vault's, `coffer slot replace %s` makes it anew)", m->pair.ref.name);
	return text;
}

static int settle_one(struct slot_set *s, struct slot_member *m, struct keys_error *err)
{
	int r;

	if (slot_is_member(m))
		return settle_member(s, m, err);
	if (m->pair.ref.role == SLOT_LOST || m->erased)
		return 0;
	r = m->pair.medium.ops->erase(&m->pair.medium);
	if (r < 0)
		keys_error_set(err, "%s is not overwritten (%s): plug it in; if it is lost for good: coffer slot remove %s --lost",
			m->pair.medium.label, strerror(-r), m->pair.ref.name);
	m->erased = r == 0;
	if (m->erased && m->pair.has_rec)
		slot_protector_forget(&m->pair.rec.head);
	return r;
}

int slot_set_settle(struct slot_set *s, struct keys_error *err)
{
	bool holds_older = false;
	int first = 0;

	for (size_t i = 0; i < s->count; i++) {
		struct slot_member *m = &s->members[i];
		char text[SLOT_NAME_BYTES + 80];
		struct keys_error why = {0};
		int r = settle_one(s, m, &why);

		holds_older |= m->pair.older_generation != 0;
		if (r < 0 && first == 0) {
			first = r;
			keys_error_set(err, "waits for the slot %s%s: %s", m->pair.ref.name,
				remedy(m, r, text, sizeof(text)), why.text);
		}
	}
	if (!holds_older) {
		root_key_wipe(&s->secrets->older);
		s->older_generation = 0;
	}
	return first;
}

int slot_set_revert(struct slot_set *s, struct keys_error *err)
{
	int first = 0, r;

	for (size_t i = 0; i < s->count; i++) {
		struct slot_member *m = &s->members[i];

		if (!slot_is_member(m) || m->plan == PLAN_JOIN)
			continue;
		r = slot_pair_revert(&m->pair, first == 0 ? err : NULL);
		if (r < 0 && first == 0)
			first = r;
	}
	slot_set_plan_drop(s);
	if (s->older_generation) {
		s->secrets->newest = s->secrets->older;
		s->generation = s->older_generation;
		root_key_wipe(&s->secrets->older);
		s->older_generation = 0;
	}
	return first;
}

/* The identity that is being written, until it is there. */
static void note_next(const struct slot_member *m, struct slot_note *n)
{
	const struct slot_pair *p = &m->pair;

	if (m->plan == PLAN_JOIN || m->plan == PLAN_SEAL) {
		n->has_next = true;
		n->next = p->rec;
		n->has_before = p->has_before;
		if (p->has_before)
			memcpy(n->before, p->before.head.id, SLOT_ID_BYTES);
	} else if (p->has_next) {
		n->has_next = true;
		n->next = p->next;
		n->has_before = p->has_replaces;
		memcpy(n->before, p->replaces, SLOT_ID_BYTES);
	}
}

int slot_set_note_plan(struct slot_set *s, const struct keyring *k, struct keys_error *err)
{
	bool any = false;
	int r;

	for (size_t i = 0; i < s->count; i++)
		any |= s->members[i].plan == PLAN_JOIN || s->members[i].plan == PLAN_SEAL;
	r = any ? slot_set_note(s, k) : 0;
	if (r < 0)
		keys_error_set(err, "keyd/slots.json cannot be written: %s", strerror(-r));
	return r;
}

int slot_set_note(struct slot_set *s, const struct keyring *k)
{
	struct slot_notes notes = {0};

	for (size_t i = 0; i < s->count; i++) {
		const struct slot_member *m = &s->members[i];
		struct slot_note *n = &notes.notes[notes.count];

		if (m->pair.ref.role == SLOT_LOST)
			continue;
		note_next(m, n);
		n->ref = m->pair.ref;
		n->ref.left_generation = 0;
		n->ref.left_at = 0;
		n->generation = m->noted;
		memcpy(n->hash, m->noted_hash, SLOT_HASH_BYTES);
		n->erased = m->erased;
		notes.count++;
	}
	return slot_notes_write(s->keyd_fd, k, &notes);
}
