/* A keyring with the slots main and usb, which can be unplugged; and its rotations, which can be stopped at each step. */
#ifndef COFFER_TESTS_SLOT_SET_FIXTURE_H
#define COFFER_TESTS_SLOT_SET_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/scope.h"
#include "keyd/disk.h"
#include "tests/unit/keys_fixture.h"
#include "tests/unit/slot_fixture.h"

static const struct client_id alpha = {{0xaa}}, stays = {{0xcc}};
static const struct leaf_index leaf = {16, 2500, 7};
static const struct keyring_cut cut_alpha = {.client = {{0xaa}}, .whole = true};
static const struct slot_seal by_key_file = {.protection = SLOT_BY_KEY_FILE};
static const struct slot_seal by_passphrase = {
	.protection = SLOT_BY_PASSPHRASE, .text = "two", .n = 3, .kdf = {1, SLOT_KDF_MEMORY_MIN}};

struct place {
	char top[64], keyd[80], usb[80], away[80];
	int fd;
	struct slot_set *slots;
	struct keyring *ring;
	struct key32 key_alpha, key_stays;
	const char *passphrase;
	enum shred_step stop_at, unplug_at;
	struct keys_error err;
};

static inline int rotate(struct place *p, enum shred_outcome *ret);

/* main by a key file and, with it, usb. */
static inline int make(struct place *p, const struct slot_seal *usb)
{
	enum shred_outcome o;

	if (keys_create(p->fd, (const struct client_id *const[]){&alpha, &stays, NULL}, &p->slots, &p->ring) < 0 ||
		key_of(p->ring, &alpha, leaf, &p->key_alpha) < 0 || key_of(p->ring, &stays, leaf, &p->key_stays) < 0)
		return -1;
	if (!usb)
		return 0;
	if (slot_set_plan_add(p->slots, "usb", SLOT_FILE, p->usb, usb, &p->err) < 0 || rotate(p, &o) < 0)
		return -1;
	return o == SHRED_DESTROYED ? 0 : -1;
}

static inline int make_place(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	int top;

	if (!p)
		return -1;
	*state = p;
	top = folder_make(p->top, sizeof(p->top), "/tmp", "slots");
	if (top < 0)
		return -1;
	close(top);
	(void)snprintf(p->keyd, sizeof(p->keyd), "%s/keyd", p->top);
	(void)snprintf(p->usb, sizeof(p->usb), "%s/usb", p->top);
	(void)snprintf(p->away, sizeof(p->away), "%s/away", p->top);
	if (mkdir(p->keyd, 0700) < 0)
		return -1;
	p->fd = open(p->keyd, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return p->fd < 0 ? -1 : 0;
}

static inline int setup(void **state)
{
	return make_place(state) < 0 ? -1 : make(*state, &by_key_file);
}

static inline int setup_single(void **state)
{
	return make_place(state) < 0 ? -1 : make(*state, NULL);
}

static inline int setup_locked(void **state)
{
	return make_place(state) < 0 ? -1 : make(*state, &by_passphrase);
}

static inline void close_all(struct place *p)
{
	keys_close(&p->slots, &p->ring);
}

static inline void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline void shell(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	assert_int_equal(system(command), 0);
}

static inline int teardown(void **state)
{
	struct place *p = *state;

	close_all(p);
	close(p->fd);
	folder_remove(AT_FDCWD, p->top);
	free(p);
	return 0;
}

static inline void unplug(const struct place *p)
{
	assert_int_equal(rename(p->usb, p->away), 0);
}

static inline void plug(const struct place *p)
{
	assert_int_equal(rename(p->away, p->usb), 0);
}

static inline int before(enum shred_step step, void *arg)
{
	struct place *p = arg;

	if (step == p->unplug_at)
		unplug(p);
	return step == p->stop_at ? -EINTR : 0;
}

static inline int run(struct place *p, const struct keyring_cut *cuts, size_t n, enum shred_outcome *ret)
{
	const struct shred_job job = {.cuts = cuts, .count = n, .before = before, .arg = p};

	p->err.text[0] = '\0';
	return shred_run(&job, p->slots, &p->ring, ret, &p->err);
}

static inline int rotate(struct place *p, enum shred_outcome *ret)
{
	int r = run(p, NULL, 0, ret);

	slot_set_plan_drop(p->slots);
	return r;
}

static inline int destroy(struct place *p, enum shred_outcome *ret)
{
	return run(p, &cut_alpha, 1, ret);
}

static inline int try_open(struct place *p, struct shred_opened *ret)
{
	int r;

	close_all(p);
	memset(ret, 0, sizeof(*ret));
	p->err.text[0] = '\0';
	r = slot_set_open(p->fd, p->passphrase, p->passphrase ? strlen(p->passphrase) : 0, &p->slots, &p->err);
	if (r < 0)
		return r;
	r = shred_open(p->fd, p->slots, ret, &p->err);
	p->ring = ret->ring;
	return r;
}

static inline enum shred_found reopen(struct place *p, const char *warning)
{
	struct shred_opened o;

	if (try_open(p, &o) < 0)
		fail_msg("does not open: %s", p->err.text);
	if (warning ? !strstr(o.warning, warning) : o.warning[0] != 0)
		fail_msg("warns: '%s'", o.warning);
	return o.found;
}

static inline void says(const struct place *p, const char *word)
{
	if (!strstr(p->err.text, word))
		fail_msg("'%s' does not say '%s'", p->err.text, word);
}

static inline bool lives(const struct place *p)
{
	struct key32 got;
	int r = key_of(p->ring, &alpha, leaf, &got);

	assert_true(r == 0 || r == -ENOKEY);
	assert_true(r < 0 || memcmp(&got, &p->key_alpha, sizeof(got)) == 0);
	assert_int_equal(key_of(p->ring, &stays, leaf, &got), 0);
	assert_memory_equal(&got, &p->key_stays, sizeof(got));
	return r == 0;
}

static inline struct slot_view view(const struct place *p, const char *name)
{
	struct slot_view v;

	for (size_t i = 0; i < slot_set_count(p->slots); i++) {
		slot_set_view(p->slots, i, &v);
		if (strcmp(v.ref.name, name) == 0)
			return v;
	}
	fail_msg("there is no slot %s", name);
	return v;
}

static inline void state_is(const struct place *p, const char *name, enum slot_state want)
{
	struct slot_view v = view(p, name);

	if (v.state != want)
		fail_msg("%s is %s, not %s: %s", name, slot_state_name(v.state), slot_state_name(want), v.text);
	assert_true((want == SLOT_OK) == (v.text[0] == 0));
}

static inline bool there(const struct place *p, const char *name)
{
	return faccessat(p->fd, name, F_OK, 0) == 0;
}

static inline void usb_raw(const struct place *p, const char *folder, uint8_t ret[2][SLOT_RECORD_BYTES])
{
	scoped(close_fdp) int fd = open(folder, O_RDONLY | O_DIRECTORY);

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(disk_read_block(fd, "root.slot", i, ret[i]), 0);
}

#define WITH(f, s) cmocka_unit_test_setup_teardown(f, s, teardown)

#endif
