#include "tools/log_format.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/tool.h"

static const char *text(const json_t *row, const char *key)
{
	const char *s = json_string_value(json_object_get(row, key));

	return s ? s : "";
}

static json_int_t number(const json_t *row, const char *key)
{
	return json_integer_value(json_object_get(row, key));
}

static bool failed(const json_t *row)
{
	const json_t *outcome = json_object_get(row, "outcome");

	return json_is_string(outcome) || json_integer_value(outcome) != 0;
}

static const char *result(const json_t *row)
{
	const json_t *outcome = json_object_get(row, "outcome");
	const char *name = json_string_value(outcome);

	if (!name && failed(row))
		name = strerrorname_np((int)json_integer_value(outcome));
	return name ? name : failed(row) ? "failed" : "ok";
}

/* Somebody should look at it, also where it succeeded. */
static bool is_alarming(const char *op)
{
	return strcmp(op, "emergency") == 0 || strcmp(op, "alarm") == 0 || strcmp(op, "attach-refused") == 0 ||
	       strcmp(op, "damage") == 0;
}

/* ---- CSV ---- */

static const char *const csv_columns[] = {"time", "user", "uid", "client", "purpose", "ticket", "session", "op", "result",
	"path", "path2", "file", "size", "bytes_read", "bytes_written", "comm", "pid", "id",
	"detail"};

static void csv_begin(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(csv_columns); i++)
		printf("%s%s", i ? "," : "", csv_columns[i]);
	fputs("\r\n", stdout);
}

/* A spreadsheet takes what begins so for a formula, and whoever names files writes it. */
static bool is_formula(const char *s)
{
	return *s && strchr("=+-@\t\r", *s);
}

static void csv_text(const char *s)
{
	if (!s[strcspn(s, ",\"\r\n")]) {
		fputs(s, stdout);
		return;
	}
	putchar('"');
	for (; *s; s++) {
		if (*s == '"')
			putchar('"');
		putchar(*s);
	}
	putchar('"');
}

static void csv_outside_text(const char *s)
{
	scoped(freep) char *marked = NULL;

	if (isatty(STDOUT_FILENO)) { /* to be looked at: no name moves the cursor */
		put_escaped(stdout, s);
		return;
	}
	csv_text(is_formula(s) && asprintf(&marked, "'%s", s) >= 0 ? marked : s);
}

static void csv_object(const json_t *v)
{
	scoped(freep) char *text = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS);

	csv_text(text ? text : "");
}

static void csv_row(const json_t *row)
{
	for (size_t i = 0; i < ARRAY_SIZE(csv_columns); i++) {
		const char *key = csv_columns[i];
		const json_t *v = json_object_get(row, key);
		char when[DATE_TEXT_MAX];

		if (i)
			putchar(',');
		if (strcmp(key, "time") == 0)
			csv_text(date_format(json_integer_value(v), when));
		else if (strcmp(key, "result") == 0)
			csv_text(result(row));
		else if (json_is_string(v))
			csv_outside_text(json_string_value(v));
		else if (json_is_integer(v))
			printf("%lld", (long long)json_integer_value(v));
		else if (json_is_object(v)) /* of an act: whom a grant was for, why it was refused */
			csv_object(v);
	}
	fputs("\r\n", stdout);
}

/* ---- CEF ---- */

/* A line end beyond ASCII (U+0085, U+2028, U+2029), or another C1 control: its length in bytes, else 0. */
static size_t control_beyond_ascii(const char *s)
{
	const unsigned char *u = (const unsigned char *)s;

	if (u[0] == 0xc2 && u[1] >= 0x80 && u[1] <= 0x9f)
		return 2;
	return u[0] == 0xe2 && u[1] == 0x80 && (u[2] == 0xa8 || u[2] == 0xa9) ? 3 : 0;
}

static void cef_escaped(const char *s, const char *special)
{
	for (; *s; s++) {
		size_t n = control_beyond_ascii(s);

		if (n) {
			putchar('?');
			s += n - 1;
			continue;
		}
		if (*s == '\n' || *s == '\r') {
			fputs(*s == '\n' ? "\\n" : "\\r", stdout);
			continue;
		}
		if ((unsigned char)*s < 0x20 || *s == 0x7f) {
			putchar('?'); /* CEF has no way to write it, and a collector may take it for the end of a line */
			continue;
		}
		if (strchr(special, *s))
			putchar('\\');
		putchar(*s);
	}
}

static void cef_field(const char *key, const char *value)
{
	if (!*value)
		return;
	printf(" %s=", key);
	cef_escaped(value, "\\=");
}

const char *log_text_of(const char *op)
{
	return strncmp(op, "subject-", 8) == 0 ? "subject" : strcmp(op, "source") == 0 ? "source" : NULL;
}

