/* A policy from a file. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"
#include "policy/policy.h"

#define POLICY_FILE_MAX (1u << 20) /* a policy is written by hand */

/* The whole file; *ret_n at most POLICY_FILE_MAX. */
static int read_file(const char *path, char **ret, size_t *ret_n)
{
	scoped(close_fdp) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	scoped(freep) char *text = NULL;
	struct stat st;
	size_t n = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	text = malloc(POLICY_FILE_MAX + 1);
	if (!text)
		return -ENOMEM;
	for (;;) {
		ssize_t got = read(fd, text + n, POLICY_FILE_MAX + 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
		if (n > POLICY_FILE_MAX)
			return -EFBIG;
	}
	*ret = take_ptr(&text);
	*ret_n = n;
	return 0;
}

int policy_read_file(const char *path, char **ret, size_t *ret_n, struct policy_error *err)
{
	char *text = NULL;
	size_t n = 0;
	int r = read_file(path, &text, &n);

	*err = (struct policy_error){0};
	if (r < 0) {
		snprintf(err->text, sizeof(err->text), "the file cannot be read: %s", strerror(-r));
		return r;
	}
	text[n] = '\0';
	if (strlen(text) != n) {
		free(text);
		snprintf(err->text, sizeof(err->text), "this is not text: there is a NUL in it");
		return -EINVAL;
	}
	*ret = text;
	*ret_n = n;
	return 0;
}

int policy_load_file(const char *path, struct policy **ret, struct policy_error *err)
{
	scoped(freep) char *text = NULL;
	size_t n = 0;
	int r;

	r = policy_read_file(path, &text, &n, err);
	if (r < 0)
		return r;
	return policy_load_text(text, n, ret, err);
}
