#include "keyd/slot_pair.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/slot_protector.h"

static const char *half_state_word(enum slot_half s)
{
	static const char *const words[] = {
		[SLOT_HALF_SOUND] = "sound",
		[SLOT_HALF_EMPTY] = "has no record",
		[SLOT_HALF_DAMAGED] = "is torn or altered",
		[SLOT_HALF_UNREADABLE] = "cannot be read",
		[SLOT_HALF_UNKNOWN] = "is of another version of Coffer",
	};

	return words[s];
}

static enum slot_half half_state(int r)
{
	if (r == 0)
		return SLOT_HALF_SOUND;
	if (r == -ENODATA)
		return SLOT_HALF_EMPTY;
	return r == -EPROTONOSUPPORT ? SLOT_HALF_UNKNOWN : SLOT_HALF_DAMAGED;
}

static void hash_of(const uint8_t raw[SLOT_RECORD_BYTES], uint8_t ret[SLOT_HASH_BYTES])
{
	crypto_generichash(ret, SLOT_HASH_BYTES, raw, SLOT_RECORD_BYTES, NULL, 0);
}

static bool same_hash(const uint8_t a[SLOT_HASH_BYTES], const uint8_t b[SLOT_HASH_BYTES])
{
	return memcmp(a, b, SLOT_HASH_BYTES) == 0;
}

void slot_pair_init(struct slot_pair *p, const struct slot_medium *m, const struct slot_ref *ref)
{
	*p = (struct slot_pair){.medium = *m, .ref = *ref};
}

void slot_pair_done(struct slot_pair *p)
{
	secret_free(p->secrets);
	*p = (struct slot_pair){0};
}

/* Whether the medium is there at all is known from either half. */
static int read_halves(const struct slot_medium *m, struct slot_look *l, int *ret_error)
{
	int r;

	l->newest = -1;
	for (unsigned i = 0; i < 2; i++) {
		r = m->ops->read(m, i, l->raw[i]);
		if (r == -ENOENT)
			return r;
		hash_of(l->raw[i], l->hash[i]);
		if (r < 0) {
			*ret_error = r;
			l->half[i] = SLOT_HALF_UNREADABLE;
			continue;
		}
		l->half[i] = half_state(slot_record_parse(l->raw[i], &l->rec[i]));
		if (l->half[i] == SLOT_HALF_SOUND &&
			(l->newest < 0 || l->rec[i].generation > l->rec[l->newest].generation))
			l->newest = (int)i;
	}
	return 0;
}

static int say_not_sound(const struct slot_medium *m, const struct slot_look *l, int error, struct keys_error *err)
{
	/* A record we cannot read may be the newest: taking the other one could undo a destruction. */
	if (l->half[0] == SLOT_HALF_UNKNOWN || l->half[1] == SLOT_HALF_UNKNOWN) {
		keys_error_set(err, "%s was written by another version of Coffer: start that version", m->label);
		return -EPROTONOSUPPORT;
	}
	if (l->newest >= 0)
		return 0;
	if (l->half[0] == SLOT_HALF_UNREADABLE && l->half[1] == SLOT_HALF_UNREADABLE && error != -ENODATA) {
		keys_error_set(err, "%s cannot be read: %s", m->label, strerror(-error));
		return error;
	}
	keys_error_set(err,
		"%s is damaged: half %s %s, half %s %s; put back the copy of the root key that is kept apart from the data",
		m->label, m->ops->half[0], half_state_word(l->half[0]), m->ops->half[1], half_state_word(l->half[1]));
	return l->half[0] == SLOT_HALF_EMPTY && l->half[1] == SLOT_HALF_EMPTY ? -ENODATA : -EBADMSG;
}

