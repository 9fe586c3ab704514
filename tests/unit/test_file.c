/* Files against an array in memory: every operation, both suites, reopened now and then. */
#include "store_fixture.h"
#include "fs/store/version.h"

#include <linux/falloc.h>

#define SPACE 60000 /* about 15 sectors */

struct model {
	uint8_t b[SPACE];
	size_t size;
};

static uint64_t seed = 88172645463325252u;

static uint32_t next(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % below;
}

/* Places around the borders of sectors are where mistakes live. */
static size_t some_place(size_t below)
{
	size_t at = next(3) ? next((uint32_t)below) : next(15) * SECTOR_DATA + next(5);

	at = at >= 2 && next(2) ? at - 2 : at;
	return at < below ? at : below - 1;
}

static void expect_same(struct file *f, const struct model *m)
{
	static uint8_t buf[SPACE + 10];
	size_t off = m->size ? some_place(m->size) : 0, n = next(SPACE);
	size_t left = m->size - off;

	assert_int_equal(file_size(f), m->size);
	assert_int_equal(file_read(f, buf, sizeof(buf), 0), m->size);
	assert_memory_equal(buf, m->b, m->size);
	buf[n] = 0xa5;
	assert_int_equal(file_read(f, buf, n, off), n < left ? n : left);
	assert_memory_equal(buf, m->b + off, n < left ? n : left);
	assert_int_equal(buf[n], 0xa5);
	assert_int_equal(file_read(f, buf, 10, m->size), 0);
}

static void model_write(struct model *m, const uint8_t *data, size_t n, size_t off)
{
	memcpy(m->b + off, data, n);
	if (off + n > m->size)
		m->size = off + n;
}

static void model_truncate(struct model *m, size_t size)
{
	if (size < m->size)
		memset(m->b + size, 0, m->size - size);
	m->size = size;
}

static void one_write(struct file *f, struct model *m)
{
	static uint8_t data[SPACE];
	size_t off = some_place(SPACE - 1), n = 1 + next((uint32_t)(SPACE - off - 1));
	uint64_t at;

	if (next(2))
		n = 1 + n % 200;
	randombytes_buf(data, n);
	if (next(3) == 0 && m->size + n < SPACE) {
		assert_int_equal(file_append(f, data, n, &at), n);
		assert_int_equal(at, m->size);
		off = at;
	} else {
		assert_int_equal(file_write(f, data, n, off), n);
	}
	model_write(m, data, n, off);
}

static void one_allocation(struct file *f, struct model *m)
{
	static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
	int mode = modes[next(5)];
	size_t off = some_place(SPACE - 1), n = 1 + next((uint32_t)(SPACE - off - 1));

	assert_int_equal(file_allocate(f, mode, off, n), 0);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && off + n > m->size)
		m->size = off + n;
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) && off < m->size)
		memset(m->b + off, 0, off + n < m->size ? n : m->size - off);
}

static void reopen(struct fixture *x, struct file **f, const struct model *m)
{
	struct stat st;

	file_close(*f);
	if (next(2))
		fixture_reopen(x);
	assert_int_equal(store_lookup(x->root, "model", &st), 0);
	assert_int_equal(st.st_size, m->size);
	assert_int_equal(file_open(x->root, "model", f), 0);
}

static void test_model(void **state)
{
	static struct model m;
	struct fixture *x = *state;
	struct stat st;
	struct file *f;
	int i;

	memset(&m, 0, sizeof(m));
	assert_int_equal(file_create(x->root, "model", 0600, &f, &st), 0);
	for (i = 0; i < 4000; i++) {
		switch (next(8)) {
		case 0:
		case 1:
		case 2:
			one_write(f, &m);
			break;
		case 3: {
			size_t size = next(4) ? some_place(SPACE) : 0;

			assert_int_equal(file_truncate(f, size), 0);
			model_truncate(&m, size);
			break;
		}
		case 4:
			one_allocation(f, &m);
			break;
		case 5:
			reopen(x, &f, &m);
			break;
		case 6:
			assert_int_equal(next(20) ? file_flush(f) : file_sync(f, true), 0);
			break;
		default:
			break;
		}
		expect_same(f, &m);
	}
	file_close(f);
}

