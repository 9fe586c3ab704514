/* The state directory: whose it is, who can reach into it, where it lies, and how much room is left. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/doctor.h"

#define XFS_MAGIC 0x58465342 /* not in linux/magic.h */
#define ROOM_PERCENT 5
#define ROOM_BYTES (1ull << 30)

static void check_mode(struct doctor *d, const char *path, const struct stat *st, unsigned most)
{
	unsigned mode = st->st_mode & 0777u;

	if (mode & ~most)
		doctor_find(d, "permissions", DOCTOR_WRONG,
			"%s has mode %03o: others can reach what is only the daemons'\nchmod %03o %s", path, mode, most, path);
}

/* Whoever may write to a folder above can put another one in its place. */
static void check_parents(struct doctor *d, const char *root)
{
	scoped(freep) char *path = strdup(root);
	struct stat st;
	char *slash;

	while (path && (slash = strrchr(path, '/'))) {
		slash[slash == path] = '\0';
		if (stat(path, &st) == 0 && (st.st_mode & 0022) && !(st.st_mode & S_ISVTX))
			doctor_find(d, "permissions", DOCTOR_WRONG,
				"%s can be written to by others than its owner: they could replace %s\nchmod go-w %s", path, root,
				path);
		if (strcmp(path, "/") == 0)
			break;
	}
}

static void check_tree(struct doctor *d, const char *root, const struct stat *top)
{
	unsigned before = d->count[DOCTOR_WRONG], unseen = 0;

	check_mode(d, root, top, 0755);
	check_parents(d, root);
	for (const struct statedir_entry *e = statedir_layout; e->rel; e++) {
		scoped(freep) char *path = NULL;
		struct stat st;

		if (asprintf(&path, "%s/%s", root, e->rel) < 0)
			return;
		if (stat(path, &st) < 0) {
			if (errno == EACCES)
				unseen++;
			else if (errno == ENOENT)
				doctor_find(d, "permissions", DOCTOR_MIND,
					"%s is missing\nif nobody removed it, `coffer up` makes it; else restore it from a backup",
					path);
			continue;
		}
		check_mode(d, path, &st, e->mode);
		if (st.st_uid != top->st_uid)
			doctor_find(d, "permissions", DOCTOR_WRONG, "%s belongs to uid %u, %s to uid %u\nchown %u %s", path,
				(unsigned)st.st_uid, root, (unsigned)top->st_uid, (unsigned)top->st_uid, path);
	}
	if (unseen > 0)
		doctor_find(d, "permissions", DOCTOR_UNSEEN, "%u folders are closed to you\nrun it as the owner of %s",
			unseen, root);
	else if (d->count[DOCTOR_WRONG] == before)
		doctor_find(d, "permissions", DOCTOR_OK, "only uid %u can look into %s", (unsigned)top->st_uid, root);
}

static void check_file_system(struct doctor *d, const char *path)
{
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return;
	switch ((unsigned long)fs.f_type) {
	case EXT4_SUPER_MAGIC:
		doctor_find(d, "file system", DOCTOR_OK, "%s lies on ext4", path);
		break;
	case XFS_MAGIC:
		doctor_find(d, "file system", DOCTOR_OK, "%s lies on XFS", path);
		break;
	case BTRFS_SUPER_MAGIC:
		doctor_find(d, "file system", DOCTOR_MIND,
			"%s lies on btrfs: overwriting a slot leaves the old blocks there, and power cuts were not tested\nput it "
			"on ext4 or XFS",
			path);
		break;
	case TMPFS_MAGIC:
		doctor_find(d, "file system", DOCTOR_WRONG,
			"%s lies in memory: all of it is gone after a restart\nput it on ext4 or XFS", path);
		break;
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
		doctor_find(d, "file system", DOCTOR_WRONG,
			"%s lies on a network file system: its locks and order of writes are not what Coffer rests on\nput it on "
			"ext4 or XFS",
			path);
		break;
	default:
		doctor_find(d, "file system", DOCTOR_MIND,
			"%s lies on a file system (0x%lx) on which power cuts were not tested\next4 and XFS are", path,
			(unsigned long)fs.f_type);
	}
}

static void check_room(struct doctor *d, const char *path)
{
	struct statfs fs;
	unsigned long long left;

	if (statfs(path, &fs) < 0 || fs.f_blocks == 0)
		return;
	left = (unsigned long long)fs.f_bavail * (unsigned long long)fs.f_bsize;
	if (left < ROOM_BYTES && fs.f_bavail * 100 < fs.f_blocks * ROOM_PERCENT)
		doctor_find(d, "disk", DOCTOR_WRONG,
			"%s: %llu MiB left; without room for the record no file can be opened\nmake room, or move it to a larger "
			"disk",
			path, left >> 20);
	else if (fs.f_files > 0 && fs.f_ffree * 100 < fs.f_files * ROOM_PERCENT)
		doctor_find(d, "disk", DOCTOR_WRONG,
			"%s: %llu inodes left: new files will fail\nremove files there, or make a file system with more inodes",
			path, (unsigned long long)fs.f_ffree);
	else
		doctor_find(d, "disk", DOCTOR_OK, "%s: %llu MiB left", path, left >> 20);
}

void doctor_check_directory(struct doctor *d)
{
	static const char *const disks[] = {"store", "ledger"};
	const char *root = d->tool->dir.root;
	dev_t seen = 0;
	struct stat st;

	if (stat(root, &st) < 0) {
		doctor_find(d, "state directory", DOCTOR_WRONG,
			"%s: %s\n`coffer up` makes it; name another one with --dir or COFFER_DIR", root, strerror(errno));
		return;
	}
	check_tree(d, root, &st);
	for (size_t i = 0; i < ARRAY_SIZE(disks); i++) {
		scoped(freep) char *path = NULL;

		if (asprintf(&path, "%s/%s", root, disks[i]) < 0 || stat(path, &st) < 0 || st.st_dev == seen)
			continue;
		seen = st.st_dev;
		check_file_system(d, path);
		check_room(d, path);
	}
}
