/* Slots and keys in a TPM: swtpm's, which this test starts and ends; killing it is pulling the plug. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/slot_set_impl.h"
#include "keyd/tpm2.h"
#include "tests/unit/keys_fixture.h"
#include "tests/unit/slot_fixture.h"

#define INDEX 0x01800100

static const struct client_id alpha = {{0xaa}};
static const struct keyring_cut cut_alpha = {.client = {{0xaa}}, .whole = true};
static const struct slot_seal by_key = {.protection = SLOT_BY_KEY_FILE};

static struct {
	char top[64], state[96], where[SLOT_WHERE_BYTES], key_where[SLOT_WHERE_BYTES];
	int port;
	pid_t pid;
	int fd;
	struct slot_set *slots;
	struct keyring *ring;
	struct keys_error err;
} t;

/* ---- swtpm ---- */

static int bound(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Two in a row: swtpm's control channel is the next one. */
static int free_port(void)
{
	for (int i = 0; i < 200; i++) {
		int port = 20000 + (int)((getpid() * 7 + i * 2) % 40000), a = bound(port), b = bound(port + 1);

		if (a >= 0)
			close(a);
		if (b >= 0)
			close(b);
		if (a >= 0 && b >= 0)
			return port;
	}
	return -1;
}

static bool answers(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)t.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;

	close(fd);
	return yes;
}

static void plug(void)
{
	char state[112], server[64], control[64];

	(void)snprintf(state, sizeof(state), "dir=%s", t.state);
	(void)snprintf(server, sizeof(server), "type=tcp,port=%d,bindaddr=127.0.0.1", t.port);
	(void)snprintf(control, sizeof(control), "type=tcp,port=%d,bindaddr=127.0.0.1", t.port + 1);
	t.pid = fork();
	assert_true(t.pid >= 0);
	if (t.pid == 0) {
		execlp("swtpm", "swtpm", "socket", "--tpm2", "--tpmstate", state, "--server", server, "--ctrl", control, "--flags",
			"not-need-init,startup-clear", NULL);
		_exit(127);
	}
	for (int i = 0; i < 500 && !answers(); i++)
		usleep(20000);
	assert_true(answers());
}

static void unplug(void)
{
	if (t.pid <= 0)
		return;
	kill(t.pid, SIGKILL);
	waitpid(t.pid, NULL, 0);
	t.pid = 0;
}

/* ---- an installation ---- */

static int rotate(const struct keyring_cut *cuts, size_t n, enum shred_outcome *ret)
{
	const struct shred_job job = {.cuts = cuts, .count = n};
	int r;

	t.err.text[0] = '\0';
	r = shred_run(&job, t.slots, &t.ring, ret, &t.err);
	slot_set_plan_drop(t.slots);
	return r;
}

