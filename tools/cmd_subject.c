/* A person's requests: whom files are about, what there is about somebody, a copy for him, his erasure. */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"
#include "common/subject.h"
#include "tools/commands.h"
#include "tools/fusemount.h"
#include "tools/request.h"
#include "tools/subject_copy.h"
#include "tools/table.h"

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

#define ID_TEXT "a label is 1 to 255 bytes of text without line breaks and other control characters"

/* The label that is asked for; "-": a line of stdin, since everybody on the host can read a command line. */
static int take_id(json_t *params)
{
	char line[SUBJECT_ID_MAX + 2] = "";
	const char *id = text(params, "subject");
	size_t n;

	if (strcmp(id, "-") == 0) {
		n = fgets(line, sizeof(line), stdin) ? strlen(line) : 0;
		if (n > 0 && line[n - 1] == '\n')
			line[--n] = 0;
		else if (n > SUBJECT_ID_MAX)
			n = 0; /* there is more */
		if (!subject_id_ok(line, n))
			return fail(EXIT_USAGE, ID_TEXT);
		json_object_set_new(params, "subject", json_string(line));
		return EXIT_OK;
	}
	return subject_id_ok(id, strlen(id)) ? EXIT_OK : fail(EXIT_USAGE, ID_TEXT);
}

/* ---- asking keyd ---- */

/* All of it; id NULL: which labels there are.  *ret_counts and *ret_rows: the caller's. */
static int search(struct tool *t, const char *client, const char *id, json_t **ret_counts, json_t **ret_rows)
{
	json_auto_t *answer = NULL, *rows = json_array();
	json_t *at = NULL, *row;
	size_t i;
	int r = request_run_job(t, id ? "SubjectFind" : "SubjectLabels",
		json_pack("{s:s, s:s*}", "client", client, "subject", id), &answer);

	while (r == EXIT_OK) {
		json_auto_t *piece = NULL;

		r = tool_call(t, DAEMON_KEYD, "SubjectRows",
			json_pack("{s:O, s:o*}", "list", json_object_get(answer, "list"), "at", at), NULL, 0, &piece);
		at = json_incref(json_object_get(piece, "next"));
		if (r == EXIT_OK)
			json_array_extend(rows, json_object_get(piece, "rows"));
		if (!at)
			break;
	}
	if (r != EXIT_OK)
		return r;
	json_array_foreach(rows, i, row)
	{
		if (json_is_true(json_object_get(answer, "client_held"))) /* the whole client is */
			json_object_set_new(row, "held", json_true());
	}
	if (json_is_true(json_object_get(answer, "moved")))
		fputs("coffer: something was renamed while it was searched: search again to be sure\n", stderr);
	*ret_counts = json_incref(json_object_get(answer, "counts"));
	*ret_rows = json_incref(rows);
	return EXIT_OK;
}

static json_int_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static void say_unclear(const json_t *counts)
{
	if (number(counts, "unclear") + number(counts, "damaged") + number(counts, "failed") > 0)
		fprintf(stderr,
			"coffer: whom %lld files or directories are about cannot be told: they are damaged (`coffer fsck`)\n",
			(long long)(number(counts, "unclear") + number(counts, "damaged") + number(counts, "failed")));
}

/* ---- labels, through a mount ---- */

