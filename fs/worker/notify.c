#include "fs/worker/notify.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>

#include "fs/worker/inode.h"
#include "fs/worker/session.h"
#include "fs/worker/told.h"
#include "fs/worker/worker.h"

static uint32_t limit_wanted(void)
{
	const char *text = getenv("COFFER_NOTES");
	unsigned long n = text ? strtoul(text, NULL, 10) : 0;

	return n > 0 && n < NOTES_MAX ? (uint32_t)n : NOTES_MAX;
}

int note_queue_init(struct note_queue *q)
{
	*q = (struct note_queue){.limit = limit_wanted(), .special = calloc(1, sizeof(struct note))};
	if (!q->special)
		return -ENOMEM;
	q->last = &q->first;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->wake, NULL);
	return 0;
}

static void drop_all(struct note_queue *q)
{
	for (struct note *n = q->first, *next; n; n = next) {
		next = n->next;
		free(n);
	}
	q->first = NULL;
	q->last = &q->first;
	q->count = 0;
}

void note_queue_done(struct note_queue *q)
{
	drop_all(q);
	free(q->special);
	pthread_cond_destroy(&q->wake);
	pthread_mutex_destroy(&q->lock);
}

void note_queue_stop(struct note_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->stop = true;
	pthread_cond_signal(&q->wake);
	pthread_mutex_unlock(&q->lock);
}

/* Not one of the queue's own: those may all be dropped for a NOTE_ALL. */
void note_queue_evict(struct note_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->evict = true;
	pthread_cond_signal(&q->wake);
	pthread_mutex_unlock(&q->lock);
}

static struct note *take(struct note_queue *q)
{
	struct note *n = q->first;

	if (q->all || q->evict) {
		n = q->special;
		n->kind = q->all ? NOTE_ALL : NOTE_EVICT;
		*(q->all ? &q->all : &q->evict) = false;
	} else if (n) {
		q->first = n->next;
		if (!q->first)
			q->last = &q->first;
		q->count--;
	}
	return n;
}

struct note *note_queue_next(struct note_queue *q)
{
	struct note *n = NULL;

	pthread_mutex_lock(&q->lock);
	while (!q->stop && !(n = take(q)))
		pthread_cond_wait(&q->wake, &q->lock);
	pthread_mutex_unlock(&q->lock);
	return n;
}

void note_done(struct note_queue *q, struct note *n)
{
	if (n != q->special)
		free(n);
}

/* A note that cannot be made, or is one too many, becomes NOTE_ALL: too much is right, too little is not. */
void note_queue_add(struct note_queue *q, const struct note *what, const char *name)
{
	size_t n = name ? strlen(name) + 1 : 0;
	struct note *note;

	pthread_mutex_lock(&q->lock);
	note = q->count < q->limit ? malloc(sizeof(*note) + n) : NULL;
	if (note) {
		*note = *what;
		if (n)
			memcpy(note->name, name, n);
		note->next = NULL;
		*q->last = note;
		q->last = &note->next;
		q->count++;
	} else {
		drop_all(q);
		q->all = true;
	}
	pthread_cond_signal(&q->wake);
	pthread_mutex_unlock(&q->lock);
}

void notify_all(struct worker *w)
{
	inode_table_lock(w->inodes);
	for (struct session *s = atomic_load(&w->sessions); s; s = s->next) {
		pthread_mutex_lock(&s->notes.lock);
		drop_all(&s->notes);
		s->notes.all = true;
		pthread_cond_signal(&s->notes.wake);
		pthread_mutex_unlock(&s->notes.lock);
	}
	inode_table_unlock(w->inodes);
}

static void tell_others(struct session *by, struct inode *i, const struct note *what, const char *name)
{
	struct worker *w = by->worker;

	atomic_fetch_add(&i->changes, 1);
	if (atomic_load(&w->session_count) < 2)
		return;
	inode_table_lock(w->inodes);
	for (struct session *s = atomic_load(&w->sessions); s; s = s->next) {
		if (s == by || i->index >= s->view.cap || s->view.lookups[i->index] == 0)
			continue;
		note_queue_add(&s->notes, what, name);
	}
	inode_table_unlock(w->inodes);
}

