/* A bundle: {inventory, signature, public_key, sealed}.  The sealed part, in base64, is a sealed box of
 *
 *	offset  size    field
 *	0       16      client id, as in the inventory
 *	16      ...     the tree as common/keytree.c serialises it
 */
#include "keyd/transfer.h"
#include "keyd/terms.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "common/secret.h"
#include "keyd/expiry.h"
#include "keyd/facts_loads.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/person.h"
#include "keyd/session.h"

#define HASH_BYTES 32
#define SEALED_MAX (16u << 20)

DEFINE_SCOPED(struct keytree *, keytree_free)

static void secret_freep(uint8_t **p)
{
	secret_free(*p);
}

static void hash_hex(const void *bytes, size_t n, char ret[2 * HASH_BYTES + 1])
{
	uint8_t hash[HASH_BYTES];

	crypto_generichash(hash, sizeof(hash), bytes, n, NULL, 0);
	sodium_bin2hex(ret, 2 * HASH_BYTES + 1, hash, sizeof(hash));
}

static bool from_hex(const char *hex, uint8_t *ret, size_t size)
{
	size_t n = 0;

	return strlen(hex) == 2 * size && sodium_hex2bin(ret, size, hex, strlen(hex), NULL, &n, NULL) == 0 && n == size;
}

int keyd_transfer_key(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(key32_wipe) struct key32 secret = {0};
	char hex[2 * TRANSFER_KEY_BYTES + 1];
	uint8_t public[TRANSFER_KEY_BYTES];
	struct keyd *k = userdata;

	keyring_transfer_key(k->ring, public, &secret);
	sodium_bin2hex(hex, sizeof(hex), public, sizeof(public));
	return varlink_reply(call, json_pack("{s:s}", "transfer_key", hex));
}

/* ---- ours to another ---- */

static int seal_tree(const struct keyd *k, const struct client_id *id, const uint8_t to[TRANSFER_KEY_BYTES], uint8_t **ret,
	size_t *ret_n, struct keys_error *err)
{
	scoped(secret_freep) uint8_t *tree = NULL, *plain = NULL;
	scoped(freep) uint8_t *sealed = NULL;
	size_t n;
	int r = keyring_tree_bytes(k->ring, id, &tree, &n, err);

	if (r < 0)
		return r;
	plain = secret_alloc(CLIENT_ID_BYTES + n);
	sealed = malloc(CLIENT_ID_BYTES + n + crypto_box_SEALBYTES);
	if (!plain || !sealed)
		return -ENOMEM;
	memcpy(plain, id->b, CLIENT_ID_BYTES);
	memcpy(plain + CLIENT_ID_BYTES, tree, n);
	if (crypto_box_seal(sealed, plain, CLIENT_ID_BYTES + n, to) < 0)
		return -EINVAL; /* a key that is no point */
	*ret = take_ptr(&sealed);
	*ret_n = CLIENT_ID_BYTES + n + crypto_box_SEALBYTES;
	return 0;
}

/* Nobody changes what is being handed over. */
static bool may_transfer(struct keyd *k, struct varlink_call *call, const struct fact_client *c)
{
	if (c->destroyed_on || c->destroying) {
		varlink_errorf(call, "Destroyed", NULL, "%s is destroyed", c->client);
		return false;
	}
	if (facts_client_state(c, keyd_now()) == CLIENT_ACTIVE) {
		varlink_errorf(call, "NotSuspended", "coffer suspend CLIENT --reason ...",
			"%s is in use: suspend it first, so that what is handed over is all of it", c->client);
		return false;
	}
	for (const struct session *s = k->sessions; s; s = s->next)
		if (strcmp(s->client, c->client) == 0) {
			varlink_errorf(call, "Unavailable", "`coffer sessions` shows them", "%s has open sessions", c->client);
			return false;
		}
	return true;
}

static json_t *inventory(const struct fact_client *c, const char *to, const char *sealed_hash, json_t *store)
{
	char now[DATE_TEXT_MAX];

	return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:O}", "version", 1, "kind", "transfer", "client",
		c->client, "client_id", c->hex, "name", c->name, "email", c->email, "ended_on", (json_int_t)c->ended_on,
		"made_at", date_format(keyd_now(), now), "to", to, "sealed_hash", sealed_hash, "store", store);
}

