/* Cases of test_malice: names, directories, symlinks, attributes. */
#include "malice_fixture.h"

/* ---- names and entries ---- */

static void name_flipped(struct malice *m)
{
	char entry[256], bad[256];
	size_t i;

	snprintf(entry, sizeof(entry), "%s", backing(m, "one"));
	for (i = 0; i < 2 * strlen(entry); i++) {
		memcpy(bad, entry, sizeof(bad));
		if (i % 2)
			bad[i / 2] = (char)(bad[i / 2] | 0x80);
		else
			bad[i / 2] = bad[i / 2] == 'A' ? 'B' : 'A';
		snprintf(m->where, sizeof(m->where), ", character %zu", i / 2);
		assert_int_equal(renameat(m->x->fd, entry, m->x->fd, bad), 0);
		if (i == 0)
			verdict(m, "one", NULL);
		verdict_of_one(m, "one");
		assert_int_equal(renameat(m->x->fd, bad, m->x->fd, entry), 0);
	}
}

static void long_name_flipped(struct malice *m)
{
	char entry[256], side[256], text[NAME_TEXT_MAX], bad[NAME_TEXT_MAX];
	ssize_t n;

	snprintf(entry, sizeof(entry), "%s", backing(m, LONG));
	name_side(entry, side);
	n = readlinkat(m->x->fd, side, text, sizeof(text));
	assert_true(n > 0);
	for (ssize_t i = 0; i < n; i++) {
		memcpy(bad, text, (size_t)n);
		bad[n] = 0;
		bad[i] = bad[i] == 'A' ? 'B' : 'A';
		assert_int_equal(unlinkat(m->x->fd, side, 0), 0);
		assert_int_equal(symlinkat(bad, m->x->fd, side), 0);
		verdict_of_one(m, LONG);
	}
	verdict(m, LONG, NULL);
	assert_int_equal(unlinkat(m->x->fd, side, 0), 0);
	verdict(m, LONG, NULL);
}

static void foreign_name(struct malice *m)
{
	run(m, "echo x > foreign && mkdir also-foreign", NULL, NULL);
	verdict(m, NULL, NULL);
}

static void foreign_dot(struct malice *m)
{
	run(m, "echo x > .foreign", NULL, NULL);
	verdict(m, NULL, NULL);
}

static void stray_sides(struct malice *m)
{
	run(m, "ln -s x .nAAAA && touch .tAAAAAAAAAAAAAAAAAAAAAA", NULL, NULL);
	verdict(m, NULL, NULL);
}

static void stray_unnamed(struct malice *m)
{
	run(m, "cp -aT \"$A\" .uAAAAAAAAAAAAAAAAAAAAAA", backing(m, "one"), NULL);
	verdict(m, NULL, NULL);
}

/* ---- directories ---- */

static void flip_id(struct malice *m, const char *which, const char *path)
{
	char text[64], bad[64], at[1024];
	ssize_t n;

	snprintf(at, sizeof(at), "%s/%s", backing(m, path), which);
	n = readlinkat(m->x->fd, at, text, sizeof(text));
	assert_int_equal(n, PLACE_DIR_TEXT - 1);
	for (ssize_t i = 0; i < n; i++) {
		memcpy(bad, text, (size_t)n);
		bad[n] = 0;
		bad[i] = bad[i] == 'A' ? 'B' : 'A';
		snprintf(m->where, sizeof(m->where), ", character %zd", i);
		assert_int_equal(unlinkat(m->x->fd, at, 0), 0);
		assert_int_equal(symlinkat(bad, m->x->fd, at), 0);
		verdict_of_one(m, path);
	}
	verdict(m, path, NULL);
}

static void id_flipped(struct malice *m)
{
	flip_id(m, ".id", "dir");
}

static void id_removed(struct malice *m)
{
	run(m, "rm \"$A/.id\"", backing(m, "dir2"), NULL);
	verdict(m, "dir2", NULL);
}

static void ids_swapped(struct malice *m)
{
	run(m, "mv \"$A/.id\" ../id-$$ && mv \"$B/.id\" \"$A/.id\" && mv ../id-$$ \"$B/.id\"", backing(m, "dir"),
		backing(m, "dir2"));
	verdict(m, "dir", "dir2");
}

static void id_planted(struct malice *m)
{
	run(m, "cp -aT \"$B/.id\" \"$A/.id+\"", backing(m, "dir"), backing(m, "dir2"));
	verdict(m, NULL, NULL);
}

static void directories_swapped(struct malice *m)
{
	swap_entries(m, backing(m, "dir"), backing(m, "dir2"));
	verdict(m, "dir", "dir2");
}

static void directory_moved(struct malice *m)
{
	char to[2100];

	snprintf(to, sizeof(to), "%s/%s", backing(m, "dir"), backing(m, "dir2"));
	run(m, "mv -T \"$A\" \"$B\"", backing(m, "dir2"), to);
	verdict(m, "dir2", NULL);
}

