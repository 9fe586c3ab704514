#include "keyd/subjects.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/date.h"
#include "common/keytree.h"
#include "common/pathseal.h"
#include "common/record.h"
#include "common/scope.h"
#include "common/subject.h"
#include "keyd/classes.h"
#include "keyd/facts_life.h"
#include "keyd/job.h"
#include "keyd/keyring.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/refusals.h"
#include "keyd/session.h"
#include "keyd/survey.h"

#define KEEP_SECONDS 60	   /* after the last question */
#define LISTS_MAX 8	   /* of one uid, in memory, 200 bytes a file: the oldest goes */
#define PIECE (512u << 10) /* of lines, in one answer */

struct subject_list { /* what a search found, until it is fetched */
	struct subject_list *next;
	json_int_t id;
	uid_t uid;
	int fd;
	uint64_t asked_at; /* tick */
};

struct search {
	struct keyd *k;
	struct fact_client client;
	char *user, *subject; /* NULL: which there are */
	uid_t uid;
	int fd;
	struct job *job;
};

static void search_free(struct search *s)
{
	close_fdp(&s->fd);
	free(s->user);
	free(s->subject);
	free(s);
}
DEFINE_SCOPED(struct search *, search_free)
DEFINE_SCOPED(struct keytree *, keytree_free)

/* ---- labels ---- */

bool params_subject(struct varlink_call *call, const char *subject)
{
	if (subject_id_ok(subject, strlen(subject)))
		return true;
	varlink_errorf(call, "InvalidParameter", NULL,
		"a subject is called by 1 to %d bytes of text without control characters", SUBJECT_ID_MAX);
	return false;
}

json_t *subjects_seal_at(struct keyd *k, const struct fact_client *c, const char *subject, int64_t at)
{
	const struct leaf_index leaf = {.class = CLASS_AUDIT, .day = date_month_day(at)};
	scoped(keytree_freep) struct keytree *tree = NULL;
	scoped(key32_wipe) struct key32 key = {0};
	uint8_t sealed[RECORD_PATH_MAX];
	char text[sodium_base64_ENCODED_LEN(sizeof(sealed), sodium_base64_VARIANT_ORIGINAL)];
	size_t n = strlen(subject);
	struct client_id id;

	if (keyd_is_sealed(k) || n > sizeof(sealed) - PATHSEAL_OVERHEAD || client_id_parse(c->hex, &id) < 0 ||
		keyring_tree(k->ring, &id, &tree, NULL) < 0 || keytree_derive(tree, leaf, KEY_USE_AUDIT, &key) < 0)
		return NULL;
	pathseal_seal(&key, NULL, 0, subject, n, sealed);
	sodium_bin2base64(text, sizeof(text), sealed, n + PATHSEAL_OVERHEAD, sodium_base64_VARIANT_ORIGINAL);
	return json_pack("{s:s, s:i, s:s}", "client_id", c->hex, "month", leaf.day, "sealed", text);
}

json_t *subjects_seal(struct keyd *k, const struct fact_client *c, const char *subject)
{
	return subjects_seal_at(k, c, subject, keyd_now());
}

/* ---- lists ---- */

static void list_drop(struct keyd *k, struct subject_list *l)
{
	for (struct subject_list **p = &k->subject_lists; *p; p = &(*p)->next)
		if (*p == l) {
			*p = l->next;
			close_fdp(&l->fd);
			free(l);
			return;
		}
}

void subjects_forget(struct keyd *k)
{
	while (k->subject_lists)
		list_drop(k, k->subject_lists);
}

void subjects_tick(struct keyd *k)
{
	for (struct subject_list *l = k->subject_lists, *next; l; l = next) {
		next = l->next;
		if (k->tick - l->asked_at > KEEP_SECONDS)
			list_drop(k, l);
	}
}

/* The newest come first. */
static void drop_oldest(struct keyd *k, uid_t uid)
{
	struct subject_list *oldest = NULL;
	unsigned n = 0;

	for (struct subject_list *l = k->subject_lists; l; l = l->next)
		if (l->uid == uid) {
			oldest = l;
			n++;
		}
	if (n > LISTS_MAX)
		list_drop(k, oldest);
}

/* Takes *fd.  0: no memory. */
static json_int_t list_add(struct keyd *k, uid_t uid, int *fd)
{
	struct subject_list *l = calloc(1, sizeof(*l));
	json_int_t id;

	if (!l)
		return 0;
	*l = (struct subject_list){.next = k->subject_lists,
		.id = (json_int_t)randombytes_random() + 1,
		.uid = uid,
		.fd = take_fd(fd),
		.asked_at = k->tick};
	id = l->id;
	k->subject_lists = l;
	drop_oldest(k, uid);
	return id;
}

