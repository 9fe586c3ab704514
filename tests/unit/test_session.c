/* A session between its kernel, its members and the worker's main thread: what holds up whom, what is left when something does
 * not come about, who may use what was opened by another, and what is let go while somebody looks at it.  fsync is wrapped: the
 * test holds it. */
#include "raw_kernel.h"

#include <pthread.h>
#include <time.h>

#include "fs/worker/lock.h"
#include "fs/worker/member.h"
#include "fs/worker/waits.h"

#define SLOW_MS 20000

/* ---- the disk ---- */

int __real_fsync(int fd);
int __wrap_fsync(int fd);

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool held;
	unsigned begun;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int __wrap_fsync(int fd)
{
	pthread_mutex_lock(&disk.lock);
	disk.begun++;
	pthread_cond_broadcast(&disk.changed);
	while (disk.held)
		pthread_cond_wait(&disk.changed, &disk.lock);
	pthread_mutex_unlock(&disk.lock);
	return 0;
}

static void disk_holds(bool held)
{
	pthread_mutex_lock(&disk.lock);
	disk.held = held;
	disk.begun = 0;
	pthread_cond_broadcast(&disk.changed);
	pthread_mutex_unlock(&disk.lock);
}

static void wait_for_sync(void)
{
	pthread_mutex_lock(&disk.lock);
	while (disk.begun == 0)
		pthread_cond_wait(&disk.changed, &disk.lock); /* the suite's limit ends a test that hangs */
	pthread_mutex_unlock(&disk.lock);
}

/* The answer to `unique` comes although the disk does not: else it is let go, for the test to end. */
static bool comes_before_the_disk(struct kernel *k, uint64_t unique)
{
	struct pollfd p = {.fd = k->fd, .events = POLLIN};
	bool comes = poll(&p, 1, SLOW_MS / 2) == 1;

	if (comes)
		assert_int_equal(answer(k, unique), 0);
	return comes;
}

static void test_a_slow_disk_holds_up_who_waits_for_it(void **state)
{
	const struct fuse_open_in open_dir = {.flags = O_RDONLY | O_DIRECTORY};
	const struct fuse_getattr_in getattr = {0};
	struct kernel *k = begin(false);
	struct created f = create(k, "f");
	struct {
		uint32_t opcode;
		uint64_t node, fh;
	} syncs[] = {{FUSE_FSYNC, f.node, f.fh}, {FUSE_FSYNCDIR, FUSE_ROOT_ID, 0}};

	assert_int_equal(write_at(k, f.node, f.fh, 0), 0);
	assert_int_equal(ask(k, FUSE_OPENDIR, FUSE_ROOT_ID, &open_dir, sizeof(open_dir)), 0);
	syncs[1].fh = ((const struct fuse_open_out *)out(k))->fh;
	for (size_t n = 0; n < ARRAY_SIZE(syncs); n++) {
		const struct fuse_fsync_in in = {.fh = syncs[n].fh};
		uint64_t slow;
		bool comes;

		disk_holds(true);
		slow = send_request(k, syncs[n].opcode, syncs[n].node, &in, sizeof(in));
		wait_for_sync();
		comes = comes_before_the_disk(k, send_request(k, FUSE_GETATTR, FUSE_ROOT_ID, &getattr, sizeof(getattr)));
		disk_holds(false);
		assert_true(comes);
		assert_int_equal(answer(k, slow), 0);
	}
	end(k);
}

/* ---- a directory that cannot be read to its end ---- */

ssize_t __real_getdents64(int fd, void *buf, size_t n);
ssize_t __wrap_getdents64(int fd, void *buf, size_t n);

static atomic_int failing_at; /* the call, from 1; 0: none */

ssize_t __wrap_getdents64(int fd, void *buf, size_t n)
{
	if (atomic_load(&failing_at) > 0 && atomic_fetch_sub(&failing_at, 1) == 1) {
		errno = EIO;
		return -1;
	}
	return __real_getdents64(fd, buf, n);
}

/* What was found before the error is told, since the kernel is counted as knowing it; and the error after that. */
static void test_a_list_that_breaks_off(void **state)
{
	const struct fuse_open_in open_dir = {.flags = O_RDONLY | O_DIRECTORY};
	struct fuse_read_in in = {.size = 4096};
	struct kernel *k = begin(false);
	const struct fuse_direntplus *e;
	size_t at = sizeof(k->answer.head);
	bool found = false;

	create(k, "f");
	assert_int_equal(ask(k, FUSE_OPENDIR, FUSE_ROOT_ID, &open_dir, sizeof(open_dir)), 0);
	in.fh = ((const struct fuse_open_out *)out(k))->fh;
	atomic_store(&failing_at, 2);
	assert_int_equal(ask(k, FUSE_READDIRPLUS, FUSE_ROOT_ID, &in, sizeof(in)), 0);
	for (; at < k->answer_n; at += FUSE_DIRENTPLUS_SIZE(e)) {
		e = (const void *)(k->answer.bytes + at);
		found |= e->dirent.namelen == 1 && e->dirent.name[0] == 'f';
		in.offset = e->dirent.off;
	}
	assert_true(found);
	atomic_store(&failing_at, 1);
	assert_int_equal(ask(k, FUSE_READDIRPLUS, FUSE_ROOT_ID, &in, sizeof(in)), EIO);
	assert_int_equal(ask(k, FUSE_READDIRPLUS, FUSE_ROOT_ID, &in, sizeof(in)), 0);
	end(k);
}