static void test_sizes(void **state)
{
	static uint8_t data[1100000], back[1100000];
	static const size_t sizes[] = {1, 15, 16, 4031, 4032, 4033, 8063, 8064, 8065, 12096, 130000, 1048576,
		1048577, 1064448, 1099999};
	struct fixture *x = *state;
	struct stat st;
	struct file *f;
	char name[32];
	size_t i;

	randombytes_buf(data, sizeof(data));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		snprintf(name, sizeof(name), "f%zu", sizes[i]);
		fixture_write_file(x, name, data, sizes[i]);
		assert_int_equal(store_lookup(x->root, name, &st), 0);
		assert_int_equal(st.st_size, sizes[i]);
		assert_int_equal(file_open(x->root, name, &f), 0);
		assert_int_equal(file_read(f, back, sizeof(back), 0), sizes[i]);
		assert_memory_equal(back, data, sizes[i]);
		file_close(f);
	}
}

/* Small appends, then what a program sees of the times. */
static void test_appends_and_times(void **state)
{
	const struct timespec then[2] = {{.tv_sec = 1000000}, {.tv_sec = 2000000, .tv_nsec = 5}};
	struct fixture *x = *state;
	uint8_t back[9000], line[90];
	struct stat st;
	struct file *f;
	uint64_t off;
	int i;

	memset(line, 'x', sizeof(line));
	assert_int_equal(file_create(x->root, "log", 0600, &f, &st), 0);
	for (i = 0; i < 100; i++)
		assert_int_equal(file_append(f, line, sizeof(line), &off), sizeof(line));
	assert_int_equal(off, 99 * sizeof(line));
	assert_int_equal(file_utimens(f, then), 0);
	file_close(f);
	assert_int_equal(store_lookup(x->root, "log", &st), 0);
	assert_int_equal(st.st_size, 9000);
	assert_int_equal(st.st_mtim.tv_sec, 2000000);
	assert_int_equal(st.st_mtim.tv_nsec, 5);
	assert_int_equal(file_open(x->root, "log", &f), 0);
	assert_int_equal(file_read(f, back, sizeof(back), 0), 9000);
	file_close(f);
}

static void test_seek(void **state)
{
	struct fixture *x = *state;
	struct stat st;
	struct file *f;

	assert_int_equal(file_create(x->root, "sparse", 0600, &f, &st), 0);
	assert_int_equal(file_write(f, "begin", 5, 0), 5);
	assert_int_equal(file_seek(f, 2, SEEK_DATA), 2);
	assert_int_equal(file_seek(f, 2, SEEK_HOLE), 5);
	assert_int_equal(file_write(f, "end", 3, 100 * SECTOR_DATA), 3);
	assert_int_equal(file_seek(f, 2, SEEK_HOLE), SECTOR_DATA);
	assert_int_equal(file_seek(f, SECTOR_DATA + 7, SEEK_DATA), 100 * SECTOR_DATA);
	assert_int_equal(file_seek(f, 100 * SECTOR_DATA + 1, SEEK_HOLE), 100 * SECTOR_DATA + 3);
	assert_int_equal(file_seek(f, 100 * SECTOR_DATA + 3, SEEK_DATA), -ENXIO);
	file_close(f);
	assert_int_equal(store_lookup(x->root, "sparse", &st), 0);
	assert_int_equal(st.st_size, 100 * SECTOR_DATA + 3);
	assert_true(st.st_blocks < 100);
}

