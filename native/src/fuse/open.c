/* SPDX-License-Identifier: Apache-2.0 */
/* Open files: OPEN, RELEASE, FLUSH. */
#include "fuse/open.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "fuse/credentials.h"
#include "fuse/keep.h"
#include "fuse/state.h"

int fuse_open_flags(const struct fuse_call *call, uint32_t flags)
{
	/* The client's kernel handles the other flags: O_APPEND at each write;
	 * O_DIRECT here would impose the host's alignment on the client. */
	int host = (int)flags & (O_ACCMODE | O_SYNC | O_DSYNC | O_NOATIME);

	if (call->features & FUSE_ATOMIC_O_TRUNC)
		host |= (int)flags & O_TRUNC;
	/* A client with a write-back cache reads the rest of a partly written
	 * page. */
	if (call->features & FUSE_WRITEBACK_CACHE && (flags & O_ACCMODE) == O_WRONLY)
		host = (host & ~O_ACCMODE) | O_RDWR;
	return host;
}

int fuse_open_new(struct fuse_call *call, struct fuse_inode *inode, int fd, uint32_t flags,
		  struct fuse_open_out *ret_open)
{
	struct fuse_handle *handle;
	int r;

	*ret_open = (struct fuse_open_out){
		.open_flags = FOPEN_PARALLEL_DIRECT_WRITES |
			      fuse_keep_on_open(&call->server->config, inode, fd),
	};
	r = fuse_handle_new(&call->server->handles, fd, S_IFREG, &ret_open->fh);
	if (r < 0)
		return r;
	handle = fuse_handle_get(&call->server->handles, ret_open->fh);
	if (handle) {
		/* With a write-back cache the client itself finds the end of the
		 * file. */
		handle->append = flags & O_APPEND && !(call->features & FUSE_WRITEBACK_CACHE);
		handle->unchangeable = inode && fuse_check_change(call->server, inode) < 0;
		fuse_handle_put(&call->server->handles, handle);
	}
	return 0;
}

static int open_node(struct fuse_call *call, struct fuse_inode *inode,
		     const struct fuse_open_in *in, struct fuse_open_out *ret_open)
{
	const bool kill = in->open_flags & FUSE_OPEN_KILL_SUIDGID;
	int fd;

	if (kill)
		fuse_no_fsetid_begin();
	fd = fuse_reopen(call->server, inode, fuse_open_flags(call, in->flags));
	if (kill)
		fuse_no_fsetid_end();
	return fd < 0 ? fd : fuse_open_new(call, inode, fd, in->flags, ret_open);
}

int fuse_do_open(struct fuse_call *call)
{
	const struct fuse_open_in *in = fuse_take(call, sizeof(*in));
	struct fuse_server *server = call->server;
	struct fuse_open_out open;
	struct fuse_inode *inode;
	int r;

	if (fuse_is_without_open(server))
		return -ENOSYS;
	if (!in)
		return -EINVAL;
	if (server->config.read_only && (in->flags & O_ACCMODE) != O_RDONLY)
		return -EROFS;
	inode = fuse_inode_get(&server->inodes, call->header.nodeid);
	if (!inode)
		return -ESTALE;
	r = open_node(call, inode, in, &open);
	fuse_inode_put(&server->inodes, inode);
	if (r < 0)
		return r;
	r = fuse_reply(call, &open, sizeof(open));
	if (r < 0)
		fuse_handle_close(&server->handles, open.fh);
	return r;
}

int fuse_do_release(struct fuse_call *call)
{
	const struct fuse_release_in *in = fuse_take(call, sizeof(*in));

	if (!in)
		return -EINVAL;
	/* Handle 0 was given for a file that is reached by its node. */
	return in->fh == 0 ? 0 : fuse_handle_close(&call->server->handles, in->fh);
}

/* close(2) of a duplicate: it reports what a network file system could not write. */
int fuse_do_flush(struct fuse_call *call)
{
	const struct fuse_flush_in *in = fuse_take(call, sizeof(*in));
	struct fuse_server *server = call->server;
	struct fuse_file file;
	int fd, r;

	if (fuse_is_without_open(server))
		return -ENOSYS;
	if (!in)
		return -EINVAL;
	r = fuse_file_use(server, in->fh, call->header.nodeid, S_IFREG, false, &file);
	if (r < 0)
		return r;
	fd = fcntl(file.fd, F_DUPFD_CLOEXEC, 0);
	r = fd < 0 || close(fd) < 0 ? -errno : 0;
	fuse_file_unuse(server, &file);
	return r;
}
