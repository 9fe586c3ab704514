/* Where a disk puts what is in a folder. */
#ifndef COFFER_PLACEMENT_H
#define COFFER_PLACEMENT_H

/* Tells the file system that the subfolders of dirfd (open for reading) have nothing to do with each other, as those of
 * /home (FS_TOPDIR_FL, chattr(1) +T): ext4 gives each a block group of its own.  So who makes files in one does not wait
 * where another was cleared just before: ext4 does not give away an inode again in the first minute, and goes over all
 * such inodes of the group for each new file (fs/ext4/ialloc.c, recently_deleted).
 *
 * A hint: what other file systems and other owners of the folder refuse stays as it was. */
void placement_spread(int dirfd);

#endif
