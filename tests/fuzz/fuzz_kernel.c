/* Plays the kernel of a hostile user: requests with forged node ids, handles, uids, sizes, names and lengths, in any order.
 *
 * Held against each input: exactly one answer for each request that wants one; no content, attribute value or link text in
 * an answer before the record of its reading; another session of the same worker is served on and keeps its lock; nothing
 * of the session is left when it ends; the store is sound afterwards. */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/worker_fixture.h"

#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "common/log.h"
#include "fs/store/check.h"
#include "fs/worker/classes.h"
#include "fs/worker/handle.h"
#include "fs/worker/lock.h"

#define UID_A 1234u
#define UID_B 2345u
#define NUMBER_A 9
#define STEPS 60
#define SENT_MAX 1024
#define ANSWER_MAX (2u << 20)
#define KNOWN 16
#define CANARY "CANARY-0"	/* the last byte: '0' + which file; 'L': link; 'X': attribute */
#define CANARY_BYTES 8
#define FILES 3

struct sent {
	uint64_t unique;
	int wanted, optional, got;
};

struct peer {
	struct session *s;
	int fd;
	uint32_t uid;
};

struct kernel {
	struct worker_fixture x;
	struct peer a, b;
	struct sent sent[SENT_MAX];
	unsigned sent_n;
	uint64_t unique, nodes[KNOWN], handles[KNOWN];
	unsigned nodes_n, handles_n;
	struct file_id ids[FILES];
	bool opened[FILES], link_read, attr_read, over;
	uint64_t b_handle, b_node;
};

static uint8_t answer_bytes[ANSWER_MAX];

/* libfuse keeps an INTERRUPT of what was answered already until the next request comes, and fuse_session_destroy (3.14) does
 * not free those that are left.  Leaks are looked for in all else: only what libfuse allocates for an INTERRUPT is left out.
 * Without the address sanitizer these two are not there. */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));
void __real_fuse_session_process_buf(struct fuse_session *se, const struct fuse_buf *buf);
void __wrap_fuse_session_process_buf(struct fuse_session *se, const struct fuse_buf *buf);

void __wrap_fuse_session_process_buf(struct fuse_session *se, const struct fuse_buf *buf)
{
	const struct fuse_in_header *in = buf->mem;
	bool apart = __lsan_disable && in->opcode == FUSE_INTERRUPT;

	if (apart)
		__lsan_disable();
	__real_fuse_session_process_buf(se, buf);
	if (apart)
		__lsan_enable();
}

static uint64_t open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	uint64_t n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* ---- records before data ---- */

static void read_records(struct kernel *k)
{
	uint8_t buf[RECORD_BYTES_MAX];
	struct record rec;

	while (next_record(&k->x, buf, &rec)) {
		if (rec.kind != RECORD_KIND_ACCESS || rec.access.session != NUMBER_A || rec.access.outcome != 0)
			continue;
		k->link_read |= rec.access.op == RECORD_READLINK;
		k->attr_read |= rec.access.op == RECORD_GETXATTR;
		for (unsigned n = 0; n < FILES; n++)
			k->opened[n] |= (rec.access.op == RECORD_OPEN || rec.access.op == RECORD_CREATE) &&
					(rec.access.flags & RECORD_READ) &&
					memcmp(&rec.access.file, &k->ids[n], sizeof(k->ids[n])) == 0;
	}
	fuzz_check(journal_reader_release(k->x.reader) == 0);
}

static void look_for_canaries(struct kernel *k, size_t n)
{
	const uint8_t *p = answer_bytes, *end = answer_bytes + n;
	bool drained = false;

	while ((p = memmem(p, (size_t)(end - p), CANARY, CANARY_BYTES - 1)) && p + CANARY_BYTES <= end) {
		uint8_t which = p[CANARY_BYTES - 1];

		if (!drained)
			read_records(k);
		drained = true;
		if (which == 'L')
			fuzz_check(k->link_read);
		else if (which == 'X')
			fuzz_check(k->attr_read);
		else if (which >= '0' && which < '0' + FILES)
			fuzz_check(k->opened[which - '0']);
		p += CANARY_BYTES;
	}
}

/* ---- answers ---- */