int slot_pair_look(const struct slot_medium *m, struct slot_look *ret, struct keys_error *err)
{
	int r, error = 0;

	memset(ret, 0, sizeof(*ret));
	r = read_halves(m, ret, &error);
	if (r < 0) {
		keys_error_set(err,
			*m->where ? "%s is not there: plug it in or mount it"
				  : "%s is missing: restore it from where the root key is kept apart; without it no client can be "
				    "opened",
			m->label);
		return r;
	}
	r = say_not_sound(m, ret, error, err);
	if (r < 0)
		return r;
	ret->mirrored = ret->half[0] == SLOT_HALF_SOUND && ret->half[1] == SLOT_HALF_SOUND &&
			same_hash(ret->hash[0], ret->hash[1]);
	ret->stray_key = ret->rec[ret->newest].head.protection != SLOT_BY_KEY_FILE && m->ops->key_exists(m);
	return 0;
}

/* The other half counts as the older R only when it is one: sound, of a lower generation, of the same slot.  Else it is
 * something that settling overwrites. */
static void take_older(struct slot_pair *p, const struct slot_look *l)
{
	unsigned other = 1 - (unsigned)l->newest;

	if (l->half[other] != SLOT_HALF_SOUND || l->rec[other].generation >= p->generation ||
		memcmp(l->rec[other].head.id, p->rec.head.id, SLOT_ID_BYTES) != 0 ||
		slot_record_open(&l->rec[other], &p->secrets->key, &p->secrets->older) < 0)
		return;
	p->older_generation = l->rec[other].generation;
	p->before = l->rec[other];
	p->has_before = true;
	memcpy(p->before_hash, l->hash[other], SLOT_HASH_BYTES);
}

int slot_pair_open(struct slot_pair *p, const void *passphrase, size_t n, struct keys_error *err)
{
	scoped(key32_wipe) struct key32 protector = {0};
	struct slot_secrets *s;
	struct slot_look l;
	int r;

	r = slot_pair_look(&p->medium, &l, err);
	if (r < 0)
		return r;
	p->rec = l.rec[l.newest];
	p->has_rec = true;
	r = slot_protector_find(&p->medium, &p->rec.head, passphrase, n, &protector, err);
	if (r < 0)
		return r;
	s = secret_alloc(sizeof(*s));
	if (!s) {
		keys_error_set(err, "no locked memory left for a root key");
		return -ENOMEM;
	}
	r = slot_record_unlock(&p->rec, &protector, &s->key);
	if (r == 0)
		r = slot_record_open(&p->rec, &s->key, &s->newest);
	if (r < 0) {
		secret_free(s);
		return slot_protector_say(&p->medium, &p->rec.head, r, err);
	}
	secret_free(p->secrets);
	p->secrets = s;
	memcpy(p->ref.id, p->rec.head.id, SLOT_ID_BYTES);
	p->generation = p->rec.generation;
	p->known = p->rec.generation;
	memcpy(p->hash, l.hash[l.newest], SLOT_HASH_BYTES);
	take_older(p, &l);
	return 0;
}

void slot_pair_renew(struct slot_pair *p, const struct slot_head *head, const struct key32 *protector)
{
	if (p->has_rec) {
		p->before = p->rec;
		p->has_before = true;
		memcpy(p->before_hash, p->hash, SLOT_HASH_BYTES);
	}
	slot_record_new(head, protector, &p->rec);
	p->has_rec = true;
	p->known = 0;
	memcpy(p->ref.id, p->rec.head.id, SLOT_ID_BYTES);
}

static int say_not_written(const struct slot_pair *p, unsigned half, int r, struct keys_error *err)
{
	keys_error_set(err, "%s, half %s: %s", p->medium.label, p->medium.ops->half[half],
		r == -EIO ? "what was written does not read back; the disk is failing" : strerror(-r));
	return r;
}

/* Ours, and not newer than we know: the newest half says it.  An older one beside it may be of an identity that this one
 * has replaced. */
