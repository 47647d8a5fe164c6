/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/keep.h"

#include <linux/fuse.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "fuse/server.h"

#define NS_PER_S 1000000000LL

static unsigned file_system_of(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) < 0 ? 0 : (unsigned)fs.f_type;
}

/* On these, close(2) may be the first call to report a failed write. */
static bool needs_flush(unsigned file_system)
{
	switch (file_system) {
	case 0:
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case FUSE_SUPER_MAGIC:
	case CEPH_SUPER_MAGIC:
	case AFS_FS_MAGIC:
	case V9FS_MAGIC:
		return true;
	default:
		return false;
	}
}

/* A write through a mapping also changes the ctime, once the page has been written
 * back.  This excludes tmpfs, which never writes back, and file systems that may
 * lie on one. */
static bool ctime_shows_changes(unsigned file_system)
{
	switch (file_system) {
	case EXT4_SUPER_MAGIC: /* and ext2, ext3 */
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

/* 0: not known. */
static int64_t read_ctime_ns(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : st.st_ctim.tv_sec * NS_PER_S + st.st_ctim.tv_nsec;
}

static bool is_older(int64_t time_ns, uint64_t age_ns)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec - time_ns > (int64_t)age_ns;
}

/* Hazard: the ctime must be read before the client reads contents under this
 * open, and be remembered only where the client drops what it had cached. */
static bool is_unchanged(struct fuse_inode *inode, int fd, uint64_t keep_after_ns)
{
	const int64_t ctime_ns = read_ctime_ns(fd);

	if (ctime_ns != 0 && atomic_load(&inode->settled_ctime_ns) == ctime_ns)
		return true;
	atomic_store(&inode->settled_ctime_ns, is_older(ctime_ns, keep_after_ns) ? ctime_ns : 0);
	return false;
}

uint32_t fuse_keep_on_open(const struct fuse_server_config *config, struct fuse_inode *inode,
			   int fd)
{
	const unsigned file_system = file_system_of(fd);
	uint32_t flags = needs_flush(file_system) ? 0 : FOPEN_NOFLUSH;

	if (config->exclusive || config->read_only)
		return flags | FOPEN_KEEP_CACHE;
	if (inode && config->keep_after_ns > 0 && ctime_shows_changes(file_system) &&
	    is_unchanged(inode, fd, config->keep_after_ns))
		flags |= FOPEN_KEEP_CACHE;
	return flags;
}