static int setup(void **state)
{
	char keyd[80];
	int top;

	memset(&t, 0, sizeof(t));
	top = folder_make(t.top, sizeof(t.top), "/tmp", "tpm");
	if (top < 0)
		return -1;
	close(top);
	(void)snprintf(t.state, sizeof(t.state), "%s/tpm", t.top);
	(void)snprintf(keyd, sizeof(keyd), "%s/keyd", t.top);
	if (mkdir(t.state, 0700) < 0 || mkdir(keyd, 0700) < 0)
		return -1;
	t.port = free_port();
	plug();
	(void)snprintf(t.where, sizeof(t.where), "0x%08x@swtpm:host=127.0.0.1,port=%d", INDEX, t.port);
	(void)snprintf(t.key_where, sizeof(t.key_where), "0x%08x@swtpm:host=127.0.0.1,port=%d", INDEX + 16, t.port);
	t.fd = open(keyd, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return keys_create(t.fd, (const struct client_id *const[]){&alpha, NULL}, &t.slots, &t.ring);
}

static int setup_slot(void **state)
{
	enum shred_outcome o;

	if (setup(state) < 0)
		return -1;
	if (slot_set_plan_add(t.slots, "chip", SLOT_TPM2, t.where, &by_key, &t.err) < 0) {
		print_error("%s\n", t.err.text);
		return -1;
	}
	return rotate(NULL, 0, &o);
}

static void close_all(void)
{
	keys_close(&t.slots, &t.ring);
}

static int teardown(void **state)
{
	close_all();
	unplug();
	close(t.fd);
	folder_remove(AT_FDCWD, t.top);
	return 0;
}

static int try_open(const char *passphrase, struct shred_opened *ret)
{
	int r;

	close_all();
	memset(ret, 0, sizeof(*ret));
	t.err.text[0] = '\0';
	r = slot_set_open(t.fd, passphrase, passphrase ? strlen(passphrase) : 0, &t.slots, &t.err);
	if (r == 0)
		r = shred_open(t.fd, t.slots, ret, &t.err);
	t.ring = ret->ring;
	return r;
}

static enum shred_found reopen(const char *warning)
{
	struct shred_opened o;

	if (try_open(NULL, &o) < 0)
		fail_msg("does not open: %s", t.err.text);
	if (warning ? !strstr(o.warning, warning) : *o.warning != '\0')
		fail_msg("warns: '%s'", o.warning);
	return o.found;
}

static enum slot_state chip_is(void)
{
	struct slot_view v;

	for (size_t i = 0; i < slot_set_count(t.slots); i++) {
		slot_set_view(t.slots, i, &v);
		if (strcmp(v.ref.name, "chip") == 0)
			return v.state;
	}
	fail();
	return SLOT_GONE;
}

static void says(const char *word)
{
	if (!strstr(t.err.text, word))
		fail_msg("'%s' does not say '%s'", t.err.text, word);
}

static bool lives(void)
{
	return keyring_has(t.ring, &alpha);
}

/* ---- the calls ---- */

static void test_nv(void **state)
{
	struct tpm2_place p, nowhere;
	uint8_t a[40], b[40], c[41];

	assert_int_equal(tpm2_place_parse(t.where, &p), 0);
	assert_int_equal(tpm2_place_parse("0x01800100", &nowhere), 0);
	assert_string_equal(nowhere.tcti, TPM2_DEFAULT_TCTI);
	assert_int_equal(tpm2_place_parse("0x81000000", &nowhere), -EINVAL);
	assert_int_equal(tpm2_place_parse("0x01800100@", &nowhere), -EINVAL);
	assert_int_equal(tpm2_place_parse("0x01800100@device:/dev/tpm0", &nowhere), 0);
	assert_int_equal(tpm2_place_parse("0x01800100@device:/dev/tpmrm1", &nowhere), 0);
	assert_int_equal(tpm2_place_parse("0x01800100@tabrmd", &nowhere), 0);
	assert_int_equal(tpm2_place_parse("0x01800100@device", &nowhere), -EINVAL);
	assert_int_equal(tpm2_place_parse("0x01800100@device:/dev/tpm/../sda", &nowhere), -EINVAL);
	assert_int_equal(tpm2_place_parse("0x01800100@device:/etc/passwd", &nowhere), -EINVAL);
	assert_int_equal(tpm2_place_parse("0x01800100@cmd:id", &nowhere), -EINVAL);
	assert_int_equal(tpm2_place_parse("0x01800100@/home/x/libevil.so:", &nowhere), -EINVAL);
	assert_int_equal(tpm2_place_parse("0x01800100@./swtpm:", &nowhere), -EINVAL);
	assert_int_equal(tpm2_place_parse("chip", &nowhere), -EINVAL);
	memset(a, 7, sizeof(a));
	assert_int_equal(tpm2_read(&p, 5, b, sizeof(b)), -ENOENT);
	assert_int_equal(tpm2_write(&p, 5, a, sizeof(a)), -ENOENT);
	assert_int_equal(tpm2_define(&p, 5, sizeof(a)), 0);
	assert_int_equal(tpm2_define(&p, 5, sizeof(a)), -EEXIST);
	assert_int_equal(tpm2_read(&p, 5, b, sizeof(b)), -ENODATA);
	assert_int_equal(tpm2_write(&p, 5, a, sizeof(a)), 0);
	assert_int_equal(tpm2_read(&p, 5, b, sizeof(b)), 0);
	assert_memory_equal(a, b, sizeof(a));
	assert_int_equal(tpm2_read(&p, 5, c, sizeof(c)), -EBADMSG);
	/* Not ORDERLY: it survives a loss of power that nobody announced. */
	unplug();
	assert_int_equal(tpm2_read(&p, 5, b, sizeof(b)), -ENXIO);
	plug();
	memset(b, 0, sizeof(b));
	assert_int_equal(tpm2_read(&p, 5, b, sizeof(b)), 0);
	assert_memory_equal(a, b, sizeof(a));
	assert_int_equal(tpm2_undefine(&p, 5), 0);
	assert_false(tpm2_exists(&p, 5));
}

/* How often the 32 bytes that are `masked` under 0x5a stand in this process's memory. */
static unsigned copies_of(const uint8_t masked[32])
{
	FILE *maps = fopen("/proc/self/maps", "re");
	scoped(close_fdp) int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	unsigned found = 0;
	char line[512];

	assert_true(maps && mem >= 0);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long long from, to;
		char mode[8];
		uint8_t *copy;
		ssize_t n;

		if (sscanf(line, "%llx-%llx %7s", &from, &to, mode) != 3 || mode[1] != 'w' || to - from > (64u << 20))
			continue;
		copy = malloc(to - from);
		n = copy ? pread(mem, copy, to - from, (off_t)from) : 0;
		for (ssize_t i = 0; i + 32 <= n; i++) {
			int k = 0;

			while (k < 32 && (copy[i + k] ^ 0x5a) == masked[k])
				k++;
			found += k == 32;
		}
		if (copy)
			memset(copy, 0, to - from);
		free(copy);
	}
	fclose(maps);
	return found;
}