/* Ends the transaction whose facts went with r. */
static int record(struct keyd *k, struct varlink_call *call, int r, const char *kind, const char *client, json_t *detail)
{
	struct outbox_entry e = {.kind = kind, .by = actor_of(call), .client = client, .detail = detail};

	return outbox_record_with(k, r, &e);
}

/* Steals inv. */
static int reply_bundle(struct keyd *k, struct varlink_call *call, json_t *inv, const uint8_t *sealed, size_t n)
{
	scoped(freep) char *text = json_dumps(inv, JSON_SORT_KEYS | JSON_COMPACT);
	char signature_hex[2 * SIGNATURE_BYTES + 1], public_hex[2 * PUBLIC_KEY_BYTES + 1];
	size_t size = sodium_base64_ENCODED_LEN(n, sodium_base64_VARIANT_ORIGINAL);
	uint8_t signature[SIGNATURE_BYTES], public[PUBLIC_KEY_BYTES];
	scoped(freep) char *base64 = malloc(size);

	if (!text || !base64 || keyring_sign(k->ring, TRANSFER_CONTEXT, text, strlen(text), signature) < 0) {
		json_decref(inv);
		return -ENOMEM;
	}
	keyring_public_key(k->ring, public);
	sodium_bin2hex(signature_hex, sizeof(signature_hex), signature, sizeof(signature));
	sodium_bin2hex(public_hex, sizeof(public_hex), public, sizeof(public));
	sodium_bin2base64(base64, size, sealed, n, sodium_base64_VARIANT_ORIGINAL);
	return varlink_reply(call, json_pack("{s:o, s:s, s:s, s:s}", "inventory", inv, "signature", signature_hex, "public_key",
					   public_hex, "sealed", base64));
}

int keyd_transfer(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(freep) uint8_t *sealed = NULL;
	uint8_t to[TRANSFER_KEY_BYTES];
	struct keys_error err = {0};
	struct keyd *k = userdata;
	const char *client, *to_hex;
	char hash[2 * HASH_BYTES + 1];
	struct fact_client c;
	struct client_id id;
	json_t *store;
	size_t n;
	int r;

	if (!params_unpack(call, params, "{s:s, s:s, s:o}", "client", &client, "to", &to_hex, "store", &store) ||
		!params_client(k, call, client, &c) || !may_transfer(k, call, &c))
		return 0;
	if (!from_hex(to_hex, to, sizeof(to)) || !json_is_object(store))
		return varlink_error(call, "InvalidParameter", "the successor's key is 64 hex digits",
			"he prints it with: coffer transfer-key");
	if (!from_hex(c.hex, id.b, sizeof(id.b)))
		return -EINVAL;
	r = seal_tree(k, &id, to, &sealed, &n, &err);
	if (r < 0)
		return varlink_errorf(call, "Failed", NULL, "the keys of %s cannot be sealed: %s", c.client,
			*err.text ? err.text : strerror(-r));
	hash_hex(sealed, n, hash);
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_transfer_add(k->facts, c.row, to_hex, hash, actor_of(call), keyd_now());
	r = record(k, call, r, "transfer", c.client,
		json_pack("{s:s, s:s, s:O}", "to", to_hex, "sealed_hash", hash, "store", store));
	if (r < 0)
		return reply_failure(k, call, r, "the transfer cannot be recorded");
	return reply_bundle(k, call, inventory(&c, to_hex, hash, store), sealed, n);
}

/* ---- he has it: ours goes ---- */

#define DAY_SECONDS 86400

