/* A backup that somebody made up or damaged: its manifest and its list of files are read, compared, refused.  The input: the
 * manifest, a zero byte, the list. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/backup_dir.h"
#include "tools/tool.h"

static char top[] = "/dev/shm/coffer-fuzz-backup-XXXXXX";

static void put_file(const char *name, const uint8_t *bytes, size_t n)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	fuzz_check(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
	close(fd);
}

static void remove_all(void)
{
	(void)remove_tree(top);
}

static void begin(void)
{
	static const char *const folders[] = {"store", "store/00112233445566778899aabbccddeeff", "keyd", "ledger"};
	char path[128];

	fuzz_check(mkdtemp(top));
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		snprintf(path, sizeof(path), "%s/%s", top, folders[i]);
		fuzz_check(mkdir(path, 0700) == 0);
	}
	put_file("keyd/signing.pub", (const uint8_t *)"x", 1);
	put_file("store/00112233445566778899aabbccddeeff/file", (const uint8_t *)"x", 1);
	fuzz_check(freopen("/dev/null", "w", stdout));
	atexit(remove_all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const uint8_t *border = memchr(data, 0, n);
	size_t first = border ? (size_t)(border - data) : n;
	json_t *manifest = NULL, *wrong = NULL;
	static bool begun;
	static int quiet;
	int kept;

	if (!begun) {
		begin();
		quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
	}
	begun = true;
	put_file(BACKUP_MANIFEST, data, first);
	put_file(BACKUP_FILES, border ? border + 1 : data, border ? n - first - 1 : 0);
	kept = dup(STDERR_FILENO); /* what is wrong is said to people */
	dup2(quiet, STDERR_FILENO);
	if (backup_check(top, NULL, &manifest, &wrong) == 0)
		fuzz_check(json_is_object(manifest) && json_is_array(wrong));
	dup2(kept, STDERR_FILENO);
	close(kept);
	json_decref(manifest);
	json_decref(wrong);
	return 0;
}
