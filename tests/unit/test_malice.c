/* What somebody who edits the store can do, and what comes of it.  The cases and their verdicts are the table in
 * doc/FORMAT.md, "A store that somebody edited": each row has a case here, each case a row, and what the table calls not
 * detected must in fact not be detected, so that the list stays true. */
#include "malice_fixture.h"

/* ---- headers ---- */

static void header_fixed(struct malice *m)
{
	flip_each(m, "one", 0, 512);
}

static void header_only_record(struct malice *m)
{
	flip_each(m, "one", 1024, 1024 + 512);
}

static void header_unused_record(struct malice *m)
{
	flip_each(m, "one", 512, 1024);
}

static void header_newer_record(struct malice *m)
{
	flip_each(m, "synced", 512, 1024); /* generation 2 */
}

static void header_rest(struct malice *m)
{
	flip_each(m, "one", 1536, 4096);
}

static void header_of_another(struct malice *m)
{
	int a = open_backing(m, "one"), b = open_backing(m, "two");

	copy_range(b, 0, a, 0, HEADER_BYTES);
	verdict(m, "one", NULL);
	close(a);
	close(b);
}

static void headers_swapped(struct malice *m)
{
	int a = open_backing(m, "big"), b = open_backing(m, "big2");

	swap_range(a, 0, b, 0, HEADER_BYTES);
	verdict(m, "big", "big2");
	close(a);
	close(b);
}

static void header_older(struct malice *m)
{
	struct file *f;

	keep_old(m);
	assert_int_equal(file_open(m->x->root, "big", &f), 0);
	assert_int_equal(file_sync(f, false), 0);
	file_close(f);
	run(m, "dd if=\"$OLD/$A\" of=\"$A\" bs=4096 count=1 conv=notrunc status=none", backing(m, "big"), NULL);
	verdict(m, "big", NULL);
}

static void header_zero(struct malice *m)
{
	int fd = open_backing(m, "one");

	zero_range(fd, 0, HEADER_BYTES);
	verdict(m, "one", NULL);
	close(fd);
}

/* ---- lengths ---- */

static void cut_to(struct malice *m, const char *path, off_t length)
{
	int fd = open_backing(m, path);

	snprintf(m->where, sizeof(m->where), ", length %lld", (long long)length);
	assert_int_equal(ftruncate(fd, length), 0);
	close(fd);
	verdict(m, path, NULL);
}

static void cut_inside_header(struct malice *m)
{
	cut_to(m, "one", 4095);
	cut_to(m, "one", 512);
	cut_to(m, "one", 1);
}

static void cut_to_nothing(struct malice *m)
{
	cut_to(m, "one", 0);
}

static void cut_unsynced(struct malice *m)
{
	static const off_t lengths[] = {SECTOR_AT(3) + 4095, SECTOR_AT(3) + 501, SECTOR_AT(3) + 1, SECTOR_AT(3),
		SECTOR_AT(2) + SECTOR_DATA, SECTOR_AT(1) + 17, SECTOR_AT(1), HEADER_BYTES};

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
		cut_to(m, "big", lengths[i]);
}

static void cut_unsynced_newest_left(struct malice *m)
{
	write_again(m, "big", 0, 10);
	for (int i = 3; i > 0; i--) {
		cut_to(m, "big", SECTOR_AT(i));
		cut_to(m, "big", SECTOR_AT(i - 1) + SECTOR_BYTES + SECTOR_DATA);
	}
}

static void cut_synced(struct malice *m)
{
	for (int i = 3; i >= 0; i--)
		cut_to(m, "synced", SECTOR_AT(i));
}

static void extend_by_zeros(struct malice *m)
{
	static const off_t lengths[] = {SECTOR_AT(4), SECTOR_AT(4) + 499, SECTOR_AT(4) + 4095, SECTOR_AT(5), SECTOR_AT(900),
		(off_t)1 << 40};

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		snprintf(m->where, sizeof(m->where), ", length %lld", (long long)lengths[i]);
		int fd = open_backing(m, "big");

		assert_int_equal(ftruncate(fd, lengths[i]), 0);
		close(fd);
		/* Opening puts the length right: so first the check. */
		fixture_reopen(m->x);
		verdict(m, "big", NULL);
	}
}

