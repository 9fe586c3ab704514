/* Runs a fuzz target without libFuzzer: the files given, then inputs made from them (or from nothing) by a generator
 * with a fixed seed.  What it cannot see is coverage: tests/fuzz/run has that. */
#include "tests/fuzz/fuzz.h"

#include <time.h>

#define INPUT_MAX 4096

static uint64_t state = 1;

static uint32_t next_random(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33);
}

struct input {
	uint8_t bytes[INPUT_MAX];
	size_t n;
};

static int load(const char *path, struct input *in)
{
	FILE *f = fopen(path, "rb");

	if (!f)
		return -1;
	in->n = fread(in->bytes, 1, sizeof(in->bytes), f);
	fclose(f);
	return 0;
}

static void mutate(struct input *in)
{
	if (in->n == 0 || next_random() % 4 == 0) {
		in->n = next_random() % 1024;
		for (size_t k = 0; k < in->n; k++)
			in->bytes[k] = (uint8_t)next_random();
		return;
	}
	for (unsigned times = 1 + next_random() % 8; times > 0; times--) {
		size_t at = next_random() % in->n;

		switch (next_random() % 4) {
		case 0:
			in->bytes[at] ^= (uint8_t)(1u << next_random() % 8);
			break;
		case 1:
			in->bytes[at] = (uint8_t)next_random();
			break;
		case 2:
			in->n = at + 1;
			break;
		default:
			if (in->n < INPUT_MAX) {
				memmove(in->bytes + at + 1, in->bytes + at, in->n - at);
				in->n++;
			}
		}
	}
}

int main(int argc, char **argv)
{
	const char *text = getenv("COFFER_FUZZ_SECONDS");
	struct timespec now, end;
	unsigned long runs = 0;
	struct input in;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += text ? atoi(text) : 3;
	for (int k = 1; k < argc; k++, runs++) {
		fuzz_check(load(argv[k], &in) == 0);
		LLVMFuzzerTestOneInput(in.bytes, in.n);
	}
	do {
		in.n = 0;
		if (argc > 1)
			load(argv[1 + next_random() % (unsigned)(argc - 1)], &in);
		mutate(&in);
		LLVMFuzzerTestOneInput(in.bytes, in.n);
		runs++;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec);
	printf("%lu inputs\n", runs);
	return 0;
}
