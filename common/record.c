/* Records as bytes.  doc/format-ledger.md shows the same tables.
 *
 *	path	 u8 kind=1, u8 0, u16 month, u32 ref, u16 length, sealed text
 *	access	 u8 kind=2, u8 op, u8 flags, u8 length of detail, u16 outcome, u16 0, u64 session, u64
 *time_ns, u32 path, u32 path2, u32 process, u8 file id[16], u64 size, u64 bytes read, u64 bytes written,
 *detail process	 u8 kind=3, u8 0, u16 0, u32 ref, u32 pid, u32 loginuid, u8 comm[16]
 */
#include "common/record.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "common/bytes.h"
#include "common/pathseal.h"
#include "common/scope.h"

#define FLAGS_KNOWN (RECORD_READ | RECORD_WRITE | RECORD_EXEC | RECORD_TRUNC | RECORD_APPEND)

static const char *const op_names[] = {
#define X(n, id, name) [n] = name,
	RECORD_OPS(X)
#undef X
};

const char *record_op_name(unsigned op)
{
	return op < ARRAY_SIZE(op_names) && op_names[op] ? op_names[op] : "?";
}

static bool op_known(unsigned op)
{
	return op < ARRAY_SIZE(op_names) && op_names[op];
}

static bool detail_word_ok(const char *word, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (word[i] < 0x20 || word[i] > 0x7e)
			return false;
	return true;
}

/* A name that the kernel reports ends with a NUL, and nothing may hide behind it. */
static bool comm_ok(const char comm[16])
{
	size_t n = strnlen(comm, 16);

	if (n == 16)
		return false;
	for (size_t i = n; i < 16; i++)
		if (comm[i])
			return false;
	return true;
}

static int encode_path(const struct record_path *p, struct bytes_writer *w)
{
	if (p->sealed_len > RECORD_PATH_MAX)
		return -EMSGSIZE;
	bytes_put_u8(w, 0);
	bytes_put_u16(w, p->month);
	bytes_put_u32(w, p->ref);
	bytes_put_u16(w, p->sealed_len);
	bytes_put(w, p->sealed, p->sealed_len);
	return 0;
}

static int encode_access(const struct record_access *a, struct bytes_writer *w)
{
	size_t detail = strnlen(a->detail, sizeof(a->detail));

	if (detail == sizeof(a->detail))
		return -EMSGSIZE;
	bytes_put_u8(w, a->op);
	bytes_put_u8(w, a->flags);
	bytes_put_u8(w, (uint8_t)detail);
	bytes_put_u16(w, a->outcome);
	bytes_put_u16(w, 0);
	bytes_put_u64(w, a->session);
	bytes_put_u64(w, a->time_ns);
	bytes_put_u32(w, a->path);
	bytes_put_u32(w, a->path2);
	bytes_put_u32(w, a->process);
	bytes_put(w, a->file.b, sizeof(a->file.b));
	bytes_put_u64(w, a->size);
	bytes_put_u64(w, a->bytes_read);
	bytes_put_u64(w, a->bytes_written);
	bytes_put(w, a->detail, detail);
	return 0;
}

static int encode_process(const struct record_process *p, struct bytes_writer *w)
{
	char comm[16] = {0};
	size_t n = strnlen(p->comm, sizeof(comm) - 1);

	memcpy(comm, p->comm, n);
	bytes_put_u8(w, 0);
	bytes_put_u16(w, 0);
	bytes_put_u32(w, p->ref);
	bytes_put_u32(w, p->pid);
	bytes_put_u32(w, p->loginuid);
	bytes_put(w, comm, sizeof(comm));
	return 0;
}

int record_encode(const struct record *r, uint8_t *buf, size_t cap)
{
	struct bytes_writer w;
	int ret = -EMSGSIZE;

	bytes_writer_init(&w, buf, cap);
	bytes_put_u8(&w, r->kind);
	switch (r->kind) {
	case RECORD_KIND_PATH:
		ret = encode_path(&r->path, &w);
		break;
	case RECORD_KIND_ACCESS:
		ret = encode_access(&r->access, &w);
		break;
	case RECORD_KIND_PROCESS:
		ret = encode_process(&r->process, &w);
		break;
	}
	if (ret < 0)
		return ret;
	return bytes_writer_ok(&w) ? (int)bytes_writer_size(&w) : -EMSGSIZE;
}

static bool decode_path(struct bytes_reader *r, struct record_path *p)
{
	bool ok = bytes_get_zeros(r, 1);

	p->month = bytes_get_u16(r);
	p->ref = bytes_get_u32(r);
	p->sealed_len = bytes_get_u16(r);
	p->sealed = bytes_get_ref(r, p->sealed_len);
	return ok && p->sealed && p->ref && p->sealed_len >= PATHSEAL_OVERHEAD &&
	       p->sealed_len <= RECORD_PATH_MAX;
}

static bool decode_access(struct bytes_reader *r, struct record_access *a)
{
	size_t detail;

	a->op = bytes_get_u8(r);
	a->flags = bytes_get_u8(r);
	detail = bytes_get_u8(r);
	a->outcome = bytes_get_u16(r);
	if (!bytes_get_zeros(r, 2) || !op_known(a->op) || a->flags & ~FLAGS_KNOWN ||
		detail >= sizeof(a->detail))
		return false;
	a->session = bytes_get_u64(r);
	a->time_ns = bytes_get_u64(r);
	a->path = bytes_get_u32(r);
	a->path2 = bytes_get_u32(r);
	a->process = bytes_get_u32(r);
	bytes_get(r, a->file.b, sizeof(a->file.b));
	a->size = bytes_get_u64(r);
	a->bytes_read = bytes_get_u64(r);
	a->bytes_written = bytes_get_u64(r);
	bytes_get(r, a->detail, detail);
	return detail_word_ok(a->detail, detail);
}

static bool decode_process(struct bytes_reader *r, struct record_process *p)
{
	if (!bytes_get_zeros(r, 3))
		return false;
	p->ref = bytes_get_u32(r);
	p->pid = bytes_get_u32(r);
	p->loginuid = bytes_get_u32(r);
	bytes_get(r, p->comm, sizeof(p->comm));
	return p->ref && comm_ok(p->comm);
}

int record_decode(const uint8_t *buf, size_t n, struct record *ret)
{
	struct record rec = {0};
	struct bytes_reader r;
	bool ok = false;

	bytes_reader_init(&r, buf, n);
	rec.kind = bytes_get_u8(&r);
	switch (rec.kind) {
	case RECORD_KIND_PATH:
		ok = decode_path(&r, &rec.path);
		break;
	case RECORD_KIND_ACCESS:
		ok = decode_access(&r, &rec.access);
		break;
	case RECORD_KIND_PROCESS:
		ok = decode_process(&r, &rec.process);
		break;
	}
	if (!ok || !bytes_reader_end(&r))
		return -EBADMSG;
	*ret = rec;
	return 0;
}
