/* The other end of the descriptor is no kernel but the user: forged ids, handles, uids, opcodes, lengths. The
 * worker refuses and stands. */
#include "raw_kernel.h"

/* A session with a limit ends when no request came for so long; one without never does. */
static void idle_is_counted_from_the_last_request(void **state)
{
	struct kernel *k = begin(false);
	struct fuse_getattr_in in = {0};

	assert_false(session_is_idle(k->s));
	k->s->idle = 100;
	assert_false(session_is_idle(k->s)); /* no request since there is a limit */
	assert_int_equal(ask(k, FUSE_GETATTR, FUSE_ROOT_ID, &in, sizeof(in)), 0);
	assert_false(session_is_idle(k->s));
	atomic_fetch_sub(&k->s->used, 102);
	assert_true(session_is_idle(k->s));
	assert_int_equal(ask(k, FUSE_GETATTR, FUSE_ROOT_ID, &in, sizeof(in)), 0);
	assert_false(session_is_idle(k->s));
	k->s->idle = 0;
	end(k);
}

static void test_killpriv_is_negotiated(void **state)
{
	struct kernel *k = begin(false);
	const struct fuse_init_out *init = out(k);

	assert_true(init->flags & FUSE_HANDLE_KILLPRIV_V2);
	assert_false(init->flags & FUSE_HANDLE_KILLPRIV);
	end(k);
}

static void test_write_back_and_own_locks_belong_to_an_exclusive_one(void **state)
{
	for (int exclusive = 0; exclusive < 2; exclusive++) {
		struct kernel *k = begin_as(false, exclusive);
		const struct fuse_init_out *init = out(k);

		assert_int_equal((init->flags & FUSE_WRITEBACK_CACHE) != 0, exclusive);
		assert_int_equal((init->flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS)) != 0, !exclusive);
		end(k);
	}
}

static int set_attributes(struct kernel *k, uint64_t node, uint64_t fh, uint32_t valid)
{
	const struct fuse_setattr_in in = {.valid = valid, .fh = fh, .mtime = 1000, .mode = 0600, .size = 1};

	return ask(k, FUSE_SETATTR, node, &in, sizeof(in));
}

/* The time of what was written comes as root's, and nothing else does. */
static void test_what_the_kernel_brings_by_itself(void **state)
{
	const uint32_t times = FATTR_MTIME | FATTR_CTIME;

	for (int exclusive = 0; exclusive < 2; exclusive++) {
		struct kernel *k = begin_as(false, exclusive);
		struct created f = create(k, "f");
		int brought = exclusive ? 0 : EACCES;

		assert_int_equal(write_at(k, f.node, f.fh, 0), 0);
		k->uid = 0;
		k->pid = 77;
		assert_int_equal(set_attributes(k, f.node, f.fh, times | FATTR_FH), brought);
		assert_int_equal(set_attributes(k, f.node, 0, times), brought);
		assert_int_equal(set_attributes(k, f.node, 0, times | FATTR_MODE), EACCES);
		assert_int_equal(set_attributes(k, f.node, 0, times | FATTR_SIZE), EACCES);
		assert_int_equal(set_attributes(k, f.node, 0, FATTR_CTIME), EACCES);
		assert_int_equal(set_attributes(k, f.node, 0, times | FATTR_ATIME), EACCES);
		assert_int_equal(read_at(k, f.node, f.fh), EACCES);
		assert_int_equal(write_at(k, f.node, f.fh, 0), EACCES);
		end(k);
	}
}

