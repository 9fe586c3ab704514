#include "keyd/slots.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/methods.h"
#include "keyd/rotate.h"
#include "keyd/slot_protector.h"

/* ---- what there is ---- */

static void add(json_t *list, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(json_t *list, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (list)
		json_array_append_new(list, json_vsprintf(fmt, ap));
	va_end(ap);
}

static int views_of(struct keyd *k, struct slot_view **ret, size_t *ret_n)
{
	struct slot_view *views;
	size_t n;

	if (!k->slot)
		return slot_set_look(k->keyd_fd, ret, ret_n);
	n = slot_set_count(k->slot);
	views = calloc(n ? n : 1, sizeof(*views));
	if (!views)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		slot_set_view(k->slot, i, &views[i]);
	*ret = views;
	*ret_n = n;
	return 0;
}

static bool holds_root(const struct slot_view *v)
{
	return v->ref.role == SLOT_MEMBER && (v->state == SLOT_OK || v->state == SLOT_AWAY || v->state == SLOT_TORN ||
						     v->state == SLOT_UNSETTLED);
}

static void say_where_sealed(struct keyd *k, const struct slot_view *v, json_t *warnings)
{
	if (v->has_head && v->ref.kind == SLOT_FILE && v->head.protection == SLOT_BY_KEY_FILE)
		add(warnings,
			*v->ref.where ? "the slot %s is sealed only by a key file beside it: who can read %s%s can open every client; "
					"`coffer passphrase` or `coffer slot seal` changes that"
				      : "the slot %s is sealed only by a key file in the same directory: who can read %s%s can open "
					"every client; `coffer passphrase` seals it by a passphrase",
			v->ref.name, *v->ref.where ? "" : k->dir.root, *v->ref.where ? v->ref.where : "/keyd");
}

/* One place that fails must not be all there is. */
static void judge_all(struct keyd *k, const struct slot_view *views, size_t n, json_t *warnings, json_t *red)
{
	size_t holders = 0;

	for (size_t i = 0; i < n; i++) {
		holders += holds_root(&views[i]);
		for (size_t j = 0; j < i; j++) {
			if (!*views[i].device || strcmp(views[i].device, views[j].device) != 0 || !holds_root(&views[i]) ||
				!holds_root(&views[j]))
				continue;
			add(red, "the slots %s and %s lie on the same device: they are lost together", views[j].ref.name,
				views[i].ref.name);
		}
	}
	if (holders < 2)
		add(red, "there is one slot only that holds the root key: if it is lost, so is every client; `coffer slot add` makes "
			 "another on another medium");
	add(warnings, "leave %s/keyd/slot and all other slots out of backups: a copy of one undoes destruction", k->dir.root);
}

static const char *protection_of(const struct slot_view *v)
{
	bool in_chip = v->ref.kind == SLOT_TPM2 && v->head.protection == SLOT_BY_KEY_FILE;

	return slot_protection_name(in_chip ? SLOT_BY_TPM : v->head.protection);
}

static json_t *view_json(const struct slot_view *v)
{
	bool healthy = v->state == SLOT_OK || v->state == SLOT_AWAY || v->state == SLOT_GONE;

	return json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s, s:b, s:s, s:s, s:b}", "name", v->ref.name, "kind",
		slot_kind_name(v->ref.kind), "path", v->label, "protection",
		v->has_head ? protection_of(v) : NULL, "protected_by",
		v->has_head && *v->head.locator ? v->head.locator : NULL, "assurance", v->assurance, "healthy", (int)healthy,
		"state", slot_state_name(v->state), "text", v->text, "automatic",
		(int)(v->has_head && v->head.protection != SLOT_BY_PASSPHRASE));
}