static bool may_finish(struct keyd *k, struct varlink_call *call, const struct fact_client *c)
{
	bool used = true;

	if (!may_transfer(k, call, c))
		return false;
	if (!c->handed_over_at)
		varlink_errorf(call, "NotTransferred", "coffer transfer CLIENT --to KEY --out DIR", "%s was not handed over", c->client);
	else if (facts_transfer_is_old(k->facts, c->row, &used) < 0 || used)
		varlink_errorf(call, "NotTransferred", "hand it over again: coffer transfer CLIENT --to KEY --out DIR",
			"%s was used after it was handed over: the successor has not all of it", c->client);
	else if (c->held || c->held_partly)
		varlink_errorf(call, "Held", "`coffer hold list` shows them; a custodian lifts them",
			"there is a hold on %s, or on something of it: it is not destroyed", c->client);
	else if (k->clock.unconfirmed)
		varlink_errorf(call, "ClockUnconfirmed", "if it is right now: `coffer clock confirm`",
			"the clock is not trusted (%s): nothing is destroyed", k->clock.reason);
	else if (k->shred_unfinished)
		varlink_error(call, "Unavailable", "an earlier destruction is not finished", "`coffer status` says why");
	else
		return true;
	return false;
}

/* The relationship has ended, and no rule keeps it here. */
static int put_finished(struct keyd *k, struct varlink_call *call, const struct fact_client *c, int64_t now)
{
	struct actor by = actor_of(call);
	int r = facts_begin(k->facts);

	if (r == 0)
		r = facts_transfer_finish(k->facts, c->row, by, now);
	if (r == 0 && !c->ended_on)
		r = facts_client_end(k->facts, c->row, now - now % DAY_SECONDS, by, now);
	return record(k, call, r, "transfer-finish", c->client, json_pack("{s:s}", "to", c->successor));
}

static int begin_waiting(struct keyd *k, struct fact_client *c, int64_t now)
{
	struct expiry_answer a;
	int r = facts_client(k->facts, c->client, FACTS_LATEST, c);

	if (r < 0 || c->waiting)
		return r;
	r = expiry_judge(k->policy, c, now, &a);
	if (r == 0)
		r = expiry_notify(k, c, &a);
	return r < 0 ? r : facts_client(k->facts, c->client, FACTS_LATEST, c);
}

/* As `expiry schedule` for today by one custodian, and `expiry confirm` by the other. */
static int hasten(struct keyd *k, struct varlink_call *call, const struct fact_client *c, const struct fact_transfer_ask *a, int64_t now)
{
	const struct actor asker = {.user = a->asked_by, .uid = a->asked_uid};
	int64_t today = now - now % DAY_SECONDS;
	char reason[FACT_TEXT_MAX];
	struct fact_schedule s;
	int r;

	if (c->wait_until <= today)
		return 0;
	snprintf(reason, sizeof(reason), "transferred to %s", c->successor);
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_notice_schedule(k->facts, c->waiting, today, reason, asker, a->asked_at);
	if (r == 0)
		r = facts_notice_scheduled(k->facts, c->waiting, &s);
	if (r == 0)
		r = facts_notice_confirm(k->facts, s.row, person_of_call(call), now);
	return record(k, call, r, "expiry-confirm", c->client,
		json_pack("{s:I, s:I, s:s, s:s, s:b}", "notice", (json_int_t)c->waiting, "until", (json_int_t)today, "asked_by",
			a->asked_by, "reason", reason, "separation", !person_is_alone(k, varlink_call_peer(call))));
}

/* One custodian says that the successor has it.  Nothing begins by that. */
static int ask(struct keyd *k, struct varlink_call *call, const struct fact_client *c, struct fact_transfer_ask *ret)
{
	struct actor by = person_of_call(call);
	int r = facts_transfer_asked(k->facts, c->row, ret);

	if (r != -ENOENT)
		return r;
	*ret = (struct fact_transfer_ask){.asked_at = keyd_now(), .asked_uid = by.uid};
	snprintf(ret->asked_by, sizeof(ret->asked_by), "%s", by.user);
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_transfer_ask(k->facts, c->row, by, ret->asked_at);
	return record(k, call, r, "transfer-ask", c->client, json_pack("{s:s}", "to", c->successor));
}