/* Opens it as a file that nobody had open since it was looked up; whether `text` came before the answer. */
static bool comes_ahead(struct kernel *k, uint32_t flags, const char *text)
{
	const struct fuse_open_in in = {.flags = flags};
	const struct fuse_entry_out *e = out(k);
	const struct fuse_notify_store_out *what = out(k);
	struct fuse_release_in release = {.flags = flags};
	struct fuse_forget_in forget = {.nlookup = 1};
	bool came = false;
	uint64_t node, unique;

	assert_int_equal(ask(k, FUSE_LOOKUP, FUSE_ROOT_ID, "f", 2), 0);
	node = e->nodeid;
	unique = send_request(k, FUSE_OPEN, node, &in, sizeof(in));
	for (;;) {
		ssize_t n = recv(k->fd, k->answer.bytes, sizeof(k->answer), 0);

		assert_true(n >= (ssize_t)sizeof(k->answer.head));
		if (k->answer.head.unique == unique)
			break;
		assert_int_equal(k->answer.head.unique, 0);
		assert_int_equal(k->answer.head.error, FUSE_NOTIFY_STORE);
		assert_int_equal(what->nodeid, node);
		assert_int_equal(what->offset, 0);
		assert_int_equal(what->size, strlen(text));
		assert_memory_equal(what + 1, text, strlen(text));
		came = true;
	}
	assert_int_equal(k->answer.head.error, 0);
	release.fh = ((const struct fuse_open_out *)out(k))->fh;
	assert_int_equal(ask(k, FUSE_RELEASE, node, &release, sizeof(release)), 0);
	send_request(k, FUSE_FORGET, node, &forget, sizeof(forget));
	return came;
}

/* The record of that open comes first, and what was stored counts as read. */
static void test_a_small_file_comes_with_its_open(void **state)
{
	struct fuse_forget_in forget = {.nlookup = 1};
	struct kernel *k = begin(false);
	struct created f = create(k, "f");
	struct fuse_release_in release = {.fh = f.fh};
	uint8_t buf[RECORD_BYTES_MAX];
	struct record rec;
	uint64_t read = 0;

	assert_int_equal(write_at(k, f.node, f.fh, 0), 0);
	assert_int_equal(ask(k, FUSE_RELEASE, f.node, &release, sizeof(release)), 0);
	send_request(k, FUSE_FORGET, f.node, &forget, sizeof(forget));
	while (next_record(&k->x, buf, &rec))
		;
	assert_true(comes_ahead(k, O_RDONLY, "hello"));
	while (next_record(&k->x, buf, &rec))
		if (rec.kind == RECORD_KIND_ACCESS && rec.access.op == RECORD_CLOSE)
			read = rec.access.bytes_read;
	assert_int_equal(read, 5);
	assert_true(comes_ahead(k, O_RDWR, "hello"));
	assert_false(comes_ahead(k, O_WRONLY, "hello"));
	assert_false(comes_ahead(k, O_RDONLY | O_DIRECT, "hello"));
	assert_false(comes_ahead(k, O_RDWR | O_TRUNC, "hello"));
	assert_false(comes_ahead(k, O_RDONLY, "")); /* there is nothing in it any more */
	end(k);
}

static void test_an_honest_one_is_served(void **state)
{
	struct kernel *k = begin(false);
	struct created f = create(k, "f");

	assert_int_equal(write_at(k, f.node, f.fh, 0), 0);
	assert_int_equal(read_at(k, f.node, f.fh), 0);
	assert_int_equal(k->answer_n, sizeof(k->answer.head) + 5);
	assert_memory_equal(out(k), "hello", 5);
	end(k);
}

static void test_forged_nodes(void **state)
{
	static const uint64_t forged[] = {0, 2, 0xdead0000, UINT64_MAX, 1ull << 32 | 1, UINT32_MAX};
	struct fuse_getattr_in getattr = {.getattr_flags = 0};
	struct fuse_open_in open_in = {.flags = O_RDONLY};
	struct kernel *k = begin(false);

	for (size_t n = 0; n < ARRAY_SIZE(forged); n++) {
		assert_int_equal(ask(k, FUSE_GETATTR, forged[n], &getattr, sizeof(getattr)), ESTALE);
		assert_int_equal(ask(k, FUSE_OPEN, forged[n], &open_in, sizeof(open_in)), ESTALE);
		assert_int_equal(ask(k, FUSE_LOOKUP, forged[n], "x", 2), ESTALE);
		assert_int_equal(ask(k, FUSE_UNLINK, forged[n], "x", 2), ESTALE);
	}
	assert_true(count_refused(k, "unknown-node") > 0);
	end(k);
}