static int check_is_ours(const struct slot_pair *p, const struct slot_look *l, uint64_t generation, struct keys_error *err)
{
	const struct slot_record *rec = &l->rec[l->newest < 0 ? 0 : l->newest];

	if (l->newest < 0)
		return 0;
	if (memcmp(rec->head.id, p->ref.id, SLOT_ID_BYTES) != 0 &&
		!(p->has_before && memcmp(rec->head.id, p->before.head.id, SLOT_ID_BYTES) == 0) &&
		!(p->has_next && p->has_replaces && memcmp(rec->head.id, p->replaces, SLOT_ID_BYTES) == 0)) {
		keys_error_set(err, "%s is another slot than the one called %s", p->medium.label, p->ref.name);
		return -EXDEV;
	}
	if (rec->generation > generation) {
		keys_error_set(err, "%s was changed by somebody else while it was in use", p->medium.label);
		return -ESTALE;
	}
	return 0;
}

/* No half of it opens anything, whoever it was: writing over it loses nothing. */
static bool is_nothing(const struct slot_look *l)
{
	for (unsigned i = 0; i < 2; i++)
		if (l->half[i] != SLOT_HALF_EMPTY && l->half[i] != SLOT_HALF_DAMAGED)
			return false;
	return true;
}

/* What the interrupted write was to put there, and what is there instead. */
static void take_next(struct slot_pair *p, const struct slot_look *l)
{
	if (l->newest >= 0) {
		p->before = l->rec[l->newest];
		memcpy(p->before_hash, l->hash[l->newest], SLOT_HASH_BYTES);
		p->has_before = true;
	}
	p->rec = p->next;
	p->has_rec = true;
}

/* As slot_pair_look(), for a slot that is to be written: a blank one will do.  One that was away says now what it is. */
static int look_to_write(struct slot_pair *p, uint64_t generation, struct slot_look *l, struct keys_error *err)
{
	int r = slot_pair_look(&p->medium, l, err);

	if ((r == -ENODATA && p->blank) || ((r == -ENODATA || r == -EBADMSG) && p->has_next && is_nothing(l)))
		r = 0;
	if (r == 0)
		r = check_is_ours(p, l, generation, err);
	if (r == 0 && !p->has_rec && p->has_next &&
		(l->newest < 0 || memcmp(l->rec[l->newest].head.id, p->ref.id, SLOT_ID_BYTES) != 0)) {
		take_next(p, l);
	} else if (r == 0 && !p->has_rec) {
		p->rec = l->rec[l->newest];
		p->has_rec = true;
	}
	return r;
}

static int write_record(struct slot_pair *p, unsigned half, uint64_t generation, const struct root_key *r, struct keys_error *err)
{
	uint8_t raw[SLOT_RECORD_BYTES];
	int k = slot_record_write(&p->rec, generation, r, raw);

	if (k == 0)
		k = p->medium.ops->write(&p->medium, half, raw);
	if (k < 0)
		return say_not_written(p, half, k, err);
	p->known = generation;
	hash_of(raw, p->hash);
	return 0;
}

int slot_pair_advance(struct slot_pair *p, uint64_t generation, const struct root_key *fresh, struct keys_error *err)
{
	struct slot_look l;
	unsigned keep;
	int r;

	r = look_to_write(p, generation, &l, err);
	if (r < 0)
		return r;
	/* What is known to hold the R in force must stay until the fresh one is everywhere; a newer one that is not known
	 * is of an attempt that was given up. */
	keep = p->known && same_hash(l.hash[0], p->hash) ? 0 : p->known && same_hash(l.hash[1], p->hash) ? 1
		: l.newest >= 0						   ? (unsigned)l.newest
										   : 1;
	if (l.half[keep] == SLOT_HALF_SOUND) {
		p->before = l.rec[keep];
		memcpy(p->before_hash, l.hash[keep], SLOT_HASH_BYTES);
		p->has_before = true;
	}
	r = write_record(p, 1 - keep, generation, fresh, err);
	if (r < 0)
		return r;
	if (p->secrets) {
		p->secrets->older = p->secrets->newest;
		p->older_generation = p->generation;
		p->secrets->newest = *fresh;
		p->generation = generation;
	}
	return 0;
}