static void extend_by_bytes(struct malice *m)
{
	int fd = open_backing(m, "big");

	assert_int_equal(pwrite(fd, "bytes", 5, SECTOR_AT(4) + 1000), 5);
	close(fd);
	verdict(m, "big", NULL);
}

static void extend_by_garbage(struct malice *m)
{
	uint8_t garbage[SECTOR_BYTES];
	int fd = open_backing(m, "big");

	randombytes_buf(garbage, sizeof(garbage));
	assert_int_equal(pwrite(fd, garbage, sizeof(garbage), SECTOR_AT(4)), sizeof(garbage));
	verdict(m, "big", NULL);
	copy_range(fd, SECTOR_AT(0), fd, SECTOR_AT(4), SECTOR_BYTES); /* one of its own */
	verdict(m, "big", NULL);
	close(fd);
}

/* ---- sectors ---- */

static void sector_flipped(struct malice *m)
{
	flip_each(m, "big", SECTOR_AT(1), SECTOR_AT(2));
}

static void last_sector_flipped(struct malice *m)
{
	flip_each(m, "one", SECTOR_AT(0), SECTOR_AT(1));
}

static void hole_flipped(struct malice *m)
{
	int fd = open_backing(m, "holes");

	for (off_t at = SECTOR_AT(1); at < SECTOR_AT(2); at += 7) {
		flip_at(fd, at);
		verdict_of_one(m, "holes");
		flip_at(fd, at);
	}
	close(fd);
}

static void sectors_swapped(struct malice *m)
{
	int fd = open_backing(m, "big");

	swap_range(fd, SECTOR_AT(0), fd, SECTOR_AT(1), SECTOR_BYTES);
	verdict(m, "big", NULL);
	close(fd);
}

static void sectors_swapped_between(struct malice *m)
{
	int a = open_backing(m, "big"), b = open_backing(m, "big2");

	swap_range(a, SECTOR_AT(1), b, SECTOR_AT(1), SECTOR_BYTES);
	verdict(m, "big", "big2");
	close(a);
	close(b);
}

static void sector_repeated(struct malice *m)
{
	int fd = open_backing(m, "big");

	copy_range(fd, SECTOR_AT(0), fd, SECTOR_AT(2), SECTOR_BYTES);
	verdict(m, "big", NULL);
	close(fd);
}

static void put_old_sector(struct malice *m, const char *path, int index)
{
	char command[128];

	snprintf(command, sizeof(command),
		"dd if=\"$OLD/$A\" of=\"$A\" bs=4096 count=1 skip=%d seek=%d conv=notrunc status=none", index + 1,
		index + 1);
	run(m, command, backing(m, path), NULL);
}

/* The store was right with other content before. */
static void sector_older(struct malice *m)
{
	rewrite(m, "big", "before", SECTOR_DATA);
	keep_old(m);
	write_again(m, "big", SECTOR_DATA, 10);
	write_again(m, "big", 0, 10);
	put_old_sector(m, "big", 1);
	verdict(m, "big", NULL);
}

static void sector_older_newest(struct malice *m)
{
	rewrite(m, "big", "before", SECTOR_DATA);
	keep_old(m);
	write_again(m, "big", SECTOR_DATA, 10);
	put_old_sector(m, "big", 1);
	verdict(m, "big", NULL);
}

static void sector_zeroed(struct malice *m)
{
	int fd = open_backing(m, "big");

	zero_range(fd, SECTOR_AT(1), SECTOR_BYTES);
	verdict(m, "big", NULL);
	close(fd);
}

static void sector_punched(struct malice *m)
{
	int fd = open_backing(m, "big");

	assert_int_equal(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SECTOR_AT(0), 2 * SECTOR_BYTES), 0);
	verdict(m, "big", NULL);
	close(fd);
}

