/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that make a file: as the requesting user, masked by its umask. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/credentials.h"
#include "fuse/open.h"
#include "fuse/state.h"

/* Reads the name and gets the directory; the caller puts it back. */
static int take_parent_and_name(struct fuse_call *call, struct fuse_inode **ret_parent,
				const char **ret_name)
{
	const int r = fuse_take_name(call, ret_name);

	if (r < 0)
		return r;
	return fuse_get_to_change(call->server, call->header.nodeid, ret_parent);
}

/* Replies with what is at `name` now; puts `parent` back. */
static int reply_made(struct fuse_call *call, struct fuse_inode *parent, const char *name, int r)
{
	struct fuse_entry_out entry;

	if (r == 0)
		r = fuse_node_lookup(call->server, parent, name, &entry);
	fuse_inode_put(&call->server->inodes, parent);
	return r < 0 ? r : fuse_reply_entry(call, &entry, NULL);
}

static int make_node(struct fuse_call *call, const struct fuse_inode *parent, const char *name,
		     const struct fuse_mknod_in *in)
{
	int r;

	fuse_create_begin(call, in->umask);
	r = mknodat(parent->fd, name, in->mode, in->rdev) < 0 ? -errno : 0;
	fuse_create_end(call);
	return r;
}

int fuse_do_mknod(struct fuse_call *call)
{
	const struct fuse_mknod_in *in = fuse_take(call, sizeof(*in));
	struct fuse_inode *parent;
	const char *name;
	int r;

	if (!in || S_ISDIR(in->mode) || S_ISLNK(in->mode))
		return -EINVAL;
	r = take_parent_and_name(call, &parent, &name);
	if (r < 0)
		return r;
	return reply_made(call, parent, name, make_node(call, parent, name, in));
}

int fuse_do_mkdir(struct fuse_call *call)
{
	const struct fuse_mkdir_in *in = fuse_take(call, sizeof(*in));
	struct fuse_inode *parent;
	const char *name;
	int r;

	if (!in)
		return -EINVAL;
	r = take_parent_and_name(call, &parent, &name);
	if (r < 0)
		return r;
	fuse_create_begin(call, in->umask);
	r = mkdirat(parent->fd, name, in->mode & 07777) < 0 ? -errno : 0;
	fuse_create_end(call);
	return reply_made(call, parent, name, r);
}

int fuse_do_symlink(struct fuse_call *call)
{
	struct fuse_inode *parent;
	const char *name, *target;
	int r = take_parent_and_name(call, &parent, &name);

	if (r < 0)
		return r;
	target = fuse_take_string(call);
	if (!target) {
		fuse_inode_put(&call->server->inodes, parent);
		return -EINVAL;
	}
	fuse_create_begin(call, 0);
	r = symlinkat(target, parent->fd, name) < 0 ? -errno : 0;
	fuse_create_end(call);
	return reply_made(call, parent, name, r);
}

/* Opens a file that another client has made under the name since the lookup: as
 * OPEN would, never through a symlink, never a device. */
static int open_existing(struct fuse_call *call, struct fuse_inode *parent, const char *name,
			 int flags, struct fuse_entry_out *entry)
{
	struct fuse_server *server = call->server;
	struct fuse_inode *inode;
	int fd, r = fuse_node_lookup(server, parent, name, entry);

	if (r < 0)
		return r;
	inode = fuse_inode_get(&server->inodes, entry->nodeid);
	fd = inode ? fuse_reopen(server, inode, flags & ~O_EXCL) : -ESTALE;
	if (inode)
		fuse_inode_put(&server->inodes, inode);
	if (fd < 0)
		fuse_inodes_forget(&server->inodes, entry->nodeid, 1);
	return fd;
}

/* Not a plain O_CREAT: with fs.protected_regular the host would refuse to open
 * what exists in a sticky directory. */
static int create_or_open(struct fuse_call *call, struct fuse_inode *parent, const char *name,
			  const struct fuse_create_in *in, struct fuse_entry_out *entry)
{
	const int flags = fuse_open_flags(call, in->flags);
	int fd, r;

	fuse_create_begin(call, in->umask);
	fd = openat(parent->fd, name, flags | O_CREAT | O_EXCL | O_CLOEXEC, in->mode & 07777);
	r = fd < 0 ? -errno : 0;
	fuse_create_end(call);
	if (r == -EEXIST && !(in->flags & O_EXCL))
		return open_existing(call, parent, name, flags, entry);
	if (r < 0)
		return r == -EMFILE ? -ENFILE : r;
	r = fuse_node_adopt(call->server, parent, fd, entry);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static int reply_open(struct fuse_call *call, struct fuse_entry_out *entry, int fd, uint32_t flags)
{
	struct fuse_open_out open;
	int r = fuse_open_new(call, NULL, fd, flags, &open);

	if (r < 0) {
		fuse_inodes_forget(&call->server->inodes, entry->nodeid, 1);
		return r;
	}
	r = fuse_reply_entry(call, entry, &open);
	if (r < 0)
		fuse_handle_close(&call->server->handles, open.fh);
	return r;
}

int fuse_do_create(struct fuse_call *call)
{
	const struct fuse_create_in *in = fuse_take(call, sizeof(*in));
	struct fuse_entry_out entry;
	struct fuse_inode *parent;
	const char *name;
	int fd, r;

	/* The client uses MKNOD instead, as it needs no handle. */
	if (fuse_is_without_open(call->server))
		return -ENOSYS;
	if (!in)
		return -EINVAL;
	r = take_parent_and_name(call, &parent, &name);
	if (r < 0)
		return r;
	fd = create_or_open(call, parent, name, in, &entry);
	fuse_inode_put(&call->server->inodes, parent);
	return fd < 0 ? fd : reply_open(call, &entry, fd, in->flags);
}

/* The file has no name: its node must stay reachable by the opened descriptor. */
static int keep_tmpfile(struct fuse_call *call, const struct fuse_entry_out *entry, int fd)
{
	struct fuse_server *server = call->server;
	struct fuse_inode *inode = fuse_inode_get(&server->inodes, entry->nodeid);
	const struct fuse_open_out open = {0};

	if (!inode) {
		close(fd);
		return -ESTALE;
	}
	fuse_file_keep(server, inode, fd);
	fuse_inode_put(&server->inodes, inode);
	return fuse_reply_entry(call, entry, &open);
}

int fuse_do_tmpfile(struct fuse_call *call)
{
	const struct fuse_create_in *in = fuse_take(call, sizeof(*in));
	struct fuse_server *server = call->server;
	struct fuse_entry_out entry;
	struct fuse_inode *parent;
	int fd, r;

	if (!in)
		return -EINVAL;
	r = fuse_get_to_change(server, call->header.nodeid, &parent);
	if (r < 0)
		return r;
	fuse_create_begin(call, in->umask);
	fd = openat(parent->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC | (int)(in->flags & O_EXCL),
		    in->mode & 07777);
	r = fd < 0 ? -errno : 0;
	fuse_create_end(call);
	if (r == 0)
		r = fuse_node_adopt(server, parent, fd, &entry);
	fuse_inode_put(&server->inodes, parent);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		return r;
	}
	if (fuse_is_without_open(server))
		return keep_tmpfile(call, &entry, fd);
	return reply_open(call, &entry, fd, in->flags);
}