/* The library's buffers, too: what a key in the chip was read or written through. */
static void test_nothing_is_left_in_memory(void **state)
{
	struct tpm2_place p;
	uint8_t key[32], masked[32];

	if (COFFER_SANITIZED)
		skip(); /* a sanitizer keeps what is freed from being used again, and so as it was */
	assert_int_equal(tpm2_place_parse(t.where, &p), 0);
	randombytes_buf(masked, sizeof(masked));
	assert_int_equal(tpm2_define(&p, 5, sizeof(key)), 0);
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = masked[i] ^ 0x5a;
	assert_int_equal(copies_of(masked), 1);
	assert_int_equal(tpm2_write(&p, 5, key, sizeof(key)), 0);
	sodium_memzero(key, sizeof(key));
	assert_int_equal(copies_of(masked), 0);
	assert_int_equal(tpm2_read(&p, 5, key, sizeof(key)), 0);
	assert_int_equal(copies_of(masked), 1);
	sodium_memzero(key, sizeof(key));
	assert_int_equal(copies_of(masked), 0);
}

/* ---- a slot in it ---- */

static void test_slot_opens_alone_and_forgets(void **state)
{
	struct tpm2_place p;
	uint8_t old[488], now[488];
	enum shred_outcome o;

	assert_int_equal(chip_is(), SLOT_OK);
	assert_int_equal(tpm2_place_parse(t.where, &p), 0);
	assert_int_equal(tpm2_read(&p, 0, old, sizeof(old)), 0);
	assert_int_equal(rotate(&cut_alpha, 1, &o), 0);
	assert_int_equal(o, SHRED_DESTROYED);
	assert_false(lives());
	for (unsigned half = 0; half < 2; half++) {
		assert_int_equal(tpm2_read(&p, half, now, sizeof(now)), 0);
		assert_memory_not_equal(now + 368, old + 368, 88);
	}
	unplug();
	plug();
	assert_int_equal(renameat(t.fd, "slot", t.fd, "lost"), 0);
	assert_int_equal(reopen(NULL), SHRED_FOUND_NOTHING);
	assert_int_equal(chip_is(), SLOT_OK);
	assert_false(lives());
}

static void test_chip_is_away(void **state)
{
	enum shred_outcome o;

	unplug();
	assert_int_equal(reopen(NULL), SHRED_FOUND_NOTHING);
	assert_int_equal(chip_is(), SLOT_AWAY);
	assert_int_not_equal(rotate(&cut_alpha, 1, &o), 0);
	assert_int_equal(o, SHRED_PENDING);
	says("waits for the slot chip");
	assert_int_equal(chip_is(), SLOT_MISSING);
	assert_int_equal(reopen("waits for the slot chip"), SHRED_FOUND_PENDING);
	plug();
	assert_int_equal(shred_finish(t.slots, t.ring, &t.err), 0);
	assert_int_equal(chip_is(), SLOT_OK);
	assert_false(lives());
}