static void sector_zeroed_in_holes(struct malice *m)
{
	int fd = open_backing(m, "holes");

	zero_range(fd, SECTOR_AT(3), SECTOR_BYTES);
	verdict(m, "holes", NULL);
	close(fd);
}

static void last_sector_zeroed(struct malice *m)
{
	int fd = open_backing(m, "big");

	zero_range(fd, SECTOR_AT(3), SECTOR_BYTES);
	verdict(m, "big", NULL);
	close(fd);
}

static void last_sector_zeroed_synced(struct malice *m)
{
	int fd = open_backing(m, "synced");

	zero_range(fd, SECTOR_AT(3), SECTOR_BYTES);
	verdict(m, "synced", NULL);
	close(fd);
}

/* ---- files ---- */

static void files_swapped(struct malice *m)
{
	swap_entries(m, backing(m, "one"), backing(m, "two"));
	verdict(m, "one", "two");
}

static void file_over_another(struct malice *m)
{
	run(m, "cp -aT \"$A\" \"$B\"", backing(m, "one"), backing(m, "two"));
	verdict(m, "two", NULL);
}

static void file_linked_over_another(struct malice *m)
{
	run(m, "ln -fT \"$A\" \"$B\"", backing(m, "one"), backing(m, "two"));
	verdict(m, "two", NULL);
}

static void file_moved_to_directory(struct malice *m)
{
	char to[1024];

	snprintf(to, sizeof(to), "%s/%s", backing(m, "dir"), backing(m, "one"));
	run(m, "mv -T \"$A\" \"$B\"", backing(m, "one"), to);
	verdict(m, "one", NULL);
}

static void linked_moved(struct malice *m)
{
	run(m, "cp -aT \"$A\" \"$B\"", backing(m, "linked"), backing(m, "two"));
	verdict(m, "two", NULL);
}

static void file_put_back(struct malice *m)
{
	char out[64];

	run(m, "rm -f \"$A\"", backing(m, "two"), NULL);
	assert_int_equal(store_rename(m->x->root, "one", m->x->root, "two", 0), 0);
	run(m, "mv -T \"$A\" \"$B\"", backing(m, "two"), backing(m, "one"));
	assert_string_equal(judge(m, "one", out), "right"); /* it is "one" again */
	assert_string_equal(judge(m, "two", out), m->outcome);
	fixture_reopen(m->x);
	check_run(m->x, &m->check);
	assert_int_equal(m->check.n, 0);
}

static void file_removed(struct malice *m)
{
	run(m, "rm \"$A\"", backing(m, "one"), NULL);
	verdict(m, "one", NULL);
}

static void file_replaced_by_nothing(struct malice *m)
{
	run(m, "rm \"$A\" && touch \"$A\"", backing(m, "one"), NULL);
	verdict(m, "one", NULL);
}

static void file_older(struct malice *m)
{
	make_older(m, "one");
	run(m, "cp -aT \"$OLD/$A\" \"$A\"", backing(m, "one"), NULL);
	verdict(m, "one", NULL);
}

static void file_older_in_place(struct malice *m)
{
	make_older(m, "big");
	run(m, "cat \"$OLD/$A\" > \"$A\"", backing(m, "big"), NULL);
	verdict(m, "big", NULL);
}

static void file_older_without_attributes(struct malice *m)
{
	make_older(m, "one");
	run(m, "rm \"$A\" && cp -T \"$OLD/$A\" \"$A\"", backing(m, "one"), NULL);
	verdict(m, "one", NULL);
}

static void deleted_put_back(struct malice *m)
{
	keep_old(m);
	assert_int_equal(store_unlink(m->x->root, "one"), 0);
	run(m, "cp -aT \"$OLD/$A\" \"$A\"", backing(m, "one"), NULL);
	verdict(m, "one", NULL);
}

static void file_to_fifo(struct malice *m)
{
	run(m, "rm \"$A\" && mkfifo \"$A\"", backing(m, "one"), NULL);
	verdict(m, "one", NULL);
}