static void test_refused(void **state)
{
	struct fixture *x = *state;
	struct file *f, *g;
	struct stat st;

	assert_int_equal(file_open(x->root, "none", &f), -ENOENT);
	assert_int_equal(file_create(x->root, "a/b", 0600, &f, &st), -EINVAL);
	assert_int_equal(file_create(x->root, "..", 0600, &f, &st), -EINVAL);
	assert_int_equal(file_create(x->root, "a", 0600, &f, &st), 0);
	assert_int_equal(file_create(x->root, "a", 0600, &g, &st), -EEXIST);
	assert_int_equal(file_write(f, "x", 1, UINT64_MAX - 5), -EFBIG);
	assert_int_equal(file_truncate(f, UINT64_MAX), -EFBIG);
	assert_int_equal(file_allocate(f, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	assert_int_equal(file_seek(f, 0, SEEK_SET), -EINVAL);
	assert_int_equal(file_size(f), 0);
	file_close(f);
	assert_int_equal(store_mkdir(x->root, "d", 0700, &st), 0);
	assert_int_equal(file_open(x->root, "d", &f), -EISDIR);
}

/* Where the backing of the one file called `name` is. */
static int backing_of(struct fixture *x, const char *name)
{
	char entry[256];
	int fd;

	(void)name;
	fixture_entry(x->fd, 0, entry);
	fd = openat(x->fd, entry, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int open_and_read(struct fixture *x, const char *name, void *buf, size_t n)
{
	struct file *f;
	ssize_t got;
	int r;

	r = file_open(x->root, name, &f);
	if (r < 0)
		return r;
	got = file_read(f, buf, n, 0);
	file_close(f);
	return (int)got;
}

/* A flipped byte anywhere that is not declared free gives an error, never other data. */
static void test_flips(void **state)
{
	static uint8_t data[2 * SECTOR_DATA + 300], back[3 * SECTOR_DATA];
	struct fixture *x = *state;
	off_t at, end = HEADER_BYTES + 3 * SECTOR_BYTES;
	uint8_t byte;
	int fd, r;

	randombytes_buf(data, sizeof(data));
	fixture_write_file(x, "victim", data, sizeof(data));
	fd = backing_of(x, "victim");
	for (at = 0; at < end; at += at < 200 || (at % 4096 < 100 && at > 4096) ? 1 : 37) {
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		r = open_and_read(x, "victim", back, sizeof(back));
		if (at >= 512 && at < 1024) /* the record that is not there yet: not a valid one either way */
			assert_int_equal(r, sizeof(data));
		else if (at >= 32 && at < 40) /* another leaf: its key does not open it */
			assert_true(r == -EBADMSG || r == -ENOKEY);
		else
			assert_int_equal(r, -EBADMSG);
		byte ^= 0x10;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	assert_int_equal(open_and_read(x, "victim", back, sizeof(back)), sizeof(data));
	assert_memory_equal(back, data, sizeof(data));
	close(fd);
}

static void test_swapped_sectors(void **state)
{
	static uint8_t data[3 * SECTOR_DATA], back[3 * SECTOR_DATA], a[SECTOR_BYTES], b[SECTOR_BYTES];
	struct fixture *x = *state;
	int fd;

	randombytes_buf(data, sizeof(data));
	fixture_write_file(x, "victim", data, sizeof(data));
	fd = backing_of(x, "victim");
	assert_int_equal(pread(fd, a, sizeof(a), HEADER_BYTES), sizeof(a));
	assert_int_equal(pread(fd, b, sizeof(b), HEADER_BYTES + SECTOR_BYTES), sizeof(b));
	assert_int_equal(pwrite(fd, b, sizeof(b), HEADER_BYTES), sizeof(b));
	assert_int_equal(pwrite(fd, a, sizeof(a), HEADER_BYTES + SECTOR_BYTES), sizeof(a));
	assert_int_equal(open_and_read(x, "victim", back, sizeof(back)), -EBADMSG);
	assert_string_equal(store_damage_word(), "sector");
	/* Zeros are no hole where none was made. */
	memset(a, 0, sizeof(a));
	assert_int_equal(pwrite(fd, a, sizeof(a), HEADER_BYTES), sizeof(a));
	assert_int_equal(open_and_read(x, "victim", back, sizeof(back)), -EBADMSG);
	close(fd);
}

/* What was synced cannot be cut off unnoticed; what was not may be gone after a crash. */
static void test_cut(void **state)
{
	static uint8_t data[3 * SECTOR_DATA + 5], back[4 * SECTOR_DATA];
	struct fixture *x = *state;
	struct stat st;
	struct file *f;
	int fd;

	randombytes_buf(data, sizeof(data));
	fixture_write_file(x, "f", data, sizeof(data));
	fd = backing_of(x, "f");
	assert_int_equal(ftruncate(fd, HEADER_BYTES + 3 * SECTOR_BYTES), 0);
	assert_int_equal(open_and_read(x, "f", back, sizeof(back)), 3 * SECTOR_DATA);
	assert_int_equal(file_open(x->root, "f", &f), 0);
	assert_int_equal(file_sync(f, false), 0);
	file_close(f);
	assert_int_equal(ftruncate(fd, HEADER_BYTES + 2 * SECTOR_BYTES), 0);
	assert_int_equal(open_and_read(x, "f", back, sizeof(back)), -EBADMSG);
	assert_string_equal(store_damage_word(), "size");
	assert_int_equal(store_lookup(x->root, "f", &st), 0); /* still there, so that it can be removed */
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(open_and_read(x, "f", back, sizeof(back)), -EBADMSG);
	assert_string_equal(store_damage_word(), "header");
	assert_int_equal(store_unlink(x->root, "f"), 0);
	close(fd);
}

/* Truncating below what was synced is legal and stays so. */
static void test_floor(void **state)
{
	static uint8_t data[3 * SECTOR_DATA + 5], back[4 * SECTOR_DATA];
	static const size_t sizes[] = {2 * SECTOR_DATA + 1, SECTOR_DATA, 17, 0};
	struct fixture *x = *state;
	struct stat st;
	struct file *f;
	size_t i;

	randombytes_buf(data, sizeof(data));
	assert_int_equal(file_create(x->root, "f", 0600, &f, &st), 0);
	assert_int_equal(file_write(f, data, sizeof(data), 0), sizeof(data));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(file_sync(f, true), 0);
		assert_int_equal(file_truncate(f, sizes[i]), 0);
		file_close(f);
		assert_int_equal(open_and_read(x, "f", back, sizeof(back)), sizes[i]);
		assert_memory_equal(back, data, sizes[i]);
		assert_int_equal(file_open(x->root, "f", &f), 0);
	}
	file_close(f);
}

/* Syncs in the same second do not write it each time; closing does, and a cut forgets what was due. */
static void test_floor_of_many_syncs(void **state)
{
	static uint8_t data[12 * SECTOR_DATA];
	struct fixture *x = *state;
	struct stat st;
	struct file *f;
	size_t i;
	int fd;

	randombytes_buf(data, sizeof(data));
	for (int cut = 0; cut < 2; cut++) {
		assert_int_equal(file_create(x->root, "f", 0600, &f, &st), 0);
		for (i = 0; i < 12; i++) {
			assert_int_equal(file_write(f, data, SECTOR_DATA, i * SECTOR_DATA), SECTOR_DATA);
			assert_int_equal(file_sync(f, true), 0);
		}
		if (cut)
			assert_int_equal(file_truncate(f, 5 * SECTOR_DATA + 1), 0);
		file_close(f);
		assert_int_equal(file_open(x->root, "f", &f), 0);
		assert_int_equal(file_size(f), cut ? 5 * SECTOR_DATA + 1 : 12 * SECTOR_DATA);
		file_close(f);
		fd = backing_of(x, "f");
		assert_int_equal(ftruncate(fd, HEADER_BYTES + (cut ? 5 : 11) * SECTOR_BYTES), 0);
		close(fd);
		/* what follows the cut was not synced, so the file may end before it */
		assert_int_equal(file_open(x->root, "f", &f), cut ? 0 : -EBADMSG);
		if (cut)
			file_close(f);
		else
			assert_string_equal(store_damage_word(), "size");
		assert_int_equal(store_unlink(x->root, "f"), 0);
	}
}

/* The size below, which a log that is synced for each entry would otherwise change twice each time. */
static void test_hint_of_many_syncs(void **state)
{
	struct fixture *x = *state;
	struct stat st;
	struct file *f;
	off_t excess = 0;
	int fd, n = 0;

	assert_int_equal(file_create(x->root, "f", 0600, &f, &st), 0);
	assert_int_equal(file_write(f, "0123456789", 10, 0), 10);
	assert_int_equal(file_sync(f, true), 0);
	fd = backing_of(x, "f");
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, HEADER_BYTES + SECTOR_BYTES + 10);
	do { /* a second may begin in between */
		assert_int_equal(file_write(f, "x", 1, 10 + n), 1);
		assert_int_equal(file_sync(f, true), 0);
		assert_int_equal(fstat(fd, &st), 0);
		excess = st.st_size % SECTOR_BYTES;
	} while (++n < 5 && excess != 0);
	assert_int_equal(excess, 0);
	file_close(f);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, HEADER_BYTES + SECTOR_BYTES + 10 + n);
	close(fd);
	assert_int_equal(store_lookup(x->root, "f", &st), 0);
	assert_int_equal(st.st_size, 10 + n);
	assert_int_equal(store_unlink(x->root, "f"), 0);
}

/* A crash before close: the excess that tells the size is not there, or tells an old one. */
static void test_crash(void **state)
{
	static uint8_t data[2 * SECTOR_DATA + 77], back[3 * SECTOR_DATA];
	static const off_t excess[] = {0, 5, 4032, 4050};
	struct fixture *x = *state;
	struct stat st;
	size_t i;
	int fd;

	randombytes_buf(data, sizeof(data));
	fixture_write_file(x, "f", data, sizeof(data));
	fd = backing_of(x, "f");
	for (i = 0; i < ARRAY_SIZE(excess); i++) {
		assert_int_equal(ftruncate(fd, HEADER_BYTES + 3 * SECTOR_BYTES + excess[i]), 0);
		if (excess[i] == 0) {
			assert_int_equal(store_lookup(x->root, "f", &st), 0);
			assert_int_equal(st.st_size, sizeof(data));
			assert_int_equal(ftruncate(fd, HEADER_BYTES + 3 * SECTOR_BYTES), 0);
		}
		assert_int_equal(open_and_read(x, "f", back, sizeof(back)), sizeof(data));
		assert_memory_equal(back, data, sizeof(data));
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_size, HEADER_BYTES + 3 * SECTOR_BYTES + 77);
	}
	/* Space that was allocated and never written. */
	assert_int_equal(ftruncate(fd, HEADER_BYTES + 9 * SECTOR_BYTES), 0);
	assert_int_equal(open_and_read(x, "f", back, sizeof(back)), sizeof(data));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, HEADER_BYTES + 3 * SECTOR_BYTES + 77);
	close(fd);
}