static int check_path(const char *path)
{
	scoped(freep) char *point = NULL;
	struct stat st;

	if (lstat(path, &st) < 0)
		return fail(errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_FAILED, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return fail(EXIT_USAGE, "%s is neither a file nor a directory: label the directory it is in", path);
	point = fusemount_around(path);
	if (!point)
		return fail(EXIT_USAGE, "%s is not in a mounted share: mount the client, and name the file by its path there", path);
	return EXIT_OK;
}

static int refused(const char *path, const char *id, int error)
{
	switch (error) {
	case EROFS:
		return fail(EXIT_REFUSED, "%s: this session may only read; labels are for who may write (`coffer sessions`)", path);
	case EACCES:
	case EPERM:
		return fail(EXIT_REFUSED, "%s: you may not change it", path);
	case EKEYREVOKED:
	case EKEYEXPIRED:
		return fail(EXIT_REFUSED, "%s: the session has ended", path);
	case ENODATA:
		return fail(EXIT_NOT_FOUND,
			"%s has no label %s of its own; what it has from a directory above it goes there (`coffer subject list`)",
			path, id);
	case ENOSPC:
	case E2BIG:
		return fail(EXIT_FAILED, "%s: no room for one more label (or for its record)", path);
	default:
		return fail(EXIT_FAILED, "%s: %s", path, strerror(error));
	}
}

static int change(struct tool *t, int argc, char **argv, const char *attr, const struct request *rq)
{
	json_auto_t *params = NULL;
	const char *path, *id;
	int r;

	request_parse(t, rq, argc, argv, &params);
	path = text(params, "path");
	r = take_id(params);
	id = text(params, "subject");
	if (r == EXIT_OK)
		r = check_path(path);
	if (r == EXIT_OK && lsetxattr(path, attr, id, strlen(id), 0) < 0)
		r = refused(path, id, errno);
	if (r == EXIT_OK && t->json)
		puts("{}");
	return r;
}

static const struct field label_fields[] = {
	{"path", NULL, "PATH", FIELD_TEXT, true, NULL},
	{"subject", NULL, "ID", FIELD_TEXT, true, NULL},
	{0},
};

int cmd_subject_label(struct tool *t, int argc, char **argv)
{
	static const struct request rq = {label_fields, "PATH ID",
		"Says whom a file is about, or all that is in a directory.\vPATH is in a mounted share, where you may write. ID is "
		"what you call that person by, the same every time. A file may be about several. What is in a labelled directory "
		"counts as labelled as long as it is there; what is moved out of it takes the label along."};

	return change(t, argc, argv, SUBJECT_ATTR_ADD, &rq);
}

int cmd_subject_unlabel(struct tool *t, int argc, char **argv)
{
	static const struct request rq = {label_fields, "PATH ID",
		"Takes such a label from a file or directory.\vA label that a file has from the directory it is in is taken there."};

	return change(t, argc, argv, SUBJECT_ATTR_REMOVE, &rq);
}

/* All labels of a client: how many files and directories have each themselves. */
static int list_all(struct tool *t, const char *client)
{
	static const struct column columns[] = {
		{"subject", "SUBJECT", CELL_TEXT},
		{"files", "FILES", CELL_NUMBER},
		{"directories", "DIRECTORIES", CELL_NUMBER},
	};
	json_auto_t *counts = NULL, *rows = NULL, *by_id = json_object(), *all = json_array();
	json_t *row, *id, *o;
	size_t i, k;
	int r = search(t, client, NULL, &counts, &rows);

	if (r != EXIT_OK)
		return r;
	json_array_foreach(rows, i, row)
	{
		const char *member = strcmp(text(row, "kind"), "d") == 0 ? "directories" : "files";

		json_array_foreach(json_object_get(row, "subjects"), k, id)
		{
			o = json_object_get(by_id, json_string_value(id));
			if (!o) {
				o = json_pack("{s:O, s:i, s:i}", "subject", id, "files", 0, "directories", 0);
				json_object_set_new(by_id, json_string_value(id), o);
				json_array_append(all, o);
			}
			json_object_set_new(o, member, json_integer(number(o, member) + 1));
		}
	}
	say_unclear(counts);
	return t->json ? print_json(all) : table_print(all, columns, ARRAY_SIZE(columns), "no labels");
}

/* Both kinds, as SUBJECT_ATTR_LIST gives them. */
static json_t *labels_of(const char *buf, size_t n)
{
	json_t *rows = json_array();

	for (const char *s = buf; s < buf + n; s += strlen(s) + 1)
		json_array_append_new(rows,
			json_pack("{s:s, s:s}", "subject", s + 1, "from", *s == '=' ? "itself" : "a directory above it"));
	return rows;
}

int cmd_subject_list(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"path", NULL, "PATH", FIELD_TEXT, false, NULL},
		{"client", "client", "CLIENT", FIELD_TEXT, false, "instead: all labels of a client (custodians and auditors)"},
		{0},
	};
	static const struct request rq = {fields, "PATH", "Shows whom a file or directory in a mounted share is about."};
	static const struct column columns[] = {
		{"subject", "SUBJECT", CELL_TEXT},
		{"from", "LABELLED", CELL_TEXT},
	};
	scoped(freep) char *buf = malloc(XATTR_SIZE_MAX);
	json_auto_t *params = NULL, *rows = NULL;
	const char *path;
	ssize_t n = 0;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	path = text(params, "path");
	if (!*path == !json_object_get(params, "client"))
		return fail(EXIT_USAGE, "name either a PATH or --client CLIENT");
	if (!*path)
		return list_all(t, text(params, "client"));
	r = check_path(path);
	if (r == EXIT_OK && buf)
		n = lgetxattr(path, SUBJECT_ATTR_LIST, buf, XATTR_SIZE_MAX);
	if (r == EXIT_OK && n < 0 && errno != ENODATA)
		r = fail(errno == EACCES || errno == EKEYREVOKED || errno == EKEYEXPIRED ? EXIT_REFUSED : EXIT_FAILED, "%s: %s", path,
			strerror(errno));
	if (r != EXIT_OK)
		return r;
	rows = labels_of(buf, n > 0 ? (size_t)n : 0);
	if (t->json)
		return print_json(rows);
	return table_print(rows, columns, ARRAY_SIZE(columns), "no labels");
}