static void test_forged_handles(void **state)
{
	struct kernel *k = begin(false);
	struct created f = create(k, "f"), g = create(k, "g");
	struct fuse_release_in release = {.fh = f.fh};

	assert_int_equal(read_at(k, f.node, 0), EBADF);
	assert_int_equal(read_at(k, f.node, g.fh), EBADF); /* a handle of another node */
	assert_int_equal(read_at(k, f.node, f.fh + 1), EBADF);
	assert_int_equal(read_at(k, f.node, f.fh ^ 1ull << 32), EBADF);
	assert_int_equal(ask(k, FUSE_RELEASE, f.node, &release, sizeof(release)), 0);
	assert_int_equal(read_at(k, f.node, f.fh), EBADF); /* after its end */
	assert_int_equal(ask(k, FUSE_RELEASE, f.node, &release, sizeof(release)), EBADF);
	assert_int_equal(write_at(k, g.node, g.fh, 0), 0);
	assert_true(count_refused(k, "unknown-handle") > 0);
	end(k);
}

static void test_access_mode_of_the_handle(void **state)
{
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct kernel *k = begin(false);
	struct created f = create(k, "f");
	const struct fuse_open_out *o = out(k);
	uint64_t fh;

	assert_int_equal(ask(k, FUSE_OPEN, f.node, &in, sizeof(in)), 0);
	fh = o->fh;
	assert_int_equal(read_at(k, f.node, fh), 0);
	assert_int_equal(write_at(k, f.node, fh, 0), EBADF);
	in.flags = O_WRONLY;
	assert_int_equal(ask(k, FUSE_OPEN, f.node, &in, sizeof(in)), 0);
	assert_int_equal(read_at(k, f.node, o->fh), EBADF);
	end(k);
}

static void test_foreign_uids(void **state)
{
	struct kernel *k = begin(false);
	struct created f = create(k, "f");

	k->uid = UID + 1;
	assert_int_equal(read_at(k, f.node, f.fh), EACCES);
	assert_int_equal(write_at(k, f.node, f.fh, 0), EACCES);
	assert_int_equal(ask(k, FUSE_LOOKUP, FUSE_ROOT_ID, "f", 2), EACCES);
	k->uid = 0;
	assert_int_equal(read_at(k, f.node, f.fh), EACCES);
	assert_int_equal(write_at(k, f.node, f.fh, FUSE_WRITE_CACHE), EACCES); /* a process, not the kernel */
	k->pid = 0;
	assert_int_equal(write_at(k, f.node, f.fh, 0), EACCES);
	assert_int_equal(write_at(k, f.node, f.fh, FUSE_WRITE_CACHE), 0); /* dirty pages of a mapping */
	assert_true(count_refused(k, "foreign-uid") > 0);
	end(k);
}

static void test_malformed_names_and_lengths(void **state)
{
	static const char *const names[] = {"", ".", "..", "a/b", "/"};
	struct fuse_write_in too_long = {.size = 1 << 20};
	struct fuse_batch_forget_in forgets = {.count = 1u << 30};
	struct kernel *k = begin(false);

	for (size_t n = 0; n < ARRAY_SIZE(names); n++)
		assert_int_equal(ask(k, FUSE_LOOKUP, FUSE_ROOT_ID, names[n], strlen(names[n]) + 1), EINVAL);
	assert_int_equal(ask(k, FUSE_LOOKUP, FUSE_ROOT_ID, "unended", 7), EINVAL);
	assert_int_equal(ask(k, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0), EINVAL);
	assert_int_equal(ask(k, FUSE_WRITE, FUSE_ROOT_ID, &too_long, sizeof(too_long)), EINVAL);
	assert_int_equal(ask(k, FUSE_SYMLINK, FUSE_ROOT_ID, "name\0target", 11), EINVAL);
	assert_int_equal(ask(k, 4095, FUSE_ROOT_ID, NULL, 0), ENOSYS);
	assert_int_equal(ask(k, UINT32_MAX, FUSE_ROOT_ID, NULL, 0), ENOSYS);
	send_request(k, FUSE_BATCH_FORGET, 0, &forgets, sizeof(forgets));
	assert_int_equal(ask(k, FUSE_LOOKUP, FUSE_ROOT_ID, "nothing", 8), 0); /* a negative entry */
	end(k);
}