json_t *slots_json(struct keyd *k, json_t *warnings, json_t *red)
{
	scoped(freep) struct slot_view *views = NULL;
	json_t *rows = json_array();
	size_t n = 0;

	if (views_of(k, &views, &n) < 0)
		return rows;
	for (size_t i = 0; i < n; i++) {
		const struct slot_view *v = &views[i];

		json_array_append_new(rows, view_json(v));
		say_where_sealed(k, v, warnings);
		if (v->state == SLOT_DAMAGED || v->state == SLOT_FOREIGN || v->state == SLOT_MISSING)
			add(red, "the slot %s: %s", v->ref.name, v->text);
		else if (*v->text && v->state != SLOT_AWAY)
			add(warnings, "the slot %s: %s", v->ref.name, v->text);
	}
	judge_all(k, views, n, warnings, red);
	return rows;
}

json_t *slots_certificate(struct keyd *k)
{
	scoped(freep) struct slot_view *views = NULL;
	json_t *rows = json_array();
	size_t n = 0;

	if (views_of(k, &views, &n) < 0)
		return rows;
	for (size_t i = 0; i < n; i++) {
		const struct slot_view *v = &views[i];

		json_array_append_new(rows,
			json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", v->ref.name, "kind", slot_kind_name(v->ref.kind), "path",
				v->label, "state", v->state == SLOT_GONE ? "lost: not overwritten, and not known where it is" : "forgotten",
				"assurance", v->state == SLOT_GONE ? "none: whoever finds it can open older copies of the keys"
								   : v->assurance));
	}
	return rows;
}

int keyd_slot_list(struct varlink_call *call, json_t *params, void *userdata)
{
	return varlink_reply(call, json_pack("{s:o}", "slots", slots_json(userdata, NULL, NULL)));
}

/* ---- what is done with them ---- */

static int refuse(struct varlink_call *call, int r, const struct keys_error *err)
{
	const char *error = r == -ENOENT     ? "UnknownSlot"
			    : r == -EEXIST || r == -EALREADY ? "SlotExists"
			    : r == -EBUSY    ? "LastSlot"
			    : r == -EUNATCH  ? "SlotUnreachable"
			    : r == -EINVAL   ? "InvalidParameter"
					     : "Failed";

	return varlink_error(call, error, *err->text ? err->text : strerror(-r), NULL);
}

/* The plan is made: a rotation carries it out, or it is dropped. */
static int carry_out(struct keyd *k, struct varlink_call *call, const char *kind, const char *name)
{
	const struct shred_job job = {0};
	int r = rotate_run(k, call, kind, NULL, name, &job, true);

	if (k->slot)
		slot_set_plan_drop(k->slot);
	return r;
}

static void text_freep(char **p)
{
	secret_free(*p);
}

/* The passphrase comes in a descriptor; nothing of it stands in the parameters. */
static bool take_seal(struct varlink_call *call, const char *protection, const char *locator, char **passphrase,
	struct slot_seal *ret)
{
	struct slot_seal s = {.protection = SLOT_BY_KEY_FILE, .locator = locator, .kdf = SLOT_KDF_DEFAULT};
	int r;

	if (protection && slot_protection_parse(protection, &s.protection) < 0) {
		varlink_errorf(call, "InvalidParameter", "\"key file\", \"passphrase\", \"credential\", \"systemd\" or \"tpm2\"",
			"no slot is sealed by: %s", protection);
		return false;
	}
	r = take_passphrase(call, passphrase, &s.n);
	if (r < 0)
		return false;
	s.text = *passphrase;
	if ((s.protection == SLOT_BY_PASSPHRASE) != (r > 0)) {
		varlink_error(call, "NoPassphrase", r > 0 ? "a passphrase came, but nothing is to be sealed by it" : "no passphrase came",
			NULL);
		return false;
	}
	if ((s.protection == SLOT_BY_CREDENTIAL || s.protection == SLOT_BY_SYSTEMD) != (locator != NULL) &&
		s.protection != SLOT_BY_TPM) {
		varlink_error(call, "InvalidParameter", "a credential needs its path or name, and nothing else has one", NULL);
		return false;
	}
	if (locator && (strlen(locator) >= SLOT_LOCATOR_BYTES || (s.protection == SLOT_BY_CREDENTIAL && locator[0] != '/') ||
			       (s.protection == SLOT_BY_SYSTEMD && strchr(locator, '/')))) {
		varlink_errorf(call, "InvalidParameter", "an absolute path; or the name that the unit's LoadCredential= gives it",
			"no credential: %s", locator);
		return false;
	}
	if (s.protection == SLOT_BY_TPM && !locator) {
		varlink_error(call, "InvalidParameter", "a key in a TPM needs its NV index", NULL);
		return false;
	}
	*ret = s;
	return true;
}

