/* SPDX-License-Identifier: Apache-2.0 */
/* SYNCFS of one file system, or of all that are mounted in the share's own, which the
 * client sees as one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/state.h"

/* <container>/<volume> */
#define MAX_MOUNT_DEPTH 2

static int sync_below(struct fuse_server *server, int dir_fd, unsigned depth);

static int sync_if_mount(struct fuse_server *server, int path_fd, unsigned depth)
{
	struct statx st;
	bool is_mount;
	int fd, r;

	if (statx(path_fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_MNT_ID, &st) < 0)
		return -errno;
	is_mount = st.stx_mnt_id != server->inodes.root->identity.mount_id;
	if (!is_mount && (!S_ISDIR(st.stx_mode) || depth == MAX_MOUNT_DEPTH))
		return 0;
	fd = fuse_reopen_fd(server, path_fd, st.stx_mode & S_IFMT, O_RDONLY);
	if (fd < 0)
		return fd == -EINVAL ? 0 : fd; /* e.g. a device: nothing is written there */
	if (!is_mount)
		return sync_below(server, fd, depth);
	r = syncfs(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static int sync_entry(struct fuse_server *server, int dir_fd, const char *name, unsigned depth)
{
	int fd, r;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = sync_if_mount(server, fd, depth + 1);
	close(fd);
	return r;
}

/* Takes `dir_fd` over.  Goes on after an error; returns the first one. */
static int sync_below(struct fuse_server *server, int dir_fd, unsigned depth)
{
	DIR *dir = fdopendir(dir_fd);
	const struct dirent *entry;
	int r = 0;

	if (!dir) {
		r = -errno;
		close(dir_fd);
		return r;
	}
	while ((entry = readdir(dir))) {
		const int e = sync_entry(server, dirfd(dir), entry->d_name, depth);

		r = r < 0 ? r : e;
	}
	closedir(dir);
	return r;
}

int fuse_do_syncfs(struct fuse_call *call)
{
	struct fuse_server *server = call->server;
	struct fuse_inode *inode = fuse_inode_get(&server->inodes, call->header.nodeid);
	int fd, r;

	if (!inode)
		return -ESTALE;
	fd = fuse_reopen(server, inode, O_RDONLY);
	fuse_inode_put(&server->inodes, inode);
	if (fd < 0)
		return fd;
	r = syncfs(fd) < 0 ? -errno : 0;
	if (call->header.nodeid == FUSE_ROOT_ID && server->config.announce_submounts) {
		const int e = sync_below(server, fd, 0);

		return r < 0 ? r : e;
	}
	close(fd);
	return r;
}
