#include "fs/worker/session.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/thread.h"
#include "fs/worker/evict.h"
#include "fs/worker/guard.h"
#include "fs/worker/handle.h"
#include "fs/worker/lock.h"
#include "fs/worker/member.h"
#include "fs/worker/ops.h"
#include "fs/worker/recorder.h"
#include "fs/worker/stable.h"
#include "fs/worker/told.h"
#include "fs/worker/worker.h"

#define TABLE_BYTES (HANDLE_MAX * sizeof(uint64_t))
#define REFUSED_PER_SECOND 10u

static _Thread_local struct member_identity acting_for;

const struct member_identity *session_member(void)
{
	return &acting_for;
}

void session_tell(struct session *s)
{
	uint64_t one = 1;

	while (write(s->worker->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void tell_main(struct session *s, enum session_state state)
{
	atomic_store(&s->state, state);
	session_tell(s);
}

int session_new(struct worker *w, const struct session_terms *terms, struct session **ret)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	if (told_new(&s->told) < 0 || note_queue_init(&s->notes) < 0) {
		told_free(s->told);
		free(s);
		return -ENOMEM;
	}
	if (terms->shared && members_new(s, &s->members) < 0) {
		note_queue_done(&s->notes);
		told_free(s->told);
		free(s);
		return -ENOMEM;
	}
	s->worker = w;
	s->number = terms->number;
	s->uid = terms->uid;
	s->gid = terms->gid;
	s->read_only = terms->read_only;
	s->classes = terms->classes;
	s->exclusive = terms->exclusive;
	s->late = terms->late;
	s->sync = terms->sync;
	s->fd = -1;
	s->breaker_fd = -1;
	s->loop_ops = &loop_leader_follower;
	pthread_rwlock_init(&s->replies, NULL);
	pthread_mutex_init(&s->end_lock, NULL);
	pthread_mutex_init(&s->visit, NULL);
	retries_init(&s->retries);
	*ret = s;
	return 0;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	if (atomic_load(&s->state) == SESSION_DEAD)
		pthread_join(s->keeper, NULL);
	members_free(s->members);
	if (s->breaker_fd >= 0)
		close(s->breaker_fd);
	note_queue_done(&s->notes);
	told_free(s->told);
	retries_done(&s->retries);
	pthread_rwlock_destroy(&s->replies);
	pthread_mutex_destroy(&s->end_lock);
	pthread_mutex_destroy(&s->visit);
	if (s->open_nodes)
		munmap((void *)s->open_nodes, TABLE_BYTES);
	free(s);
}

static void begin_end(struct session *s, int error, const char *reason, bool gone)
{
	pthread_mutex_lock(&s->end_lock);
	if (!s->ending) {
		s->ending = true;
		s->end_error = error;
		snprintf(s->end_reason, sizeof(s->end_reason), "%s", reason);
	}
	s->gone |= gone;
	pthread_mutex_unlock(&s->end_lock);
	note_queue_stop(&s->notes);
}

void session_end(struct session *s, int error, const char *reason)
{
	begin_end(s, error, reason, false);
}

/* ---- raw requests and answers ---- */

void session_record_refused(struct session *s, const char *word)
{
	struct record_access a = {.session = s->number, .op = RECORD_REFUSED, .outcome = EBADF};
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	if (atomic_exchange(&s->refused_second, (uint64_t)ts.tv_sec) != (uint64_t)ts.tv_sec)
		atomic_store(&s->refused_count, 0);
	if (atomic_fetch_add(&s->refused_count, 1) >= REFUSED_PER_SECOND)
		return;
	snprintf(a.detail, sizeof(a.detail), "%s", word);
	recorder_append(s->worker->recorder, &a);
	log_warning("session %llu: refused a request: %s", (unsigned long long)s->number, word);
}

void session_answer_error(struct session *s, uint64_t unique, int error)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = -error, .unique = unique};

	/* Fails only when the request was interrupted or the connection is gone: nobody waits then. */
	if (write(s->fd, &out, sizeof(out)) < 0)
		return;
}

