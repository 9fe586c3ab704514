#include "fs/worker/told.h"

#include <errno.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BITS (1u << 19)
#define WORDS (BITS / 64)

struct told {
	_Atomic uint64_t word[WORDS];
};

int told_new(struct told **ret)
{
	struct told *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	*ret = t;
	return 0;
}

void told_free(struct told *t)
{
	free(t);
}

/* Two places from one hash.  Who finds names that collide only has himself told too much: so no secret key. */
static void places(uint64_t dir, const char *name, uint32_t at[2])
{
	unsigned char key[crypto_shorthash_KEYBYTES] = {0};
	uint64_t h;

	_Static_assert(sizeof(h) == crypto_shorthash_BYTES, "one word");
	memcpy(key, &dir, sizeof(dir));
	crypto_shorthash((unsigned char *)&h, (const unsigned char *)name, strlen(name), key);
	at[0] = (uint32_t)h % BITS;
	at[1] = (uint32_t)(h >> 32) % BITS;
}

void told_add(struct told *t, uint64_t dir, const char *name)
{
	uint32_t at[2];

	places(dir, name, at);
	for (int k = 0; k < 2; k++)
		atomic_fetch_or(&t->word[at[k] / 64], UINT64_C(1) << at[k] % 64);
}

bool told_has(const struct told *t, uint64_t dir, const char *name)
{
	uint32_t at[2];
	bool all = true;

	places(dir, name, at);
	for (int k = 0; k < 2; k++)
		all &= atomic_load(&t->word[at[k] / 64]) >> at[k] % 64 & 1;
	return all;
}