static void test_removed(void **state)
{
	struct tpm2_place p;
	enum shred_outcome o;

	assert_int_equal(tpm2_place_parse(t.where, &p), 0);
	assert_true(tpm2_exists(&p, 0) && tpm2_exists(&p, 1) && tpm2_exists(&p, 2));
	assert_int_equal(slot_set_plan_remove(t.slots, "chip", false, 5, &t.err), 0);
	assert_int_equal(rotate(NULL, 0, &o), 0);
	assert_false(tpm2_exists(&p, 0) || tpm2_exists(&p, 1) || tpm2_exists(&p, 2));
	/* What somebody else keeps there is not touched. */
	assert_int_equal(tpm2_define(&p, 1, 10), 0);
	assert_int_equal(slot_set_plan_add(t.slots, "chip", SLOT_TPM2, t.where, &by_key, &t.err), -EEXIST);
	assert_true(tpm2_exists(&p, 1));
	assert_int_equal(slot_set_plan_add(t.slots, "chip", SLOT_TPM2, "nonsense", &by_key, &t.err), -EINVAL);
	assert_int_equal(slot_set_plan_add(t.slots, "chip", SLOT_TPM2, "0x01800200@swtpm:host=127.0.0.1,port=1", &by_key, &t.err),
		-ENXIO);
}

/* ---- every call to a medium fails, or the plug is pulled there ---- */

static struct {
	const struct slot_medium_ops *ops[2];
	int calls, at;
	bool goes_on; /* all that follow fail, too */
} fault;

static bool fails(void)
{
	int n = fault.calls++;

	return n == fault.at || (fault.goes_on && n > fault.at);
}

static const struct slot_medium_ops *real(const struct slot_medium *m)
{
	return fault.ops[*m->where != '\0'];
}

static int faulty_read(const struct slot_medium *m, unsigned half, uint8_t buf[SLOT_RECORD_BYTES])
{
	return fails() ? -EIO : real(m)->read(m, half, buf);
}

/* Fails before anything was written, or (each other call) after it was. */
static int faulty_write(const struct slot_medium *m, unsigned half, const uint8_t buf[SLOT_RECORD_BYTES])
{
	int r;

	if (!fails())
		return real(m)->write(m, half, buf);
	if (fault.at % 2)
		return -EIO;
	r = real(m)->write(m, half, buf);
	return r < 0 ? r : -EIO;
}

static struct slot_medium_ops faulty[2];

static void use_faults(int at, bool goes_on)
{
	fault.calls = 0;
	fault.at = at;
	fault.goes_on = goes_on;
	for (size_t i = 0; i < t.slots->count; i++) {
		struct slot_medium *m = &t.slots->members[i].pair.medium;
		bool chip = *m->where != '\0';

		fault.ops[chip] = m->ops;
		faulty[chip] = *m->ops;
		faulty[chip].read = faulty_read;
		faulty[chip].write = faulty_write;
		m->ops = &faulty[chip];
	}
}

static void no_faults(void)
{
	for (size_t i = 0; i < t.slots->count; i++) {
		struct slot_medium *m = &t.slots->members[i].pair.medium;

		m->ops = real(m);
	}
}