static void file_to_directory(struct malice *m)
{
	run(m, "rm \"$A\" && mkdir \"$A\"", backing(m, "one"), NULL);
	verdict(m, "one", NULL);
}

static void file_to_link(struct malice *m)
{
	run(m, "rm \"$A\" && ln -s /etc/passwd \"$A\"", backing(m, "one"), NULL);
	verdict(m, "one", NULL);
}

static void place_removed(struct malice *m)
{
	int fd = open_backing(m, "one");

	assert_int_equal(fremovexattr(fd, PLACE_XATTR), 0);
	close(fd);
	verdict(m, "one", NULL);
}

/* Bytes [from, to) of the place, each alone. */
static void flip_place(struct malice *m, size_t from, size_t to, bool both)
{
	uint8_t place[PLACE_BYTES], bad[PLACE_BYTES];
	int fd = open_backing(m, "one");

	assert_int_equal(fgetxattr(fd, PLACE_XATTR, place, sizeof(place)), sizeof(place));
	for (size_t i = from; i < to; i++) {
		memcpy(bad, place, sizeof(bad));
		bad[i] ^= 1;
		if (both)
			bad[i + 16] ^= 1;
		assert_int_equal(fsetxattr(fd, PLACE_XATTR, bad, sizeof(bad), 0), 0);
		verdict_of_one(m, "one");
	}
	verdict(m, "one", NULL);
	close(fd);
}

static void place_flipped(struct malice *m)
{
	flip_place(m, 0, 1, false);
	flip_place(m, 1, 17, true);
}

static void place_one_of_two_flipped(struct malice *m)
{
	flip_place(m, 1, 33, false);
}

static void metadata(struct malice *m)
{
	run(m, "chmod 600 \"$A\" && touch -d 2001-01-01 \"$A\"", backing(m, "one"), NULL);
	verdict(m, NULL, NULL);
}

/* ---- the table ---- */

static const struct malice_case cases[] = {
	{"header: a bit of bytes 0 to 511", header_fixed},
	{"header: a bit of its only record", header_only_record},
	{"header: a bit of the record that was never written", header_unused_record},
	{"header: a bit of the newer of two records", header_newer_record},
	{"header: a bit of bytes 1536 to 4095", header_rest},
	{"header of another file", header_of_another},
	{"headers of two files exchanged", headers_swapped},
	{"header of an older version of the file", header_older},
	{"header zeroed", header_zero},
	{"cut inside the header", cut_inside_header},
	{"cut to 0 bytes", cut_to_nothing},
	{"cut anywhere behind the header, never synced", cut_unsynced},
	{"cut, never synced, the newest sector left", cut_unsynced_newest_left},
	{"cut below what was synced", cut_synced},
	{"extended by zeros, of any length", extend_by_zeros},
	{"extended by bytes of less than a sector", extend_by_bytes},
	{"extended by a sector of anything", extend_by_garbage},
	{"sector: any bit", sector_flipped},
	{"last sector: any bit", last_sector_flipped},
	{"hole: any bit", hole_flipped},
	{"sectors of a file exchanged", sectors_swapped},
	{"sectors of two files exchanged", sectors_swapped_between},
	{"sector copied over another", sector_repeated},
	{"sector: an older one of the same place", sector_older},
	{"sector: an older one, and it was the newest of the file", sector_older_newest},
	{"sector zeroed", sector_zeroed},
	{"sectors punched", sector_punched},
	{"sector zeroed in a file with holes", sector_zeroed_in_holes},
	{"last sector zeroed, never synced", last_sector_zeroed},
	{"last sector zeroed, synced", last_sector_zeroed_synced},
	{"files exchanged", files_swapped},
	{"file copied over another", file_over_another},
	{"file linked over another", file_linked_over_another},
	{"file moved to another directory", file_moved_to_directory},
	{"file that had two names copied over another", linked_moved},
	{"file put back where it was before its last rename", file_put_back},
	{"file removed", file_removed},
	{"file replaced by an empty one", file_replaced_by_nothing},
	{"file: an older version, with attributes", file_older},
	{"file: an older version written into it", file_older_in_place},
	{"file: an older version, without attributes", file_older_without_attributes},
	{"file that was deleted put back", deleted_put_back},
	{"file replaced by a fifo", file_to_fifo},
	{"file replaced by an empty directory", file_to_directory},
	{"file replaced by a symlink", file_to_link},
	{"place removed", place_removed},
	{"place: a bit of its version, or of both MACs", place_flipped},
	{"place: a bit of one of its MACs", place_one_of_two_flipped},
	{"mode, times", metadata},
};

