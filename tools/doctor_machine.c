/* The machine: what the kernel and its set-up must offer. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <unistd.h>

#include "common/landlock.h"
#include "common/scope.h"
#include "tools/doctor.h"

#define FUSE_MAJOR 10
#define FUSE_MINOR 229
#define LOCKED_MEMORY_NEEDED (6u << 20) /* keyd's arena; a worker's is smaller */

static void check_fuse(struct doctor *d)
{
	struct stat st;

	if (stat("/dev/fuse", &st) < 0)
		doctor_find(d, "/dev/fuse", DOCTOR_WRONG,
			"there is no /dev/fuse: nothing can be mounted\nload the module (modprobe fuse); in a container: "
			"mknod -m 666 /dev/fuse c 10 229");
	else if (!S_ISCHR(st.st_mode) || major(st.st_rdev) != FUSE_MAJOR || minor(st.st_rdev) != FUSE_MINOR)
		doctor_find(d, "/dev/fuse", DOCTOR_WRONG,
			"/dev/fuse is not the device 10:229\nremove it and: mknod -m 666 /dev/fuse c 10 229");
	else if ((st.st_mode & 0006) != 0006)
		doctor_find(d, "/dev/fuse", DOCTOR_WRONG,
			"ordinary users may not open /dev/fuse (mode %03o): only root can mount\nchmod 0666 /dev/fuse",
			st.st_mode & 0777u);
	else
		doctor_find(d, "/dev/fuse", DOCTOR_OK, "everybody may open it");
}

static bool find_in_path(const char *name, char *buf, size_t n)
{
	scoped(freep) char *path = strdup(getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
	char *rest = NULL;

	for (char *dir = path ? strtok_r(path, ":", &rest) : NULL; dir; dir = strtok_r(NULL, ":", &rest)) {
		snprintf(buf, n, "%s/%s", dir, name);
		if (access(buf, X_OK) == 0)
			return true;
	}
	return false;
}

static void check_fusermount(struct doctor *d)
{
	char path[PATH_MAX];
	struct stat st;

	if (!find_in_path("fusermount3", path, sizeof(path)) || stat(path, &st) < 0)
		doctor_find(d, "fusermount3", DOCTOR_WRONG, "fusermount3 is not in PATH\napt-get install fuse3");
	else if (!(st.st_mode & S_ISUID) || st.st_uid != 0)
		doctor_find(d, "fusermount3", DOCTOR_WRONG,
			"%s is not set-user-id root: ordinary users cannot mount\nchown root %s && chmod 4755 %s", path,
			path, path);
	else
		doctor_find(d, "fusermount3", DOCTOR_OK, "%s", path);
}

static bool fuse_conf_allows_other(void)
{
	FILE *f = fopen("/etc/fuse.conf", "re");
	char line[256];
	bool found = false;

	while (f && fgets(line, sizeof(line), f))
		found = found || strncmp(line, "user_allow_other", strlen("user_allow_other")) == 0;
	if (f)
		fclose(f);
	return found;
}

static void check_memory_lock(struct doctor *d)
{
	struct rlimit limit;

	if (geteuid() == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		return; /* root is not bound by it */
	if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < LOCKED_MEMORY_NEEDED)
		doctor_find(d, "locked memory", DOCTOR_WRONG,
			"this user may lock %llu KiB, keys need 6 MiB\nraise memlock in /etc/security/limits.conf, or "
			"LimitMEMLOCK= in the unit",
			(unsigned long long)limit.rlim_max >> 10);
	else
		doctor_find(d, "locked memory", DOCTOR_OK, "enough for the keys");
}

/* "/dev/dm-0": whether its contents are encrypted on the way down; zram never reaches a disk. */
static bool swap_is_safe(const char *device)
{
	scoped(freep) char *real = realpath(device, NULL);
	const char *name = real ? strrchr(real, '/') : NULL;
	char path[PATH_MAX], uuid[64] = "";
	FILE *f;

	if (!name)
		return false;
	if (strncmp(name, "/zram", 5) == 0)
		return true;
	snprintf(path, sizeof(path), "/sys/class/block%s/dm/uuid", name);
	f = fopen(path, "re");
	if (f) {
		if (!fgets(uuid, sizeof(uuid), f))
			uuid[0] = '\0';
		fclose(f);
	}
	return strncmp(uuid, "CRYPT-", 6) == 0;
}

static void check_swap(struct doctor *d)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[PATH_MAX], device[PATH_MAX];
	unsigned plain = 0;

	if (!f)
		return;
	if (fgets(line, sizeof(line), f)) /* the heading */
		while (fgets(line, sizeof(line), f))
			if (sscanf(line, "%4095s", device) == 1 && !swap_is_safe(device)) {
				plain++;
				doctor_find(d, "swap", DOCTOR_MIND,
					"%s is not encrypted: Coffer's keys are locked in memory, but what programs hold of "
					"client files can end there\nencrypt it (crypttab: swap,cipher=aes-xts-plain64), use "
					"zram, or swapoff",
					device);
			}
	fclose(f);
	if (plain == 0)
		doctor_find(d, "swap", DOCTOR_OK, "none, or encrypted");
}

static void check_core_dumps(struct doctor *d)
{
	struct rlimit limit;
	char pattern[256] = "";
	FILE *f = fopen("/proc/sys/kernel/core_pattern", "re");

	if (f) {
		if (!fgets(pattern, sizeof(pattern), f))
			pattern[0] = '\0';
		fclose(f);
		pattern[strcspn(pattern, "\n")] = '\0';
	}
	if (getrlimit(RLIMIT_CORE, &limit) < 0)
		return;
	if (limit.rlim_max == 0 || pattern[0] == '\0')
		doctor_find(d, "core dumps", DOCTOR_OK, "off");
	else
		doctor_find(d, "core dumps", DOCTOR_MIND,
			"the daemons are never dumped, but a consultant's program that crashes leaves what it held of client "
			"files (%s)\n* hard core 0 in /etc/security/limits.conf; with systemd-coredump: Storage=none",
			pattern);
}

static void check_clock(struct doctor *d)
{
	struct timex t = {0};

	if (adjtimex(&t) < 0 || (t.status & STA_UNSYNC))
		doctor_find(d, "clock", DOCTOR_MIND,
			"nothing keeps the clock right; when it jumps, no key is destroyed until a custodian confirms it\nrun "
			"systemd-timesyncd, chrony or another NTP client");
	else
		doctor_find(d, "clock", DOCTOR_OK, "kept right from outside");
}

static void check_landlock(struct doctor *d)
{
	int abi = landlock_abi();

	if (abi == 0)
		doctor_find(d, "Landlock", DOCTOR_MIND,
			"this kernel neither confines a worker to its client's folder nor the programs of coffer shell (export: no)\n"
			"boot a kernel with Landlock (Linux 5.19; CONFIG_SECURITY_LANDLOCK, lsm=landlock,...)");
	else
		doctor_find(d, "Landlock", DOCTOR_OK, "version %d", abi);
}

void doctor_check_machine(struct doctor *d)
{
	check_fuse(d);
	check_fusermount(d);
	if (d->installed && !fuse_conf_allows_other())
		doctor_find(d, "shared mounts", DOCTOR_OK,
			"root can make them; other administrators need user_allow_other in /etc/fuse.conf");
	check_memory_lock(d);
	check_swap(d);
	check_core_dumps(d);
	check_clock(d);
	check_landlock(d);
}