/* Whole lines from `at` on.  *ret_next: where the next one begins. */
static int read_lines(int fd, int64_t at, json_t *rows, int64_t *ret_next)
{
	scoped(freep) char *piece = malloc(PIECE);
	char *line, *end;
	ssize_t n;
	json_t *row;

	if (!piece)
		return -ENOMEM;
	n = pread(fd, piece, PIECE, at);
	if (n < 0)
		return -errno;
	for (line = piece; (end = memchr(line, '\n', (size_t)(piece + n - line))); line = end + 1) {
		row = json_loadb(line, (size_t)(end - line), 0, NULL);
		if (!row)
			return -EBADMSG;
		json_array_append_new(rows, row);
	}
	if (line == piece && n > 0)
		return -EBADMSG; /* no line is so long */
	*ret_next = at + (line - piece);
	return 0;
}

int keyd_subject_rows(struct varlink_call *call, json_t *params, void *userdata)
{
	json_int_t id = 0, at = 0;
	struct keyd *k = userdata;
	struct subject_list *l;
	json_t *rows, *answer;
	struct stat st;
	int64_t next = 0;
	int r;

	if (!params_unpack(call, params, "{s:I, s?I}", "list", &id, "at", &at))
		return 0;
	for (l = k->subject_lists; l && (l->id != id || l->uid != varlink_call_peer(call)->uid); l = l->next)
		;
	if (!l || at < 0)
		return varlink_error(call, "UnknownJob", "you have no such list", "search again");
	l->asked_at = k->tick;
	rows = json_array();
	r = read_lines(l->fd, at, rows, &next);
	if (r < 0 || fstat(l->fd, &st) < 0) {
		json_decref(rows);
		return varlink_error(call, "Failed", "the list is not readable", "search again");
	}
	answer = json_pack("{s:o}", "rows", rows);
	if (next < st.st_size)
		json_object_set_new(answer, "next", json_integer(next));
	else
		list_drop(k, l);
	return varlink_reply(call, answer);
}

/* ---- searching ---- */

static json_t *kept_counts(const json_t *counts)
{
	static const char *const kept[] = {
		"about", "about_bytes", "shared", "held", "unclear", "damaged", "failed", "files", "links", "directories", NULL};
	json_t *o = json_object(), *v;

	for (const char *const *key = kept; *key; key++) {
		v = json_object_get(counts, *key);
		if (v)
			json_object_set(o, *key, v);
	}
	return o;
}

static int put(struct search *s, const char *kind, const char *outcome, json_t *counts)
{
	json_t *detail = json_pack("{s:o*}", "subject", s->subject ? subjects_seal(s->k, &s->client, s->subject) : NULL);
	struct outbox_entry e = {.kind = kind,
		.outcome = outcome,
		.by = {.user = s->user, .uid = s->uid},
		.client = s->client.client,
		.detail = detail};

	if (detail && counts)
		json_object_set(detail, "counts", counts);
	return outbox_put(s->k, &e);
}

/* Nothing is told that is not recorded. */
static void searched(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(search_freep) struct search *s = arg;
	json_t *counts = kept_counts(r->counts);
	json_int_t list = 0;
	int e = put(s, s->subject ? "subject-find" : "subject-list", r->error ? "Failed" : NULL, counts);

	(void)outbox_deliver(k);
	if (r->error == 0 && e == 0)
		list = list_add(k, s->uid, &s->fd);
	if (r->error == -ECANCELED) {
		json_decref(counts);
		classes_made_way(s->job, s->client.client);
		return;
	}
	if (r->error || e < 0 || !list) {
		json_decref(counts);
		job_fail(s->job, e == -ENOSPC ? "NoRoom" : "Failed", NULL, "the search was broken off: %s",
			r->error ? (r->text ? r->text : strerror(-r->error)) : strerror(e < 0 ? -e : ENOMEM));
		return;
	}
	job_done(s->job, json_pack("{s:I, s:o, s:b, s:b}", "list", list, "counts", counts, "moved", r->moved, "client_held",
				 s->client.held));
}

static void running(const json_t *counts, void *arg)
{
	struct search *s = arg;
	json_t *kept = kept_counts(counts);

	job_progress(s->job, kept);
	json_decref(kept);
}

/* Names are client data: for who looks after them, and for who has the share open himself, where he could look for them.  Not
 * for the users of a shared mount: there the modes of directories count. */
static bool may_find(struct keyd *k, struct varlink_call *call, const struct fact_client *c)
{
	const struct peer *p = varlink_call_peer(call);

	if (has_role(call, ROLE_CUSTODIAN | ROLE_AUDITOR))
		return true;
	for (const struct session *s = k->sessions; s; s = s->next)
		if (s->uid == p->uid && s->attached && !s->shared && !s->member_of && strcmp(s->client, c->client) == 0)
			return true;
	return false;
}