static void test_unnamed(void **state)
{
	struct fixture *x = *state;
	struct stat st;
	struct file *f;
	char back[8];

	assert_int_equal(file_create_unnamed(x->root, x->root, 0600, &f, &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(file_write(f, "hello", 5, 0), 5);
	assert_int_equal(file_link_unnamed(f, x->root, "named"), 0);
	file_close(f);
	assert_int_equal(open_and_read(x, "named", back, sizeof(back)), 5);
	assert_int_equal(file_create_unnamed(x->root, x->root, 0600, &f, &st), 0);
	assert_int_equal(file_write(f, "gone", 4, 0), 4);
	file_close(f);
	assert_int_equal(store_unlink(x->root, "named"), 0);
}

/* Versions only grow, in one opening and in the next; what no sector tells of is said so. */
static void test_version(void **state)
{
	struct fixture *x = *state;
	struct version before = {0}, now;
	char text[VERSION_TEXT];
	struct stat st;
	struct file *f;
	unsigned i;

	assert_int_equal(file_create(x->root, "f", 0600, &f, &st), 0);
	for (i = 0; i < 4; i++) {
		assert_int_equal(file_version(f, text), i * 5000);
		assert_string_equal(text, "");
		assert_int_equal(file_write(f, "new", 3, i * 5000), 3);
		assert_int_equal(file_truncate(f, (i + 1) * 5000), 0);
		assert_int_equal(file_version(f, text), (i + 1) * 5000);
		assert_int_equal(version_parse(text, &now), 0);
		assert_true(version_compare(&before, &now) < 0);
		before = now;
		file_close(f);
		assert_int_equal(file_open(x->root, "f", &f), 0);
	}
	assert_int_equal(file_allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4032, 4032), 0);
	assert_int_equal(file_version(f, text), 20000);
	assert_string_equal(text, VERSION_BARE);
	assert_int_equal(file_write(f, "x", 1, 0), 1);
	(void)file_version(f, text);
	assert_int_equal(version_parse(text, &now), 0);
	assert_true(version_compare(&before, &now) < 0);
	assert_int_equal(file_truncate(f, 0), 0);
	assert_int_equal(file_version(f, text), 0);
	assert_string_equal(text, VERSION_BARE);
	file_close(f);
}

static void test_version_text(void **state)
{
	static const char *const bad[] = {"", "v", "v1", "v1.", "v.1", "w1.1", "v1.1x", "v-1", "-", "v1.1 "};
	const struct version most = {UINT64_MAX, UINT32_MAX}, same = {UINT64_MAX, UINT32_MAX};
	struct version v;
	char text[VERSION_TEXT];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(version_parse(bad[i], &v), -EINVAL);
	version_format(&most, text);
	assert_int_equal(version_parse(text, &v), 0);
	assert_int_equal(version_compare(&v, &same), 0);
	assert_int_equal(version_parse(VERSION_BARE, &v), 0);
	assert_true(version_compare(&v, &most) < 0);
}

/* Long runs of sectors are sealed and opened by several threads: at every kind of edge, over holes, and with damage. */
static void test_long_runs(void **state)
{
	struct fixture *x = *state;
	static uint8_t data[3 << 20], back[3 << 20];
	const size_t at[] = {0, 1, SECTOR_DATA, SECTOR_DATA - 1, 17 * SECTOR_DATA + 5};
	struct file *f;
	struct stat st;
	uint8_t byte;
	int raw;
	char entry[256];

	for (size_t n = 0; n < sizeof(data); n++)
		data[n] = (uint8_t)(n * 31 + n / 4093);
	assert_int_equal(file_create(x->root, "long", 0644, &f, &st), 0);
	assert_int_equal(file_write(f, data, sizeof(data), 0), sizeof(data));
	for (size_t n = 0; n < ARRAY_SIZE(at); n++) {
		size_t len = (1 << 20) + at[n];

		memset(data + at[n], (int)n + 1, len);
		assert_int_equal(file_write(f, data + at[n], len, at[n]), len);
		memset(back, 0, sizeof(back));
		assert_int_equal(file_read(f, back, sizeof(back), 0), sizeof(back));
		assert_memory_equal(back, data, sizeof(data));
		assert_int_equal(file_read(f, back, len, at[n]), len);
		assert_memory_equal(back, data + at[n], len);
	}
	assert_int_equal(file_allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1 << 20, 100000), 0);
	memset(data + (1 << 20), 0, 100000);
	assert_int_equal(file_read(f, back, sizeof(back), 0), sizeof(back));
	assert_memory_equal(back, data, sizeof(data));
	file_close(f);

	fixture_entry(x->fd, 0, entry);
	raw = openat(x->fd, entry, O_RDWR);
	assert_int_equal(pread(raw, &byte, 1, HEADER_BYTES + 100 * 4096 + 500), 1);
	byte ^= 1;
	assert_int_equal(pwrite(raw, &byte, 1, HEADER_BYTES + 100 * 4096 + 500), 1);
	close(raw);
	assert_int_equal(file_open(x->root, "long", &f), 0);
	assert_int_equal(file_read(f, back, 1 << 20, 0), -EBADMSG);
	assert_string_equal(store_damage_word(), "sector");
	assert_int_equal(file_read(f, back, 100 * SECTOR_DATA, 0), 100 * SECTOR_DATA);
	assert_memory_equal(back, data, 100 * SECTOR_DATA);
	assert_int_equal(file_read(f, back, 1 << 20, 101 * SECTOR_DATA), 1 << 20);
	assert_memory_equal(back, data + 101 * SECTOR_DATA, 1 << 20);
	file_close(f);
}

int main(void)
{
	static uint8_t suites[] = {CIPHER_AES_256_GCM, CIPHER_XCHACHA20_POLY1305};
#define WITH(test, suite)                                                                                    \
	{                                                                                                    \
#test, test, fixture_setup, fixture_teardown, suite                                          \
	}
	const struct CMUnitTest tests[] = {
		WITH(test_model, &suites[0]),
		WITH(test_model, &suites[1]),
		WITH(test_sizes, &suites[0]),
		WITH(test_sizes, &suites[1]),
		WITH(test_appends_and_times, NULL),
		WITH(test_seek, NULL),
		WITH(test_refused, NULL),
		WITH(test_flips, &suites[0]),
		WITH(test_flips, &suites[1]),
		WITH(test_swapped_sectors, NULL),
		WITH(test_cut, NULL),
		WITH(test_floor, NULL),
		WITH(test_floor_of_many_syncs, NULL),
		WITH(test_hint_of_many_syncs, NULL),
		WITH(test_crash, NULL),
		WITH(test_unnamed, NULL),
		WITH(test_version, NULL),
		WITH(test_version_text, NULL),
		WITH(test_long_runs, &suites[0]),
		WITH(test_long_runs, &suites[1]),
	};

	return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
