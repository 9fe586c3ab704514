#include "tools/fusemount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <libmount.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/background.h"

#define FUSERMOUNT "fusermount3"

/* In the child: only the standard descriptors and `keep` go on; exec. */
static void exec_fusermount(char *const argv[], int keep, int out)
{
	int null = open("/dev/null", O_RDWR);

	dup2(null, STDIN_FILENO);
	dup2(out >= 0 ? out : null, STDOUT_FILENO);
	dup2(out >= 0 ? out : null, STDERR_FILENO);
	if (keep >= 0)
		fcntl(keep, F_SETFD, 0);
	execvp(FUSERMOUNT, argv);
	dprintf(STDERR_FILENO, FUSERMOUNT ": %s\n", strerror(errno));
	_exit(127);
}

static int wait_child(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int receive_fd(int sock, int *ret_fd)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : -EIO;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EIO;
	memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return 0;
}

static void explain(int status, const char *said, char *why, size_t n)
{
	if (status == 127)
		snprintf(why, n, FUSERMOUNT " is not there; install it: apt install fuse3");
	else if (access("/dev/fuse", R_OK | W_OK) < 0)
		snprintf(why, n, "/dev/fuse: %s; an administrator must allow it: chmod 666 /dev/fuse",
			strerror(errno));
	else if (strstr(said, "user_allow_other"))
		snprintf(why, n,
			"only root may make a shared mount here; write the line `user_allow_other` into "
			"/etc/fuse.conf, "
			"or mount as root");
	else
		snprintf(why, n, "%s", *said ? said : FUSERMOUNT " failed");
}

int fusemount_mount(
	const char *path, const char *client, bool shared, int *ret_fd, char *why, size_t why_size)
{
	scoped(close_fdp) int ours = -1, theirs = -1, out_r = -1, out_w = -1;
	char options[512], number[16], said[400] = "";
	char *argv[] = {(char *)FUSERMOUNT, (char *)"-o", options, (char *)"--", (char *)path, NULL};
	int pair[2], out[2], r, status;
	ssize_t n;
	pid_t pid;

	snprintf(why, why_size, "no descriptors");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	out_r = out[0];
	out_w = out[1];
	snprintf(options, sizeof(options), "fsname=coffer:%s,subtype=coffer,nosuid,nodev,max_read=1048576%s",
		client, shared ? ",allow_other,default_permissions" : "");
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		snprintf(number, sizeof(number), "%d", theirs);
		setenv("_FUSE_COMMFD", number, 1);
		exec_fusermount(argv, theirs, out_w);
	}
	close_fdp(&theirs);
	close_fdp(&out_w);
	r = receive_fd(ours, ret_fd);
	status = wait_child(pid);
	n = read(out_r, said, sizeof(said) - 1);
	said[n > 0 ? n : 0] = '\0';
	said[strcspn(said, "\n")] = '\0';
	if (r < 0)
		explain(status, said, why, why_size);
	return r;
}

int fusemount_unmount(const char *path, bool lazy)
{
	char *argv[] = {(char *)FUSERMOUNT, (char *)"-u", lazy ? (char *)"-z" : (char *)"--",
		lazy ? (char *)"--" : (char *)path, lazy ? (char *)path : NULL, NULL};
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		exec_fusermount(argv, -1, -1);
	return wait_child(pid);
}

int fusemount_keeper_pair(int *ret_daemon, int *ret_keeper)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	*ret_daemon = pair[0];
	*ret_keeper = pair[1];
	return 0;
}

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000 /* Linux 6.8: never used twice, as the other id is */
#endif

/* Which mount is at `path` now; 0: this kernel does not tell, or the mount is dead. */
static uint64_t identity_of(const char *path)
{
	struct statx st;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_MNT_ID_UNIQUE, &st) < 0 ||
		!(st.stx_mask & STATX_MNT_ID_UNIQUE))
		return 0;
	return st.stx_mnt_id;
}

/* Everything but descriptor 0, the socket, is given up: a copy of the fuse descriptor would keep the
 * connection alive after its daemon's death, and an inherited pipe would keep its reader waiting. */
static void keeper(const char *path, int fd, uint64_t ours)
{
	uint64_t now;

	background_wait(fd);
	now = identity_of(path); /* another may stand there by now, of a session that lives */
	if (ours == 0 || now == 0 || now == ours)
		fusemount_unmount(path, true);
	_exit(0);
}

int fusemount_keep(const char *path, int keeper_fd)
{
	uint64_t ours = identity_of(path);
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		keeper(path, keeper_fd, ours);
	return 0;
}

bool fusemount_is_stale(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 && errno == ENOTCONN;
}

bool fusemount_is_empty(const char *path)
{
	struct dirent *e;
	bool empty = true;
	DIR *d = opendir(path);

	if (!d)
		return false;
	while (empty && (e = readdir(d)))
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	closedir(d);
	return empty;
}

static bool has_mount(const char *path, const char *type)
{
	struct libmnt_table *tab = mnt_new_table_from_file("/proc/self/mountinfo");
	struct libmnt_fs *fs = tab ? mnt_table_find_target(tab, path, MNT_ITER_BACKWARD) : NULL;
	bool found = fs && (!type || strcmp(mnt_fs_get_fstype(fs), type) == 0);

	mnt_unref_table(tab);
	return found;
}

bool fusemount_is_mounted(const char *path)
{
	return has_mount(path, NULL);
}

bool fusemount_is_coffer(const char *path)
{
	return has_mount(path, "fuse.coffer");
}

char *fusemount_around(const char *path)
{
	scoped(freep) char *real = realpath(path, NULL);
	scoped(freep) char *point = real ? mnt_get_mountpoint(real) : NULL;

	return point && fusemount_is_coffer(point) ? take_ptr(&point) : NULL;
}

char *fusemount_resolve(const char *path)
{
	scoped(freep) char *copy = strdup(path), *copy2 = strdup(path), *parent = NULL;
	char *base, *out = NULL;

	if (!copy || !copy2)
		return NULL;
	base = basename(copy);
	if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0 || strcmp(base, "/") == 0)
		return realpath(path, NULL);
	parent = realpath(dirname(copy2), NULL);
	if (!parent)
		return NULL;
	if (asprintf(&out, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, base) < 0)
		return NULL;
	return out;
}