/* ---- what does not come about ---- */

static int lookup(struct kernel *k, const char *name)
{
	const struct fuse_entry_out *e = out(k);
	int error = ask(k, FUSE_LOOKUP, FUSE_ROOT_ID, name, strlen(name) + 1);

	return error == 0 && e->nodeid == 0 ? ENOENT : error;
}

static int create_only(struct kernel *k, const char *name)
{
	uint8_t arg[sizeof(struct fuse_create_in) + 64] = {0};
	const struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0644};

	memcpy(arg, &in, sizeof(in));
	memcpy(arg + sizeof(in), name, strlen(name) + 1);
	return ask(k, FUSE_CREATE, FUSE_ROOT_ID, arg, sizeof(in) + strlen(name) + 1);
}

/* All handles are in use: no file is made that nobody has open. */
static void test_without_a_handle_nothing_is_made(void **state)
{
	struct kernel *k = begin(false);
	struct handle *h;
	uint64_t fh;

	while (handle_new(k->s->handles, HANDLE_DIR, 1, &h, &fh) == 0)
		;
	assert_int_equal(create_only(k, "f"), EMFILE);
	assert_int_equal(lookup(k, "f"), ENOENT);
	end(k);
}

/* The kernel knows as much as it may: what is made could not be told to it, and so is not made. */
static void test_without_a_node_nothing_is_made(void **state)
{
	static const struct {
		uint32_t opcode;
		size_t fixed;
		const char *names;
		size_t n;
	} makes[] = {
		{FUSE_MKDIR, sizeof(struct fuse_mkdir_in), "x", 2},
		{FUSE_SYMLINK, 0, "x\0target", 9},
		{FUSE_CREATE, sizeof(struct fuse_create_in), "x", 2},
	};
	struct kernel *k = begin(false);
	uint32_t known = k->s->view.known;

	for (size_t n = 0; n < ARRAY_SIZE(makes); n++) {
		uint8_t arg[64] = {0};

		memcpy(arg + makes[n].fixed, makes[n].names, makes[n].n);
		k->s->view.known = INODE_VIEW_MAX;
		assert_int_equal(ask(k, makes[n].opcode, FUSE_ROOT_ID, arg, makes[n].fixed + makes[n].n), ENFILE);
		k->s->view.known = known;
		assert_int_equal(lookup(k, "x"), ENOENT);
	}
	end(k);
}

/* ---- members ---- */

static const struct class_set *classes_of(struct kernel *k, uint16_t class)
{
	scoped(json_decrefp) json_t *list = json_pack("[i]", (int)class);
	const struct class_set *set;

	assert_int_equal(class_set_get(&k->x.w.class_sets, list, NULL, &set), 0);
	return set;
}