/* ---- what there is ---- */

/* Names that are no UTF-8 are shown by their bytes; directories with a slash. */
static json_t *path_text(const json_t *row)
{
	const json_t *path = json_object_get(row, "path");
	const char *hex = text(path, "hex");

	return *hex ? json_sprintf("(bytes) %s", hex)
		    : json_sprintf("%s%s", json_string_length(path) ? json_string_value(path) : "/",
			      strcmp(text(row, "kind"), "d") == 0 ? "/" : "");
}

static json_t *notes_text(const json_t *row)
{
	bool shared = json_is_true(json_object_get(row, "shared")), held = json_is_true(json_object_get(row, "held"));

	return json_sprintf("%s%s%s", shared ? "others too" : "", shared && held ? ", " : "", held ? "on hold" : "");
}

int cmd_subject_find(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"subject", NULL, "ID", FIELD_TEXT, true, NULL},
		{0},
	};
	static const struct request rq = {fields, "CLIENT ID",
		"Lists what a client's share has about a person: all that is labelled so, or lies in a directory that is.\vFor "
		"custodians, auditors, and who has the share mounted. The search is recorded."};
	static const struct column columns[] = {
		{"shown", "PATH", CELL_WRAP},
		{"size", "BYTES", CELL_NUMBER},
		{"modified", "MODIFIED", CELL_DAY},
		{"notes", "", CELL_TEXT},
	};
	json_auto_t *params = NULL, *counts = NULL, *rows = NULL;
	json_t *row;
	size_t i;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = take_id(params);
	if (r == EXIT_OK)
		r = search(t, text(params, "client"), text(params, "subject"), &counts, &rows);
	if (r != EXIT_OK)
		return r;
	if (t->json) {
		json_auto_t *all = json_pack("{s:O, s:O}", "counts", counts, "found", rows);

		return print_json(all);
	}
	json_array_foreach(rows, i, row)
	{
		json_object_set_new(row, "shown", path_text(row));
		json_object_set_new(row, "notes", notes_text(row));
	}
	say_unclear(counts);
	return table_print(rows, columns, ARRAY_SIZE(columns), "nothing is labelled so");
}

/* ---- his erasure ---- */