static int overwrite(struct slot_pair *p, unsigned half, const uint8_t with[SLOT_RECORD_BYTES], struct keys_error *err)
{
	uint8_t noise[SLOT_RECORD_BYTES];
	int r;

	randombytes_buf(noise, sizeof(noise));
	r = p->medium.ops->write(&p->medium, half, noise);
	if (r == 0)
		r = p->medium.ops->write(&p->medium, half, with);
	return r < 0 ? say_not_written(p, half, r, err) : 0;
}

static void forget_older(struct slot_pair *p)
{
	if (p->has_before && memcmp(p->before.head.id, p->rec.head.id, SLOT_ID_BYTES) != 0)
		slot_protector_forget(&p->before.head);
	if (p->secrets)
		root_key_wipe(&p->secrets->older);
	p->older_generation = 0;
	p->has_before = false;
	p->has_next = false;
	p->blank = false;
}

static int destroy_key(struct slot_pair *p, struct keys_error *err)
{
	int r;

	if (p->rec.head.protection == SLOT_BY_KEY_FILE)
		return 0;
	r = p->medium.ops->key_destroy(&p->medium);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		keys_error_set(err, "%s cannot be destroyed (%s): nothing else protects while it is there", p->medium.key_label,
			strerror(-r));
	return r;
}

/* Which half holds the record that is known; -1: neither. */
static int half_with(const struct slot_look *l, const uint8_t hash[SLOT_HASH_BYTES])
{
	for (int i = 0; i < 2; i++)
		if (l->half[i] == SLOT_HALF_SOUND && same_hash(l->hash[i], hash))
			return i;
	return -1;
}

int slot_pair_settle(struct slot_pair *p, uint64_t generation, const struct root_key *root, struct keys_error *err)
{
	struct slot_look l;
	int good, r;

	r = look_to_write(p, generation, &l, err);
	if (r < 0)
		return r;
	good = p->known == generation ? half_with(&l, p->hash) : -1;
	if (good < 0) { /* it was away, or is not what it was */
		good = l.newest >= 0 ? 1 - l.newest : 0;
		r = write_record(p, (unsigned)good, generation, root, err);
		if (r == 0)
			r = look_to_write(p, generation, &l, err);
		if (r < 0)
			return r;
	}
	if (!same_hash(l.hash[0], l.hash[1])) {
		r = overwrite(p, 1 - (unsigned)good, l.raw[good], err);
		if (r < 0)
			return r;
	}
	if (p->secrets) {
		p->secrets->newest = *root;
		p->generation = generation;
	}
	forget_older(p);
	return destroy_key(p, err);
}

static int make_only(struct slot_pair *p, const uint8_t hash[SLOT_HASH_BYTES], struct keys_error *err)
{
	struct slot_look l;
	int good, r;

	r = slot_pair_look(&p->medium, &l, err);
	if (r < 0)
		return r;
	good = half_with(&l, hash);
	if (good < 0) {
		keys_error_set(err, "%s was changed by somebody else while it was in use", p->medium.label);
		return -ESTALE;
	}
	return same_hash(l.hash[0], l.hash[1]) ? 0 : overwrite(p, 1 - (unsigned)good, l.raw[good], err);
}

int slot_pair_revert(struct slot_pair *p, struct keys_error *err)
{
	int r;

	if (!p->has_before)
		return 0; /* nothing was written, or there was nothing */
	r = make_only(p, p->before_hash, err);
	/* Also when that failed: what was there before is what is in force, and the next advance writes over the other. */
	if (memcmp(p->before.head.id, p->rec.head.id, SLOT_ID_BYTES) != 0)
		slot_protector_forget(&p->rec.head);
	p->rec = p->before;
	memcpy(p->ref.id, p->rec.head.id, SLOT_ID_BYTES);
	p->known = p->before.generation;
	memcpy(p->hash, p->before_hash, SLOT_HASH_BYTES);
	if (p->secrets && p->older_generation) {
		p->secrets->newest = p->secrets->older;
		p->generation = p->older_generation;
	}
	forget_older(p);
	return r < 0 ? r : destroy_key(p, err);
}
