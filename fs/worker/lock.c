#include "fs/worker/lock.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdlib.h>

#define BUCKETS 256u
#define DEADLOCK_STEPS 10u
/* Where something changed; no node has these numbers. */
#define NODE_ANY 0u
#define NODE_NONE UINT64_MAX

struct held {
	struct held *next;
	struct lock_claim c;
};

struct waiting {
	struct waiting *next;
	struct lock_table *table;
	struct lock_claim c;
	fuse_req_t req;
	bool interrupted;
	int answer; /* positive errno, once it is taken off the list */
};

struct user {
	struct user *next;
	uint32_t uid, held, waiting;
};

struct lock_table {
	pthread_mutex_t lock;
	struct user *users; /* who ever locked something here */
	struct held *buckets[BUCKETS];
	struct waiting *waiting; /* oldest first */
	uint32_t count;
};

int lock_table_new(struct lock_table **ret)
{
	struct lock_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	*ret = t;
	return 0;
}

void lock_table_free(struct lock_table *t)
{
	if (!t)
		return;
	for (unsigned b = 0; b < BUCKETS; b++) {
		for (struct held *h = t->buckets[b], *next; h; h = next) {
			next = h->next;
			free(h);
		}
	}
	for (struct user *u = t->users, *next; u; u = next) {
		next = u->next;
		free(u);
	}
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* ---- each user's share ---- */

/* NULL: not known, and with `make` no memory. */
static struct user *user_of(struct lock_table *t, uint32_t uid, bool make)
{
	struct user *u = t->users;

	while (u && u->uid != uid)
		u = u->next;
	if (u || !make)
		return u;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->uid = uid;
	u->next = t->users;
	t->users = u;
	return u;
}

/* One lock more; its user is known (set_locked). */
static void count_held(struct lock_table *t, uint32_t uid)
{
	struct user *u = user_of(t, uid, false);

	t->count++;
	if (u)
		u->held++;
}

static void free_held(struct lock_table *t, struct held *h)
{
	struct user *u = user_of(t, h->c.uid, false);

	t->count--;
	if (u && u->held > 0)
		u->held--;
	free(h);
}

static bool has_room(struct lock_table *t, uint32_t uid)
{
	struct user *u = user_of(t, uid, true);

	return u && u->held < LOCKS_USER_MAX && t->count < LOCKS_MAX;
}

static bool may_wait(struct lock_table *t, uint32_t uid)
{
	struct user *u = user_of(t, uid, true);

	if (!u || u->waiting >= LOCKS_USER_WAITING_MAX)
		return false;
	u->waiting++;
	return true;
}

static void waits_no_more(struct lock_table *t, uint32_t uid)
{
	struct user *u = user_of(t, uid, false);

	if (u && u->waiting > 0)
		u->waiting--;
}

/* ---- what is held ---- */

static struct held **bucket(struct lock_table *t, uint64_t node)
{
	return &t->buckets[(uint32_t)node % BUCKETS];
}

static bool same_owner(const struct lock_claim *a, const struct lock_claim *b)
{
	return a->session == b->session && a->owner == b->owner && a->kind == b->kind && a->node == b->node;
}

static bool overlap(const struct lock_claim *a, const struct lock_claim *b)
{
	return a->start <= b->end && b->start <= a->end;
}

static bool conflict(const struct lock_claim *held, const struct lock_claim *want)
{
	return held->node == want->node && held->kind == want->kind && !same_owner(held, want) &&
	       overlap(held, want) && (held->type == F_WRLCK || want->type == F_WRLCK);
}

static const struct lock_claim *find_conflict(struct lock_table *t, const struct lock_claim *c)
{
	for (struct held *h = *bucket(t, c->node); h; h = h->next) {
		if (conflict(&h->c, c))
			return &h->c;
	}
	return NULL;
}

void lock_test(struct lock_table *t, const struct lock_claim *c, struct lock_claim *ret)
{
	const struct lock_claim *in_the_way;

	pthread_mutex_lock(&t->lock);
	in_the_way = find_conflict(t, c);
	*ret = in_the_way ? *in_the_way : *c;
	if (!in_the_way)
		ret->type = F_UNLCK;
	pthread_mutex_unlock(&t->lock);
}

/* Cuts c's range out of what its owner holds; `spare` takes the second half of a lock that is split. */
static void cut_out(struct lock_table *t, const struct lock_claim *c, struct held **spare)
{
	for (struct held **p = bucket(t, c->node), *h; (h = *p);) {
		if (!same_owner(&h->c, c) || !overlap(&h->c, c)) {
			p = &h->next;
			continue;
		}
		if (h->c.start < c->start && h->c.end > c->end) {
			struct held *upper = *spare;

			*spare = NULL;
			upper->c = h->c;
			upper->c.start = c->end + 1;
			h->c.end = c->start - 1;
			upper->next = h->next;
			h->next = upper;
			count_held(t, upper->c.uid);
			return; /* nothing else of this owner can overlap */
		}
		if (h->c.start < c->start) {
			h->c.end = c->start - 1;
			p = &h->next;
		} else if (h->c.end > c->end) {
			h->c.start = c->end + 1;
			p = &h->next;
		} else {
			*p = h->next;
			free_held(t, h);
		}
	}
}

/* What its owner holds right before and behind becomes part of c, as F_GETLK then tells. */
static void join_neighbours(struct lock_table *t, struct lock_claim *c)
{
	for (struct held **p = bucket(t, c->node), *h; (h = *p);) {
		bool before = h->c.end != UINT64_MAX && h->c.end + 1 == c->start;
		bool behind = c->end != UINT64_MAX && c->end + 1 == h->c.start;

		if (!same_owner(&h->c, c) || h->c.type != c->type || !(before || behind)) {
			p = &h->next;
			continue;
		}
		if (before)
			c->start = h->c.start;
		else
			c->end = h->c.end;
		*p = h->next;
		free_held(t, h);
	}
}

/* An owner's locks stand together, the lowest first: that is the order in which F_GETLK finds them. */
static void insert(struct lock_table *t, struct held *mine)
{
	struct held **p = bucket(t, mine->c.node);

	while (*p && !same_owner(&(*p)->c, &mine->c))
		p = &(*p)->next;
	while (*p && same_owner(&(*p)->c, &mine->c) && (*p)->c.start < mine->c.start)
		p = &(*p)->next;
	mine->next = *p;
	*p = mine;
	count_held(t, mine->c.uid);
}

/* An owner who unlocks the middle of what he holds has two locks then. */
static bool splits(struct lock_table *t, const struct lock_claim *c)
{
	for (const struct held *h = *bucket(t, c->node); h; h = h->next) {
		if (same_owner(&h->c, c) && h->c.start < c->start && h->c.end > c->end)
			return true;
	}
	return false;
}

/* Under the lock. */
static int set_locked(struct lock_table *t, const struct lock_claim *c)
{
	struct held *mine, *spare;

	if (c->type != F_UNLCK && find_conflict(t, c))
		return -EAGAIN;
	if (!has_room(t, c->uid) && (c->type != F_UNLCK || splits(t, c)))
		return -ENOLCK;
	mine = calloc(1, sizeof(*mine));
	spare = calloc(1, sizeof(*spare));
	if (!mine || !spare) {
		free(mine);
		free(spare);
		return -ENOLCK;
	}
	cut_out(t, c, &spare);
	free(spare);
	if (c->type == F_UNLCK) {
		free(mine);
		return 0;
	}
	mine->c = *c;
	join_neighbours(t, &mine->c);
	insert(t, mine);
	return 0;
}

/* Under the lock: takes every waiting request off the list that was interrupted, or can be answered
 * now that something changed at `node`. */
static struct waiting *take_ready(struct lock_table *t, uint64_t node)
{
	struct waiting *ready = NULL, **tail = &ready;

	for (struct waiting **p = &t->waiting, *w; (w = *p);) {
		int r = w->interrupted ? -EINTR : node != NODE_ANY && w->c.node != node ? -EAGAIN : set_locked(t, &w->c);

		if (r == -EAGAIN) {
			p = &w->next;
			continue;
		}
		*p = w->next;
		waits_no_more(t, w->c.uid);
		w->next = NULL;
		w->answer = -r;
		*tail = w;
		tail = &w->next;
	}
	return ready;
}

/* Without the lock: libfuse's own lock is held while it calls on_interrupt, which takes ours. */
static void answer_all(struct waiting *w)
{
	for (struct waiting *next; w; w = next) {
		next = w->next;
		fuse_req_interrupt_func(w->req, NULL, NULL); /* from here on nobody else knows w */
		fuse_reply_err(w->req, w->answer);
		free(w);
	}
}

static void wake(struct lock_table *t, uint64_t node)
{
	struct waiting *ready;

	pthread_mutex_lock(&t->lock);
	ready = take_ready(t, node);
	pthread_mutex_unlock(&t->lock);
	answer_all(ready);
}

int lock_set(struct lock_table *t, const struct lock_claim *c)
{
	struct waiting *ready = NULL;
	int r;

	pthread_mutex_lock(&t->lock);
	r = set_locked(t, c);
	if (r == 0 && t->waiting)
		ready = take_ready(t, c->node);
	pthread_mutex_unlock(&t->lock);
	answer_all(ready);
	return r;
}

/* libfuse may run this inside fuse_req_interrupt_func, where the request must not be answered: only mark it.
 */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct waiting *w = data;

	pthread_mutex_lock(&w->table->lock);
	w->interrupted = true;
	pthread_mutex_unlock(&w->table->lock);
}

