/* What the next rotation changes of the slots: see slot_set.h. */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/slot_protector.h"
#include "keyd/slot_set_impl.h"

static bool is_there(const struct slot_member *m, struct slot_look *l, struct keys_error *err)
{
	return slot_pair_look(&m->pair.medium, l, err) == 0;
}

static bool is_ours(const struct slot_member *m, const struct slot_look *l)
{
	return memcmp(l->rec[l->newest].head.id, m->pair.ref.id, SLOT_ID_BYTES) == 0;
}

/* Another member than this that has R at hand: this one may go. */
static bool has_another(const struct slot_set *s, const struct slot_member *but)
{
	struct slot_look l;

	for (size_t i = 0; i < s->count; i++) {
		const struct slot_member *m = &s->members[i];

		if (m != but && slot_is_member(m) && m->plan != PLAN_LEAVE && m->plan != PLAN_LOSE &&
			(m->pair.blank || (is_there(m, &l, NULL) && is_ours(m, &l) && m->pair.known == s->generation)))
			return true;
	}
	return false;
}

static int free_number(const struct slot_set *s, uint8_t *ret)
{
	for (uint8_t n = 0; n < SLOT_LIST_MAX; n++) {
		bool taken = false;

		for (size_t i = 0; i < s->count; i++)
			taken |= s->members[i].pair.ref.number == n;
		if (!taken) {
			*ret = n;
			return 0;
		}
	}
	return -ENOSPC;
}

/* Makes the protector that `seal` asks for, and the slot's new identity under it. */
static int seal_pair(struct slot_pair *p, const struct slot_seal *seal, struct keys_error *err)
{
	scoped(key32_wipe) struct key32 protector = {0};
	struct slot_head head = {.protection = seal->protection};
	int r;

	if (seal->locator)
		(void)snprintf(head.locator, sizeof(head.locator), "%s", seal->locator);
	if (slot_protection_is_text(seal->protection)) {
		head.kdf = seal->kdf;
		randombytes_buf(head.salt, sizeof(head.salt));
	}
	if (seal->protection == SLOT_BY_KEY_FILE) {
		randombytes_buf(protector.b, KEY_BYTES);
		r = p->medium.ops->key_write(&p->medium, &protector);
		if (r < 0)
			keys_error_set(err, "%s cannot be written: %s", p->medium.key_label, strerror(-r));
	} else {
		r = slot_protector_make(&p->medium, &head, seal->text, seal->n, &protector, err);
	}
	if (r == 0)
		slot_pair_renew(p, &head, &protector);
	return r;
}

static int check_place(enum slot_kind kind, const char *where, struct keys_error *err)
{
	if (kind == SLOT_FILE)
		return *where ? slot_file_check(where, err) : 0;
	return slot_tpm2_check(where, err);
}

static int join(struct slot_set *s, const char *name, enum slot_kind kind, const char *where, const struct slot_seal *seal,
	struct keys_error *err)
{
	struct slot_ref ref = {.kind = kind};
	struct slot_member *m;
	int r = free_number(s, &ref.number);

	(void)snprintf(ref.name, sizeof(ref.name), "%s", name);
	(void)snprintf(ref.where, sizeof(ref.where), "%s", where);
	if (r == 0)
		r = slot_set_append(s, &ref, &m);
	if (r < 0) {
		keys_error_set(err, "there are %d slots, with those that were lost: that is all a ring can name", SLOT_LIST_MAX);
		return r;
	}
	r = m->pair.medium.ops->prepare(&m->pair.medium);
	if (r < 0) {
		keys_error_set(err, r == -EEXIST ? "%s: a slot lies there already; remove or move it first (%s)" : "%s: %s",
			m->pair.medium.label, strerror(-r));
		slot_set_drop(s, s->count - 1);
		return r;
	}
	m->pair.blank = true;
	m->plan = PLAN_JOIN;
	r = seal_pair(&m->pair, seal, err);
	if (r < 0)
		slot_set_plan_drop(s);
	return r;
}

int slot_set_plan_add(struct slot_set *s, const char *name, enum slot_kind kind, const char *where,
	const struct slot_seal *seal, struct keys_error *err)
{
	int r;

	if (!slot_name_is_valid(name)) {
		keys_error_set(err, "the name of a slot has 1 to %d of a-z, 0-9 and dashes", SLOT_NAME_BYTES - 1);
		return -EINVAL;
	}
	r = check_place(kind, where, err);
	if (r < 0)
		return r;
	if (slot_set_member(s, name)) {
		keys_error_set(err, "there is a slot called %s already", name);
		return -EEXIST;
	}
	for (size_t i = 0; i < s->count; i++) {
		const struct slot_ref *ref = &s->members[i].pair.ref;

		if (ref->role != SLOT_LOST && ref->kind == kind && strcmp(ref->where, where) == 0) {
			keys_error_set(err, "%s is the slot called %s already", where, ref->name);
			return -EEXIST;
		}
	}
	return join(s, name, kind, where, seal, err);
}

static struct slot_member *find_said(struct slot_set *s, const char *name, struct keys_error *err)
{
	struct slot_member *m = slot_set_member(s, name);

