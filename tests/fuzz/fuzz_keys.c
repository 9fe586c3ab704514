/* Forged slot records and ring files: refused, whatever is in them. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "keyd/ring_file.h"
#include "keyd/slot.h"

static void try_slot(struct fuzz_input *in)
{
	struct slot_head head = {.protection = SLOT_BY_KEY_FILE, .generation = 3, .sequence = 1}, got;
	struct key32 protector;
	struct root_key root, opened;
	uint8_t raw[SLOT_RECORD_BYTES];
	size_t at = fuzz_u64(in) % sizeof(raw);

	memset(&protector, 5, sizeof(protector));
	memset(&root, 6, sizeof(root));
	slot_record_seal(&head, &protector, &root, raw);
	for (; in->left > 0 && at < sizeof(raw); at++)
		raw[at] ^= fuzz_byte(in);
	slot_record_parse(raw, &got);
	if (slot_record_open(raw, &protector, &opened) == 0)
		fuzz_check(memcmp(&opened, &root, sizeof(root)) == 0);
}

static void try_ring(struct fuzz_input *in)
{
	char path[] = "/dev/shm/coffer-fuzz-XXXXXX", name[RING_NAME_MAX];
	struct keys_error err;
	struct root_key root;
	struct ring *ring;
	int dir, fd;

	memset(&root, 6, sizeof(root));
	fuzz_check(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(dir, ring_name(1, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	fuzz_check(fd >= 0 && write(fd, in->p, in->left) == (ssize_t)in->left);
	close(fd);
	fuzz_check(ring_read(dir, 1, &root, &ring, &err) < 0);
	unlinkat(dir, name, 0);
	close(dir);
	rmdir(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static bool begun;
	struct fuzz_input in = {data, n};

	if (!begun)
		fuzz_check(secret_init(4 << 20) == 0);
	begun = true;
	if (fuzz_byte(&in) % 4)
		try_slot(&in);
	else
		try_ring(&in);
	return 0;
}
