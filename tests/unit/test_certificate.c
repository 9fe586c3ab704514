/* Certificates: what they say, that they verify, and that any change shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/secret.h"
#include "keyd/certificate.h"
#include "tests/unit/folder.h"

struct fixture {
	char dir[32];
	int fd;
	struct keyring *ring;
	uint8_t key[PUBLIC_KEY_BYTES];
	json_t *certificate;
	char *text, signature[2 * SIGNATURE_BYTES + 1];
};

static const struct fact_client client = {
	.client = "acme",
	.hex = "00112233445566778899aabbccddeeff",
	.name = "Acme Ltd",
	.ended_on = 1700006400,
	.end_recorded_by = "ada",
};
static const struct fact_destruction destruction = {
	.due = 1707782400,
	.intent_at = 1707782405,
	.generation = 3,
	.rule = "relationship end + 90 days",
	.source = "HOW WE RETAIN",
};

static const struct policy policy = {
	.name = (char[]){"p"}, .version = (char[]){"1"}, .text_hash = (char[]){"aa"},
	.controller = (char[]){"Example Ltd, 1 High Street"}, .contact = (char[]){"privacy@example.org"}};
static const struct fact_head head = {.batch = 12, .signed_at = 1707782400, .hash = "abcd", .signature = "ef"};

static json_t *make(bool embedded)
{
	json_t *slots = json_pack("[{s:s, s:s, s:s, s:s, s:s}]", "name", "main", "kind", "file", "path", "keyd/slot/root.slot", "state",
		"forgotten", "assurance", "overwritten in place: best effort on SSDs");
	struct certificate_facts f = {
		.slots = slots,
		.client = &client,
		.destruction = &destruction,
		.destroyed_at = 1707782406,
		.policy = &policy,
		.embedded = embedded,
		.head = &head,
	};
	json_t *c = NULL;

	assert_int_equal(certificate_make(&f, &c), 0);
	json_decref(slots);
	return c;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct root_key r;
	struct keys_error err;

	randombytes_buf(&r, sizeof(r));
	f->fd = folder_make(f->dir, sizeof(f->dir), "/tmp", "certificate");
	if (mkdirat(f->fd, "keys", 0700) < 0 || mkdirat(f->fd, "certificates", 0700) < 0 ||
		keyring_create(f->fd, &r, &f->ring, &err) < 0)
		return -1;
	keyring_public_key(f->ring, f->key);
	f->certificate = make(true);
	if (certificate_sign(f->ring, f->certificate, &f->text, f->signature) < 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	folder_remove(AT_FDCWD, f->dir);
	keyring_free(f->ring);
	json_decref(f->certificate);
	free(f->text);
	free(f);
	return 0;
}

/* O3: whom to ask stands on it; and how far the record went, and where that was sent. */
static void test_o03_controller_and_head(void **state)
{
	struct fixture *f = *state;
	const char *controller = NULL, *contact = NULL, *signed_at = NULL, *anchor = NULL;
	json_int_t batch = 0;

	assert_int_equal(json_unpack(f->certificate, "{s:s, s:s, s:{s:I, s:s, s:[s]}}", "controller", &controller, "contact",
				 &contact, "ledger_head", "batch", &batch, "signed_at", &signed_at, "anchors", &anchor),
		0);
	assert_string_equal(controller, "Example Ltd, 1 High Street");
	assert_string_equal(contact, "privacy@example.org");
	assert_int_equal(batch, 12);
	assert_string_equal(signed_at, "2024-02-13T00:00:00Z");
	assert_non_null(strstr(anchor, "journal"));
	json_object_set_new(f->certificate, "contact", json_string("privacy@example.com"));
	assert_int_equal(certificate_check(f->key, f->certificate, f->signature), -EBADMSG);
}

static void test_good(void **state)
{
	struct fixture *f = *state;
	json_t *again = json_loads(f->text, 0, NULL);

	assert_int_equal(certificate_check(f->key, f->certificate, f->signature), 0);
	assert_int_equal(certificate_check(f->key, again, f->signature), 0); /* the text alone is enough */
	json_decref(again);
}

