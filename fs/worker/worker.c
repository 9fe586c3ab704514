#include "fs/worker/worker.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fs/worker/classes.h"
#include "fs/worker/evict.h"
#include "fs/worker/inode.h"
#include "fs/worker/lock.h"
#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/shares.h"
#include "fs/worker/stable.h"

/* A quarter of the descriptors is for connections, cached directories and walks. */
static uint64_t room_for_handles(void)
{
	struct rlimit l = {.rlim_cur = 1024};

	(void)getrlimit(RLIMIT_NOFILE, &l);
	return l.rlim_cur / 4 * 3;
}

int worker_init(struct worker *w)
{
	pthread_rwlockattr_t attr;
	int r;

	memset(w, 0, sizeof(*w));
	w->proc_fd = -1;
	w->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->event_fd < 0)
		return -errno;
	w->owners = geteuid() == 0;
	/* A steady stream of lookups must not keep a rename waiting for ever; nobody takes it twice. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	r = -pthread_rwlock_init(&w->names, &attr);
	pthread_rwlockattr_destroy(&attr);
	if (r == 0)
		r = lock_table_new(&w->locks);
	if (r == 0)
		r = shares_new(room_for_handles(), &w->shares);
	return r;
}

int worker_use_store(struct worker *w, struct store *s)
{
	struct store_dir *root;
	struct stat st;
	int r = store_dir_root(s, &root);

	if (r < 0)
		return r;
	r = store_dir_stat(root, &st);
	store_dir_unref(root);
	if (r == 0)
		r = inode_table_new(&st, &w->inodes);
	if (r == 0)
		r = resolve_new(s, w->inodes, &w->resolver);
	if (r == 0) {
		evict_begin(w);
		w->store = s;
	}
	return r;
}

void worker_done(struct worker *w)
{
	class_sets_free(w->class_sets);
	stable_free(w->stable);
	recorder_free(w->recorder);
	resolve_free(w->resolver);
	inode_table_free(w->inodes);
	lock_table_free(w->locks);
	shares_free(w->shares);
	store_close(w->store);
	waits_done(&w->waits);
	pthread_rwlock_destroy(&w->names);
	if (w->event_fd >= 0)
		close(w->event_fd);
}