static void every_call(bool goes_on, bool restart)
{
	int at = 0;

	for (;; at++) {
		uint64_t generation = slot_set_generation(t.slots);
		struct shred_opened opened;
		enum shred_outcome o;
		int calls;

		use_faults(at, goes_on);
		(void)rotate(NULL, 0, &o);
		calls = fault.calls;
		no_faults();
		assert_true(o == SHRED_DESTROYED || o == SHRED_PENDING || o == SHRED_NOTHING || o == SHRED_UNKNOWN);
		if (restart || o == SHRED_UNKNOWN) {
			if (try_open(NULL, &opened) < 0)
				fail_msg("call %d: does not open: %s", at, t.err.text);
			if (*opened.warning)
				fail_msg("call %d: %s", at, opened.warning);
		} else if (o == SHRED_PENDING) {
			if (shred_finish(t.slots, t.ring, &t.err) < 0)
				fail_msg("call %d: %s", at, t.err.text);
		}
		/* What was said is so; both slots are sound, and each opens by itself. */
		assert_int_equal(slot_set_generation(t.slots), keyring_generation(t.ring));
		if (o != SHRED_UNKNOWN)
			assert_int_equal(slot_set_generation(t.slots), generation + (o != SHRED_NOTHING));
		if (chip_is() != SLOT_OK || !main_slot_is_settled(t.fd)) {
			/* What failed to be undone is undone by the next. */
			assert_int_equal(o, SHRED_NOTHING);
			assert_int_equal(rotate(NULL, 0, &o), 0);
		}
		assert_int_equal(chip_is(), SLOT_OK);
		assert_true(main_slot_is_settled(t.fd));
		assert_true(lives());
		if (calls <= at)
			break;
	}
	print_message("%d calls\n", at);
	assert_true(at > 20);
}

static void test_every_call_fails_once(void **state)
{
	every_call(false, false);
}

static void test_every_call_fails_once_and_it_restarts(void **state)
{
	every_call(false, true);
}

static void test_all_calls_fail_from_one_on(void **state)
{
	every_call(true, false);
}

static void test_all_calls_fail_from_one_on_and_it_restarts(void **state)
{
	every_call(true, true);
}

/* ---- a key in it ---- */

static void test_file_slot_sealed_by_the_chip(void **state)
{
	const struct slot_seal seal = {.protection = SLOT_BY_TPM, .locator = t.key_where};
	const struct slot_seal next = {.protection = SLOT_BY_PASSPHRASE, .text = "two", .n = 3, .kdf = WEAK};
	struct shred_opened opened;
	struct tpm2_place p;
	enum shred_outcome o;

	assert_int_equal(tpm2_place_parse(t.key_where, &p), 0);
	assert_int_equal(slot_set_plan_seal(t.slots, NULL, &seal, &t.err), 0);
	assert_int_equal(rotate(NULL, 0, &o), 0);
	assert_int_equal(faccessat(t.fd, "slot/root.key", F_OK, 0), -1);
	assert_int_equal(reopen(NULL), SHRED_FOUND_NOTHING);
	assert_true(lives());
	/* On another machine it does not open. */
	unplug();
	assert_int_equal(try_open(NULL, &opened), -ENOKEY);
	says("no TPM");
	plug();
	assert_int_equal(reopen(NULL), SHRED_FOUND_NOTHING);
	assert_int_equal(slot_set_plan_seal(t.slots, NULL, &seal, &t.err), -EEXIST);
	assert_true(tpm2_exists(&p, 0));
	assert_int_equal(slot_set_plan_seal(t.slots, NULL, &next, &t.err), 0);
	assert_int_equal(rotate(NULL, 0, &o), 0);
	assert_false(tpm2_exists(&p, 0));
	assert_int_equal(try_open(NULL, &opened), -ENOKEY);
	assert_int_equal(try_open("two", &opened), 0);
	assert_true(lives());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nv, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_left_in_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slot_opens_alone_and_forgets, setup_slot, teardown),
		cmocka_unit_test_setup_teardown(test_chip_is_away, setup_slot, teardown),
		cmocka_unit_test_setup_teardown(test_removed, setup_slot, teardown),
		cmocka_unit_test_setup_teardown(test_every_call_fails_once, setup_slot, teardown),
		cmocka_unit_test_setup_teardown(test_every_call_fails_once_and_it_restarts, setup_slot, teardown),
		cmocka_unit_test_setup_teardown(test_all_calls_fail_from_one_on, setup_slot, teardown),
		cmocka_unit_test_setup_teardown(test_all_calls_fail_from_one_on_and_it_restarts, setup_slot, teardown),
		cmocka_unit_test_setup_teardown(test_file_slot_sealed_by_the_chip, setup, teardown),
	};

	if (system("command -v swtpm > /dev/null") != 0) {
		fprintf(stderr, "swtpm is not installed\n");
		return 77; /* skipped */
	}
	return cmocka_run_group_tests(tests, keys_setup_all, keys_teardown_all);
}
