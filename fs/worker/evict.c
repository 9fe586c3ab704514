#include "fs/worker/evict.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/log.h"
#include "fs/worker/inode.h"
#include "fs/worker/session.h"
#include "fs/worker/worker.h"

#define BATCH 512u

/* Linux 6.18 (FUSE 7.45): drops what nobody uses of the given nodes.  Older headers do not have it. */
#define NOTIFY_PRUNE 9
struct notify_prune {
	uint32_t count, padding;
	uint64_t spare;
};

/* Under the table's lock. */
static void ask_all(void *arg)
{
	struct worker *w = arg;

	for (struct session *s = atomic_load(&w->sessions); s; s = s->next)
		note_queue_evict(&s->notes);
}

/* A program that walks over more than the limit again and again finds each inode just forgotten: so as many as the memory
 * of this machine bears. */
static uint32_t limit_wanted(void)
{
	const char *text = getenv("COFFER_INODES");
	unsigned long n = text ? strtoul(text, NULL, 10) : 0;
	struct sysinfo memory;

	if (n >= 1024 && n <= INODE_MAX)
		return (uint32_t)n;
	return sysinfo(&memory) < 0 ? INODE_LIMIT_LOW
				    : inode_limit_for((uint64_t)memory.totalram * memory.mem_unit);
}

void evict_begin(struct worker *w)
{
	inode_table_on_full(w->inodes, limit_wanted(), ask_all, w);
}

static int prune(struct session *s, const uint64_t *nodes, size_t n)
{
	struct notify_prune what = {.count = (uint32_t)n};
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + sizeof(what) + n * sizeof(*nodes)), .error = NOTIFY_PRUNE};
	const struct iovec iov[] = {
		{&out, sizeof(out)}, {&what, sizeof(what)}, {(void *)nodes, n * sizeof(*nodes)}};

	return writev(s->fd, iov, 3) < 0 ? -errno : 0;
}

/* Before 6.18 only names can be dropped, whether in use or not.  A program's working directory would become unreachable:
 * so directories stay. */
static void drop_names(struct session *s, const uint64_t *nodes, size_t n)
{
	uint64_t parent;
	char name[256];

	for (size_t k = 0; k < n; k++) {
		if (inode_view_name(s->worker->inodes, &s->view, nodes[k], &parent, name))
			fuse_lowlevel_notify_inval_entry(s->se, parent, name, strlen(name));
	}
}

void evict_run(struct session *s)
{
	struct inode_table *t = s->worker->inodes;
	uint32_t sessions = atomic_load(&s->worker->session_count);
	uint32_t part = inode_table_limit(t) / (sessions > 0 ? sessions : 1);
	uint32_t slots, known = inode_view_known(t, &s->view, &slots);
	uint32_t left = known > part ? known - part / 4 * 3 : 0;
	uint64_t nodes[BATCH];

	log_debug("session %llu knows %u inodes: %u have to go", (unsigned long long)s->number, known, left);
	while (left > 0 && slots > 0) {
		size_t n = inode_view_unused(t, &s->view, nodes, left < BATCH ? left : BATCH, &slots);

		if (n > 0 && !s->cannot_prune)
			s->cannot_prune = prune(s, nodes, n) == -EINVAL;
		if (n > 0 && s->cannot_prune)
			drop_names(s, nodes, n);
		left -= (uint32_t)n;
	}
}
