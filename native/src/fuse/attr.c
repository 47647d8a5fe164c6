/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes of files and file systems. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fuse/credentials.h"
#include "fuse/state.h"

#define NS_PER_S 1000000000ULL

void fuse_fill_attr(struct fuse_attr *attr, const struct statx *st)
{
	*attr = (struct fuse_attr){
		.ino = st->stx_ino,
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = (uint64_t)st->stx_atime.tv_sec,
		.mtime = (uint64_t)st->stx_mtime.tv_sec,
		.ctime = (uint64_t)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		.mode = st->stx_mode,
		.nlink = st->stx_nlink,
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		/* The low half of glibc's encoding is the kernel's. */
		.rdev = (uint32_t)makedev(st->stx_rdev_major, st->stx_rdev_minor),
		.blksize = st->stx_blksize,
	};
}

int fuse_stat_file(struct fuse_call *call, uint64_t handle_id, unsigned mask, struct statx *ret_st)
{
	struct fuse_server *server = call->server;
	struct fuse_handle *handle = NULL;
	struct fuse_inode *inode = NULL;
	int r = -ESTALE;

	if (handle_id)
		handle = fuse_handle_get(&server->handles, handle_id);
	else
		inode = fuse_inode_get(&server->inodes, call->header.nodeid);
	if (handle || inode)
		r = statx(handle ? handle->fd : inode->fd, "", AT_EMPTY_PATH, mask, ret_st) < 0
			    ? -errno
			    : 0;
	if (handle)
		fuse_handle_put(&server->handles, handle);
	if (inode)
		fuse_inode_put(&server->inodes, inode);
	return r;
}

static int reply_attr(struct fuse_call *call, const struct statx *st)
{
	const uint64_t valid_ns = call->server->config.attr_valid_ns;
	struct fuse_attr_out out = {
		.attr_valid = valid_ns / NS_PER_S,
		.attr_valid_nsec = (uint32_t)(valid_ns % NS_PER_S),
	};

	fuse_fill_attr(&out.attr, st);
	return fuse_reply(call, &out, sizeof(out));
}

int fuse_do_getattr(struct fuse_call *call)
{
	const struct fuse_getattr_in *in = fuse_take(call, sizeof(*in));
	struct statx st;
	int r;

	if (!in)
		return -EINVAL;
	r = fuse_stat_file(call, in->getattr_flags & FUSE_GETATTR_FH ? in->fh : 0, FUSE_STATX_MASK,
			   &st);
	return r < 0 ? r : reply_attr(call, &st);
}

static int change_owner(const struct fuse_inode *inode, const struct fuse_setattr_in *in)
{
	const uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	const gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;

	return fchownat(inode->fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

static int change_mode(const struct fuse_server *server, const struct fuse_inode *inode,
		       const struct fuse_setattr_in *in)
{
	char name[16];

	/* fchmodat follows, and the path of a symlink's descriptor leads to its
	 * target. */
	if (inode->type == S_IFLNK)
		return -EOPNOTSUPP;
	snprintf(name, sizeof(name), "%d", inode->fd);
	return fchmodat(server->proc_fd, name, in->mode & 07777, 0) < 0 ? -errno : 0;
}

static int change_size(struct fuse_call *call, const struct fuse_setattr_in *in)
{
	const bool kill = in->valid & FATTR_KILL_SUIDGID;
	struct fuse_server *server = call->server;
	struct fuse_file file;
	int r;

	fuse_about_to_wait(server);
	if (in->valid & FATTR_FH && in->fh) {
		r = fuse_file_use(server, in->fh, 0, S_IFREG, true, &file);
	} else if (fuse_is_without_open(server)) {
		r = fuse_file_use_inode(server, call->header.nodeid, S_IFREG, true, &file);
	} else {
		struct fuse_inode *inode = fuse_inode_get(&server->inodes, call->header.nodeid);

		if (!inode)
			return -ESTALE;
		file = (struct fuse_file){.inode = inode};
		r = file.fd = fuse_reopen(server, inode, O_WRONLY);
		if (r < 0)
			fuse_inode_put(&server->inodes, inode);
	}
	if (r < 0)
		return r;
	if (kill)
		fuse_no_fsetid_begin();
	r = ftruncate(file.fd, (off_t)in->size) < 0 ? -errno : 0;
	if (kill)
		fuse_no_fsetid_end();
	if (!file.handle && !file.data)
		close(file.fd);
	fuse_file_unuse(server, &file);
	return r;
}

static struct timespec time_of(uint32_t valid, uint32_t set, uint32_t now, uint64_t seconds,
			       uint32_t ns)
{
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (valid & set)
		return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = ns};
	return (struct timespec){.tv_nsec = UTIME_OMIT};
}

static int change_times(const struct fuse_inode *inode, const struct fuse_setattr_in *in)
{
	const struct timespec times[2] = {
		time_of(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
		time_of(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};

	return utimensat(inode->fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* Owner before mode, as a change of owner clears set-id bits; times last, as a
 * change of size sets them. */
static int change(struct fuse_call *call, const struct fuse_inode *inode,
		  const struct fuse_setattr_in *in)
{
	int r = 0;

	if (in->valid & (FATTR_UID | FATTR_GID))
		r = change_owner(inode, in);
	if (r == 0 && in->valid & FATTR_MODE)
		r = change_mode(call->server, inode, in);
	if (r == 0 && in->valid & FATTR_SIZE)
		r = change_size(call, in);
	if (r == 0 && in->valid & (FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_MTIME_NOW))
		r = change_times(inode, in);
	return r;
}

int fuse_do_setattr(struct fuse_call *call)
{
	const struct fuse_setattr_in *in = fuse_take(call, sizeof(*in));
	struct fuse_server *server = call->server;
	struct fuse_inode *inode;
	struct statx st;
	int r;

	if (!in)
		return -EINVAL;
	r = fuse_get_to_change(server, call->header.nodeid, &inode);
	if (r < 0)
		return r;
	r = change(call, inode, in);
	if (r == 0 && statx(inode->fd, "", AT_EMPTY_PATH, FUSE_STATX_MASK, &st) < 0)
		r = -errno;
	fuse_inode_put(&server->inodes, inode);
	return r < 0 ? r : reply_attr(call, &st);
}

int fuse_do_statfs(struct fuse_call *call)
{
	struct fuse_inode *inode = fuse_inode_get(&call->server->inodes, call->header.nodeid);
	struct fuse_statfs_out out = {0};
	struct statfs fs;
	int r;

	if (!inode)
		return -ESTALE;
	r = fstatfs(inode->fd, &fs) < 0 ? -errno : 0;
	fuse_inode_put(&call->server->inodes, inode);
	if (r < 0)
		return r;
	out.st = (struct fuse_kstatfs){
		.blocks = fs.f_blocks,
		.bfree = fs.f_bfree,
		.bavail = fs.f_bavail,
		.files = fs.f_files,
		.ffree = fs.f_ffree,
		.bsize = (uint32_t)fs.f_bsize,
		.namelen = (uint32_t)fs.f_namelen,
		.frsize = (uint32_t)fs.f_frsize,
	};
	return fuse_reply(call, &out, sizeof(out));
}