int keyd_slot_add(struct varlink_call *call, json_t *params, void *userdata)
{
	const char *name, *kind = "file", *where, *protection = NULL, *locator = NULL;
	scoped(text_freep) char *passphrase = NULL;
	struct keyd *k = userdata;
	struct keys_error err = {0};
	enum slot_kind what;
	struct slot_seal seal;
	int r;

	if (!params_unpack(call, params, "{s:s, s?s, s:s, s?s, s?s}", "name", &name, "kind", &kind, "where", &where, "protection",
		    &protection, "protected_by", &locator) ||
		!take_seal(call, protection, locator, &passphrase, &seal))
		return 0;
	if (slot_kind_parse(kind, &what) < 0)
		return varlink_errorf(call, "InvalidParameter", "\"file\" or \"tpm2\"", "there are no slots of the kind %s", kind);
	r = slot_set_plan_add(k->slot, name, what, where, &seal, &err);
	return r < 0 ? refuse(call, r, &err) : carry_out(k, call, "slot-add", name);
}

int keyd_slot_remove(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct keys_error err = {0};
	const char *name;
	int lost = 0, r;

	if (!params_unpack(call, params, "{s:s, s?b}", "name", &name, "lost", &lost))
		return 0;
	r = slot_set_plan_remove(k->slot, name, lost, keyd_now(), &err);
	return r < 0 ? refuse(call, r, &err) : carry_out(k, call, lost ? "slot-lost" : "slot-remove", name);
}

int keyd_slot_replace(struct varlink_call *call, json_t *params, void *userdata)
{
	const char *name, *where = NULL, *protection = NULL, *locator = NULL;
	scoped(text_freep) char *passphrase = NULL;
	struct keyd *k = userdata;
	struct keys_error err = {0};
	struct slot_seal seal;
	int r;

	if (!params_unpack(call, params, "{s:s, s?s, s?s, s?s}", "name", &name, "where", &where, "protection", &protection,
		    "protected_by", &locator) ||
		!take_seal(call, protection, locator, &passphrase, &seal))
		return 0;
	r = slot_set_plan_replace(k->slot, name, where, &seal, keyd_now(), &err);
	return r < 0 ? refuse(call, r, &err) : carry_out(k, call, "slot-replace", name);
}

int keyd_slot_seal(struct varlink_call *call, json_t *params, void *userdata)
{
	const char *name = NULL, *protection, *locator = NULL;
	scoped(text_freep) char *passphrase = NULL;
	struct keyd *k = userdata;
	struct keys_error err = {0};
	struct slot_seal seal;
	int r;

	if (!params_unpack(call, params, "{s?s, s:s, s?s}", "name", &name, "protection", &protection, "protected_by", &locator) ||
		!take_seal(call, protection, locator, &passphrase, &seal))
		return 0;
	r = slot_set_plan_seal(k->slot, name, &seal, &err);
	return r < 0 ? refuse(call, r, &err) : carry_out(k, call, "slot-seal", name);
}

int keyd_passphrase_set(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(text_freep) char *passphrase = NULL;
	struct keyd *k = userdata;
	struct keys_error err = {0};
	struct slot_seal seal = {.protection = SLOT_BY_PASSPHRASE, .kdf = SLOT_KDF_DEFAULT};
	int r;

	r = take_passphrase(call, &passphrase, &seal.n);
	if (r < 0)
		return 0;
	if (r == 0)
		return varlink_error(
			call, "NoPassphrase", "no passphrase came", "run `coffer passphrase`");
	seal.text = passphrase;
	r = slot_set_plan_seal(k->slot, NULL, &seal, &err);
	return r < 0 ? refuse(call, r, &err) : carry_out(k, call, "passphrase-set", NULL);
}
