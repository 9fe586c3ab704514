/* An archive as a file of SQLite: what it reads comes from unpacked frames, and nothing is ever written or locked. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "common/sql.h"
#include "fs/broker/archive_file.h"

#define VFS_NAME "coffer-archive"

struct vfs_file {
	sqlite3_file base;
	struct archive_file *archive;
};

static int vfs_close(sqlite3_file *file)
{
	archive_file_close(((struct vfs_file *)file)->archive);
	return SQLITE_OK;
}

static int vfs_read(sqlite3_file *file, void *to, int n, sqlite3_int64 offset)
{
	struct archive_file *f = ((struct vfs_file *)file)->archive;
	int64_t there = archive_file_bytes(f) - offset;
	int r;

	if (there < n) { /* SQLite asks for more than a short file has, and wants zeros */
		memset(to, 0, (size_t)n);
		r = there > 0 ? archive_file_read(f, offset, to, (size_t)there) : 0;
		return r < 0 ? SQLITE_CORRUPT : SQLITE_IOERR_SHORT_READ;
	}
	r = archive_file_read(f, offset, to, (size_t)n);
	return r == 0 ? SQLITE_OK : r == -ENOMEM ? SQLITE_NOMEM : r == -EUCLEAN ? SQLITE_CORRUPT : SQLITE_IOERR_READ;
}

static int vfs_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 offset)
{
	return SQLITE_READONLY;
}

static int vfs_truncate(sqlite3_file *file, sqlite3_int64 n)
{
	return SQLITE_READONLY;
}

static int vfs_sync(sqlite3_file *file, int flags)
{
	return SQLITE_OK;
}

static int vfs_size(sqlite3_file *file, sqlite3_int64 *ret)
{
	*ret = archive_file_bytes(((struct vfs_file *)file)->archive);
	return SQLITE_OK;
}

static int vfs_lock(sqlite3_file *file, int level)
{
	return SQLITE_OK;
}

static int vfs_reserved(sqlite3_file *file, int *ret)
{
	*ret = 0;
	return SQLITE_OK;
}

static int vfs_control(sqlite3_file *file, int op, void *arg)
{
	return SQLITE_NOTFOUND;
}

static int vfs_sector(sqlite3_file *file)
{
	return 4096;
}

static int vfs_characteristics(sqlite3_file *file)
{
	return SQLITE_IOCAP_IMMUTABLE;
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
	static const sqlite3_io_methods methods = {.iVersion = 1,
		.xClose = vfs_close,
		.xRead = vfs_read,
		.xWrite = vfs_write,
		.xTruncate = vfs_truncate,
		.xSync = vfs_sync,
		.xFileSize = vfs_size,
		.xLock = vfs_lock,
		.xUnlock = vfs_lock,
		.xCheckReservedLock = vfs_reserved,
		.xFileControl = vfs_control,
		.xSectorSize = vfs_sector,
		.xDeviceCharacteristics = vfs_characteristics};
	struct vfs_file *f = (struct vfs_file *)file;
	int r;

	f->base.pMethods = NULL;
	if (!name || !(flags & SQLITE_OPEN_MAIN_DB) || (flags & SQLITE_OPEN_READWRITE))
		return SQLITE_CANTOPEN;
	r = archive_file_open(name, &f->archive);
	if (r < 0)
		return r == -EUCLEAN ? SQLITE_CORRUPT : r == -ENOMEM ? SQLITE_NOMEM : SQLITE_CANTOPEN;
	f->base.pMethods = &methods;
	if (ret_flags)
		*ret_flags = flags;
	return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	return SQLITE_READONLY;
}

/* No journal, no write-ahead log beside it. */
static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
	*ret = 0;
	return SQLITE_OK;
}

static int vfs_full_pathname(sqlite3_vfs *vfs, const char *name, int n, char *to)
{
	if (strlen(name) >= (size_t)n)
		return SQLITE_CANTOPEN;
	memcpy(to, name, strlen(name) + 1);
	return SQLITE_OK;
}

static int register_result;

/* The rest is the default's. */
static void register_vfs(void)
{
	static sqlite3_vfs vfs;
	const sqlite3_vfs *unix_vfs = sqlite3_vfs_find(NULL);

	if (!unix_vfs) {
		register_result = SQLITE_ERROR;
		return;
	}
	vfs = *unix_vfs;
	vfs.pNext = NULL;
	vfs.zName = VFS_NAME;
	vfs.szOsFile = sizeof(struct vfs_file);
	vfs.xOpen = vfs_open;
	vfs.xDelete = vfs_delete;
	vfs.xAccess = vfs_access;
	vfs.xFullPathname = vfs_full_pathname;
	register_result = sqlite3_vfs_register(&vfs, 0);
}

int archive_db_open(const char *path, sqlite3 **ret)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	scoped(sql_closep) sqlite3 *db = NULL;
	int r;

	pthread_once(&once, register_vfs);
	if (register_result != SQLITE_OK)
		return -EIO;
	r = sql_errno(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, VFS_NAME));
	if (r == 0)
		r = sql_distrust(db);
	if (r == 0)
		r = sql_exec(db, "PRAGMA temp_store=MEMORY; SELECT 1 FROM ledger");
	if (r == 0)
		*ret = take_ptr(&db);
	return r;
}