static struct sent *find_sent(struct kernel *k, uint64_t unique)
{
	for (unsigned n = k->sent_n; n > 0; n--)
		if (k->sent[n - 1].unique == unique)
			return &k->sent[n - 1];
	return NULL;
}

static void learn(uint64_t *list, unsigned *n, uint64_t value)
{
	if (value)
		list[(*n)++ % KNOWN] = value;
}

static void learn_from(struct kernel *k, uint32_t opcode, size_t n)
{
	const struct fuse_entry_out *e = (const void *)(answer_bytes + sizeof(struct fuse_out_header));
	const struct fuse_open_out *o = (const void *)e;

	n -= sizeof(struct fuse_out_header);
	if ((opcode == FUSE_OPEN || opcode == FUSE_OPENDIR) && n >= sizeof(*o))
		learn(k->handles, &k->handles_n, o->fh);
	if ((opcode == FUSE_LOOKUP || opcode == FUSE_CREATE || opcode == FUSE_MKDIR || opcode == FUSE_MKNOD ||
		    opcode == FUSE_SYMLINK) && n >= sizeof(*e))
		learn(k->nodes, &k->nodes_n, e->nodeid);
	if (opcode == FUSE_CREATE && n >= sizeof(*e) + sizeof(*o))
		learn(k->handles, &k->handles_n, ((const struct fuse_open_out *)(e + 1))->fh);
}

/* One answer of session a, if there is one within `ms`. */
static bool take_answer(struct kernel *k, uint32_t opcode, int ms)
{
	struct pollfd p = {.fd = k->a.fd, .events = POLLIN};
	struct fuse_out_header head;
	struct sent *s;
	ssize_t n;

	if (poll(&p, 1, ms) <= 0)
		return false;
	n = recv(k->a.fd, answer_bytes, sizeof(answer_bytes), 0);
	if (n <= 0) {
		k->over = true;
		return false;
	}
	fuzz_check((size_t)n >= sizeof(head));
	memcpy(&head, answer_bytes, sizeof(head));
	fuzz_check(head.len == (size_t)n);
	look_for_canaries(k, (size_t)n);
	if (head.unique == 0 && head.error > 0)
		return true; /* a notification */
	s = find_sent(k, head.unique);
	fuzz_check(s);
	s->got++;
	fuzz_check(s->got <= s->wanted + s->optional);
	fuzz_check(head.error <= 0 && head.error > -1000);
	if (head.error == 0)
		learn_from(k, opcode, (size_t)n);
	return true;
}

static void send_request(struct kernel *k, const uint8_t *raw, size_t n, bool may_wait)
{
	struct fuse_in_header in;
	struct sent *s;
	bool interrupts, silent;

	if (k->over || n == 0 || k->sent_n == SENT_MAX)
		return;
	if (n < sizeof(in)) {
		(void)!send(k->a.fd, raw, n, MSG_NOSIGNAL);
		return;
	}
	memcpy(&in, raw, sizeof(in));
	interrupts = in.opcode == FUSE_INTERRUPT;
	silent = in.opcode == FUSE_FORGET || in.opcode == FUSE_BATCH_FORGET || interrupts;
	s = find_sent(k, in.unique);
	if (!s) {
		s = &k->sent[k->sent_n++];
		*s = (struct sent){.unique = in.unique};
	}
	s->wanted += !silent;
	s->optional += silent; /* libfuse answers an INTERRUPT of nothing, later, by EAGAIN; and before INIT all, by EIO */
	if (send(k->a.fd, raw, n, MSG_NOSIGNAL) != (ssize_t)n) {
		s->wanted -= !silent;
		k->over = true;
		return;
	}
	while (!silent && !k->over && s->got < s->wanted)
		if (!take_answer(k, in.opcode, may_wait ? 2 : 10000)) {
			fuzz_check(k->over || may_wait);
			break;
		}
}

/* ---- the other session ---- */

