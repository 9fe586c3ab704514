#include "keyd/harden.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/capability.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/scope.h"

#define DESCRIPTORS 65536 /* of one worker: open files of all sessions of a client */

/* The last one only where the limit of locked memory could not be lifted (a container): without either, each
 * allocation beyond the limit would fail once all memory is to be locked. */
static const cap_value_t kept[] = {CAP_DAC_OVERRIDE, CAP_CHOWN, CAP_FOWNER, CAP_IPC_LOCK};

void harden_raise_limits(void)
{
	const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	const struct rlimit ordinary = {20, 20}; /* as setrlimit(2) counts: nice 0, and no better */
	struct rlimit files;

	(void)setrlimit(RLIMIT_MEMLOCK, &unlimited); /* root only; else what the limits allow is locked */
	(void)setrlimit(RLIMIT_NICE, &ordinary); /* a worker's thread may leave SCHED_IDLE again (fs/worker/loop_near.c) */
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	if (files.rlim_max != RLIM_INFINITY && files.rlim_max < DESCRIPTORS) {
		struct rlimit more = {DESCRIPTORS, DESCRIPTORS};

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return;
	}
	if (files.rlim_cur < DESCRIPTORS) {
		files.rlim_cur = files.rlim_max < DESCRIPTORS ? files.rlim_max : DESCRIPTORS;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static bool is_kept(cap_value_t c)
{
	struct rlimit locked;

	if (c == CAP_IPC_LOCK && getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur == RLIM_INFINITY)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (kept[i] == c)
			return true;
	return false;
}

static void cap_freep(cap_t *c)
{
	if (*c)
		cap_free(*c);
}

int harden_drop_capabilities(void)
{
	scoped(cap_freep) cap_t caps = cap_init();
	bool root = geteuid() == 0;

	if (!caps)
		return -errno;
	/* The bounding set is what a program run by root gets: the workers. */
	for (cap_value_t c = 0; root && c < cap_max_bits(); c++)
		if (!is_kept(c) && cap_get_bound(c) > 0 && cap_drop_bound(c) < 0)
			return -errno;
	for (size_t i = 0; root && i < ARRAY_SIZE(kept); i++) {
		if (!is_kept(kept[i]) || cap_get_bound(kept[i]) <= 0)
			continue; /* a container that lacks it: workers say what they cannot do */
		if (cap_set_flag(caps, CAP_PERMITTED, 1, &kept[i], CAP_SET) < 0 ||
			cap_set_flag(caps, CAP_EFFECTIVE, 1, &kept[i], CAP_SET) < 0)
			return -errno;
	}
	return cap_set_proc(caps) < 0 ? -errno : 0;
}