/* libfuse 3.14 does not know O_TMPFILE.  Its request and answer are those of CREATE; the flags tell op_create. */
static void translate(struct fuse_in_header *in)
{
	struct fuse_create_in *c = (void *)(in + 1);

	if (in->opcode == FUSE_TMPFILE) {
		in->opcode = FUSE_CREATE;
		c->flags |= O_TMPFILE;
	} else if (in->opcode == FUSE_CREATE) {
		c->flags &= ~(uint32_t)O_TMPFILE;
	}
}

/* In a shared session: may this user's request be served, and as whose?  False: it is answered, or kept. */
static bool admit_member(struct session *s, const struct fuse_in_header *in, size_t n)
{
	int r;

	acting_for = (struct member_identity){.number = s->number, .read_only = true};
	if (!guard_is_users(in, s->exclusive))
		return true;
	r = members_admit(s->members, in, n, &acting_for);
	if (r > 0)
		session_answer_error(s, in->unique, r);
	return r == 0;
}

static uint64_t coarse_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec;
}

bool session_is_idle(const struct session *s)
{
	uint64_t used = atomic_load(&s->used);

	return s->idle && used && atomic_load(&s->state) == SESSION_SERVING && coarse_seconds() - used > s->idle;
}

void session_handle_request(void *arg, void *buf, size_t n)
{
	struct session *s = arg;
	struct fuse_in_header *in = buf;
	const struct guard_terms terms = {.uid = s->members && n >= sizeof(*in) ? in->uid : s->uid,
		.write_back = s->exclusive,
		.refuse = atomic_load(&s->refuse)};
	struct guard_verdict v = guard_check(buf, n, &terms);
	struct fuse_buf fb = {.mem = buf, .size = n};

	if (s->idle && n >= sizeof(*in) && !guard_wants_no_reply(in->opcode))
		atomic_store(&s->used, coarse_seconds());
	if (v.word)
		session_record_refused(s, v.word);
	if (v.error != 0) {
		if (v.error > 0 && !guard_wants_no_reply(in->opcode))
			session_answer_error(s, in->unique, v.error);
		return;
	}
	if (s->members && !admit_member(s, in, n))
		return;
	if (s->members && in->opcode == FUSE_INTERRUPT) {
		uint64_t which = ((const struct fuse_interrupt_in *)(in + 1))->unique;

		if (members_interrupted(s->members, which))
			session_answer_error(s, which, EINTR);
	}
	if (in->opcode == FUSE_INIT && !atomic_load(&s->inited)) {
		const struct fuse_init_in *init = (const void *)(in + 1);

		s->init_unique = in->unique;
		s->kill_priv = init->flags & FUSE_HANDLE_KILLPRIV_V2;
	}
	translate(in);
	stable_request(in->opcode, in->nodeid);
	fuse_session_process_buf(s->se, &fb);
	if (in->opcode == FUSE_INTERRUPT)
		lock_answer_interrupted(s->worker->locks, s->number);
	if (in->opcode == FUSE_INIT && !atomic_exchange(&s->inited, true))
		tell_main(s, SESSION_SERVING);
	if (fuse_session_exited(s->se))
		begin_end(s, ENODEV, "protocol error", true);
}

/* libfuse 3.14 does not know HANDLE_KILLPRIV_V2: without it the kernel asks for security.capability before
 * each write.  Set-id bits are never shown here, so there is nothing to clear. */
static ssize_t io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct session *s = userdata;
	const struct fuse_out_header *out = iov[0].iov_base;

	if (s->init_unique && out->unique == s->init_unique && out->error == 0 && count > 1 &&
		iov[1].iov_len >= sizeof(struct fuse_init_out)) {
		struct fuse_init_out *init = iov[1].iov_base;

		if (s->kill_priv) {
			init->flags |= FUSE_HANDLE_KILLPRIV_V2;
			init->flags &= ~(uint32_t)FUSE_HANDLE_KILLPRIV;
		}
		s->init_unique = 0;
	}
	return s->sync ? stable_answer(s->worker->stable, s, iov, count) : writev(fd, iov, count);
}

static ssize_t io_read(int fd, void *buf, size_t n, void *userdata)
{
	return read(fd, buf, n);
}

static const struct fuse_custom_io custom_io = {.writev = io_writev, .read = io_read};

/* ---- the keeper: notifications, then the end ---- */