static void cef_row(const json_t *row)
{
	const char *op = text(row, "op");

	fputs("CEF:0|Coffer|coffer|" COFFER_VERSION "|", stdout);
	cef_escaped(op, "\\|");
	putchar('|');
	cef_escaped(op, "\\|");
	printf("|%d|rt=%lld", is_alarming(op) ? 8 : failed(row) ? 6 : 2, (long long)(number(row, "time_ns") / 1000000));
	cef_field("externalId", text(row, "id"));
	cef_field("suser", text(row, "user"));
	if (json_is_integer(json_object_get(row, "uid")))
		printf(" suid=%lld", (long long)number(row, "uid"));
	cef_field("sproc", text(row, "comm"));
	cef_field(json_is_string(json_object_get(row, "path2")) && !log_text_of(op) ? "oldFilePath" : "filePath",
		text(row, "path"));
	if (!log_text_of(op))
		cef_field("filePath", text(row, "path2"));
	cef_field("fileId", text(row, "file"));
	if (number(row, "size"))
		printf(" fsize=%lld", (long long)number(row, "size"));
	cef_field("outcome", result(row));
	if (*text(row, "client")) {
		fputs(" cs1Label=client", stdout);
		cef_field("cs1", text(row, "client"));
	}
	if (*text(row, "purpose")) {
		fputs(" cs2Label=purpose", stdout);
		cef_field("cs2", text(row, "purpose"));
	}
	if (*text(row, "ticket")) {
		fputs(" cs3Label=ticket", stdout);
		cef_field("cs3", text(row, "ticket"));
	}
	if (log_text_of(op) && *text(row, "path2")) {
		printf(" cs4Label=%s", log_text_of(op));
		cef_field("cs4", text(row, "path2"));
	}
	putchar('\n');
}

/* ---- OCSF 1.1, class 1001 "File System Activity" ---- */

#define OCSF_CLASS 1001