static void directory_removed(struct malice *m)
{
	run(m, "rm -r \"$A\"", backing(m, "dir2"), NULL);
	verdict(m, "dir2", NULL);
}

static void directory_older(struct malice *m)
{
	make_older(m, "dir2/inner");
	run(m, "rm -r \"$A\" && cp -aT \"$OLD/$A\" \"$A\"", backing(m, "dir2"), NULL);
	verdict(m, "dir2/inner", NULL);
}

static void store_older(struct malice *m)
{
	make_older(m, "one");
	run(m, "find . -mindepth 1 -delete && cp -aT \"$OLD\" .", NULL, NULL);
	verdict(m, "one", NULL);
}

static void root_id(struct malice *m)
{
	const struct store_options opt = {.class = CLASS_FIRST_POLICY, .today = TODAY};
	char text[64], bad[64];
	struct store *s;
	int fd;

	assert_int_equal(readlinkat(m->x->fd, ".id", text, sizeof(text)), PLACE_DIR_TEXT - 1);
	fixture_close(m->x);
	for (size_t i = 0; i < PLACE_DIR_TEXT; i++) {
		memcpy(bad, text, PLACE_DIR_TEXT);
		bad[PLACE_DIR_TEXT - 1] = 0;
		if (i < PLACE_DIR_TEXT - 1)
			bad[i] = bad[i] == 'A' ? 'B' : 'A';
		assert_int_equal(unlinkat(m->x->fd, ".id", 0), 0);
		if (i < PLACE_DIR_TEXT - 1)
			assert_int_equal(symlinkat(bad, m->x->fd, ".id"), 0);
		fd = open(m->x->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_int_equal(store_open(fd, m->x->tree, &opt, &s), -EBADMSG);
		close(fd);
		assert_string_equal(store_damage_word(), "directory");
	}
	text[PLACE_DIR_TEXT - 1] = 0;
	assert_int_equal(symlinkat(text, m->x->fd, ".id"), 0);
	fixture_open(m->x);
}

/* ---- symlinks ---- */

static void link_flipped(struct malice *m)
{
	char entry[256], text[1024], bad[1024];
	ssize_t n;

	snprintf(entry, sizeof(entry), "%s", backing(m, "link"));
	n = readlinkat(m->x->fd, entry, text, sizeof(text) - 1);
	assert_true(n > 0);
	for (ssize_t i = 0; i < n; i++) {
		memcpy(bad, text, (size_t)n);
		bad[n] = 0;
		bad[i] = bad[i] == 'A' ? 'B' : 'A';
		snprintf(m->where, sizeof(m->where), ", character %zd", i);
		assert_int_equal(unlinkat(m->x->fd, entry, 0), 0);
		assert_int_equal(symlinkat(bad, m->x->fd, entry), 0);
		verdict_of_one(m, "link");
	}
	verdict(m, "link", NULL);
}

static void link_in_clear(struct malice *m)
{
	run(m, "rm \"$A\" && ln -s /etc/passwd \"$A\"", backing(m, "link"), NULL);
	verdict(m, "link", NULL);
}

static void links_swapped(struct malice *m)
{
	swap_entries(m, backing(m, "link"), backing(m, "link2"));
	verdict(m, "link", "link2");
}

static void far_side_flipped(struct malice *m)
{
	char pointer[64], *side;
	ssize_t n;
	int fd;

	n = readlinkat(m->x->fd, backing(m, "far"), pointer, sizeof(pointer) - 1);
	assert_true(n > 0);
	pointer[n] = 0;
	side = strchr(pointer, ':') + 1;
	fd = openat(m->x->fd, side, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (off_t at = 0; at < lseek(fd, 0, SEEK_END); at++) {
		snprintf(m->where, sizeof(m->where), ", byte %lld", (long long)at);
		flip_at(fd, at);
		verdict_of_one(m, "far");
		flip_at(fd, at);
	}
	flip_at(fd, 0);
	verdict(m, "far", NULL);
	close(fd);
	assert_int_equal(unlinkat(m->x->fd, side, 0), 0);
	verdict(m, "far", NULL);
}

static void far_length_changed(struct malice *m)
{
	char pointer[64], *side;
	ssize_t n;

	n = readlinkat(m->x->fd, backing(m, "far"), pointer, sizeof(pointer) - 1);
	assert_true(n > 0);
	pointer[n] = 0;
	side = strchr(pointer, ':') + 1;
	run(m, "rm \"$A\" && ln -s =1999:${B#./} \"$A\"", backing(m, "far"), side);
	verdict(m, "far", NULL);
}

/* ---- attributes ---- */

/* The stored name of the nth attribute that is ours. */
static void stored_attr(int fd, unsigned nth, char name[256])
{
	char list[4096];
	ssize_t n = flistxattr(fd, list, sizeof(list));

	name[0] = 0;
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(list + at) + 1)
		if (strncmp(list + at, "user.coffer.x.", 14) == 0 && nth-- == 0)
			snprintf(name, 256, "%s", list + at);
	assert_true(name[0] != 0);
}

static void attr_flipped(struct malice *m)
{
	int fd = open_backing(m, "attr");
	uint8_t value[256];
	char name[256];
	ssize_t n;

	stored_attr(fd, 0, name);
	n = fgetxattr(fd, name, value, sizeof(value));
	assert_true(n > 0);
	for (ssize_t i = 0; i < n; i++) {
		value[i] ^= 4;
		assert_int_equal(fsetxattr(fd, name, value, (size_t)n, 0), 0);
		verdict_of_one(m, "attr");
		value[i] ^= 4;
	}
	value[0] ^= 1;
	assert_int_equal(fsetxattr(fd, name, value, (size_t)n, 0), 0);
	verdict(m, "attr", NULL);
	assert_int_equal(fsetxattr(fd, name, value, 10, 0), 0);
	verdict(m, "attr", NULL);
	close(fd);
}

static void attr_renamed(struct malice *m)
{
	int fd = open_backing(m, "attr");
	uint8_t value[256];
	char name[256];
	ssize_t n;

	stored_attr(fd, 0, name);
	n = fgetxattr(fd, name, value, sizeof(value));
	assert_int_equal(fremovexattr(fd, name), 0);
	name[20] = name[20] == 'A' ? 'B' : 'A';
	assert_int_equal(fsetxattr(fd, name, value, (size_t)n, 0), 0);
	close(fd);
	verdict(m, "attr", NULL);
}

/* The value of one under the name of the other, within a file and between files. */
static void attrs_swapped(struct malice *m)
{
	int fd = open_backing(m, "attr"), other = open_backing(m, "attr2");
	char a[256], b[256];
	uint8_t value[256];
	ssize_t n;

	stored_attr(fd, 0, a);
	stored_attr(fd, 1, b);
	n = fgetxattr(fd, a, value, sizeof(value));
	assert_int_equal(fsetxattr(fd, b, value, (size_t)n, 0), 0);
	verdict(m, "attr", NULL);
	stored_attr(other, 0, b);
	n = fgetxattr(other, b, value, sizeof(value));
	assert_int_equal(fsetxattr(fd, a, value, (size_t)n, 0), 0);
	verdict(m, "attr", NULL);
	close(fd);
	close(other);
}

static void attr_removed(struct malice *m)
{
	int fd = open_backing(m, "attr");
	char name[256];

	stored_attr(fd, 0, name);
	assert_int_equal(fremovexattr(fd, name), 0);
	close(fd);
	verdict(m, "attr", NULL);
}

static void attr_older(struct malice *m)
{
	uint8_t value[256];
	char name[256];
	struct file *f;
	ssize_t n;
	int fd;

	assert_int_equal(file_open(m->x->root, "attr", &f), 0);
	assert_int_equal(file_setxattr(f, "user.a", "before", 6, 0), 0);
	fd = open_backing(m, "attr");
	for (unsigned i = 0; i < 2; i++) { /* which of the two is it? the longer one */
		stored_attr(fd, i, name);
		n = fgetxattr(fd, name, value, sizeof(value));
		if (n == 24 + 6 + 16)
			break;
	}
	assert_int_equal(n, 24 + 6 + 16);
	assert_int_equal(file_setxattr(f, "user.a", "value", 5, 0), 0);
	file_close(f);
	assert_int_equal(fsetxattr(fd, name, value, (size_t)n, 0), 0);
	close(fd);
	verdict(m, "attr", NULL);
}

const struct malice_case malice_tree_cases[] = {
	{"name: any character", name_flipped},
	{"long name: its text altered or removed", long_name_flipped},
	{"entries that are no names", foreign_name},
	{"entry with a dot that is none of ours", foreign_dot},
	{"side entries that belong to nothing", stray_sides},
	{"copy of a file as one without a name", stray_unnamed},
	{"id of the share's root altered or removed", root_id},
	{"id of a directory: any character", id_flipped},
	{"id of a directory removed", id_removed},
	{"ids of directories exchanged", ids_swapped},
	{"id of another directory planted beside the right one", id_planted},
	{"directories exchanged", directories_swapped},
	{"directory moved to another", directory_moved},
	{"directory removed", directory_removed},
	{"directory: an older version of it, with what is in it", directory_older},
	{"store: an older version of all of it", store_older},
	{"symlink: any character", link_flipped},
	{"symlink replaced by one in clear", link_in_clear},
	{"symlinks exchanged", links_swapped},
	{"symlink, long: its text altered or removed", far_side_flipped},
	{"symlink, long: its length altered", far_length_changed},
	{"attribute: any byte of its value, or its length", attr_flipped},
	{"attribute: its name altered", attr_renamed},
	{"attribute: the value of another, or of another file", attrs_swapped},
	{"attribute removed", attr_removed},
	{"attribute: an older value", attr_older},
	{NULL, NULL},
};