static bool same_process(const struct lock_claim *a, const struct lock_claim *b)
{
	return a->session == b->session && a->owner == b->owner;
}

/* Under the lock: does who is in the way of c wait, over some others, for c's owner?  As far as the kernel looks on
 * a local disk.  (It does not look at OFD locks, which here cannot be told from the others.) */
static bool deadlock(struct lock_table *t, const struct lock_claim *c)
{
	const struct lock_claim *in_the_way = find_conflict(t, c);

	for (unsigned n = 0; in_the_way && n < DEADLOCK_STEPS; n++) {
		const struct waiting *w = t->waiting;

		while (w && (w->c.kind != LOCK_POSIX || !same_process(&w->c, in_the_way)))
			w = w->next;
		in_the_way = w ? find_conflict(t, &w->c) : NULL;
		if (in_the_way && same_process(in_the_way, c))
			return true;
	}
	return false;
}

void lock_set_wait(struct lock_table *t, const struct lock_claim *c, struct fuse_req *req)
{
	struct waiting *w = calloc(1, sizeof(*w)), **tail;

	if (!w) {
		fuse_reply_err(req, ENOLCK);
		return;
	}
	*w = (struct waiting){.table = t, .c = *c, .req = req};
	fuse_req_interrupt_func(req, on_interrupt, w);
	pthread_mutex_lock(&t->lock);
	w->answer = c->kind == LOCK_POSIX && deadlock(t, c) ? EDEADLK : may_wait(t, c->uid) ? 0 : ENOLCK;
	for (tail = &t->waiting; *tail && w->answer == 0; tail = &(*tail)->next)
		;
	if (w->answer == 0)
		*tail = w;
	else
		tail = NULL;
	pthread_mutex_unlock(&t->lock);
	if (tail)
		wake(t, c->node);
	else
		answer_all(w);
}