/* 0: no activity of files. */
static int ocsf_activity(const char *op)
{
	static const struct {
		const char *op;
		int id;
	} ids[] = {
		{"open", 14}, {"opendir", 14}, {"create", 1}, {"mkdir", 1}, {"mknod", 1}, {"symlink", 1}, {"link", 1},
		{"readlink", 2}, {"close", 99}, {"truncate", 3}, {"fallocate", 3}, {"unlink", 4}, {"rmdir", 4},
		{"rename", 5}, {"setxattr", 6}, {"subject-label", 6}, {"subject-unlabel", 6}, {"source", 6}, {"removexattr", 6}, {"chmod", 7}, {"chown", 7}, {"getxattr", 8},
		{"mount", 12}, {"emergency", 12}, {"enter", 12}, {"mount-failed", 12}, {"session-end", 13}, {"refused", 99},
		{"attach-refused", 99}, {"alarm", 99}, {"damage", 99},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		if (strcmp(ids[i].op, op) == 0)
			return ids[i].id;
	return 0;
}

static json_t *ocsf_file(const json_t *row, const char *key)
{
	const char *path = text(row, key), *slash = strrchr(path, '/');

	return json_pack("{s:s,s:s,s:s*,s:i,s:I}", "name", slash ? slash + 1 : path, "path", path, "uid",
		json_string_value(json_object_get(row, "file")), "type_id", *text(row, "path") ? 1 : 0, "size",
		number(row, "size"));
}

static void ocsf_row(const json_t *row)
{
	const char *op = text(row, "op");
	int activity = ocsf_activity(op);
	char host[256] = "";
	json_t *event;

	if (!activity)
		return;
	gethostname(host, sizeof(host) - 1);
	event = json_pack("{s:i,s:i,s:i,s:i,s:s,s:i,s:I,s:i,s:s,"
			  "s:{s:s,s:{s:s,s:s,s:s}},s:{s:{s:s,s:s+},s:{s:s,s:I},s:{s:s+}},"
			  "s:{s:s,s:i},s:o,s:{s:s,s:s,s:s,s:s}}",
		"class_uid", OCSF_CLASS, "category_uid", 1, "activity_id", activity, "type_uid", OCSF_CLASS * 100 + activity,
		"activity_name", op, "severity_id", is_alarming(op) ? 4 : failed(row) ? 3 : 1, "time", number(row, "time_ns") / 1000000, "status_id",
		failed(row) ? 2 : 1, "status_detail", result(row), "metadata", "version", "1.1.0", "product", "name",
		"Coffer", "vendor_name", "Coffer", "version", COFFER_VERSION, "actor", "user", "name", text(row, "user"),
		"uid", "", "", "process", "name", text(row, "comm"), "pid", number(row, "pid"), "session", "uid", "", "",
		"device", "hostname", host, "type_id", 0, "file", ocsf_file(row, "path"), "unmapped", "client",
		text(row, "client"), "purpose", text(row, "purpose"), "ticket", text(row, "ticket"), "id", text(row, "id"));
	if (!event)
		return;
	if (json_is_integer(json_object_get(row, "uid")))
		json_object_set_new(json_object_get(json_object_get(event, "actor"), "user"), "uid",
			json_sprintf("%lld", (long long)number(row, "uid")));
	json_object_set_new(json_object_get(json_object_get(event, "actor"), "session"), "uid",
		json_sprintf("%lld", (long long)number(row, "session")));
	if (json_is_string(json_object_get(row, "path2")) && log_text_of(op))
		json_object_set(json_object_get(event, "unmapped"), log_text_of(op), json_object_get(row, "path2"));
	else if (json_is_string(json_object_get(row, "path2")))
		json_object_set_new(event, "file_result", ocsf_file(row, "path2"));
	json_dumpf(event, stdout, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII); /* no other line end than ours */
	putchar('\n');
	json_decref(event);
}

static void journald_row(const json_t *row)
{
	log_journald_row(row, result(row), is_alarming(text(row, "op")) ? LOG_WARNING : failed(row) ? LOG_NOTICE : LOG_INFO);
}

const struct log_format *log_format_find(const char *name)
{
	static const struct log_format formats[] = {
		{"csv", csv_begin, csv_row, NULL, NULL},
		{"cef", NULL, cef_row, NULL, NULL},
		{"ocsf", NULL, ocsf_row, NULL, NULL},
		{"journald", NULL, journald_row, log_journald_check, log_journald_end},
	};

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	return NULL;
}

/* ---- pseudonyms ---- */

struct pseudonyms {
	unsigned char key[crypto_generichash_KEYBYTES];
};

static int make_key(const char *file, struct pseudonyms *p)
{
	char hex[2 * sizeof(p->key) + 2];
	scoped(close_fdp) int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return fail(EXIT_USAGE, "%s: %s", file, strerror(errno));
	randombytes_buf(p->key, sizeof(p->key));
	sodium_bin2hex(hex, sizeof(hex), p->key, sizeof(p->key));
	hex[sizeof(hex) - 2] = '\n';
	if (write(fd, hex, sizeof(hex) - 1) != (ssize_t)sizeof(hex) - 1 || fsync(fd) < 0)
		return fail(EXIT_FAILED, "%s: the key could not be written", file);
	return EXIT_OK;
}

int pseudonyms_open(const char *file, struct pseudonyms **ret)
{
	char hex[2 * crypto_generichash_KEYBYTES + 2] = "";
	struct pseudonyms *p = calloc(1, sizeof(*p));
	FILE *f = fopen(file, "re");
	size_t n = 0;
	int r = EXIT_OK;

	if (!p || sodium_init() < 0)
		r = fail(EXIT_FAILED, "out of memory");
	else if (!f && errno == ENOENT)
		r = make_key(file, p);
	else if (!f || !fgets(hex, sizeof(hex), f) ||
		 sodium_hex2bin(p->key, sizeof(p->key), hex, strcspn(hex, "\n"), NULL, &n, NULL) < 0 || n != sizeof(p->key))
		r = fail(EXIT_USAGE, "%s: this is not a key of 64 hex digits", file);
	if (f)
		fclose(f);
	if (r != EXIT_OK) {
		free(p);
		return r;
	}
	*ret = p;
	return EXIT_OK;
}

void pseudonyms_free(struct pseudonyms *p)
{
	if (!p)
		return;
	sodium_memzero(p, sizeof(*p));
	free(p);
}

static bool is_one_of(const char *key, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(key, list[i]) == 0)
			return true;
	return false;
}

void pseudonyms_apply(const struct pseudonyms *p, json_t *row)
{
	static const char *const replaced[] = {"user", "client", "path", "path2", "file"};
	/* What tells nothing about a person; all else goes, also what comes to be written in later versions. */
	static const char *const kept[] = {"id", "time", "time_ns", "op", "outcome", "purpose", "session", "size", "bytes_read",
		"bytes_written", "flags", "name_lost"};
	const char *key;
	json_t *member;
	void *next;

	for (size_t i = 0; i < ARRAY_SIZE(replaced); i++) {
		const char *kind = strcmp(replaced[i], "path2") == 0 ? "path" : replaced[i];
		const char *value = json_string_value(json_object_get(row, replaced[i]));
		crypto_generichash_state h;
		unsigned char hash[16];
		char hex[2 * sizeof(hash) + 1];

		if (!value) {
			if (json_object_get(row, replaced[i]))
				json_object_set_new(row, replaced[i], json_null());
			continue;
		}
		crypto_generichash_init(&h, p->key, sizeof(p->key), sizeof(hash));
		crypto_generichash_update(&h, (const unsigned char *)kind, strlen(kind) + 1);
		crypto_generichash_update(&h, (const unsigned char *)value, strlen(value));
		crypto_generichash_final(&h, hash, sizeof(hash));
		sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
		json_object_set_new(row, replaced[i], json_sprintf("%s-%s", kind, hex));
	}
	json_object_foreach_safe(row, next, key, member)
	{
		if (!is_one_of(key, replaced, ARRAY_SIZE(replaced)) && !is_one_of(key, kept, ARRAY_SIZE(kept)))
			json_object_del(row, key);
	}
}
