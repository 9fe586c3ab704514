/* Where data came from: said of what is in a share, or while it is brought there. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/scope.h"
#include "common/subject.h"
#include "tools/commands.h"
#include "tools/fusemount.h"
#include "tools/request.h"

#define SOURCE_ATTR "coffer.source" /* fs/worker/sources.h */

static const char *text(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static int check_source(const char *source)
{
	return subject_id_ok(source, strlen(source))
		       ? EXIT_OK
		       : fail(EXIT_USAGE, "a source is 1 to %d bytes of text without line breaks and other control characters", SUBJECT_ID_MAX);
}

static int check_in_share(const char *path)
{
	scoped(freep) char *point = fusemount_around(path);

	return point ? EXIT_OK
		     : fail(EXIT_USAGE, "%s is not in a mounted share: mount the client, and name a place by its path there", path);
}

static int say_source(const char *path, const char *source)
{
	if (lsetxattr(path, SOURCE_ATTR, source, strlen(source), 0) == 0)
		return EXIT_OK;
	if (errno == EPERM)
		return fail(EXIT_USAGE, "%s is neither a file nor a directory: name the directory it is in", path);
	if (errno == EROFS || errno == EACCES || errno == EKEYREVOKED || errno == EKEYEXPIRED)
		return fail(EXIT_REFUSED, "%s: you may not change it, so you do not say where it came from (%s)", path, strerror(errno));
	return fail(errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_FAILED, "%s: %s", path, strerror(errno));
}

int cmd_source(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"path", NULL, "PATH", FIELD_TEXT, true, NULL},
		{"source", NULL, "SOURCE", FIELD_TEXT, true, NULL},
		{0},
	};
	static const struct request rq = {fields, "PATH SOURCE",
		"Records where a file, or all that is in a directory, came from.\vPATH is in a mounted share, where you may write. SOURCE is "
		"whoever gave it, and as what: \"Partner Ltd, delivery 12\". `coffer log --op source` lists what was said."};
	scoped(json_decrefp) json_t *params = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = check_source(text(params, "source"));
	if (r == EXIT_OK && access(text(params, "path"), F_OK) < 0)
		r = fail(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_FAILED, "%s: %s", text(params, "path"), strerror(errno));
	if (r == EXIT_OK)
		r = check_in_share(text(params, "path"));
	if (r == EXIT_OK)
		r = say_source(text(params, "path"), text(params, "source"));
	if (r == EXIT_OK && t->json)
		puts("{}");
	return r;
}

/* ---- import ---- */

/* Empty, so that the source is recorded before the first byte is there.  What has the name already keeps it.
 * *ret_file: it, if it is no directory. */
static int make_target(const char *from, const char *to, int *ret_file)
{
	struct stat st;
	int fd;

	if (lstat(from, &st) < 0)
		return fail(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_FAILED, "%s: %s", from, strerror(errno));
	if (S_ISDIR(st.st_mode) && mkdir(to, 0700) == 0)
		return EXIT_OK;
	if (S_ISREG(st.st_mode)) {
		fd = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600); /* cp inherits it */
		if (fd >= 0) {
			*ret_file = fd;
			return EXIT_OK;
		}
	}
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return fail(EXIT_USAGE, "%s is neither a file nor a directory", from);
	return fail(errno == EEXIST ? EXIT_USAGE : errno == EROFS || errno == EACCES ? EXIT_REFUSED : EXIT_FAILED, "%s: %s", to,
		errno == EEXIST ? "it is there already; import into another directory, or rename it" : strerror(errno));
}

/* Into the very file that was made: others may write in that directory too, and put a link in its place.  (cp follows none
 * to a directory, where it makes one.) */
static int copy(const char *from, const char *to, int file)
{
	char itself[32];
	char *argv[] = {(char *)"cp", (char *)"-RT", (char *)"--preserve=mode,timestamps", (char *)"--", (char *)from,
		file < 0 ? (char *)to : itself, NULL};
	int status, r;
	pid_t pid;

	snprintf(itself, sizeof(itself), "/proc/self/fd/%d", file);
	fflush(NULL);
	r = posix_spawnp(&pid, "cp", NULL, NULL, argv, environ);
	if (r != 0)
		return fail(EXIT_FAILED, "cp: %s", strerror(r));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return fail(EXIT_FAILED, "cp: %s", strerror(errno));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0
		       ? EXIT_OK
		       : fail(EXIT_FAILED, "%s is not there as a whole: cp says why; remove what came and import it again", to);
}

int cmd_import(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"from", NULL, "FILE", FIELD_TEXT, true, NULL},
		{"into", NULL, "DIRECTORY", FIELD_TEXT, true, NULL},
		{"source", "source", "SOURCE", FIELD_TEXT, true, "who gave it, and as what: it is recorded before the first byte is there"},
		{0},
	};
	static const struct request rq = {fields, "FILE DIRECTORY",
		"Copies a file, or a directory with all that is in it, into a directory of a mounted share, and records where it came "
		"from.\vNothing there is overwritten."};
	scoped(json_decrefp) json_t *params = NULL;
	scoped(freep) char *name = NULL, *to = NULL;
	scoped(close_fdp) int file = -1;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	name = strdup(text(params, "from"));
	if (!name || asprintf(&to, "%s/%s", text(params, "into"), basename(name)) < 0)
		return fail(EXIT_FAILED, "out of memory");
	r = check_source(text(params, "source"));
	if (r == EXIT_OK)
		r = check_in_share(text(params, "into"));
	if (r == EXIT_OK)
		r = make_target(text(params, "from"), to, &file);
	if (r == EXIT_OK)
		r = say_source(to, text(params, "source"));
	if (r == EXIT_OK)
		r = copy(text(params, "from"), to, file);
	if (r == EXIT_OK && t->json) {
		scoped(json_decrefp) json_t *o = json_pack("{s:s}", "path", to);

		return print_json(o);
	}
	return r;
}