/* keyd lets him in. */
static void let_in(struct kernel *k, uid_t uid, uint64_t number, uint16_t class)
{
	const struct member_terms terms = {.uid = uid, .number = number, .classes = classes_of(k, class)};
	const struct fuse_access_in in = {.mask = R_OK};
	uint64_t unique;
	uid_t wanted;
	gid_t gid;

	k->uid = uid;
	unique = send_request(k, FUSE_ACCESS, FUSE_ROOT_ID, &in, sizeof(in));
	for (unsigned ms = 0; !members_next_wanted(k->s->members, &wanted, &gid); ms++) {
		assert_true(ms < SLOW_MS);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	assert_int_equal(wanted, uid);
	assert_int_equal(members_decide(k->s->members, &terms), 0);
	assert_int_equal(answer(k, unique), 0);
}

static unsigned count_opens(struct kernel *k, uint64_t session, int error)
{
	uint8_t buf[RECORD_BYTES_MAX];
	struct record rec;
	unsigned n = 0;

	while (next_record(&k->x, buf, &rec))
		n += rec.kind == RECORD_KIND_ACCESS && rec.access.op == RECORD_OPEN && rec.access.session == session &&
		     rec.access.outcome == error;
	return n;
}

static int cut(struct kernel *k, uint64_t node, uint64_t fh)
{
	const struct fuse_setattr_in in = {.valid = FATTR_SIZE | FATTR_FH, .fh = fh, .size = 1};

	return ask(k, FUSE_SETATTR, node, &in, sizeof(in));
}

static int punch(struct kernel *k, uint64_t node, uint64_t fh)
{
	const struct fuse_fallocate_in in = {.fh = fh, .length = 1, .mode = 3};

	return ask(k, FUSE_FALLOCATE, node, &in, sizeof(in));
}

/* A descriptor that one member opened and another uses: it is an open of his, with its record, or it is refused, however often he
 * tries. */
static void test_a_descriptor_passed_on(void **state)
{
	struct kernel *k = begin_shared();
	struct created f;

	let_in(k, 1001, 41, CLASS_FIRST_POLICY);
	f = create(k, "f");
	assert_int_equal(write_at(k, f.node, f.fh, 0), 0);
	let_in(k, 1002, 42, CLASS_FIRST_POLICY + 1);
	for (int n = 0; n < 3; n++) {
		assert_int_equal(read_at(k, f.node, f.fh), EACCES);
		assert_int_equal(write_at(k, f.node, f.fh, 0), EACCES);
		assert_int_equal(cut(k, f.node, f.fh), EACCES);
		assert_int_equal(punch(k, f.node, f.fh), EACCES);
	}
	assert_int_equal(count_opens(k, 42, EACCES), 6);
	let_in(k, 1003, 43, CLASS_FIRST_POLICY);
	assert_int_equal(read_at(k, f.node, f.fh), 0);
	assert_int_equal(read_at(k, f.node, f.fh), 0);
	assert_int_equal(k->answer_n, sizeof(k->answer.head) + 5);
	assert_int_equal(cut(k, f.node, f.fh), 0);
	assert_int_equal(count_opens(k, 43, 0), 1);
	end(k);
}

/* The kernel closes what a member had open after his end: that is no forgery, and what he had locked is free. */
static void test_closing_after_the_end_of_a_member(void **state)
{
	const struct lock_claim probe = {.session = 1, .owner = 1, .kind = LOCK_POSIX, .type = F_WRLCK, .end = UINT64_MAX};
	struct kernel *k = begin_shared();
	struct fuse_flush_in flush = {.lock_owner = 77};
	struct fuse_lk_in lock = {.owner = 77, .lk = {.end = INT64_MAX, .type = F_WRLCK}};
	struct lock_claim want = probe, found;
	const char *why;
	struct created f;
	uint64_t number;

	let_in(k, 1001, 41, CLASS_FIRST_POLICY);
	f = create(k, "f");
	flush.fh = lock.fh = f.fh;
	want.node = f.node;
	assert_int_equal(ask(k, FUSE_SETLK, f.node, &lock, sizeof(lock)), 0);
	assert_int_equal(members_end(k->s->members, 41, EKEYREVOKED), 0);
	for (unsigned ms = 0; !members_next_gone(k->s->members, &number, &why); ms++) {
		assert_true(ms < SLOW_MS);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	assert_int_equal(read_at(k, f.node, f.fh), EKEYREVOKED);
	lock_test(k->x.w.locks, &want, &found);
	assert_int_equal(found.type, F_WRLCK);
	assert_int_equal(ask(k, FUSE_FLUSH, f.node, &flush, sizeof(flush)), 0);
	lock_test(k->x.w.locks, &want, &found);
	assert_int_equal(found.type, F_UNLCK);
	let_in(k, 1002, 42, CLASS_FIRST_POLICY); /* to whom it was passed */
	assert_int_equal(read_at(k, f.node, f.fh), EBADF);
	assert_int_equal(count_refused(k, "unknown-handle"), 0);
	end(k);
}

/* ---- what waits for its destruction ---- */

static void *close_waiting(void *arg)
{
	waits_close(arg);
	return NULL;
}

/* The main thread closes what waits while the session ends: it is not left with handles of a table that is gone. */
static void test_an_end_beside_closing_what_waits(void **state)
{
	struct kernel *k = begin(false);
	struct created f = create(k, "f");
	scoped(json_decrefp) json_t *params = json_pack("{s:[{s:i,s:i,s:I}], s:[], s:[]}", "waiting", "class", CLASS_FIRST_POLICY,
		"before", UINT16_MAX, "modified_since", (json_int_t)INT64_MAX, "directories", "files");
	const struct timespec moment = {.tv_nsec = 100000000};
	pthread_t t;

	assert_int_equal(write_at(k, f.node, f.fh, 0), 0);
	assert_int_equal(waits_set(&k->x.w, params), 0);
	pthread_rwlock_wrlock(&k->x.w.names);
	assert_int_equal(pthread_create(&t, NULL, close_waiting, k->s), 0);
	nanosleep(&moment, NULL); /* it has come to the lock */
	session_end(k->s, EKEYREVOKED, "test");
	for (unsigned ms = 0; atomic_load(&k->s->state) < SESSION_UNREADABLE; ms++) {
		assert_true(ms < SLOW_MS);
		(void)!recv(k->fd, k->answer.bytes, sizeof(k->answer), MSG_DONTWAIT);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	nanosleep(&moment, NULL); /* the keeper has come as far as it comes */
	pthread_rwlock_unlock(&k->x.w.names);
	assert_int_equal(pthread_join(t, NULL), 0);
	end(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_slow_disk_holds_up_who_waits_for_it),
		cmocka_unit_test(test_a_list_that_breaks_off),
		cmocka_unit_test(test_without_a_handle_nothing_is_made),
		cmocka_unit_test(test_without_a_node_nothing_is_made),
		cmocka_unit_test(test_a_descriptor_passed_on),
		cmocka_unit_test(test_closing_after_the_end_of_a_member),
		cmocka_unit_test(test_an_end_beside_closing_what_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
