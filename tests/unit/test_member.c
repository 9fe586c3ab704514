/* Who is let into a shared session: what is kept until the decision, what is remembered of it, and the access
 * list as an ACL.  Without a kernel: the answers go to a socket. */
#include "worker_fixture.h"

#include <linux/fuse.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/socket.h>
#include <time.h>

#include "fs/worker/member.h"

struct fixture_shared {
	struct worker_fixture x;
	struct session *s;
};

static int setup(void **state)
{
	struct fixture_shared *t = calloc(1, sizeof(*t));
	const struct session_terms terms = {.number = 7, .shared = true, .classes = class_set_all()};

	worker_fixture_setup(&t->x, 1u << 20);
	assert_int_equal(session_new(&t->x.w, &terms, &t->s), 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct fixture_shared *t = *state;

	session_free(t->s);
	worker_fixture_teardown(&t->x);
	free(t);
	return 0;
}

static int ask(struct fixture_shared *t, uid_t uid, uint64_t unique, struct member_identity *ret)
{
	struct fuse_in_header in = {.len = sizeof(in),
		.opcode = FUSE_GETATTR,
		.unique = unique,
		.nodeid = 1,
		.uid = uid,
		.gid = uid};

	return members_admit(t->s->members, &in, sizeof(in), ret);
}

static void decide(struct fixture_shared *t, uid_t uid, uint64_t number, int error)
{
	const struct member_terms terms = {.uid = uid, .number = number, .error = error};

	assert_int_equal(members_decide(t->s->members, &terms), 0);
}

static void test_asked_once_and_served_as_himself(void **state)
{
	struct fixture_shared *t = *state;
	struct member_identity who;
	uid_t uid;
	gid_t gid;

	assert_int_equal(ask(t, 1000, 1, &who), -EINPROGRESS);
	assert_int_equal(ask(t, 1000, 2, &who), -EINPROGRESS);
	assert_true(members_next_wanted(t->s->members, &uid, &gid));
	assert_int_equal(uid, 1000);
	assert_false(members_next_wanted(t->s->members, &uid, &gid));
	decide(t, 1000, 42, 0);
	assert_int_equal(ask(t, 1000, 3, &who), 0);
	assert_int_equal(who.number, 42);
	assert_int_equal(ask(t, 1001, 4, &who), -EINPROGRESS); /* that was about one uid only */
}

static void test_nobody_is_decided_unasked(void **state)
{
	struct fixture_shared *t = *state;
	const struct member_terms terms = {.uid = 1000, .number = 42};
	struct member_identity who;

	assert_int_equal(members_decide(t->s->members, &terms), -ENOENT);
	assert_int_equal(ask(t, 1000, 1, &who), -EINPROGRESS);
}

static void test_refusal_is_believed_for_a_while(void **state)
{
	struct fixture_shared *t = *state;
	const struct timespec more = {.tv_sec = 1, .tv_nsec = 50000000};
	struct member_identity who;
	uid_t uid;
	gid_t gid;

	assert_int_equal(ask(t, 1000, 1, &who), -EINPROGRESS);
	assert_true(members_next_wanted(t->s->members, &uid, &gid));
	decide(t, 1000, 0, EACCES);
	assert_int_equal(ask(t, 1000, 2, &who), EACCES);
	assert_false(members_next_wanted(t->s->members, &uid, &gid));
	nanosleep(&more, NULL);
	assert_int_equal(ask(t, 1000, 3, &who), -EINPROGRESS);
	assert_true(members_next_wanted(t->s->members, &uid, &gid));
}

static void test_interrupted_request_is_dropped(void **state)
{
	struct fixture_shared *t = *state;
	struct member_identity who;

	assert_int_equal(ask(t, 1000, 1, &who), -EINPROGRESS);
	assert_int_equal(ask(t, 1000, 2, &who), -EINPROGRESS);
	assert_true(members_interrupted(t->s->members, 2));
	assert_false(members_interrupted(t->s->members, 2));
	assert_int_equal(ask(t, 1000, 3, &who), -EINPROGRESS); /* the list's end is right again */
	assert_true(members_interrupted(t->s->members, 3));
	assert_true(members_interrupted(t->s->members, 1));
	assert_false(members_interrupted(t->s->members, 99));
}

/* A flood of waiting writes must not eat the memory. */
static void test_what_is_kept_is_bounded(void **state)
{
	struct fixture_shared *t = *state;
	size_t n = 1u << 20;
	struct fuse_in_header *in = calloc(1, n);
	struct member_identity who;
	int r = -EINPROGRESS;
	unsigned kept = 0;

	in->len = (uint32_t)n;
	in->uid = 1000;
	for (; r == -EINPROGRESS && kept < 64; kept++)
		r = members_admit(t->s->members, in, n, &who);
	assert_int_equal(r, EAGAIN);
	assert_true(kept > 8);
	free(in);
}

/* Thousands of uids (of a user namespace, say) push out the refused ones, never a member. */
static void test_strangers_do_not_push_out_members(void **state)
{
	struct fixture_shared *t = *state;
	struct member_identity who;
	uid_t uid;
	gid_t gid;

	assert_int_equal(ask(t, 1, 1, &who), -EINPROGRESS);
	assert_true(members_next_wanted(t->s->members, &uid, &gid));
	decide(t, 1, 42, 0);
	for (uid_t k = 100000; k < 110000; k++) {
		assert_int_equal(ask(t, k, k, &who), -EINPROGRESS);
		assert_true(members_next_wanted(t->s->members, &uid, &gid));
		assert_int_equal(uid, k);
		decide(t, k, 0, EACCES);
	}
	assert_int_equal(ask(t, 1, 2, &who), 0);
	assert_int_equal(who.number, 42);
}

static int ask_to_read(struct fixture_shared *t, uid_t uid, uint64_t unique)
{
	struct fuse_in_header in = {.len = sizeof(in), .opcode = FUSE_READ, .unique = unique, .uid = uid};
	struct member_identity who;

	return members_admit(t->s->members, &in, sizeof(in), &who);
}

/* Else keyd, waiting for the invalidation, could not make the decision that the invalidation waits for. */
static void test_no_locked_pages_wait_for_a_decision_while_a_member_ends(void **state)
{
	struct fixture_shared *t = *state;
	struct fuse_out_header answer;
	struct member_identity who;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	t->s->fd = pair[0];
	assert_int_equal(ask(t, 1, 1, &who), -EINPROGRESS);
	decide(t, 1, 42, 0);
	assert_int_equal(ask(t, 2, 2, &who), -EINPROGRESS);
	assert_int_equal(ask_to_read(t, 2, 3), -EINPROGRESS);
	assert_int_equal(ask(t, 2, 4, &who), -EINPROGRESS);
	assert_int_equal(members_end(t->s->members, 42, EKEYREVOKED), 0);
	assert_int_equal(recv(pair[1], &answer, sizeof(answer), MSG_DONTWAIT), sizeof(answer));
	assert_int_equal(answer.unique, 3);
	assert_int_equal(answer.error, -EACCES);
	assert_int_equal(
		recv(pair[1], &answer, sizeof(answer), MSG_DONTWAIT), -1); /* the others go on waiting */
	assert_int_equal(ask_to_read(t, 2, 5), EACCES);
	assert_true(members_interrupted(t->s->members, 2));
	assert_true(members_interrupted(t->s->members, 4));
	assert_int_equal(ask(t, 1, 6, &who), EKEYREVOKED);
	close(pair[0]);
	close(pair[1]);
}

static const struct posix_acl_xattr_entry *acl_entries(const uint8_t *buf)
{
	return (const void *)(buf + sizeof(struct posix_acl_xattr_header));
}

static void set_access(struct fixture_shared *t, json_t *rows)
{
	assert_int_equal(members_set_access(t->s->members, rows), 0);
	json_decref(rows);
}

static void test_access_list_as_acl(void **state)
{
	struct fixture_shared *t = *state;
	uint8_t buf[4096];
	const struct posix_acl_xattr_entry *e = acl_entries(buf);
	static const struct posix_acl_xattr_entry want[] = {{ACL_USER_OBJ, 7, ACL_UNDEFINED_ID},
		{ACL_USER, 5, 8}, {ACL_USER, 7, 9}, {ACL_GROUP_OBJ, 0, ACL_UNDEFINED_ID}, {ACL_GROUP, 5, 3},
		{ACL_MASK, 7, ACL_UNDEFINED_ID}, {ACL_OTHER, 0, ACL_UNDEFINED_ID}};
	int n;

	set_access(t, json_pack("[{s:i,s:b,s:s},{s:i,s:b,s:s},{s:i,s:b,s:s},{s:i,s:b,s:s}]", "id", 9, "group",
			      0, "rights", "r", "id", 3, "group", 1, "rights", "r", "id", 8, "group", 0,
			      "rights", "r", "id", 9, "group", 0, "rights", "rw"));
	n = members_acl(t->s->members, NULL, 0);
	assert_int_equal(n, 4 + sizeof(want));
	assert_int_equal(members_acl(t->s->members, buf, (size_t)n - 1), -ERANGE);
	assert_int_equal(members_acl(t->s->members, buf, sizeof(buf)), n);
	assert_memory_equal(e, want, sizeof(want));
}

/* The kernel reads one page: a longer list is cut, and must then not shut out those who are missing on it. */
static void test_long_access_list(void **state)
{
	struct fixture_shared *t = *state;
	json_t *rows = json_array();
	uint8_t buf[4096];
	int n;

	for (int k = 0; k < 2000; k++)
		json_array_append_new(rows, json_pack("{s:i,s:b,s:s}", "id", k, "group", 0, "rights", "r"));
	set_access(t, rows);
	n = members_acl(t->s->members, buf, sizeof(buf));
	assert_in_range(n, 1000, sizeof(buf));
	assert_int_equal(acl_entries(buf)[(n - 4) / 8 - 1].e_tag, ACL_OTHER);
	assert_int_equal(acl_entries(buf)[(n - 4) / 8 - 1].e_perm, 7);
}

static void test_malformed_access_list(void **state)
{
	struct fixture_shared *t = *state;
	json_t *rows = json_pack("[{s:i}]", "id", 9);

	assert_int_equal(members_set_access(t->s->members, rows), -EINVAL);
	json_decref(rows);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_asked_once_and_served_as_himself),
		T(test_nobody_is_decided_unasked),
		T(test_refusal_is_believed_for_a_while),
		T(test_interrupted_request_is_dropped),
		T(test_what_is_kept_is_bounded),
		T(test_strangers_do_not_push_out_members),
		T(test_no_locked_pages_wait_for_a_decision_while_a_member_ends),
		T(test_access_list_as_acl),
		T(test_long_access_list),
		T(test_malformed_access_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
