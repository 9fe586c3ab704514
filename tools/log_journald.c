/* Rows of the record as entries of the system's journal: `coffer log --format journald`.  Each field of a row is a field
 * COFFER_<NAME> of the entry, so that a value may hold any byte and pretend to be nothing else. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/log_format.h"
#include "tools/tool.h"

#define FIELDS_MAX 48
#define SOCKET "/run/systemd/journal/socket"

static int first_error;

static void add(struct iovec iov[FIELDS_MAX], int *n, char *field)
{
	if (field && *n < FIELDS_MAX)
		iov[(*n)++] = (struct iovec){field, strlen(field)};
	else
		free(field);
}

static char *field_of(const char *key, const json_t *v)
{
	scoped(freep) char *other = json_is_string(v) || json_is_null(v) ? NULL : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	const char *value = json_is_string(v) ? json_string_value(v) : other;
	char *field = NULL;

	if (!value || asprintf(&field, "COFFER_%s=%s", key, value) < 0)
		return NULL;
	for (char *c = field; *c != '='; c++)
		*c = (char)toupper((unsigned char)*c);
	return field;
}

static char *message_of(const json_t *row, const char *result)
{
	const char *op = json_string_value(json_object_get(row, "op")), *user = json_string_value(json_object_get(row, "user"));
	const char *client = json_string_value(json_object_get(row, "client"));
	char *text = NULL;

	if (asprintf(&text, "MESSAGE=%s by %s%s%s: %s", op ? op : "?", user ? user : "coffer", client ? " for " : "", client ? client : "",
		    result) < 0)
		return NULL;
	return text;
}

void log_journald_row(const json_t *row, const char *result, int priority)
{
	struct iovec iov[FIELDS_MAX];
	char *word = NULL, *level = NULL;
	const char *key;
	json_t *v;
	int n = 0, r;

	add(iov, &n, message_of(row, result));
	add(iov, &n, strdup("MESSAGE_ID=" LOG_MESSAGE_ID));
	add(iov, &n, strdup("SYSLOG_IDENTIFIER=coffer-log"));
	add(iov, &n, asprintf(&level, "PRIORITY=%d", priority) < 0 ? NULL : level);
	add(iov, &n, asprintf(&word, "COFFER_RESULT=%s", result) < 0 ? NULL : word);
	json_object_foreach((json_t *)row, key, v)
		add(iov, &n, field_of(key, v));
	r = sd_journal_sendv(iov, n);
	if (r < 0 && !first_error)
		first_error = r;
	while (n > 0)
		free(iov[--n].iov_base);
}

/* The library takes no journal for no error. */
int log_journald_check(void)
{
	const struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = SOCKET};
	scoped(close_fdp) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return fail(EXIT_UNREACHABLE, "the system's journal is not there (%s: %s); choose another --format", SOCKET, strerror(errno));
	return EXIT_OK;
}

int log_journald_end(void)
{
	return first_error ? fail(EXIT_FAILED, "rows could not be sent to the system's journal: %s", strerror(-first_error)) : EXIT_OK;
}
