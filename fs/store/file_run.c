/* Nonces, and long runs of whole sectors, which several threads seal and open. */
#include <errno.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <time.h>

#include "fs/store/aes_gcm.h"
#include "fs/store/file_impl.h"

#define NONCE_SECTORS (1u << 20)
#define NONCE_SECONDS 60

void file_next_nonce(struct file *f)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (f->nonce_left == 0 || now.tv_sec >= f->nonce_until) {
		version_salt(f->key, f->nonce.salt, &f->nonce_time);
		f->nonce.counter = 0;
		f->nonce_left = NONCE_SECTORS;
		f->nonce_until = now.tv_sec + NONCE_SECONDS;
	}
	f->nonce_left--;
	f->nonce.counter++;
}

#define RUN_PIECE 16u /* sectors claimed at once */

struct run {
	struct cipher_file cipher;
	struct cipher_nonce nonce;	/* sealing: the first sector's */
	uint64_t index;
	size_t count;
	const uint8_t *in;
	uint8_t *out;
	atomic_int error;
};

static void seal_piece(void *arg, size_t piece)
{
	struct run *run = arg;
	size_t end = (piece + 1) * RUN_PIECE;

	for (size_t k = piece * RUN_PIECE; k < end && k < run->count; k++) {
		struct cipher_nonce nonce = run->nonce;
		int r;

		nonce.counter += k;
		r = sector_seal(&run->cipher, &nonce, run->index + k, run->in + k * SECTOR_DATA, SECTOR_DATA,
			run->out + k * SECTOR_BYTES);
		if (r < 0)
			atomic_store(&run->error, r);
	}
}

/* A hole or damage is left to the caller, who does it again one by one and says what is wrong. */
static void open_piece(void *arg, size_t piece)
{
	struct run *run = arg;
	size_t end = (piece + 1) * RUN_PIECE, n;

	for (size_t k = piece * RUN_PIECE; k < end && k < run->count; k++) {
		const uint8_t *in = run->in + k * SECTOR_BYTES;
		int r = sector_is_hole(in) ? -ENODATA
					   : sector_open(&run->cipher, run->index + k, in, run->out + k * SECTOR_DATA, &n);

		if (r < 0) {
			atomic_store(&run->error, r);
			return;
		}
	}
}

static int run_all(struct file *f, struct run *run, void (*piece)(void *arg, size_t i))
{
	/* A tenth more of a stream read than with the crew, whose waking and waiting costs more than it takes over. */
	bool alone = run->cipher.suite == CIPHER_AES_256_GCM && aes_gcm_is_fast();

	crew_run(alone ? NULL : f->store->crew, piece, run, (run->count + RUN_PIECE - 1) / RUN_PIECE);
	return atomic_load(&run->error);
}

/* As file_next_nonce, for n sectors in a row. */
static void next_nonces(struct file *f, uint32_t n, struct cipher_nonce *ret)
{
	if (f->nonce_left < n)
		f->nonce_left = 0;
	file_next_nonce(f);
	*ret = f->nonce;
	f->nonce.counter += n - 1;
	f->nonce_left -= n - 1;
}

int file_seal_run(struct file *f, uint64_t index, const uint8_t *data, size_t count, uint8_t *out)
{
	struct run run = {.cipher = file_cipher(f), .index = index, .count = count, .in = data, .out = out};

	next_nonces(f, (uint32_t)count, &run.nonce);
	return run_all(f, &run, seal_piece);
}

bool file_open_run(struct file *f, uint64_t index, const uint8_t *in, size_t count, uint8_t *out)
{
	struct run run = {.cipher = file_cipher(f), .index = index, .count = count, .in = in, .out = out};

	return run_all(f, &run, open_piece) == 0;
}