void lock_answer_interrupted(struct lock_table *t, uint64_t session)
{
	bool any = false;

	pthread_mutex_lock(&t->lock);
	for (struct waiting *w = t->waiting; w && !any; w = w->next)
		any = w->interrupted && w->c.session == session;
	pthread_mutex_unlock(&t->lock);
	if (any)
		wake(t, NODE_NONE);
}

static void release_if(struct lock_table *t, struct held **from,
	bool (*match)(const struct lock_claim *, const struct lock_claim *), const struct lock_claim *what)
{
	for (struct held **p = from, *h; (h = *p);) {
		if (!match(&h->c, what)) {
			p = &h->next;
			continue;
		}
		*p = h->next;
		free_held(t, h);
	}
}

static bool same_handle(const struct lock_claim *a, const struct lock_claim *b)
{
	return a->session == b->session && a->node == b->node && a->fh == b->fh;
}

static bool same_session(const struct lock_claim *a, const struct lock_claim *b)
{
	return a->session == b->session;
}

static void release_node(struct lock_table *t,
	bool (*match)(const struct lock_claim *, const struct lock_claim *), const struct lock_claim *what)
{
	struct waiting *ready = NULL;

	pthread_mutex_lock(&t->lock);
	if (t->count > 0) {
		release_if(t, bucket(t, what->node), match, what);
		ready = take_ready(t, what->node);
	}
	pthread_mutex_unlock(&t->lock);
	answer_all(ready);
}

void lock_release_owner(
	struct lock_table *t, enum lock_kind kind, uint64_t session, uint64_t owner, uint64_t node)
{
	struct lock_claim what = {.kind = kind, .session = session, .owner = owner, .node = node};

	release_node(t, same_owner, &what);
}

void lock_release_handle(struct lock_table *t, uint64_t session, uint64_t fh, uint64_t node)
{
	struct lock_claim what = {.session = session, .fh = fh, .node = node};

	release_node(t, same_handle, &what);
}

void lock_release_session(struct lock_table *t, uint64_t session, int error)
{
	struct lock_claim what = {.session = session};
	struct waiting *mine = NULL, *ready;

	pthread_mutex_lock(&t->lock);
	for (struct waiting **p = &t->waiting, *w; (w = *p);) {
		if (w->c.session != session) {
			p = &w->next;
			continue;
		}
		*p = w->next;
		waits_no_more(t, w->c.uid);
		w->answer = error;
		w->next = mine;
		mine = w;
	}
	for (unsigned b = 0; b < BUCKETS; b++)
		release_if(t, &t->buckets[b], same_session, &what);
	ready = take_ready(t, NODE_ANY);
	pthread_mutex_unlock(&t->lock);
	answer_all(mine);
	answer_all(ready);
}