static bool may_confirm(struct keyd *k, struct varlink_call *call, const struct fact_client *c, struct fact_transfer_ask *ret)
{
	int r = facts_transfer_asked(k->facts, c->row, ret);

	if (r == -ENOENT)
		varlink_errorf(call, "NotScheduled", "first `coffer transfer CLIENT --finish`, then another custodian confirms",
			"nobody said yet that the successor has %s", c->client);
	else if (r < 0)
		reply_failure(k, call, r, "what was asked for cannot be read");
	else if (!person_is_alone(k, varlink_call_peer(call)) &&
		 person_is(varlink_call_peer(call), ret->asked_by, ret->asked_uid))
		varlink_errorf(call, "OwnRequest", "another custodian must confirm it",
			"%s asked for it himself: it takes two different custodians", ret->asked_by);
	else
		return true;
	return false;
}

static int end_ours(struct keyd *k, struct varlink_call *call, struct fact_client *c, const struct fact_transfer_ask *a)
{
	int64_t now = keyd_now();
	int r = put_finished(k, call, c, now);

	if (r == 0)
		r = begin_waiting(k, c, now);
	if (r == 0)
		r = hasten(k, call, c, a, now);
	if (r == 0)
		expiry_now(k);
	return r < 0 ? r : facts_client(k->facts, c->client, FACTS_LATEST, c);
}

int keyd_transfer_finish(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	bool alone = person_is_alone(k, varlink_call_peer(call));
	struct fact_transfer_ask a;
	struct fact_client c;
	const char *client;
	int confirm = 0, r = 0;

	if (!params_unpack(call, params, "{s:s, s?b}", "client", &client, "confirm", &confirm) ||
		!params_client(k, call, client, &c) || !may_finish(k, call, &c) ||
		(confirm && !may_confirm(k, call, &c, &a)))
		return 0;
	if (!confirm)
		r = ask(k, call, &c, &a);
	if (r == 0 && (confirm || alone))
		r = end_ours(k, call, &c, &a);
	if (r < 0)
		return reply_failure(k, call, r, "the end of the transfer is not kept");
	return varlink_reply(call, json_pack("{s:b, s:b, s:s, s:s}", "destroyed", c.destroyed_on != 0, "confirm", !confirm && !alone,
					   "asked_by", a.asked_by, "to", c.successor));
}

/* ---- another's to us ---- */

struct bundle {
	json_t *inventory;
	const char *signature, *public_key, *sealed;
	const char *client, *hex, *name, *email, *hash;
	json_int_t ended_on;
};

/* A signature says who wrote it, not that it will do: the texts go into file names, mount options and letters. */
static bool texts_will_do(const struct bundle *b)
{
	return client_name_is_good(b->client) && strlen(b->hex) == CLIENT_ID_HEX - 1 &&
	       strspn(b->hex, "0123456789abcdef") == CLIENT_ID_HEX - 1 && *b->name && strlen(b->name) < FACT_TEXT_MAX &&
	       strlen(b->email) < FACT_TEXT_MAX;
}

static bool is_genuine(const struct bundle *b)
{
	scoped(freep) char *text = json_dumps(b->inventory, JSON_SORT_KEYS | JSON_COMPACT);
	uint8_t signature[SIGNATURE_BYTES], public[PUBLIC_KEY_BYTES];

	return text && from_hex(b->signature, signature, sizeof(signature)) &&
	       from_hex(b->public_key, public, sizeof(public)) &&
	       keyring_signature_check(public, TRANSFER_CONTEXT, text, strlen(text), signature) == 0;
}

/* -EBADMSG: altered.  -EKEYREJECTED: sealed to somebody else. */
static int open_tree(const struct keyd *k, const struct bundle *b, const struct client_id *id, struct keytree **ret)
{
	scoped(key32_wipe) struct key32 secret = {0};
	scoped(secret_freep) uint8_t *plain = NULL;
	size_t max = strlen(b->sealed), n = 0;
	scoped(freep) uint8_t *sealed = malloc(max + 1);
	char hash[2 * HASH_BYTES + 1];
	uint8_t public[TRANSFER_KEY_BYTES];

	if (!sealed)
		return -ENOMEM;
	if (max > SEALED_MAX ||
		sodium_base642bin(sealed, max, b->sealed, max, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) < 0 ||
		n <= CLIENT_ID_BYTES + crypto_box_SEALBYTES)
		return -EBADMSG;
	hash_hex(sealed, n, hash);
	if (strcmp(hash, b->hash) != 0)
		return -EBADMSG;
	plain = secret_alloc(n - crypto_box_SEALBYTES);
	if (!plain)
		return -ENOMEM;
	keyring_transfer_key(k->ring, public, &secret);
	if (crypto_box_seal_open(plain, sealed, n, public, secret.b) < 0)
		return -EKEYREJECTED;
	if (memcmp(plain, id->b, CLIENT_ID_BYTES) != 0)
		return -EBADMSG;
	return keytree_parse(plain + CLIENT_ID_BYTES, n - crypto_box_SEALBYTES - CLIENT_ID_BYTES, ret);
}