static int ask_b(struct kernel *k, uint32_t opcode, uint64_t node, const void *arg, size_t n)
{
	uint8_t raw[512], *got = answer_bytes;
	struct fuse_in_header in = {.len = (uint32_t)(sizeof(in) + n), .opcode = opcode, .unique = ++k->unique,
		.nodeid = node, .uid = UID_B, .gid = UID_B, .pid = 1};
	struct fuse_out_header head;

	memcpy(raw, &in, sizeof(in));
	if (n)
		memcpy(raw + sizeof(in), arg, n);
	fuzz_check(send(k->b.fd, raw, sizeof(in) + n, MSG_NOSIGNAL) == (ssize_t)(sizeof(in) + n));
	do {
		struct pollfd p = {.fd = k->b.fd, .events = POLLIN};

		fuzz_check(poll(&p, 1, 10000) == 1);
		fuzz_check(recv(k->b.fd, got, ANSWER_MAX, 0) >= (ssize_t)sizeof(head));
		memcpy(&head, got, sizeof(head));
	} while (head.unique != in.unique);
	return -head.error;
}

static const void *body(void)
{
	return answer_bytes + sizeof(struct fuse_out_header);
}

static struct fuse_lk_in lock_of_b(struct kernel *k, uint32_t type)
{
	return (struct fuse_lk_in){.fh = k->b_handle, .owner = 77, .lk = {.start = 0, .end = 9, .type = type, .pid = 1}};
}

static void begin_b(struct kernel *k)
{
	struct fuse_open_in open_in = {.flags = O_RDWR};
	struct fuse_lk_in lock;

	fuzz_check(ask_b(k, FUSE_LOOKUP, FUSE_ROOT_ID, "f2", 3) == 0);
	k->b_node = ((const struct fuse_entry_out *)body())->nodeid;
	fuzz_check(ask_b(k, FUSE_OPEN, k->b_node, &open_in, sizeof(open_in)) == 0);
	k->b_handle = ((const struct fuse_open_out *)body())->fh;
	lock = lock_of_b(k, F_WRLCK);
	fuzz_check(ask_b(k, FUSE_SETLK, k->b_node, &lock, sizeof(lock)) == 0);
}

static void check_b(struct kernel *k)
{
	struct fuse_read_in read_in = {.fh = k->b_handle, .size = 100};
	struct fuse_lk_in lock = lock_of_b(k, F_WRLCK);

	fuzz_check(ask_b(k, FUSE_READ, k->b_node, &read_in, sizeof(read_in)) == 0);
	fuzz_check(ask_b(k, FUSE_LOOKUP, FUSE_ROOT_ID, "nothing of this name", 21) == 0);
	fuzz_check(ask_b(k, FUSE_GETLK, k->b_node, &lock, sizeof(lock)) == 0);
	lock.owner = 78; /* somebody else of the session finds it held */
	fuzz_check(ask_b(k, FUSE_SETLK, k->b_node, &lock, sizeof(lock)) == EAGAIN);
}

/* ---- sessions ---- */

static void attach(struct kernel *k, struct peer *p, uint64_t number, uint32_t uid)
{
	struct session_terms terms = {.number = number, .uid = uid, .gid = uid, .classes = class_set_all()};
	int pair[2], table, size = 4 << 20;

	fuzz_check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0 ||
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		exit(77); /* answers of 1 MiB need it: root */
	table = memfd_create("table", MFD_CLOEXEC);
	fuzz_check(ftruncate(table, HANDLE_MAX * 8) == 0);
	fuzz_check(session_new(&k->x.w, &terms, &p->s) == 0);
	p->fd = pair[0];
	p->uid = uid;
	fuzz_check(session_attach(p->s, pair[1], table) == 0);
	close(table);
}

static void finish(struct kernel *k, struct peer *p)
{
	session_end(p->s, EKEYREVOKED, "test");
	while (atomic_load(&p->s->state) != SESSION_DEAD) {
		struct pollfd ev[] = {{.fd = k->x.w.event_fd, .events = POLLIN}, {.fd = p->fd, .events = POLLIN}};
		uint64_t n;

		fuzz_check(poll(ev, 2, 20000) > 0);
		(void)!read(k->x.w.event_fd, &n, sizeof(n));
		if (p == &k->a)
			take_answer(k, 0, 0);
		else
			(void)!recv(p->fd, answer_bytes, sizeof(answer_bytes), MSG_DONTWAIT);
	}
	while (p == &k->a && !k->over && take_answer(k, 0, 0))
		;
	session_free(p->s);
	close(p->fd);
}