static void test_read_only(void **state)
{
	uint8_t arg[sizeof(struct fuse_mkdir_in) + 2] = {0};
	struct kernel *k = begin(true);

	arg[sizeof(struct fuse_mkdir_in)] = 'd';
	assert_int_equal(ask(k, FUSE_MKDIR, FUSE_ROOT_ID, arg, sizeof(arg)), EROFS);
	assert_int_equal(ask(k, FUSE_UNLINK, FUSE_ROOT_ID, "x", 2), EROFS);
	assert_int_equal(ask(k, FUSE_RENAME, FUSE_ROOT_ID, "\1\0\0\0\0\0\0\0a\0b", 12), EROFS);
	end(k);
}

static void test_after_the_end(void **state)
{
	struct kernel *k = begin(false);
	struct created f = create(k, "f");
	struct fuse_release_in release = {.fh = f.fh};

	atomic_store(&k->s->refuse, EKEYREVOKED);
	assert_int_equal(read_at(k, f.node, f.fh), EKEYREVOKED);
	assert_int_equal(ask(k, FUSE_LOOKUP, FUSE_ROOT_ID, "f", 2), EKEYREVOKED);
	assert_int_equal(ask(k, FUSE_RELEASE, f.node, &release, sizeof(release)), 0);
	end(k);
}

static void test_the_other_end_goes_away(void **state)
{
	struct kernel *k = begin(false);

	create(k, "f");
	shutdown(k->fd, SHUT_RDWR);
	wait_dead(k);
	assert_string_equal(k->s->end_reason, "unmounted");
	end(k);
}

/* Each request, cut at each length and with each bit of its arguments turned: an answer or none, never a
 * crash. */
/* No room to say so: then nothing is changed. */
static void test_nothing_is_cut_without_room_for_its_record(void **state)
{
	struct kernel *k = begin(false);
	struct created f = create(k, "f");
	struct fuse_write_in w = {.fh = f.fh, .size = 5};
	struct fuse_release_in release = {.fh = f.fh};
	struct fuse_open_in trunc = {.flags = O_WRONLY | O_TRUNC};
	struct fuse_getattr_in get = {.getattr_flags = 0};
	struct record_access a = {.session = 9, .op = RECORD_MKDIR};
	uint8_t put[sizeof(w) + 5];

	memcpy(put, &w, sizeof(w));
	memcpy(put + sizeof(w), "hello", 5);
	assert_int_equal(ask(k, FUSE_WRITE, f.node, put, sizeof(put)), 0);
	assert_int_equal(ask(k, FUSE_RELEASE, f.node, &release, sizeof(release)), 0);
	while (recorder_ready(k->x.w.recorder) == 0)
		recorder_append(k->x.w.recorder, &a);
	assert_int_equal(ask(k, FUSE_OPEN, f.node, &trunc, sizeof(trunc)), ENOSPC);
	assert_int_equal(ask(k, FUSE_UNLINK, FUSE_ROOT_ID, "f", 2), ENOSPC);
	assert_int_equal(ask(k, FUSE_GETATTR, f.node, &get, sizeof(get)), 0);
	assert_int_equal(((const struct fuse_attr_out *)out(k))->attr.size, 5);
	count_refused(k, "reads the journal empty");
	assert_int_equal(journal_reader_release(k->x.reader), 0);
	assert_int_equal(ask(k, FUSE_OPEN, f.node, &trunc, sizeof(trunc)), 0);
	end(k);
}