static void test_says_what_matters(void **state)
{
	json_t *installed = make(false);
	struct fixture *f = *state;

	assert_non_null(strstr(f->text, "\"due\":\"2024-02-13T00:00:00Z\""));
	assert_non_null(strstr(f->text, "relationship end + 90 days"));
	assert_non_null(strstr(f->text, "HOW WE RETAIN"));
	assert_non_null(strstr(f->text, "keyd/slot/root.slot"));
	assert_non_null(strstr(f->text, "best effort"));
	assert_non_null(strstr(f->text, "evidence against outsiders only"));
	assert_string_equal(json_string_value(json_object_get(installed, "mode")), "installed");
	json_decref(installed);
}

/* Every bit of the text: it does not parse, or it does not verify. */
static void test_every_bit_counts(void **state)
{
	struct fixture *f = *state;
	size_t n = strlen(f->text), parsed = 0;

	for (size_t bit = 0; bit < 8 * n; bit++) {
		json_t *bad;

		f->text[bit / 8] ^= (char)(1 << bit % 8);
		bad = json_loadb(f->text, n, 0, NULL);
		f->text[bit / 8] ^= (char)(1 << bit % 8);
		if (!bad)
			continue;
		parsed++;
		if (!json_equal(bad, f->certificate))
			assert_int_equal(certificate_check(f->key, bad, f->signature), -EBADMSG);
		json_decref(bad);
	}
	assert_true(parsed > n);
}

static void test_signature_bits_and_lengths(void **state)
{
	struct fixture *f = *state;
	char bad[sizeof(f->signature)];

	for (size_t i = 0; i < 2 * SIGNATURE_BYTES; i++) {
		memcpy(bad, f->signature, sizeof(bad));
		bad[i] = bad[i] == '0' ? '1' : '0';
		assert_int_equal(certificate_check(f->key, f->certificate, bad), -EBADMSG);
		bad[i] = '\0';
		assert_int_equal(certificate_check(f->key, f->certificate, bad), -EBADMSG);
	}
	assert_int_equal(certificate_check(f->key, f->certificate, "zz"), -EBADMSG);
}

static void test_other_key_and_context(void **state)
{
	struct fixture *f = *state;
	uint8_t other[PUBLIC_KEY_BYTES], signature[SIGNATURE_BYTES];
	char hex[2 * SIGNATURE_BYTES + 1];

	memcpy(other, f->key, sizeof(other));
	other[0] ^= 1;
	assert_int_equal(certificate_check(other, f->certificate, f->signature), -EBADMSG);
	/* A signed head of the ledger is no certificate, whatever it says. */
	assert_int_equal(keyring_sign(f->ring, "coffer-head", f->text, strlen(f->text), signature), 0);
	sodium_bin2hex(hex, sizeof(hex), signature, sizeof(signature));
	assert_int_equal(certificate_check(f->key, f->certificate, hex), -EBADMSG);
}

static void test_store(void **state)
{
	struct fixture *f = *state;
	const char *key_hex, *signature;
	json_t *o;
	char path[64];

	assert_int_equal(certificate_store(f->fd, "acme", f->certificate, f->signature, f->key), 0);
	snprintf(path, sizeof(path), "%s/certificates/acme.json", f->dir);
	o = json_load_file(path, 0, NULL);
	assert_non_null(o);
	signature = json_string_value(json_object_get(o, "signature"));
	key_hex = json_string_value(json_object_get(o, "public_key"));
	assert_int_equal(strlen(key_hex), 2 * PUBLIC_KEY_BYTES);
	assert_int_equal(certificate_check(f->key, json_object_get(o, "certificate"), signature), 0);
	json_decref(o);
}

static int start(void **state)
{
	return secret_init(1 << 20);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_good),
		T(test_says_what_matters),
		T(test_o03_controller_and_head),
		T(test_every_bit_counts),
		T(test_signature_bits_and_lengths),
		T(test_other_key_and_context),
		T(test_store),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