static void canary_file(struct kernel *k, unsigned n)
{
	char name[] = {'f', (char)('0' + n), 0}, text[9000];
	struct file *f;
	struct stat st;

	for (size_t at = 0; at < sizeof(text); at += CANARY_BYTES)
		memcpy(text + at, CANARY, CANARY_BYTES);
	for (size_t at = CANARY_BYTES - 1; at < sizeof(text); at += CANARY_BYTES)
		text[at] = (char)('0' + n);
	fuzz_check(file_create(k->x.disk->root, name, 0666, &f, &st) == 0);
	fuzz_check(file_write(f, text, sizeof(text), 0) == sizeof(text));
	file_id(f, &k->ids[n]);
	if (n == 0)
		fuzz_check(file_setxattr(f, "user.secret", "CANARY-X", 8, 0) == 0);
	file_close(f);
}

static void begin(struct kernel *k)
{
	struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION, .minor = 38, .flags = FUSE_BIG_WRITES | FUSE_MAX_PAGES};
	struct stat st;

	worker_fixture_setup(&k->x, 4 << 20);
	for (unsigned n = 0; n < FILES; n++)
		canary_file(k, n);
	fuzz_check(store_symlink(k->x.disk->root, "l", "CANARY-L", &st) == 0);
	fuzz_check(store_mkdir(k->x.disk->root, "d", 0777, &st) == 0);
	attach(k, &k->a, NUMBER_A, UID_A);
	attach(k, &k->b, 10, UID_B);
	fuzz_check(ask_b(k, FUSE_INIT, 0, &init, sizeof(init)) == 0);
	begin_b(k);
}

static void found(const struct check_finding *f, void *arg)
{
	if (f->damage)
		fprintf(stderr, "damage: %s at %s (%s)\n", f->what, f->path, f->detail);
}

static bool go_on(const struct check_counts *c, const char *finished, void *arg)
{
	return true;
}

static void check_store(struct kernel *k)
{
	struct check_options opt = {.today = "2026-11-23", .found = found, .step = go_on, .names = &k->x.w.names};
	struct check_counts counts = {0};

	fuzz_check(store_check(k->x.w.store, &opt, &counts) == 0);
	fuzz_check(counts.damaged == 0);
}

static void end(struct kernel *k)
{
	finish(k, &k->a);
	for (unsigned n = 0; n < k->sent_n; n++)
		fuzz_check(k->sent[n].got >= k->sent[n].wanted || k->over);
	check_b(k);
	finish(k, &k->b);
	fuzz_check(inode_table_count(k->x.w.inodes) == 1);
	check_store(k);
	worker_fixture_teardown(&k->x);
}

/* ---- requests ---- */

static uint64_t a_node(struct kernel *k, struct fuzz_input *in)
{
	static const uint64_t forged[] = {0, 2, UINT64_MAX, 1ull << 32 | 1, 0xdead0000, UINT32_MAX, 1ull << 32 | 2};
	uint8_t c = fuzz_byte(in);

	if (c < 80 || (c < 224 && k->nodes_n == 0))
		return FUSE_ROOT_ID;
	if (c < 224)
		return k->nodes[c % (k->nodes_n < KNOWN ? k->nodes_n : KNOWN)];
	return c < 250 ? forged[c % ARRAY_SIZE(forged)] : fuzz_u64(in);
}

static uint64_t a_handle(struct kernel *k, struct fuzz_input *in)
{
	uint8_t c = fuzz_byte(in);

	if (c < 220 && k->handles_n)
		return k->handles[c % (k->handles_n < KNOWN ? k->handles_n : KNOWN)];
	return c < 230 ? k->b_handle : c < 250 ? c % 4 : fuzz_u64(in);
}

static uint64_t a_number(struct fuzz_input *in)
{
	static const uint64_t odd[] = {0, 1, 10, 4031, 4032, 4033, 4096, 9000, 65536, 131072, 1 << 20, (1 << 20) + 1,
		UINT32_MAX, INT64_MAX, UINT64_MAX, 1ull << 40, 1ull << 63};
	uint8_t c = fuzz_byte(in);

	return c < 224 ? odd[c % ARRAY_SIZE(odd)] : fuzz_u64(in);
}