/* Those that stay, by the reason. */
static void say_left(const json_t *rows, const char *why, const char *title)
{
	json_t *row;
	size_t i;
	bool said = false;

	json_array_foreach((json_t *)rows, i, row)
	{
		json_auto_t *path = NULL;

		if (!json_is_true(json_object_get(row, why)) || strcmp(text(row, "kind"), "d") == 0)
			continue;
		path = path_text(row);
		if (!said)
			fprintf(stderr, "%s\n", title);
		said = true;
		fputs("    ", stderr);
		put_escaped(stderr, json_string_value(path));
		fputc('\n', stderr);
	}
}

static bool stays(const json_t *row, bool shared)
{
	return json_is_true(json_object_get(row, "held")) || (!shared && json_is_true(json_object_get(row, "shared")));
}

/* There is something, and none of it may go. */
static bool all_stay(const json_t *rows, bool shared)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)rows, i, row)
	{
		if (!stays(row, shared))
			return false;
	}
	return json_array_size(rows) > 0;
}

static json_int_t going(const json_t *rows, bool shared)
{
	json_t *row;
	size_t i;
	json_int_t n = 0;

	json_array_foreach((json_t *)rows, i, row)
	{
		n += strcmp(text(row, "kind"), "d") != 0 && !stays(row, shared);
	}
	return n;
}

static void say_what_stays(const json_t *rows, bool shared)
{
	say_left(rows, "held", "On hold, and kept (`coffer hold list`):");
	if (!shared)
		say_left(rows, "shared", "About others as well, and kept (--shared takes them too):");
}

static bool agreed(void)
{
	char line[16] = "";

	fputs("All sessions of this client end. Type yes to go on: ", stderr);
	return fgets(line, sizeof(line), stdin) && strcmp(line, "yes\n") == 0;
}

static int say_shredded(const json_t *answer)
{
	const char *certificate = json_string_value(json_object_get(answer, "certificate"));
	const json_t *counts = json_object_get(answer, "counts");

	say_versions(counts, "are gone");
	say("%lld files and symlinks are destroyed (%lld keys); kept: %lld that are about others too, %lld on hold",
		(long long)number(counts, "about"), (long long)number(answer, "keys"), (long long)number(counts, "shared"),
		(long long)number(counts, "held"));
	say_unclear(counts);
	return certificate ? say("the certificate is %s", certificate) : say("the certificate follows");
}

int cmd_subject_shred(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"subject", NULL, "ID", FIELD_TEXT, true, NULL},
		{"reason", "reason", "TEXT", FIELD_TEXT, true, "why: it stands on the certificate"},
		{"shared", "shared", NULL, FIELD_FLAG, false, "also what is about other persons as well"},
		{"confirm", "confirm", NULL, FIELD_FLAG, false, "another custodian asked for it, by the same command"},
		{"yes", "yes", NULL, FIELD_FLAG, false, "do not ask"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT ID",
		"Destroys the keys of all that is about a person, for good and in all backups (custodians).\vWhat is on hold, or about "
		"other persons as well, is named and stays. The client's sessions end. Without --yes it says before what would go."};
	json_auto_t *params = NULL, *counts = NULL, *rows = NULL, *answer = NULL;
	bool yes, shared;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	yes = json_is_true(json_object_get(params, "yes"));
	shared = json_is_true(json_object_get(params, "shared"));
	json_object_del(params, "yes");
	r = take_id(params);
	if (r == EXIT_OK)
		r = search(t, text(params, "client"), text(params, "subject"), &counts, &rows);
	if (r != EXIT_OK)
		return r;
	say_what_stays(rows, shared);
	if (!yes && all_stay(rows, shared))
		return fail(EXIT_REFUSED, "nothing was destroyed: all there is about %s stays", text(params, "subject"));
	if (!yes) {
		fprintf(stderr, "The keys of %lld files and symlinks are destroyed for good, backups included.\n",
			(long long)going(rows, shared));
		say_unclear(counts);
		if (!agreed())
			return fail(EXIT_REFUSED, "nothing was destroyed");
	}
	r = request_run_job(t, "Erase", json_incref(params), &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	return request_say_confirm(answer) ? EXIT_OK : say_shredded(answer);
}

