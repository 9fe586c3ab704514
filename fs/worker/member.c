#include "fs/worker/member.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/thread.h"
#include "fs/worker/guard.h"
#include "fs/worker/handle.h"
#include "fs/worker/loop.h"
#include "fs/worker/notify.h"
#include "fs/worker/session.h"
#include "fs/worker/worker.h"

#define NS 1000000000u
#define BUCKETS 256u
#define MEMBERS_MAX 4096u            /* uids that are remembered; above that the refused ones are forgotten */
#define PARKED_BYTES_MAX (16u << 20) /* of requests that wait for a decision */
#define ASK_AGAIN_NS 1000000000u     /* a refusal is believed for so long: a later grant takes effect */
#define ASK_LIMIT_NS 15000000000u
#define ACL_ENTRIES_MAX 500u /* the kernel reads one page */

enum member_state { MEMBER_WANTED, MEMBER_ASKED, MEMBER_ALLOWED, MEMBER_REFUSED };

struct parked {
	struct parked *next;
	size_t n;
	uint64_t request[]; /* aligned as a request is */
};

struct member {
	struct member *next;
	uid_t uid;
	gid_t gid;
	enum member_state state;
	uint64_t number;
	bool read_only;
	const struct class_set *classes;
	int64_t until;
	uint64_t idle, used; /* seconds: he ends when so many passed since */
	const char *why;     /* he ended by himself */
	int error, ended; /* ended: the errno of his session's end, until he is allowed again */
	uint64_t since;   /* ns: of the state */
	enum { END_NOT, END_BEGUN, END_DONE } end;
	uint64_t ending; /* the session that ends */
	struct parked *first, **last;
};

struct member_access {
	uint32_t id;
	bool is_group, read_only;
};

struct members {
	struct session *session;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct member *buckets[BUCKETS];
	unsigned count;
	size_t parked_bytes;
	unsigned invalidating; /* ends under way: see members_free_pages */
	struct parked *ready, **ready_last;
	bool running, stop;
	pthread_t thread;
	struct member_access *access;
	size_t access_n;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int members_new(struct session *s, struct members **ret)
{
	struct members *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->session = s;
	m->ready_last = &m->ready;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->wake, NULL);
	*ret = m;
	return 0;
}

static void parked_free(struct parked *p)
{
	for (struct parked *next; p; p = next) {
		next = p->next;
		free(p);
	}
}