void notify_content(struct session *by, struct inode *i, int64_t off, int64_t len)
{
	struct note n = {.kind = NOTE_CONTENT, .node = inode_node(i), .off = off, .len = len};

	tell_others(by, i, &n, NULL);
}

void notify_self(struct session *s, struct inode *i)
{
	struct note n = {.kind = NOTE_CONTENT, .node = inode_node(i)};

	atomic_fetch_add(&i->changes, 1);
	note_queue_add(&s->notes, &n, NULL);
}

void notify_attributes(struct session *by, struct inode *i)
{
	struct note n = {.kind = NOTE_ATTRIBUTES, .node = inode_node(i)};

	tell_others(by, i, &n, NULL);
}

/* To those of the other sessions whose kernel can have the name, or the directory as it was, in its cache. */
static void tell_name(struct session *by, struct inode *dir, struct note *what, const char *name)
{
	struct worker *w = by->worker;

	atomic_fetch_add(&dir->changes, 1);
	if (atomic_load(&w->session_count) < 2)
		return;
	inode_table_lock(w->inodes);
	for (struct session *s = atomic_load(&w->sessions); s; s = s->next) {
		if (s == by || dir->index >= s->view.cap || s->view.lookups[dir->index] == 0)
			continue;
		what->named = told_has(s->told, what->node, name);
		what->listed = inode_view_unshow(&s->view, dir);
		if (what->named || what->listed)
			note_queue_add(&s->notes, what, name);
	}
	inode_table_unlock(w->inodes);
}

void notify_entry(struct session *by, struct inode *dir, const char *name)
{
	struct note n = {.kind = NOTE_ENTRY, .node = inode_node(dir)};

	tell_name(by, dir, &n, name);
}

void notify_deleted(struct session *by, struct inode *dir, struct inode *child, const char *name)
{
	struct note n = {.kind = NOTE_DELETED, .node = inode_node(dir), .child = inode_node(child)};

	tell_name(by, dir, &n, name);
	notify_attributes(by, child);
}

void notify_unlinked(struct session *by, struct inode *dir, struct inode *child, const char *name)
{
	notify_entry(by, dir, name);
	notify_attributes(by, child);
}

void notify_own_attributes(struct session *s, struct inode *i)
{
	struct note n = {.kind = NOTE_ATTRIBUTES, .node = inode_node(i)};

	atomic_fetch_add(&i->changes, 1);
	note_queue_add(&s->notes, &n, NULL);
}

void notify_members(struct session *s)
{
	note_queue_add(&s->notes, &(struct note){.kind = NOTE_MEMBERS}, NULL);
}

void note_send(struct fuse_session *se, const struct note *n)
{
	switch (n->kind) {
	case NOTE_CONTENT:
		fuse_lowlevel_notify_inval_inode(se, n->node, n->off, n->len);
		break;
	case NOTE_ATTRIBUTES:
		fuse_lowlevel_notify_inval_inode(se, n->node, -1, 0);
		break;
	case NOTE_ENTRY:
		if (n->named)
			fuse_lowlevel_notify_inval_entry(se, n->node, n->name, strlen(n->name));
		if (n->listed)
			fuse_lowlevel_notify_inval_inode(se, n->node, 0, 0);
		break;
	case NOTE_DELETED:
		if (n->named)
			fuse_lowlevel_notify_delete(se, n->node, n->child, n->name, strlen(n->name));
		if (n->listed)
			fuse_lowlevel_notify_inval_inode(se, n->node, 0, 0);
		break;
	case NOTE_EVICT:
	case NOTE_ALL:
	case NOTE_MEMBERS:
		break; /* session_invalidate_all(): the session's thread knows the session */
	}
}