static int add_facts(struct keyd *k, struct varlink_call *call, const struct bundle *b)
{
	struct outbox_entry e = {.kind = "adopt", .by = actor_of(call), .client = b->client};
	struct fact_client c;
	int r = facts_begin(k->facts);

	e.detail = json_pack("{s:s, s:s, s:s}", "client_id", b->hex, "from", b->public_key, "sealed_hash", b->hash);
	if (r == 0)
		r = facts_client_add(k->facts, b->client, b->hex, b->name, b->email, e.by, keyd_now());
	if (r == 0)
		r = terms_engage(k, b->client, NULL, e.by);
	if (r == 0)
		r = facts_client(k->facts, b->client, FACTS_LATEST, &c);
	if (r == 0)
		r = facts_book_doubt(k->facts, c.row); /* what the other gave out, nobody knows here */
	if (r == 0 && b->ended_on > 0)
		r = facts_client_end(k->facts, c.row, b->ended_on, e.by, keyd_now());
	return outbox_record_with(k, r, &e);
}

static int adopt(struct keyd *k, struct varlink_call *call, const struct bundle *b)
{
	scoped(keytree_freep) struct keytree *tree = NULL;
	scoped(close_fdp) int folder = -1;
	struct keys_error err = {0};
	struct fact_client known;
	struct client_id id;
	char path[64];
	int r;

	if (!is_genuine(b) || !from_hex(b->hex, id.b, sizeof(id.b)))
		return varlink_error(call, "BundleDamaged", "the bundle is not as it was signed", NULL);
	if (facts_client(k->facts, b->client, FACTS_LATEST, &known) == 0 || keyring_has(k->ring, &id))
		return varlink_errorf(call, "ClientExists", NULL, "there is a client %s, or one of that id, already", b->client);
	snprintf(path, sizeof(path), "store/%s", b->hex);
	folder = statedir_open(&k->dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (folder < 0)
		return varlink_errorf(call, "NoSuchPath", NULL, "%s: %s; its ciphertext comes first", path, strerror(-folder));
	r = open_tree(k, b, &id, &tree);
	if (r == -EKEYREJECTED)
		return varlink_error(call, "NotForUs", "it is sealed to another installation's key", NULL);
	if (r == 0)
		r = keyring_adopt(k->ring, &id, tree, &err);
	if (r == 0)
		r = add_facts(k, call, b);
	if (r < 0)
		return varlink_errorf(call, r == -EBADMSG ? "BundleDamaged" : "Failed", NULL, "%s is not taken over: %s", b->client,
			*err.text ? err.text : strerror(-r));
	return varlink_reply(call, json_pack("{s:s}", "client_id", b->hex));
}

int keyd_adopt(struct varlink_call *call, json_t *params, void *userdata)
{
	struct bundle b = {0};
	const char *kind;

	if (!params_unpack(call, params, "{s:o, s:s, s:s, s:s}", "inventory", &b.inventory, "signature", &b.signature,
		    "public_key", &b.public_key, "sealed", &b.sealed))
		return 0;
	if (json_unpack(b.inventory, "{s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "kind", &kind, "client", &b.client, "client_id",
		    &b.hex, "name", &b.name, "email", &b.email, "sealed_hash", &b.hash, "ended_on", &b.ended_on) < 0 ||
		strcmp(kind, "transfer") != 0)
		return varlink_error(call, "BundleDamaged", "this is no bundle", NULL);
	if (!texts_will_do(&b))
		return varlink_error(call, "BundleDamaged", "the client's name, id or address in it could not be a client's here",
			"ask the sender for another bundle");
	return adopt(userdata, call, &b);
}