static void test_flips_and_cuts(void **state)
{
	struct kernel *k = begin(false);
	struct created f = create(k, "f");

	for (uint32_t opcode = 1; opcode < 52; opcode++) {
		uint8_t raw[sizeof(struct fuse_in_header) + 96] = {0};
		struct fuse_in_header in = {.opcode = opcode, .uid = UID, .pid = 1};

		if (opcode == FUSE_DESTROY)
			continue; /* an honest end */
		memset(raw + sizeof(in), 'a', 8);
		memcpy(raw + sizeof(in), &f.fh, sizeof(f.fh));
		for (size_t n = 0; n <= sizeof(raw); n++) {
			in.len = (uint32_t)n;
			in.nodeid = n % 2 ? f.node : FUSE_ROOT_ID;
			in.unique = ++k->unique;
			memcpy(raw, &in, sizeof(in));
			if (n > 0)
				send_raw(k, raw, n);
			while (recv(k->fd, k->answer.bytes, sizeof(k->answer), MSG_DONTWAIT) > 0)
				;
		}
		in.len = sizeof(raw);
		for (unsigned bit = 0; bit < 96 * 8; bit++) {
			in.unique = ++k->unique;
			memcpy(raw, &in, sizeof(in));
			raw[sizeof(in) + bit / 8] ^= (uint8_t)(1u << bit % 8);
			send_raw(k, raw, sizeof(raw));
			raw[sizeof(in) + bit / 8] ^= (uint8_t)(1u << bit % 8);
			while (recv(k->fd, k->answer.bytes, sizeof(k->answer), MSG_DONTWAIT) > 0)
				;
		}
	}
	assert_int_equal(ask(k, FUSE_LOOKUP, FUSE_ROOT_ID, "nothing-of-that-name", 21), 0);
	end(k);
}

static void test_noise(void **state)
{
	struct kernel *k = begin(false);
	struct created f = create(k, "f");
	unsigned seed = 1;

	for (unsigned n = 0; n < 20000; n++) {
		uint8_t raw[256];
		struct fuse_in_header in = {
			.opcode = (uint32_t)rand_r(&seed) % 52, .unique = ++k->unique, .uid = UID, .pid = 1};
		size_t len = sizeof(in) + (size_t)rand_r(&seed) % (sizeof(raw) - sizeof(in));

		if (in.opcode == FUSE_DESTROY)
			continue;
		for (size_t b = 0; b < sizeof(raw); b++)
			raw[b] = (uint8_t)(rand_r(&seed) % 4 ? 0 : rand_r(&seed));
		in.len = (uint32_t)len;
		in.nodeid = rand_r(&seed) % 3   ? FUSE_ROOT_ID
			    : rand_r(&seed) % 2 ? f.node
						: (uint64_t)rand_r(&seed);
		memcpy(raw, &in, sizeof(in));
		if (rand_r(&seed) % 2)
			memcpy(raw + sizeof(in), &f.fh, sizeof(f.fh));
		send_raw(k, raw, len);
		while (recv(k->fd, k->answer.bytes, sizeof(k->answer), MSG_DONTWAIT) > 0)
			;
		if (n % 256 == 0)
			count_refused(k, "");
		assert_int_equal(journal_reader_release(k->x.reader), 0);
	}
	assert_int_equal(ask(k, FUSE_LOOKUP, FUSE_ROOT_ID, "nothing-of-that-name", 21), 0);
	end(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killpriv_is_negotiated),
		cmocka_unit_test(test_write_back_and_own_locks_belong_to_an_exclusive_one),
		cmocka_unit_test(test_what_the_kernel_brings_by_itself),
		cmocka_unit_test(test_a_small_file_comes_with_its_open),
		cmocka_unit_test(test_an_honest_one_is_served),
		cmocka_unit_test(test_forged_nodes),
		cmocka_unit_test(test_forged_handles),
		cmocka_unit_test(test_access_mode_of_the_handle),
		cmocka_unit_test(test_foreign_uids),
		cmocka_unit_test(test_malformed_names_and_lengths),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_after_the_end),
		cmocka_unit_test(test_the_other_end_goes_away),
		cmocka_unit_test(test_nothing_is_cut_without_room_for_its_record),
		cmocka_unit_test(test_flips_and_cuts),
		cmocka_unit_test(idle_is_counted_from_the_last_request),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
