/* A person's requests: whom files are about, what there is about somebody, a copy for him, his erasure. */
#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "common/scope.h"
#include "common/subject.h"
#include "tools/commands.h"
#include "tools/fusemount.h"
#include "tools/request.h"
#include "tools/table.h"

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

#define ID_TEXT "a label is 1 to 255 bytes of text without line breaks and other control characters"

static int check_id(const char *id)
{
	return subject_id_ok(id, strlen(id)) ? EXIT_OK : fail(EXIT_USAGE, ID_TEXT);
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
	id = text(params, "subject");
	r = check_id(id);
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
		{"path", NULL, "PATH", FIELD_TEXT, true, NULL},
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
