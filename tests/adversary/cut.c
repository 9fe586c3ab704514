/* cut D: destroys what standard input names, on a stopped installation, by keyd/shred.h as coffer-keyd does.
 * One cut a line: CLIENT-ID PREFIX BITS (hex, hex, decimal), or CLIENT-ID alone for all of it. */
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/secret.h"
#include "keyd/shred.h"

#define CUTS_MAX 65536

static struct keyring_cut cuts[CUTS_MAX];

static size_t read_cuts(void)
{
	char line[256], hex[64];
	size_t n = 0, len;
	uint64_t prefix;
	unsigned bits;

	while (n < CUTS_MAX && fgets(line, sizeof(line), stdin)) {
		int got = sscanf(line, "%63s %" SCNx64 " %u", hex, &prefix, &bits);
		struct keyring_cut *c = &cuts[n];

		if ((got != 1 && got != 3) || sodium_hex2bin(c->client.b, sizeof(c->client.b), hex, strlen(hex), NULL,
						      &len, NULL) < 0) {
			fprintf(stderr, "not a cut: %s", line);
			exit(2);
		}
		c->whole = got == 1;
		c->prefix = got == 3 ? prefix : 0;
		c->bits = got == 3 ? bits : 0;
		n++;
	}
	return n;
}

int main(int argc, char **argv)
{
	struct shred_opened opened = {0};
	struct keys_error err = {0};
	enum shred_outcome outcome;
	struct slot_set *slot = NULL;
	struct shred_job job = {.cuts = cuts};
	char path[4096];
	int fd, r;

	if (argc != 2 || secret_init(6u << 20) < 0)
		return 2;
	snprintf(path, sizeof(path), "%s/keyd", argv[1]);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -1 : slot_set_open(fd, NULL, 0, &slot, &err);
	if (r == 0)
		r = shred_open(fd, slot, &opened, &err);
	if (r == 0) {
		job.count = read_cuts();
		r = shred_run(&job, slot, &opened.ring, &outcome, &err);
	}
	if (r < 0 || outcome != SHRED_DESTROYED) {
		fprintf(stderr, "%s: nothing was destroyed: %s\n", argv[1], err.text);
		return 1;
	}
	keyring_free(opened.ring);
	slot_set_close(slot);
	close(fd);
	return 0;
}
