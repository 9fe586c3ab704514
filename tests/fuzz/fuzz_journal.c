/* A worker that was broken into writes what it likes into its journal, where fsd reads: an error, or records that are well
 * formed, and an end. */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/journal.h"
#include "common/record.h"

#define BYTES (1u << 16)

static int template_fd = -1;
static uint8_t template[1 << 20];
static size_t template_n;

static void make_template(void)
{
	int dir = open("/dev/shm", O_RDONLY | O_DIRECTORY), kick = eventfd(0, 0);
	struct journal_writer *w;
	char name[64];

	snprintf(name, sizeof(name), "coffer-fuzz-%d", (int)getpid());
	fuzz_check(journal_create(dir, name, 1, "00112233445566778899aabbccddeeff", BYTES, &template_fd) == 0);
	unlinkat(dir, name, 0);
	fuzz_check(journal_writer_open(template_fd, kick, &w) == 0);
	for (unsigned k = 0; k < 40; k++) {
		struct record r = {.kind = RECORD_KIND_ACCESS, .access = {.session = 9, .op = RECORD_OPEN, .path = k}};
		uint8_t buf[RECORD_BYTES_MAX];
		int n = record_encode(&r, buf, sizeof(buf));

		fuzz_check(n > 0 && journal_append(w, buf, (size_t)n, 0) == 0);
	}
	journal_writer_close(w);
	close(kick);
	close(dir);
	template_n = (size_t)pread(template_fd, template, sizeof(template), 0);
}

/* Patches of (position, length, bytes) over a sound journal; perhaps cut. */
static int forge(struct fuzz_input *in)
{
	static uint8_t bytes[sizeof(template)];
	size_t n = template_n;
	int fd = memfd_create("journal", MFD_CLOEXEC);

	memcpy(bytes, template, template_n);
	if (fuzz_byte(in) % 16 == 1)
		n = fuzz_u64(in) % (template_n + 1);
	while (in->left > 0) {
		size_t at = (fuzz_byte(in) | (size_t)fuzz_byte(in) << 8 | (size_t)(fuzz_byte(in) % 2) << 16) % template_n;

		for (size_t len = fuzz_byte(in) % 32; len > 0 && at < template_n; len--)
			bytes[at++] = fuzz_byte(in);
	}
	fuzz_check(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct fuzz_input in = {data, n};
	struct journal_reader *r;
	uint8_t buf[RECORD_BYTES_MAX];
	struct record rec;
	uint64_t seq, last = 0;
	size_t got;
	int fd;

	if (template_fd < 0)
		make_template();
	record_decode(data, n < sizeof(buf) ? n : sizeof(buf), &rec);
	fd = forge(&in);
	if (journal_reader_open(fd, &r) < 0) {
		close(fd);
		return 0;
	}
	for (unsigned k = 0; k < 100000; k++) {
		int e = journal_reader_next(r, buf, sizeof(buf), &got, &seq);

		if (e <= 0)
			break;
		fuzz_check(k < 99999 && got <= sizeof(buf) && (k == 0 || seq == last + 1));
		last = seq;
		if (record_decode(buf, got, &rec) == 0 && rec.kind == RECORD_KIND_PATH)
			fuzz_check(rec.path.sealed >= buf && rec.path.sealed + rec.path.sealed_len <= buf + got);
	}
	journal_reader_release(r);
	journal_reader_free(r);
	return 0;
}
