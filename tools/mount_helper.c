#include "tools/mount_helper.h"

#include <libgen.h>
#include <libmount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/tool.h"

#define ARGUMENTS_MAX 16
#define MOUNT_FAILED 32 /* mount(8): the mount failed; 1: wrong call */

bool mount_helper_is_me(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');

	return strcmp(slash ? slash + 1 : argv0, "mount.fuse.coffer") == 0;
}

int mount_helper_exit(int code)
{
	return code == EXIT_OK ? 0 : code == EXIT_USAGE ? 1 : MOUNT_FAILED;
}

/* What mount(8) passes on and what means nothing here, or holds always (nosuid, nodev). */
static bool is_ignored(const char *name, size_t n)
{
	static const char *const names[] = {"rw", "defaults", "nosuid", "nodev", "auto", "noauto", "user",
		"users", "nouser", "owner", "group", "nofail", "_netdev", "async", "relatime", "exec", "suid",
		"dev", "default_permissions"};

	for (size_t k = 0; k < ARRAY_SIZE(names); k++)
		if (strlen(names[k]) == n && strncmp(name, names[k], n) == 0)
			return true;
	return n > 2 && strncmp(name, "x-", 2) == 0;
}

struct arguments {
	char *v[ARGUMENTS_MAX];
	int n;
	char *global[3]; /* --dir D stands before the command */
};

static int option(struct arguments *a, const char *name, size_t name_n, const char *value, size_t value_n)
{
	static const struct {
		const char *name, *argument;
		bool valued;
	} known[] = {
		{"purpose", "--purpose", true},
		{"ticket", "--ticket", true},
		{"allow_other", "--shared", false}, /* mount(8) keeps "shared" for itself: propagation */
		{"shared", "--shared", false},
		{"exclusive", "--exclusive", false},
		{"ro", "--read-only", false},
	};

	if (name_n == 3 && strncmp(name, "dir", 3) == 0 && value) {
		free(a->global[1]);
		a->global[0] = (char *)"--dir";
		a->global[1] = strndup(value, value_n);
		return EXIT_OK;
	}
	for (size_t k = 0; k < ARRAY_SIZE(known); k++) {
		if (strlen(known[k].name) != name_n || strncmp(name, known[k].name, name_n) != 0 ||
			known[k].valued != (value != NULL) || a->n + 2 >= ARGUMENTS_MAX)
			continue;
		a->v[a->n++] = strdup(known[k].argument);
		if (value)
			a->v[a->n++] = strndup(value, value_n);
		return EXIT_OK;
	}
	if (is_ignored(name, name_n))
		return EXIT_OK;
	return fail(EXIT_USAGE,
		"the mount option \"%.*s\" is not known; there are purpose=P, ticket=T, allow_other "
		"(shared), exclusive, ro, dir=STATEDIR",
		(int)name_n, name);
}

static int options(struct arguments *a, char *list)
{
	char *name, *value;
	size_t name_n, value_n;
	int r = EXIT_OK;

	while (r == EXIT_OK && mnt_optstr_next_option(&list, &name, &name_n, &value, &value_n) == 0)
		r = option(a, name, name_n, value, value_n);
	return r;
}

static int finish(struct arguments *a, const char *program, const char *client, const char *where,
	int *ret_argc, char ***ret_argv)
{
	char **out = calloc(ARGUMENTS_MAX + 8, sizeof(*out));
	int n = 0;

	if (!out)
		return fail(EXIT_FAILED, "no memory");
	out[n++] = (char *)program;
	if (a->global[0]) {
		out[n++] = a->global[0];
		out[n++] = a->global[1];
	}
	out[n++] = (char *)"mount";
	for (int k = 0; k < a->n; k++)
		out[n++] = a->v[k];
	out[n++] = (char *)"--";
	out[n++] = (char *)client;
	out[n++] = (char *)where;
	*ret_argc = n;
	*ret_argv = out;
	return EXIT_OK;
}

int mount_helper_arguments(int argc, char **argv, int *ret_argc, char ***ret_argv, bool *ret_fake)
{
	struct arguments a = {.n = 0};
	bool verbose = false;
	int c, r = EXIT_OK;

	*ret_fake = false;
	while (r == EXIT_OK && (c = getopt(argc, argv, "sfnvN:o:t:")) != -1) {
		if (c == 'o')
			r = options(&a, optarg);
		else if (c == 'f')
			*ret_fake = true;
		else if (c == 'v')
			verbose = true;
		else if (c == 'N')
			r = fail(EXIT_USAGE,
				"a mount in another namespace is made there: nsenter ... coffer mount");
		else if (c == '?')
			r = EXIT_USAGE;
	}
	if (r == EXIT_OK && argc - optind != 2)
		r = fail(EXIT_USAGE,
			"mount -t fuse.coffer CLIENT DIRECTORY -o purpose=P[,ticket=T][,allow_other][,exclusive][,ro]");
	if (r != EXIT_OK)
		return r;
	if (!verbose && !freopen("/dev/null", "w", stdout)) /* as other helpers: silent when it works */
		return fail(EXIT_FAILED, "/dev/null cannot be opened");
	r = finish(&a, argv[0], argv[optind], argv[optind + 1], ret_argc, ret_argv);
	optind = 0; /* getopt begins anew */
	return r;
}
