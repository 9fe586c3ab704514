#include "fs/store/version.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/bytes.h"

#define RANDOM_BYTES 8

static const uint8_t personal[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-file-time";

/* BLAKE2b has 128 bits of output at least: the first half is used. */
static uint64_t mask(const struct key32 *content, const uint8_t random[RANDOM_BYTES])
{
	uint8_t out[crypto_generichash_blake2b_BYTES_MIN];
	struct bytes_reader r;

	crypto_generichash_blake2b_salt_personal(
		out, sizeof(out), random, RANDOM_BYTES, content->b, sizeof(content->b), NULL, personal);
	bytes_reader_init(&r, out, sizeof(out));
	return bytes_get_u64(&r);
}

/* Later than any before it in this process, whatever the clock does. */
static uint64_t next_time(void)
{
	static _Atomic uint64_t last;
	uint64_t before = atomic_load(&last), now;
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	do {
		now = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
		if (now <= before)
			now = before + 1;
	} while (!atomic_compare_exchange_weak(&last, &before, now));
	return now;
}

void version_salt(const struct key32 *content, uint8_t salt[CIPHER_SALT_BYTES], uint64_t *ret_time)
{
	struct bytes_writer w;

	*ret_time = next_time();
	randombytes_buf(salt, RANDOM_BYTES);
	bytes_writer_init(&w, salt + RANDOM_BYTES, CIPHER_SALT_BYTES - RANDOM_BYTES);
	bytes_put_u64(&w, *ret_time ^ mask(content, salt));
}

uint64_t version_time(const struct key32 *content, const uint8_t salt[CIPHER_SALT_BYTES])
{
	struct bytes_reader r;

	bytes_reader_init(&r, salt + RANDOM_BYTES, CIPHER_SALT_BYTES - RANDOM_BYTES);
	return bytes_get_u64(&r) ^ mask(content, salt);
}

int version_compare(const struct version *a, const struct version *b)
{
	if (a->time != b->time)
		return a->time < b->time ? -1 : 1;
	return a->counter < b->counter ? -1 : a->counter > b->counter;
}

void version_format(const struct version *v, char text[VERSION_TEXT])
{
	snprintf(text, VERSION_TEXT, "v%016" PRIx64 ".%" PRIx64, v->time, v->counter & UINT32_MAX);
}

int version_parse(const char *text, struct version *ret)
{
	struct version v = {0};
	int n = 0;

	if (strcmp(text, VERSION_BARE) != 0 &&
		(sscanf(text, "v%16" SCNx64 ".%8" SCNx64 "%n", &v.time, &v.counter, &n) != 2 || text[n]))
		return -EINVAL;
	*ret = v;
	return 0;
}
