/* The second try after ESTALE.  A file can be replaced between the LOOKUP and the OPEN of it (an editor saves by rename, in another
 * session): the kernel's name means a file that is gone, we answer ESTALE, the kernel looks the name up once more and opens
 * what it finds.  When that is gone by then, too, the program would get ESTALE, which no local disk gives.  So what the
 * second LOOKUP finds is kept open until the same thread has opened it.  Thread-safe. */
#ifndef COFFER_RETRY_H
#define COFFER_RETRY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

struct inode;
struct session;

#define RETRIES_MAX 8u	/* threads of a session that try again; the oldest makes room */

struct retries {
	pthread_mutex_t lock;
	atomic_uint count;	/* used slots: 0 costs nobody a lock */
	unsigned next;
	struct retry {
		pid_t pid;		/* 0: free */
		int what;		/* the operation: its thread does others meanwhile */
		int64_t since;		/* seconds of the monotonic clock */
		struct inode *kept;	/* by reference and resolve_file_get; or NULL */
		uint32_t path;		/* of it when it was found, for the record: by then it may have none */
	} slots[RETRIES_MAX];
};

void retries_init(struct retries *t);
void retries_done(struct retries *t);	/* after retries_clear */
void retries_clear(struct session *s);	/* lets all go; no request is served any more */

void retry_expect(struct session *s, pid_t pid, int what);		/* its request was answered ESTALE */
void retry_found(struct session *s, pid_t pid, struct inode *i);	/* a LOOKUP of it found i; namespace lock held */
/* The path under which the thread found i (recorder_path()); 0: it did not. */
uint32_t retry_path(struct session *s, pid_t pid, const struct inode *i);
void retry_over(struct session *s, pid_t pid, int what);		/* it was answered otherwise */

#endif