static size_t a_name(struct fuzz_input *in, char *buf)
{
	static const char *const names[] = {"f0", "f1", "f2", "l", "d", "new", "x", "other", "user.secret", "user.a",
		"security.b", "system.posix_acl_access", "", ".", "..", "a/b", ".id", ".nxxxx", ".u", "\xff\xfe"};
	static const char *const labels[] = {"coffer.subject.add", "coffer.subject.remove", "coffer.subjects"};
	uint8_t c = fuzz_byte(in);

	if (c >= 250) {
		size_t n = c == 250 ? 255 : c == 251 ? 256 : c == 252 ? 1500 : 200;

		memset(buf, 'n', n);
		buf[n] = 0;
		return n + 1;
	}
	strcpy(buf, c >= 247 ? labels[c - 247] : names[c % ARRAY_SIZE(names)]);
	return strlen(buf) + 1;
}

struct message {
	struct fuse_in_header head;
	uint8_t arg[70000];
	size_t n;
};

static void put(struct message *m, const void *p, size_t n)
{
	memcpy(m->arg + m->n, p, n);
	m->n += n;
}

static void put_name(struct message *m, struct fuzz_input *in)
{
	m->n += a_name(in, (char *)m->arg + m->n);
}

#define PUT(m, type, ...) put(m, &(struct type){__VA_ARGS__}, sizeof(struct type))

static uint32_t open_flags(struct fuzz_input *in)
{
	static const uint32_t flags[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_TRUNC, O_WRONLY | O_APPEND, O_RDWR | O_CREAT,
		O_ACCMODE, O_RDONLY | O_TRUNC, O_PATH, O_RDWR | O_EXCL | O_CREAT, UINT32_MAX, O_RDWR | O_DIRECT | O_SYNC};

	return flags[fuzz_byte(in) % ARRAY_SIZE(flags)];
}

static void put_io(struct kernel *k, struct message *m, struct fuzz_input *in)
{
	uint64_t fh = a_handle(k, in), off = a_number(in);
	uint32_t size = (uint32_t)a_number(in), real = size;

	if (m->head.opcode != FUSE_WRITE) {
		PUT(m, fuse_read_in, .fh = fh, .offset = off, .size = size, .flags = fuzz_byte(in));
		return;
	}
	if (real > 66000)
		real = fuzz_byte(in) % 4 ? 66000 : 10;
	off = off > 1 << 20 && fuzz_byte(in) % 8 ? 5000 : off;
	PUT(m, fuse_write_in, .fh = fh, .offset = off, .size = fuzz_byte(in) % 8 ? real : size, .write_flags = fuzz_byte(in) % 8);
	memset(m->arg + m->n, 'w', real);
	m->n += real;
}

static void put_lock(struct kernel *k, struct message *m, struct fuzz_input *in)
{
	PUT(m, fuse_lk_in, .fh = a_handle(k, in), .owner = fuzz_byte(in) % 4, .lk_flags = fuzz_byte(in) % 8 == 0,
		.lk = {.start = a_number(in), .end = a_number(in), .type = fuzz_byte(in) % 4, .pid = fuzz_byte(in)});
}

static void put_attributes(struct kernel *k, struct message *m, struct fuzz_input *in)
{
	uint32_t valid = fuzz_byte(in) | (fuzz_byte(in) & 7u) << 8;

	PUT(m, fuse_setattr_in, .valid = valid, .fh = a_handle(k, in), .size = a_number(in), .atime = fuzz_byte(in),
		.mtime = a_number(in), .mode = (uint32_t)(fuzz_byte(in) % 4 ? 0100666 : a_number(in)),
		.uid = fuzz_byte(in) % 2 ? UID_A : 0, .gid = fuzz_byte(in));
}