	if (!m)
		keys_error_set(err, "there is no slot called %s: coffer slot list", name);
	return m;
}

/* One that was removed, but cannot be reached for overwriting, may be given up as well. */
static int give_up(struct slot_set *s, const char *name, int64_t now)
{
	for (size_t i = 0; i < s->count; i++) {
		struct slot_member *m = &s->members[i];

		if (m->pair.ref.role == SLOT_LEAVING && strcmp(m->pair.ref.name, name) == 0) {
			m->plan = PLAN_LOSE;
			m->plan_at = now;
			return 0;
		}
	}
	return -ENOENT;
}

int slot_set_plan_remove(struct slot_set *s, const char *name, bool lost, int64_t now, struct keys_error *err)
{
	struct slot_member *m = slot_set_member(s, name);
	struct slot_look l;

	if (!m && lost && give_up(s, name, now) == 0)
		return 0;
	if (!m)
		return find_said(s, name, err) ? 0 : -ENOENT;
	if (!has_another(s, m)) {
		keys_error_set(err, "%s is the last slot at hand that has the root key: add another first", name);
		return -EBUSY;
	}
	if (!lost && !is_there(m, &l, err)) {
		keys_error_set(err, "the slot %s (%s) cannot be reached to be overwritten: plug it in; if it is lost for good: "
				    "--lost, and it is remembered as that",
			name, m->pair.medium.label);
		return -EUNATCH;
	}
	m->plan = lost ? PLAN_LOSE : PLAN_LEAVE;
	m->plan_at = now;
	return 0;
}

int slot_set_plan_replace(struct slot_set *s, const char *name, const char *where, const struct slot_seal *seal, int64_t now,
	struct keys_error *err)
{
	struct slot_member *m = find_said(s, name, err);
	bool there, ours, here;
	struct slot_ref old;
	struct slot_look l;
	int r;

	if (!m)
		return -ENOENT;
	old = m->pair.ref;
	where = where ? where : old.where;
	here = strcmp(where, old.where) == 0;
	r = check_place(old.kind, where, err);
	if (r < 0)
		return r;
	r = slot_pair_look(&m->pair.medium, &l, NULL);
	there = r == 0;
	ours = there && is_ours(m, &l);
	if (here && ours && !has_another(s, m)) {
		keys_error_set(err, "%s is the last slot at hand that has the root key: add another first", name);
		return -EBUSY;
	}
	if (here && (there || r == -EBADMSG || r == -ENODATA)) {
		r = m->pair.medium.ops->erase(&m->pair.medium);
		if (r < 0) {
			keys_error_set(err, "%s cannot be overwritten: %s", m->pair.medium.label, strerror(-r));
			return r;
		}
		m->erased = ours || !there;
	}
	m->plan = here ? PLAN_LOSE : ours ? PLAN_LEAVE : PLAN_LOSE;
	m->plan_at = now;
	r = join(s, name, old.kind, where, seal, err);
	if (r < 0)
		slot_set_plan_drop(s);
	return r;
}

static int plan_seal(struct slot_member *m, const struct slot_seal *seal, struct keys_error *err)
{
	struct keys_error why = {0};
	struct slot_look l;
	int r;

	if (!is_there(m, &l, &why) || !is_ours(m, &l)) {
		keys_error_set(err, "the slot %s cannot be sealed anew, and what seals it now would stay: %s", m->pair.ref.name,
			*why.text ? why.text : "another slot lies there");
		return -EUNATCH;
	}
	if (seal->protection == SLOT_BY_KEY_FILE && m->pair.medium.ops->key_exists(&m->pair.medium)) {
		keys_error_set(err, "the slot %s is sealed by a key file already: `coffer slot replace` makes another", m->pair.ref.name);
		return -EALREADY;
	}
	r = seal_pair(&m->pair, seal, err);
	if (r == 0)
		m->plan = PLAN_SEAL;
	return r;
}

int slot_set_plan_seal(struct slot_set *s, const char *name, const struct slot_seal *seal, struct keys_error *err)
{
	struct slot_member *m;
	int r = 0;

	if (name) {
		m = find_said(s, name, err);
		return m ? plan_seal(m, seal, err) : -ENOENT;
	}
	for (size_t i = 0; i < s->count && r == 0; i++)
		if (slot_is_member(&s->members[i]))
			r = plan_seal(&s->members[i], seal, err);
	if (r < 0)
		slot_set_plan_drop(s);
	return r;
}

void slot_set_plan_drop(struct slot_set *s)
{
	for (size_t i = s->count; i-- > 0;) {
		struct slot_member *m = &s->members[i];

		if (m->plan == PLAN_JOIN) {
			(void)m->pair.medium.ops->erase(&m->pair.medium);
			if (m->pair.has_rec)
				slot_protector_forget(&m->pair.rec.head);
			slot_set_drop(s, i);
			continue;
		}
		if (m->plan == PLAN_SEAL)
			(void)slot_pair_revert(&m->pair, NULL);
		m->plan = PLAN_NONE;
	}
}