static void invalidate_all(struct session *s)
{
	uint64_t *nodes = NULL;
	size_t n = 0;

	if (inode_view_list(s->worker->inodes, &s->view, &nodes, &n) < 0) {
		log_error("session %llu: no memory to invalidate its cached pages: the worker ends",
			(unsigned long long)s->number);
		abort(); /* fsd then invalidates what is open from its own table */
	}
	for (size_t k = 0; k < n; k++)
		fuse_lowlevel_notify_inval_inode(s->se, nodes[k], 0, 0);
	free(nodes);
}

/* What can have dirty pages, and what a program can still have mapped: that of which we have a handle.  The kernel tells us
 * of a close when the last mapping has gone and its pages have arrived. */
static void invalidate_open(struct session *s)
{
	for (size_t k = 0; k < HANDLE_MAX; k++) {
		uint64_t node = atomic_load(&s->open_nodes[k]);

		if (node)
			fuse_lowlevel_notify_inval_inode(s->se, node, 0, 0);
	}
}

#define NOTIFY_INC_EPOCH 8 /* Linux 6.16: every name that is cached is asked for again; older headers do not have it */

static int forget_names(struct session *s)
{
	const struct fuse_out_header out = {.len = sizeof(out), .error = NOTIFY_INC_EPOCH};

	return write(s->fd, &out, sizeof(out)) < 0 ? -errno : 0;
}

static void close_all(struct session *s)
{
	struct handle *h;

	while ((h = handle_release_any(s->handles)))
		ops_handle_put(s, h);
	retries_clear(s);
}

static void leave_worker(struct session *s)
{
	struct worker *w = s->worker;
	struct session *first;

	inode_table_lock(w->inodes);
	first = atomic_load(&w->sessions);
	if (first == s) {
		atomic_store(&w->sessions, s->next);
	} else {
		while (first && first->next != s)
			first = first->next;
		if (first)
			first->next = s->next;
	}
	atomic_fetch_sub(&w->session_count, 1);
	inode_table_unlock(w->inodes);
	inode_view_done(w->inodes, &s->view);
}

static bool is_gone(struct session *s)
{
	bool gone;

	pthread_mutex_lock(&s->end_lock);
	gone = s->gone;
	pthread_mutex_unlock(&s->end_lock);
	return gone;
}

/* Invalidate what is open while writes are still taken (dirty mapped pages arrive), refuse, invalidate what was read between;
 * then all that is known: that is attributes, mostly, and many.  No path leads to them any more. */
static void finish(struct session *s)
{
	struct record_access a = {.session = s->number, .op = RECORD_SESSION_END};

	if (s->members)
		members_free_pages(s->members);
	if (!is_gone(s)) {
		invalidate_open(s);
		atomic_store(&s->refuse, s->end_error);
		pthread_rwlock_wrlock(&s->replies); /* what is stored ahead is stored before this, or not at all */
		pthread_rwlock_unlock(&s->replies);
		invalidate_open(s);
		(void)forget_names(s); /* an older kernel asks when it has forgotten the attributes */
		invalidate_all(s);
	}
	atomic_store(&s->refuse, s->end_error);
	lock_release_session(s->worker->locks, s->number, s->end_error);
	s->loop_ops->stop(s->loop);
	if (s->members)
		members_stop(s->members);
	if (s->sync)
		stable_cancel(s->worker->stable, s, s->end_error);
	lock_release_session(s->worker->locks, s->number, s->end_error); /* what a last handler left */
	tell_main(s, SESSION_UNREADABLE);
	pthread_mutex_lock(&s->visit); /* a visit that began before this is over */
	pthread_mutex_unlock(&s->visit);
	close_all(s);
	leave_worker(s);
	handle_table_free(s->handles);
	memcpy(a.detail, s->end_reason, sizeof(a.detail));
	recorder_append(s->worker->recorder, &a);
	fuse_session_destroy(s->se); /* closes the descriptor */
	tell_main(s, SESSION_DEAD);
}

/* Some changes were not told.  What of them are names cannot be found in our tables: there they are gone. */
static void forget_all(struct session *s)
{
	log_warning("session %llu: too many changes at once, all that is cached is dropped", (unsigned long long)s->number);
	if (forget_names(s) == -EINVAL)
		begin_end(s, ESTALE, "too many changes at once", false); /* an older kernel would go on showing old names */
	invalidate_all(s);
}