static struct search *search_new(
	struct keyd *k, struct varlink_call *call, const struct fact_client *c, const char *subject)
{
	scoped(search_freep) struct search *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->k = k;
	s->client = *c;
	s->uid = varlink_call_peer(call)->uid;
	s->user = strdup(varlink_call_peer(call)->user);
	s->subject = subject ? strdup(subject) : NULL;
	s->fd = memfd_create("coffer-subject", MFD_CLOEXEC);
	return s->user && (s->subject || !subject) && s->fd >= 0 ? take_ptr(&s) : NULL;
}

static int refuse(struct varlink_call *call, struct search *s, const char *kind)
{
	if (refusal_is_recorded(s->k, actor_of(call))) {
		(void)put(s, kind, "PermissionDenied", NULL);
		(void)outbox_deliver(s->k);
	}
	return varlink_errorf(call, "PermissionDenied", "mount it for your purpose, or ask one of them",
		"what %s's share has about a person is for custodians, auditors and who has it mounted (a mount of his own)",
		s->client.client);
}

/* Takes s and params. */
static int start(struct varlink_call *call, struct search *taken, const char *mode, json_t *params)
{
	scoped(search_freep) struct search *s = taken;
	const struct survey_spec spec = {
		.mode = mode, .params = params, .list_fd = s->fd, .way = classes_way(call), .running = running, .done = searched, .arg = s};
	int r = survey_start(s->k, &s->client, &spec);

	if (r < 0)
		return varlink_errorf(call, "StoreUnreadable", "log/keyd.log in the state directory says why",
			"the store of %s does not open: %s", s->client.client, strerror(-r));
	s->job = job_new(s->k, call);
	s = NULL; /* the survey's */
	return 0;
}

int keyd_subject_find(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(search_freep) struct search *s = NULL;
	const char *client, *subject;
	struct keyd *k = userdata;
	struct fact_client c;
	json_t *held = NULL;
	int r;

	if (!params_unpack(call, params, "{s:s, s:s}", "client", &client, "subject", &subject) ||
		!params_subject(call, subject) || !params_client(k, call, client, &c))
		return 0;
	s = search_new(k, call, &c, subject);
	if (!s)
		return -ENOMEM;
	if (!may_find(k, call, &c))
		return refuse(call, s, "subject-find");
	if (has_role(call, ROLE_CUSTODIAN | ROLE_AUDITOR) ? !classes_may_begin(k, call, &c)
							 : !classes_may_begin_last(k, call, &c))
		return 0;
	r = facts_held(k->facts, c.row, &held);
	if (r < 0)
		return reply_failure(k, call, r, "the holds cannot be read");
	return start(call, take_ptr(&s), "subject",
		json_pack("{s:s, s:b, s:o}", "subject", subject, "names", 1, "held", held));
}

/* Which persons there are labels of: a list of persons, so not for everybody who works there. */
int keyd_subject_labels(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct fact_client c;
	const char *client;
	struct search *s;

	if (!params_unpack(call, params, "{s:s}", "client", &client) || !params_client(k, call, client, &c) ||
		!classes_may_begin(k, call, &c))
		return 0;
	s = search_new(k, call, &c, NULL);
	return s ? start(call, s, "labels", json_object()) : -ENOMEM;
}

/* ---- a copy for that person ---- */

/* From a tool, which may be anybody's: numbers only. */
static json_t *exported_counts(const json_t *counts)
{
	static const char *const kept[] = {"files", "bytes", "links", "left", "shared", "held", NULL};
	json_t *o = json_object(), *v;

	for (const char *const *key = kept; *key; key++) {
		v = json_object_get(counts, *key);
		if (json_is_integer(v) || json_is_boolean(v))
			json_object_set(o, *key, v);
	}
	return o;
}

/* Each file that goes into it is an open of the session that reads it; this says what for. */
int keyd_subject_export(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(search_freep) struct search *s = NULL;
	const char *client, *subject, *state;
	json_t *counts = NULL;
	struct keyd *k = userdata;
	struct fact_client c;
	int r;

	if (!params_unpack(call, params, "{s:s, s:s, s:s, s?o}", "client", &client, "subject", &subject, "state", &state,
		    "counts", &counts) ||
		!params_subject(call, subject) || !params_client(k, call, client, &c))
		return 0;
	if (strcmp(state, "begin") != 0 && strcmp(state, "end") != 0 && strcmp(state, "broken-off") != 0)
		return varlink_error(call, "InvalidParameter", "state: begin, end or broken-off", NULL);
	s = search_new(k, call, &c, subject);
	if (!s)
		return -ENOMEM;
	if (!may_find(k, call, &c))
		return refuse(call, s, "subject-export");
	counts = exported_counts(counts);
	r = put(s, strcmp(state, "begin") == 0 ? "subject-export" : "subject-export-end",
		strcmp(state, "broken-off") == 0 ? "Failed" : NULL, counts);
	json_decref(counts);
	if (r < 0)
		return reply_failure(k, call, r, "the copy cannot be recorded");
	(void)outbox_deliver(k);
	return varlink_reply(call, NULL);
}