/* ---- a copy for him ---- */

/* The mount point of a session of the caller's own with that client, of `wanted` if that is named; malloc'd. */
static int find_mount(struct tool *t, const char *client, const char *wanted, char **ret)
{
	scoped(freep) char *resolved = *wanted ? fusemount_resolve(wanted) : NULL;
	json_auto_t *answer = NULL;
	json_t *row;
	size_t i;
	int r = tool_call(t, DAEMON_KEYD, "Sessions", NULL, NULL, 0, &answer);

	if (r != EXIT_OK)
		return r;
	json_array_foreach(json_object_get(answer, "sessions"), i, row)
	{
		const char *at = text(row, "mountpoint");

		if (*at && strcmp(text(row, "client"), client) == 0 && number(row, "uid") == getuid() &&
			(!*wanted || (resolved && strcmp(resolved, at) == 0))) {
			*ret = strdup(at);
			return *ret ? EXIT_OK : fail(EXIT_FAILED, "no memory left");
		}
	}
	if (*wanted)
		return fail(EXIT_NOT_FOUND, "%s is no mount of yours of %s (`coffer sessions`)", wanted, client);
	return fail(EXIT_NOT_FOUND,
		"you have %s not mounted: mount it for the purpose of the request; each file that is copied is recorded with it", client);
}

/* The directory that will hold it, new, and in no share. */
static int make_target(const char *dir, const char *tar, char **ret)
{
	const char *what = tar ? tar : dir, *slash = strrchr(what, '/');
	scoped(freep) char *path = NULL, *parent = slash ? strndup(what, slash == what ? 1 : (size_t)(slash - what)) : strdup(".");
	scoped(freep) char *point = parent ? fusemount_around(parent) : NULL;
	struct stat st;

	if (point)
		return fail(EXIT_USAGE, "%s lies in a mounted share: a copy for somebody goes elsewhere", what);
	if (tar && lstat(tar, &st) == 0)
		return fail(EXIT_USAGE, "%s is there already", tar);
	if (!parent || asprintf(&path, "%s%s", what, tar ? ".XXXXXX" : "") < 0)
		return fail(EXIT_FAILED, "no memory left");
	if (tar ? !mkdtemp(path) : mkdir(path, 0700) < 0)
		return fail(errno == EEXIST ? EXIT_USAGE : EXIT_FAILED, "%s: %s", what,
			errno == EEXIST ? "it is there already; name a new directory" : strerror(errno));
	*ret = take_ptr(&path);
	return EXIT_OK;
}

/* Without those that stay out, which are named. */
static json_t *wanted_rows(const json_t *rows, bool shared, bool held, json_int_t *ret_left)
{
	json_t *wanted = json_array(), *row;
	size_t i;

	*ret_left = 0;
	json_array_foreach((json_t *)rows, i, row)
	{
		if (strcmp(text(row, "kind"), "d") == 0)
			continue;
		if ((json_is_true(json_object_get(row, "shared")) && !shared) || (json_is_true(json_object_get(row, "held")) && !held))
			++*ret_left;
		else
			json_array_append(wanted, row);
	}
	return wanted;
}

static int record_export(struct tool *t, const json_t *params, const char *state, json_t *counts)
{
	return tool_call(t, DAEMON_KEYD, "SubjectExport",
		json_pack("{s:O, s:O, s:s, s:o*}", "client", json_object_get(params, "client"), "subject",
			json_object_get(params, "subject"), "state", state, "counts", counts),
		NULL, 0, NULL);
}

