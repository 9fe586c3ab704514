#include "fs/worker/sandbox.h"

#include <errno.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/landlock.h"
#include "common/scope.h"

static int confine_files(int store_fd, int proc_fd, int copy_fd, int *ret_abi)
{
	scoped(close_fdp) int ruleset = -1;
	int abi = landlock_abi(), r;
	uint64_t all = landlock_fs_all(abi);

	*ret_abi = 0;
	if (abi == 0)
		return 0;
	r = landlock_new(all, &ruleset);
	if (r == 0)
		r = landlock_allow(ruleset, store_fd, all & ~(LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_FS_IOCTL_DEV));
	if (r == 0 && proc_fd >= 0)
		r = landlock_allow(ruleset, proc_fd, LANDLOCK_FS_READ);
	if (r == 0 && copy_fd >= 0)
		r = landlock_allow(ruleset, copy_fd, LANDLOCK_FS_READ);
	if (r == 0)
		r = landlock_enter(ruleset);
	if (r == 0)
		*ret_abi = abi;
	return r;
}

static const cap_value_t kept[] = {CAP_DAC_OVERRIDE, CAP_CHOWN, CAP_FOWNER};

static bool is_kept(cap_value_t c)
{
	for (size_t n = 0; n < ARRAY_SIZE(kept); n++) {
		if (kept[n] == c)
			return true;
	}
	return false;
}

static int capabilities_drop(void)
{
	cap_t now = cap_get_proc(), then = cap_init();
	int r = now && then ? 0 : -ENOMEM;

	for (cap_value_t c = 0; r == 0 && cap_get_bound(c) >= 0; c++) {
		cap_flag_value_t may = CAP_CLEAR;

		/* Without CAP_SETPCAP (an ordinary user's daemon) the bound stays; there is nothing to gain
		 * from it with no_new_privs. */
		if (!is_kept(c) && cap_drop_bound(c) < 0 && errno != EPERM)
			r = -errno;
		if (!is_kept(c) || cap_get_flag(now, c, CAP_PERMITTED, &may) < 0 || may != CAP_SET)
			continue;
		if (cap_set_flag(then, CAP_PERMITTED, 1, &c, CAP_SET) < 0 ||
			cap_set_flag(then, CAP_EFFECTIVE, 1, &c, CAP_SET) < 0)
			r = -errno;
	}
	if (r == 0 && cap_set_proc(then) < 0)
		r = -errno;
	if (r == 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		r = -errno;
	cap_free(now);
	cap_free(then);
	return r;
}

#if !COFFER_SANITIZED
#define NR_FCHMODAT2 452 /* newer than libseccomp 2.5; one number on all architectures */

static const int allowed[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(openat),
	SCMP_SYS(openat2),
	SCMP_SYS(close),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(fstatfs),
	SCMP_SYS(lseek),
	SCMP_SYS(getdents64),
	SCMP_SYS(mkdirat),
	SCMP_SYS(mknodat),
	SCMP_SYS(unlinkat),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(linkat),
	SCMP_SYS(symlinkat),
	SCMP_SYS(readlinkat),
	SCMP_SYS(readlink),
	SCMP_SYS(fchmod),
	SCMP_SYS(fchmodat),
	SCMP_SYS(chmod),
	SCMP_SYS(access),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
	SCMP_SYS(open),
	SCMP_SYS(fchown),
	SCMP_SYS(fchownat),
	SCMP_SYS(utimensat),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fallocate),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(sync_file_range),
	SCMP_SYS(copy_file_range),
	SCMP_SYS(fadvise64),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(fgetxattr),
	SCMP_SYS(fsetxattr),
	SCMP_SYS(flistxattr),
	SCMP_SYS(fremovexattr),
	SCMP_SYS(getxattr),
	SCMP_SYS(setxattr),
	SCMP_SYS(listxattr),
	SCMP_SYS(removexattr),
	SCMP_SYS(lgetxattr),
	SCMP_SYS(lsetxattr),
	SCMP_SYS(llistxattr),
	SCMP_SYS(lremovexattr),
	SCMP_SYS(fcntl),
	SCMP_SYS(dup),
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mprotect),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(msync),
	SCMP_SYS(mlock),
	SCMP_SYS(mlock2),
	SCMP_SYS(munlock),
	SCMP_SYS(brk),
	SCMP_SYS(futex),
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(clock_getres),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(tgkill),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getrandom),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(eventfd2),
	SCMP_SYS(signalfd4),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendto),
	SCMP_SYS(getsockopt),
	SCMP_SYS(shutdown),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_setaffinity), /* loop_near.c */
	SCMP_SYS(sched_setscheduler),
	SCMP_SYS(getcpu),
	SCMP_SYS(prlimit64),
	SCMP_SYS(getrlimit),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
	SCMP_SYS(prctl),
	SCMP_SYS(umask),
	NR_FCHMODAT2,
};

static int seccomp_enter(void)
{
	scmp_filter_ctx ctx =
		seccomp_init(SCMP_ACT_ERRNO(ENOSYS)); /* as an older kernel: libraries know a way round */
	int r = 0;

	if (!ctx)
		return -ENOMEM;
	for (size_t n = 0; n < ARRAY_SIZE(allowed) && r == 0; n++) {
		if (allowed[n] >= 0) /* negative: not on this architecture */
			r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[n], 0);
	}
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}
#endif

int sandbox_enter(int store_fd, int proc_fd, int copy_fd, struct sandbox_report *ret)
{
	int r;

	*ret = (struct sandbox_report){.landlock = 0};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	r = confine_files(store_fd, proc_fd, copy_fd, &ret->landlock);
	if (r == 0)
		r = capabilities_drop();
#if !COFFER_SANITIZED /* their runtimes need what the list does not have */
	if (r == 0)
		r = seccomp_enter();
	ret->seccomp = r == 0;
#endif
	return r;
}