struct row {
	char name[96], outcome[64], fsck[64];
	bool used;
};

static struct row rows[128];
static unsigned rows_n;

/* One cell, without the marks of code. */
static char *take_cell(char **at, char *out, size_t cap)
{
	char *end = strstr(*at, " |");
	size_t n = 0;

	if (!end)
		return NULL;
	for (char *p = *at; p < end; p++)
		if (*p != '`' && n + 1 < cap)
			out[n++] = *p;
	out[n] = 0;
	*at = end + 3 <= *at + strlen(*at) ? end + 3 : end + 2;
	return out;
}

static int read_table(void **state)
{
	const char *source = getenv("COFFER_SOURCE");
	char path[4096], line[1024], *at;
	bool inside = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/doc/FORMAT.md", source ? source : "..");
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		struct row *r = &rows[rows_n];

		if (strncmp(line, "## ", 3) == 0)
			inside = strstr(line, "somebody edited") != NULL;
		if (!inside || strncmp(line, "| ", 2) != 0 || strncmp(line, "| what is done", 14) == 0)
			continue;
		at = line + 2;
		if (rows_n == ARRAY_SIZE(rows) || !take_cell(&at, r->name, sizeof(r->name)) ||
			!take_cell(&at, r->outcome, sizeof(r->outcome)) || !take_cell(&at, r->fsck, sizeof(r->fsck)))
			return -1;
		rows_n++;
	}
	fclose(f);
	return rows_n > 0 ? 0 : -1;
}

static void test_case(void **state)
{
	const struct malice_case *c = *state;
	void *fixture = NULL;
	struct malice m = {.name = c->name};
	struct row *row = NULL;
	char command[512];

	for (unsigned i = 0; i < rows_n; i++)
		if (strcmp(rows[i].name, c->name) == 0)
			row = &rows[i];
	if (!row)
		fail_msg("doc/FORMAT.md has no row \"%s\"", c->name);
	row->used = true;
	m.outcome = row->outcome;
	m.fsck = row->fsck;
	assert_int_equal(fixture_setup(&fixture), 0);
	m.x = fixture;
	m.check.opt.recorded = m.recorded;
	snprintf(m.old, sizeof(m.old), "coffer-old-%d", (int)getpid());
	fill(&m);
	c->run(&m);
	snprintf(command, sizeof(command), "rm -rf '%s'/../%s", m.x->path, m.old);
	assert_int_equal(system(command), 0);
	fixture_teardown(&fixture);
}

static void test_every_row_has_a_case(void **state)
{
	for (unsigned i = 0; i < rows_n; i++)
		if (!rows[i].used)
			fail_msg("no test for the row \"%s\"", rows[i].name);
}

int main(void)
{
	static struct CMUnitTest tests[ARRAY_SIZE(rows) + 1];
	const struct malice_case *c;
	size_t n = 0;

	for (c = cases; c < cases + ARRAY_SIZE(cases); c++)
		tests[n++] = (struct CMUnitTest){c->name, test_case, NULL, NULL, (void *)c};
	for (c = malice_tree_cases; c->name && n < ARRAY_SIZE(rows); c++)
		tests[n++] = (struct CMUnitTest){c->name, test_case, NULL, NULL, (void *)c};
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_every_row_has_a_case);
	return _cmocka_run_group_tests("malice", tests, n, read_table, NULL);
}