static int copy_rows(struct tool *t, const json_t *params, const char *mount, const json_t *rows, json_int_t left)
{
	const char *tar = json_string_value(json_object_get(params, "tar"));
	struct subject_copy c = {.from = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	json_auto_t *about = json_object(), *said = NULL;
	char now[DATE_TEXT_MAX];
	char *dir = NULL;
	int r;

	if (c.from < 0)
		return fail(EXIT_FAILED, "%s: %s", mount, strerror(errno));
	json_object_set(about, "subject", json_object_get(params, "subject"));
	json_object_set(about, "client", json_object_get(params, "client"));
	json_object_set_new(about, "made_at", json_string(date_format(time(NULL), now)));
	r = make_target(text(params, "to"), tar, &dir);
	if (r == EXIT_OK)
		r = record_export(t, params, "begin",
			json_pack("{s:I, s:I, s:b, s:b}", "files", (json_int_t)json_array_size(rows), "left", left, "shared",
				json_is_true(json_object_get(params, "shared")), "held", json_is_true(json_object_get(params, "held"))));
	if (r == EXIT_OK) {
		r = subject_copy_make(&c, dir, rows, about);
		if (r == EXIT_OK && tar)
			r = subject_copy_tar(dir, tar);
		said = json_pack("{s:I, s:I, s:I, s:I}", "files", (json_int_t)c.files, "links", (json_int_t)c.links, "bytes",
			(json_int_t)c.bytes, "left", left + (json_int_t)c.failed);
		if (record_export(t, params, r == EXIT_OK ? "end" : "broken-off", json_incref(said)) != EXIT_OK && r == EXIT_OK)
			r = EXIT_FAILED;
	}
	if (dir && (tar || r != EXIT_OK))
		subject_copy_remove(dir);
	free(dir);
	close(c.from);
	if (r != EXIT_OK)
		return r;
	if (t->json)
		r = print_json(said);
	else
		say("%lld files (%lld bytes) and %lld symlinks are in %s", (long long)c.files, (long long)c.bytes, (long long)c.links,
			tar ? tar : text(params, "to"));
	return c.failed > 0 ? fail(EXIT_FAILED, "%lld could not be read and are not in it", (long long)c.failed) : r;
}

int cmd_subject_export(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"subject", NULL, "ID", FIELD_TEXT, true, NULL},
		{"to", "to", "DIR", FIELD_TEXT, false, "a new directory for it"},
		{"tar", "tar", "FILE", FIELD_TEXT, false, "instead: a new tar archive"},
		{"mount", "mount", "MOUNTPOINT", FIELD_TEXT, false, "which of your mounts of CLIENT it is read through"},
		{"shared", "shared", NULL, FIELD_FLAG, false, "also what is about other persons as well"},
		{"held", "held", NULL, FIELD_FLAG, false, "also what is on hold"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT ID",
		"Copies what there is about a person out of your mount of the client, for him.\vWhat is about other persons as well, or on "
		"hold, is named and left out. With the files comes index.json: paths, sizes, times, SHA-256. The copy is in clear: it is "
		"yours to keep safe. It is recorded, and so is each file that is read."};
	json_auto_t *params = NULL, *counts = NULL, *rows = NULL, *wanted = NULL;
	scoped(freep) char *mount = NULL;
	json_int_t left = 0;
	bool shared, held;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	shared = json_is_true(json_object_get(params, "shared"));
	held = json_is_true(json_object_get(params, "held"));
	r = take_id(params);
	if (r == EXIT_OK && !json_object_get(params, "to") == !json_object_get(params, "tar"))
		r = fail(EXIT_USAGE, "name either --to DIR or --tar FILE");
	if (r == EXIT_OK)
		r = find_mount(t, text(params, "client"), text(params, "mount"), &mount);
	if (r == EXIT_OK)
		r = search(t, text(params, "client"), text(params, "subject"), &counts, &rows);
	if (r != EXIT_OK)
		return r;
	if (!held)
		say_left(rows, "held", "On hold, and left out (--held takes them too):");
	if (!shared)
		say_left(rows, "shared", "About others as well, and left out (--shared takes them too; mind the others' rights):");
	say_unclear(counts);
	wanted = wanted_rows(rows, shared, held, &left);
	if (json_array_size(wanted) == 0)
		return fail(EXIT_NOT_FOUND, "nothing that may be copied is labelled so");
	return copy_rows(t, params, mount, wanted, left);
}