/* The arguments of opcodes that take a handle and numbers. */
static void put_handle_arguments(struct kernel *k, struct message *m, struct fuzz_input *in)
{
	switch (m->head.opcode) {
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		PUT(m, fuse_release_in, .fh = a_handle(k, in), .release_flags = fuzz_byte(in) % 4, .lock_owner = fuzz_byte(in) % 4);
		break;
	case FUSE_FLUSH:
		PUT(m, fuse_flush_in, .fh = a_handle(k, in), .lock_owner = fuzz_byte(in) % 4);
		break;
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
		PUT(m, fuse_fsync_in, .fh = a_handle(k, in), .fsync_flags = fuzz_byte(in) % 2);
		break;
	case FUSE_FALLOCATE:
		PUT(m, fuse_fallocate_in, .fh = a_handle(k, in), .offset = a_number(in) % (1 << 21), .length = a_number(in) % (1 << 21),
			.mode = fuzz_byte(in) % 64);
		break;
	case FUSE_LSEEK:
		PUT(m, fuse_lseek_in, .fh = a_handle(k, in), .offset = a_number(in), .whence = fuzz_byte(in) % 6);
		break;
	case FUSE_GETATTR:
		PUT(m, fuse_getattr_in, .fh = a_handle(k, in), .getattr_flags = fuzz_byte(in) % 2);
		break;
	default:
		for (unsigned n = fuzz_byte(in) % 8; n > 0; n--)
			put(m, &(uint64_t){fuzz_u64(in)}, sizeof(uint64_t));
	}
}

static void put_name_arguments(struct kernel *k, struct message *m, struct fuzz_input *in)
{
	switch (m->head.opcode) {
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		PUT(m, fuse_create_in, .flags = open_flags(in), .mode = S_IFREG | 0666);
		break;
	case FUSE_MKDIR:
		PUT(m, fuse_mkdir_in, .mode = fuzz_byte(in) % 4 ? 0777 : (uint32_t)a_number(in));
		break;
	case FUSE_MKNOD:
		PUT(m, fuse_mknod_in, .mode = fuzz_byte(in) % 4 ? S_IFREG | 0666 : (uint32_t)a_number(in), .rdev = fuzz_byte(in));
		break;
	case FUSE_RENAME:
		PUT(m, fuse_rename_in, .newdir = a_node(k, in));
		put_name(m, in);
		break;
	case FUSE_RENAME2:
		PUT(m, fuse_rename2_in, .newdir = a_node(k, in), .flags = fuzz_byte(in) % 8);
		put_name(m, in);
		break;
	case FUSE_LINK:
		PUT(m, fuse_link_in, .oldnodeid = a_node(k, in));
		break;
	case FUSE_SYMLINK:
		put_name(m, in);
		break;
	case FUSE_GETXATTR:
		PUT(m, fuse_getxattr_in, .size = (uint32_t)a_number(in));
		break;
	case FUSE_SETXATTR:
		put(m, (uint32_t[]){8, fuzz_byte(in) % 4}, 8);
		put_name(m, in);
		put(m, "12345678", 8);
		return;
	default:
		break;
	}
	put_name(m, in);
}

static void put_arguments(struct kernel *k, struct message *m, struct fuzz_input *in)
{
	switch (m->head.opcode) {
	case FUSE_INIT:
		PUT(m, fuse_init_in, .major = fuzz_byte(in) % 8 ? FUSE_KERNEL_VERSION : fuzz_byte(in), .minor = fuzz_byte(in) % 2 ? 38 : 5,
			.max_readahead = (uint32_t)a_number(in), .flags = (uint32_t)fuzz_u64(in), .flags2 = fuzz_byte(in));
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		PUT(m, fuse_open_in, .flags = open_flags(in));
		break;
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_WRITE:
		put_io(k, m, in);
		break;
	case FUSE_GETLK:
	case FUSE_SETLK:
	case FUSE_SETLKW:
		put_lock(k, m, in);
		break;
	case FUSE_SETATTR:
		put_attributes(k, m, in);
		break;
	case FUSE_LISTXATTR:
		PUT(m, fuse_getxattr_in, .size = (uint32_t)a_number(in));
		break;
	case FUSE_FORGET:
		PUT(m, fuse_forget_in, .nlookup = a_number(in));
		break;
	case FUSE_BATCH_FORGET:
		PUT(m, fuse_batch_forget_in, .count = fuzz_byte(in) % 4 ? 2 : (uint32_t)a_number(in));
		PUT(m, fuse_forget_one, .nodeid = a_node(k, in), .nlookup = a_number(in));
		PUT(m, fuse_forget_one, .nodeid = a_node(k, in), .nlookup = 1);
		break;
	case FUSE_INTERRUPT:
		PUT(m, fuse_interrupt_in, .unique = fuzz_byte(in) % 2 ? k->unique : fuzz_byte(in));
		break;
	case FUSE_LOOKUP: case FUSE_UNLINK: case FUSE_RMDIR: case FUSE_REMOVEXATTR: case FUSE_CREATE: case FUSE_TMPFILE:
	case FUSE_MKDIR: case FUSE_MKNOD: case FUSE_RENAME: case FUSE_RENAME2: case FUSE_LINK: case FUSE_SYMLINK:
	case FUSE_GETXATTR: case FUSE_SETXATTR:
		put_name_arguments(k, m, in);
		break;
	default:
		put_handle_arguments(k, m, in);
	}
}