void members_free(struct members *m)
{
	if (!m)
		return;
	for (unsigned b = 0; b < BUCKETS; b++) {
		for (struct member *u = m->buckets[b], *next; u; u = next) {
			next = u->next;
			parked_free(u->first);
			free(u);
		}
	}
	parked_free(m->ready);
	free(m->access);
	pthread_cond_destroy(&m->wake);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* ---- the table; all under m->lock ---- */

static struct member *find(struct members *m, uid_t uid)
{
	struct member *u = m->buckets[uid % BUCKETS];

	while (u && u->uid != uid)
		u = u->next;
	return u;
}

static void forget_refused(struct members *m)
{
	for (unsigned b = 0; b < BUCKETS; b++) {
		for (struct member **p = &m->buckets[b], *u; (u = *p);) {
			if (u->state != MEMBER_REFUSED || u->end != END_NOT) {
				p = &u->next;
				continue;
			}
			*p = u->next;
			free(u);
			m->count--;
		}
	}
}

static struct member *enter(struct members *m, uid_t uid)
{
	struct member *u;

	if (m->count >= MEMBERS_MAX)
		forget_refused(m);
	u = m->count < MEMBERS_MAX ? calloc(1, sizeof(*u)) : NULL;
	if (!u)
		return NULL;
	u->uid = uid;
	u->last = &u->first;
	u->next = m->buckets[uid % BUCKETS];
	m->buckets[uid % BUCKETS] = u;
	m->count++;
	return u;
}

static struct member *each(struct members *m, bool (*wanted)(const struct member *u))
{
	for (unsigned b = 0; b < BUCKETS; b++) {
		for (struct member *u = m->buckets[b]; u; u = u->next) {
			if (wanted(u))
				return u;
		}
	}
	return NULL;
}

static void set_state(struct member *u, enum member_state state)
{
	u->state = state;
	u->since = now_ns();
}

static void want(struct members *m, struct member *u, gid_t gid)
{
	u->gid = gid;
	set_state(u, MEMBER_WANTED);
	session_tell(m->session);
}

/* The kernel holds pages of the file locked until it is answered. */
static bool holds_pages(const struct fuse_in_header *in)
{
	return in->opcode == FUSE_READ || in->opcode == FUSE_WRITE;
}

static int park(struct members *m, struct member *u, const struct fuse_in_header *in, size_t n)
{
	struct parked *p;

	if (m->invalidating && holds_pages(in))
		return EACCES;
	if (m->parked_bytes + n > PARKED_BYTES_MAX)
		return EAGAIN;
	p = malloc(sizeof(*p) + n);
	if (!p)
		return ENOMEM;
	memcpy(p->request, in, n);
	p->n = n;
	p->next = NULL;
	*u->last = p;
	u->last = &p->next;
	m->parked_bytes += n;
	return -EINPROGRESS;
}

/* What was kept for him is to be looked at again. */
static void release(struct members *m, struct member *u)
{
	if (!u->first)
		return;
	*m->ready_last = u->first;
	m->ready_last = u->last;
	u->first = NULL;
	u->last = &u->first;
	pthread_cond_signal(&m->wake);
}

static int admit(struct members *m, struct member *u, const struct fuse_in_header *in, size_t n,
	struct member_identity *ret)
{
	if (u->state == MEMBER_ALLOWED) {
		if (u->idle && !guard_wants_no_reply(in->opcode))
			u->used = now_ns() / NS;
		*ret = (struct member_identity){.number = u->number, .read_only = u->read_only, .classes = u->classes};
		return 0;
	}
	if (u->state == MEMBER_REFUSED) {
		if (u->end != END_NOT || now_ns() - u->since < ASK_AGAIN_NS)
			return u->error;
		want(m, u, in->gid);
	}
	return park(m, u, in, n);
}

int members_admit(struct members *m, const struct fuse_in_header *in, size_t n, struct member_identity *ret)
{
	struct member *u;
	int r;

	pthread_mutex_lock(&m->lock);
	u = find(m, in->uid);
	if (!u) {
		u = enter(m, in->uid);
		if (u)
			want(m, u, in->gid);
	}
	r = u ? admit(m, u, in, n, ret) : EACCES;
	pthread_mutex_unlock(&m->lock);
	return r;
}

static bool drop_parked(struct members *m, struct member *u, uint64_t unique)
{
	for (struct parked **p = &u->first, *q; (q = *p); p = &q->next) {
		if (((const struct fuse_in_header *)q->request)->unique != unique)
			continue;
		*p = q->next;
		if (!q->next)
			u->last = p;
		m->parked_bytes -= q->n;
		free(q);
		return true;
	}
	return false;
}

bool members_interrupted(struct members *m, uint64_t unique)
{
	bool found = false;

	pthread_mutex_lock(&m->lock);
	for (unsigned b = 0; b < BUCKETS && !found; b++) {
		for (struct member *u = m->buckets[b]; u && !found; u = u->next)
			found = drop_parked(m, u, unique);
	}
	pthread_mutex_unlock(&m->lock);
	return found;
}

static void deny_pages(struct members *m, struct member *u)
{
	struct parked **p = &u->first, *q;

	while ((q = *p)) {
		const struct fuse_in_header *in = (const void *)q->request;

		if (!holds_pages(in)) {
			p = &q->next;
			continue;
		}
		session_answer_error(m->session, in->unique, EACCES);
		*p = q->next;
		m->parked_bytes -= q->n;
		free(q);
	}
	u->last = p;
}

static void free_pages(struct members *m)
{
	m->invalidating++;
	for (unsigned b = 0; b < BUCKETS; b++) {
		for (struct member *u = m->buckets[b]; u; u = u->next)
			deny_pages(m, u);
	}
}

void members_free_pages(struct members *m)
{
	pthread_mutex_lock(&m->lock);
	free_pages(m);
	pthread_mutex_unlock(&m->lock);
}

/* ---- the thread that answers what was kept ---- */

static struct parked *next_ready(struct members *m)
{
	struct parked *p;

	pthread_mutex_lock(&m->lock);
	while (!m->ready && !m->stop)
		pthread_cond_wait(&m->wake, &m->lock);
	p = m->ready;
	if (p) {
		m->ready = p->next;
		if (!m->ready)
			m->ready_last = &m->ready;
		m->parked_bytes -= p->n;
	}
	pthread_mutex_unlock(&m->lock);
	return p;
}

static void *answer_thread(void *arg)
{
	struct members *m = arg;
	struct parked *p;

	if (loop_answer_buffer_begin() < 0)
		log_error("no memory to answer requests that waited for a decision: they get ENOMEM");
	while ((p = next_ready(m))) {
		session_handle_request(m->session, p->request, p->n);
		free(p);
	}
	loop_answer_buffer_end();
	return NULL;
}

int members_start(struct members *m)
{
	int r;

	r = thread_start(&m->thread, answer_thread, m);
	m->running = r == 0;
	return r;
}

void members_stop(struct members *m)
{
	if (!m->running)
		return;
	pthread_mutex_lock(&m->lock);
	for (unsigned b = 0; b < BUCKETS; b++) {
		for (struct member *u = m->buckets[b]; u; u = u->next)
			release(m, u);
	}
	m->stop = true;
	pthread_cond_signal(&m->wake);
	pthread_mutex_unlock(&m->lock);
	pthread_join(m->thread, NULL);
	m->running = false;
}

/* ---- decisions ---- */

static bool is_wanted(const struct member *u)
{
	return u->state == MEMBER_WANTED;
}

bool members_next_wanted(struct members *m, uid_t *ret_uid, gid_t *ret_gid)
{
	struct member *u;

	pthread_mutex_lock(&m->lock);
	u = each(m, is_wanted);
	if (u) {
		*ret_uid = u->uid;
		*ret_gid = u->gid;
		set_state(u, MEMBER_ASKED);
	}
	pthread_mutex_unlock(&m->lock);
	return u != NULL;
}

static void refuse(struct members *m, struct member *u, int error)
{
	u->error = u->ended ? u->ended : error;
	set_state(u, MEMBER_REFUSED);
	release(m, u);
}

int members_decide(struct members *m, const struct member_terms *t)
{
	struct member *u;

	pthread_mutex_lock(&m->lock);
	u = find(m, t->uid);
	if (u && u->state != MEMBER_ASKED && u->state != MEMBER_WANTED)
		u = NULL;
	if (u && t->error > 0) {
		refuse(m, u, t->error);
	} else if (u) {
		u->number = t->number;
		u->read_only = t->read_only;
		u->classes = t->classes;
		u->until = t->until;
		u->idle = t->idle;
		u->used = now_ns() / NS;
		u->ended = 0;
		set_state(u, MEMBER_ALLOWED);
		release(m, u);
	}
	pthread_mutex_unlock(&m->lock);
	return u ? 0 : -ENOENT;
}

/* why NULL: who asked for it knows. */
static void begin_end(struct members *m, struct member *u, int error, const char *why)
{
	u->why = why;
	u->ended = error;
	u->ending = u->number;
	u->end = END_BEGUN;
	refuse(m, u, error);
	free_pages(m);
	notify_members(m->session);
}

int members_end(struct members *m, uint64_t number, int error)
{
	struct member *found = NULL;

	pthread_mutex_lock(&m->lock);
	for (unsigned b = 0; b < BUCKETS && !found; b++) {
		for (found = m->buckets[b]; found; found = found->next) {
			if (found->state == MEMBER_ALLOWED && found->number == number)
				break;
		}
	}
	if (found)
		begin_end(m, found, error, NULL);
	pthread_mutex_unlock(&m->lock);
	return found ? 0 : -ENOENT;
}

static bool is_ending(const struct member *u)
{
	return u->end == END_BEGUN;
}

/* What he has open dies for everybody's page cache and for his own mappings; the others read anew. */
void members_invalidate(struct members *m)
{
	struct session *s = m->session;

	for (;;) {
		uint64_t *nodes = NULL, number = 0;
		struct member *u;
		size_t n = 0;

		pthread_mutex_lock(&m->lock);
		u = each(m, is_ending);
		if (u)
			number = u->ending;
		pthread_mutex_unlock(&m->lock);
		if (!u)
			return;
		if (handle_end_session(s->handles, number, &nodes, &n) < 0) {
			log_error("session %llu: no memory to invalidate a member's pages: the worker ends",
				(unsigned long long)s->number);
			abort(); /* fsd then invalidates what is open from its own table */
		}
		for (size_t k = 0; k < n; k++)
			fuse_lowlevel_notify_inval_inode(s->se, nodes[k], 0, 0);
		free(nodes);
		pthread_mutex_lock(&m->lock);
		u->end = END_DONE; /* it cannot be forgotten before that */
		m->invalidating--;
		pthread_mutex_unlock(&m->lock);
		session_tell(s);
	}
}

static bool is_gone(const struct member *u)
{
	return u->end == END_DONE;
}

bool members_next_gone(struct members *m, uint64_t *ret_number, const char **ret_why)
{
	struct member *u;

	pthread_mutex_lock(&m->lock);
	u = each(m, is_gone);
	if (u) {
		*ret_number = u->ending;
		*ret_why = u->why;
		u->end = END_NOT;
	}
	pthread_mutex_unlock(&m->lock);
	return u != NULL;
}

void members_tick(struct members *m, int64_t now, int64_t *first)
{
	pthread_mutex_lock(&m->lock);
	for (unsigned b = 0; b < BUCKETS; b++) {
		for (struct member *u = m->buckets[b]; u; u = u->next) {
			if (u->state == MEMBER_ALLOWED && u->until && now >= u->until)
				begin_end(m, u, EKEYEXPIRED, "expired");
			else if (u->state == MEMBER_ALLOWED && u->idle && now_ns() / NS - u->used > u->idle)
				begin_end(m, u, EKEYEXPIRED, "not used");
			else if (u->state == MEMBER_ASKED && now_ns() - u->since > ASK_LIMIT_NS)
				refuse(m, u, EACCES);
			if (u->state == MEMBER_ALLOWED && u->until > now && u->until < *first)
				*first = u->until;
		}
	}
	pthread_mutex_unlock(&m->lock);
}

/* ---- the access list ---- */

int members_set_access(struct members *m, json_t *rows)
{
	size_t k, n = json_array_size(rows);
	struct member_access *list = calloc(n + 1, sizeof(*list)), *old;
	json_t *row;

	if (!list)
		return -ENOMEM;
	json_array_foreach(rows, k, row)
	{
		const char *rights;
		json_int_t id;
		int group;

		if (json_unpack(row, "{s:I,s:b,s:s}", "id", &id, "group", &group, "rights", &rights) < 0) {
			free(list);
			return -EINVAL;
		}
		list[k] = (struct member_access){
			.id = (uint32_t)id, .is_group = group, .read_only = strcmp(rights, "rw") != 0};
	}
	pthread_mutex_lock(&m->lock);
	old = m->access;
	m->access = list;
	m->access_n = n;
	pthread_mutex_unlock(&m->lock);
	free(old);
	return 0;
}

struct acl {
	struct member_access entries[ACL_ENTRIES_MAX];
	size_t n;
	bool cut;
};

/* The widest of what is known of him: the view must never be stricter than the decision, which is made
 * anyway. */
static void acl_add(struct acl *a, const struct member_access *e)
{
	for (size_t k = 0; k < a->n; k++) {
		if (a->entries[k].id == e->id && a->entries[k].is_group == e->is_group) {
			a->entries[k].read_only &= e->read_only;
			return;
		}
	}
	if (a->n < ACL_ENTRIES_MAX)
		a->entries[a->n++] = *e;
	else
		a->cut = true;
}

static int acl_order(const void *a, const void *b)
{
	const struct member_access *x = a, *y = b;

	if (x->is_group != y->is_group)
		return x->is_group - y->is_group;
	return (x->id > y->id) - (x->id < y->id);
}

static void acl_collect(struct members *m, struct acl *a)
{
	for (unsigned b = 0; b < BUCKETS; b++) {
		for (const struct member *u = m->buckets[b]; u; u = u->next) {
			if (u->state == MEMBER_ALLOWED)
				acl_add(a, &(struct member_access){.id = u->uid, .read_only = u->read_only});
		}
	}
	for (size_t k = 0; k < m->access_n; k++)
		acl_add(a, &m->access[k]);
	qsort(a->entries, a->n, sizeof(a->entries[0]), acl_order);
}

static void acl_put(struct posix_acl_xattr_entry **to, unsigned tag, unsigned perm, uint32_t id)
{
	*(*to)++ =
		(struct posix_acl_xattr_entry){.e_tag = (uint16_t)tag, .e_perm = (uint16_t)perm, .e_id = id};
}

static void acl_write(const struct acl *a, void *buf)
{
	const unsigned all = ACL_READ | ACL_WRITE | ACL_EXECUTE, read = ACL_READ | ACL_EXECUTE;
	struct posix_acl_xattr_header *head = buf;
	struct posix_acl_xattr_entry *to = (void *)(head + 1);
	size_t k = 0;

	head->a_version = POSIX_ACL_XATTR_VERSION;
	acl_put(&to, ACL_USER_OBJ, all, ACL_UNDEFINED_ID);
	for (; k < a->n && !a->entries[k].is_group; k++)
		acl_put(&to, ACL_USER, a->entries[k].read_only ? read : all, a->entries[k].id);
	acl_put(&to, ACL_GROUP_OBJ, 0, ACL_UNDEFINED_ID);
	for (; k < a->n; k++)
		acl_put(&to, ACL_GROUP, a->entries[k].read_only ? read : all, a->entries[k].id);
	acl_put(&to, ACL_MASK, all, ACL_UNDEFINED_ID);
	/* A list that does not fit must not shut out those who are not on it; each uid is decided anyway. */
	acl_put(&to, ACL_OTHER, a->cut ? all : 0, ACL_UNDEFINED_ID);
}

int members_acl(struct members *m, void *buf, size_t cap)
{
	struct acl a = {.n = 0};
	size_t need;

	pthread_mutex_lock(&m->lock);
	acl_collect(m, &a);
	pthread_mutex_unlock(&m->lock);
	need = sizeof(struct posix_acl_xattr_header) + (a.n + 4) * sizeof(struct posix_acl_xattr_entry);
	if (cap == 0)
		return (int)need;
	if (cap < need)
		return -ERANGE;
	acl_write(&a, buf);
	return (int)need;
}