static void *keeper_thread(void *arg)
{
	struct session *s = arg;
	struct note *n;

	while ((n = note_queue_next(&s->notes))) {
		pthread_rwlock_wrlock(&s->replies);
		pthread_rwlock_unlock(&s->replies);
		if (n->kind == NOTE_ALL)
			forget_all(s);
		else if (n->kind == NOTE_EVICT)
			evict_run(s);
		else
			note_send(s->se, n);
		/* one too many notes become NOTE_ALL: it must not swallow the end of a member */
		if (s->members && (n->kind == NOTE_ALL || n->kind == NOTE_MEMBERS))
			members_invalidate(s->members);
		note_done(&s->notes, n);
	}
	finish(s);
	return NULL;
}

/* ---- beginning ---- */

static void on_gone(void *arg, int error)
{
	if (error != ENODEV)
		log_error("/dev/fuse cannot be read: %s", strerror(error));
	begin_end(arg, error, error == ENODEV ? "unmounted" : "requests cannot be read", error == ENODEV);
}

static uint32_t caller(const void *buf)
{
	return ((const struct fuse_in_header *)buf)->pid;
}

static int table_map(int fd, _Atomic uint64_t **ret)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < (off_t)TABLE_BYTES)
		return -EINVAL;
	p = mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

static int fuse_begin(struct session *s, int fuse_fd)
{
	char name[] = "coffer", opt[] = "-omax_read=1048576";
	char *argv[] = {name, opt, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(2, argv);
	int flags = fcntl(fuse_fd, F_GETFL);
	int r;

	if (flags < 0 || fcntl(fuse_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	s->se = fuse_session_new(&args, ops_table(), ops_table_size(), s);
	fuse_opt_free_args(&args);
	if (!s->se)
		return -ENOMEM;
	r = fuse_session_custom_io(s->se, &custom_io, fuse_fd);
	if (r < 0) {
		fuse_session_destroy(s->se);
		s->se = NULL;
		return r;
	}
	s->fd = fuse_fd;
	return 0;
}

static void join_worker(struct session *s)
{
	struct worker *w = s->worker;

	inode_view_enter_root(w->inodes, &s->view);
	inode_table_lock(w->inodes);
	s->next = atomic_load(&w->sessions);
	atomic_store(&w->sessions, s);
	atomic_fetch_add(&w->session_count, 1);
	inode_table_unlock(w->inodes);
}

static int threads_begin(struct session *s)
{
	struct loop_client client = {
		.arg = s, .handle = session_handle_request, .is_long = guard_is_long, .is_serial = guard_is_serial, .gone = on_gone,
		.caller = caller, .waits = guard_is_waited_for, .proc_fd = s->worker->proc_fd};
	int r;

	r = s->members ? members_start(s->members) : 0;
	if (r == 0)
		r = s->loop_ops->start(s->fd, &client, &s->loop);
	if (r < 0) {
		if (s->members)
			members_stop(s->members);
		return r;
	}
	r = thread_start(&s->keeper, keeper_thread, s);
	if (r < 0) {
		s->loop_ops->stop(s->loop);
		if (s->members)
			members_stop(s->members);
	}
	return r;
}

int session_attach(struct session *s, int fuse_fd, int table_fd)
{
	int r = table_map(table_fd, &s->open_nodes);

	if (r == 0 && s->sync && !s->worker->stable)
		r = stable_new(recorder_journal(s->worker->recorder), &s->worker->stable);
	if (r == 0)
		r = handle_table_new(s->open_nodes, &s->handles);
	if (r == 0)
		r = fuse_begin(s, fuse_fd);
	if (r < 0) {
		close(fuse_fd);
		handle_table_free(s->handles);
		s->handles = NULL;
		return r;
	}
	join_worker(s);
	atomic_store(&s->state, SESSION_SERVING);
	r = threads_begin(s);
	if (r < 0) {
		leave_worker(s);
		fuse_session_destroy(s->se);
		s->se = NULL;
		handle_table_free(s->handles);
		s->handles = NULL;
		atomic_store(&s->state, SESSION_EXPECTED);
	}
	return r;
}