static uint32_t an_opcode(struct fuzz_input *in)
{
	static const uint8_t often[] = {FUSE_LOOKUP, FUSE_OPEN, FUSE_READ, FUSE_WRITE, FUSE_CREATE, FUSE_GETXATTR, FUSE_READLINK,
		FUSE_OPENDIR, FUSE_READDIRPLUS, FUSE_RENAME2, FUSE_UNLINK, FUSE_RELEASE, FUSE_SETATTR, FUSE_SETLK, FUSE_SETLKW,
		FUSE_FORGET};
	uint8_t c = fuzz_byte(in);

	if (c < 160)
		return often[c % ARRAY_SIZE(often)];
	if (c < 252)
		return c % 54 == FUSE_DESTROY && fuzz_byte(in) % 16 ? FUSE_STATFS : c % 54;
	return c == 252 ? CUSE_INIT : (uint32_t)fuzz_u64(in);
}

static void one_request(struct kernel *k, struct fuzz_input *in, uint32_t opcode)
{
	static struct message m;
	uint8_t spoil;
	size_t n;

	m.n = 0;
	m.head = (struct fuse_in_header){.opcode = opcode, .unique = ++k->unique, .nodeid = a_node(k, in), .uid = UID_A, .gid = UID_A, .pid = 1};
	put_arguments(k, &m, in);
	spoil = fuzz_byte(in);
	n = sizeof(m.head) + m.n;
	m.head.len = (uint32_t)n;
	if (spoil >= 244) {
		uint8_t how = fuzz_byte(in);

		switch (spoil) {
		case 244: m.head.uid = how % 2 ? UID_B : 0; break;
		case 245: m.head.len = (uint32_t)a_number(in); break;
		case 246: n = how < n ? how : n; break;
		case 247: n = m.head.len = how < n ? (how < sizeof(m.head) ? (uint32_t)sizeof(m.head) : how) : (uint32_t)n; break;
		case 248: m.head.unique = how; break;
		case 249: m.head.uid = 0; m.head.pid = 0; break;
		case 250: m.head.pid = UINT32_MAX; break;
		default: m.arg[how] ^= (uint8_t)(1u << spoil % 8);
		}
	}
	memmove(answer_bytes, &m.head, sizeof(m.head));
	memcpy(answer_bytes + sizeof(m.head), m.arg, m.n);
	send_request(k, answer_bytes, n, opcode == FUSE_SETLKW);
}

static void play(struct fuzz_input *in)
{
	struct kernel *k = calloc(1, sizeof(*k));

	fuzz_check(k);
	begin(k);
	if (fuzz_byte(in) != 1) { /* 1: no INIT at first */
		struct fuzz_input none = {(const uint8_t *)"\0\7\1", 3};

		one_request(k, &none, FUSE_INIT);
	}
	for (unsigned step = 0; step < STEPS && in->left > 0 && !k->over; step++) {
		one_request(k, in, an_opcode(in));
		while (recv(k->b.fd, answer_bytes, sizeof(answer_bytes), MSG_DONTWAIT) > 0)
			;
		if (step % 16 == 0)
			read_records(k);
	}
	end(k);
	free(k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static bool begun;
	struct fuzz_input in = {data, n};
	uint64_t descriptors;

	if (!begun) {
		struct fuzz_input nothing = {data, 0};

		umask(0);
		setenv("COFFER_LOG", "error", 0);
		log_init("fuzz");
		play(&nothing); /* what libraries open once is open then */
	}
	begun = true;
	descriptors = open_descriptors();
	play(&in);
	fuzz_check(open_descriptors() == descriptors);
	return 0;
}
