/* The content of a small file goes along with the answer to its open: into the kernel's page cache (FUSE_NOTIFY_STORE), so
 * that reading it asks nothing more.  A round trip less of three.
 *
 * Storing waits for pages that are locked, and a page stays locked while a READ of it is not answered.  So only the first
 * open of a file that nobody had open is served like that, before it is answered: nobody can be reading; and only in
 * private sessions, where one thread at a time handles opens; and not where the answer waits for the disk: it would be overtaken. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/uio.h>

#include "fs/store/file.h"
#include "fs/worker/handle.h"
#include "fs/worker/inode.h"
#include "fs/worker/ops.h"
#include "fs/worker/worker.h"

#define AHEAD_MAX (32u << 10) /* what the kernel would read at once anyway */

bool op_may_go_ahead(const struct op *o, const struct inode *i, const struct fuse_file_info *fi)
{
	return !o->s->members && !o->s->sync && !atomic_load(&i->written) && !(fi->flags & (O_TRUNC | O_DIRECT)) &&
	       (fi->flags & O_ACCMODE) != O_WRONLY;
}

static void store(const struct op *o, const struct inode *i, void *buf, size_t n)
{
	struct fuse_notify_store_out what = {.nodeid = inode_node(i), .size = (uint32_t)n};
	struct fuse_out_header head = {.error = FUSE_NOTIFY_STORE};
	struct iovec iov[] = {{&head, sizeof(head)}, {&what, sizeof(what)}, {buf, n}};

	head.len = (uint32_t)(sizeof(head) + sizeof(what) + n);
	(void)!writev(o->s->fd, iov, 3); /* then it is asked for */
}

void op_go_ahead(const struct op *o, struct handle *h, const struct fuse_file_info *fi)
{
	uint32_t changes = atomic_load(&h->inode->changes);
	void *buf = loop_answer_buffer();
	ssize_t n;

	if (!buf || fi->direct_io || !inode_opened_once(o->w->inodes, h->inode) || file_size(h->file) > AHEAD_MAX)
		return;
	n = file_read(h->file, buf, AHEAD_MAX, 0);
	if (n <= 0)
		return; /* damage is told to who reads */
	pthread_rwlock_rdlock(&o->s->replies);
	/* When the session ends, pages that come after the last invalidation would stay. */
	if (atomic_load(&h->inode->changes) == changes && atomic_load(&o->s->refuse) == 0) {
		store(o, h->inode, buf, (size_t)n);
		atomic_fetch_add(&h->bytes_read, (uint64_t)n);
	}
	pthread_rwlock_unlock(&o->s->replies);
}
