/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that change names of files: link, unlink, rename. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fuse/state.h"

static int link_to(struct fuse_call *call, struct fuse_inode *old, struct fuse_inode *parent,
		   const char *name, struct fuse_entry_out *ret_entry)
{
	/* By descriptor: this also links a symlink itself, and a file without a
	 * name. */
	if (linkat(old->fd, "", parent->fd, name, AT_EMPTY_PATH) < 0)
		return -errno;
	return fuse_node_lookup(call->server, parent, name, ret_entry);
}

int fuse_do_link(struct fuse_call *call)
{
	const struct fuse_link_in *in = fuse_take(call, sizeof(*in));
	struct fuse_inodes *inodes = &call->server->inodes;
	struct fuse_inode *old, *parent;
	struct fuse_entry_out entry;
	const char *name;
	int r;

	if (!in)
		return -EINVAL;
	r = fuse_take_name(call, &name);
	if (r < 0)
		return r;
	r = fuse_get_to_change(call->server, call->header.nodeid, &parent);
	if (r < 0)
		return r;
	old = fuse_inode_get(inodes, in->oldnodeid);
	r = old ? link_to(call, old, parent, name, &entry) : -ESTALE;
	if (old)
		fuse_inode_put(inodes, old);
	fuse_inode_put(inodes, parent);
	return r < 0 ? r : fuse_reply_entry(call, &entry, NULL);
}

static int remove_name(struct fuse_call *call, int flags)
{
	struct fuse_inode *parent;
	const char *name;
	int r = fuse_take_name(call, &name);

	if (r < 0)
		return r;
	r = fuse_get_to_change(call->server, call->header.nodeid, &parent);
	if (r < 0)
		return r;
	r = unlinkat(parent->fd, name, flags) < 0 ? -errno : 0;
	fuse_inode_put(&call->server->inodes, parent);
	return r;
}

int fuse_do_unlink(struct fuse_call *call)
{
	return remove_name(call, 0);
}

int fuse_do_rmdir(struct fuse_call *call)
{
	return remove_name(call, AT_REMOVEDIR);
}

static int rename_to(struct fuse_call *call, uint64_t new_parent_id, unsigned flags)
{
	struct fuse_server *server = call->server;
	struct fuse_inode *old_parent, *new_parent;
	const char *old_name, *new_name;
	int r;

	r = fuse_take_name(call, &old_name);
	if (r == 0)
		r = fuse_take_name(call, &new_name);
	if (r == 0)
		r = fuse_get_to_change(server, call->header.nodeid, &old_parent);
	if (r < 0)
		return r;
	r = fuse_get_to_change(server, new_parent_id, &new_parent);
	if (r == 0) {
		r = renameat2(old_parent->fd, old_name, new_parent->fd, new_name, flags) < 0
			    ? -errno
			    : 0;
		fuse_inode_put(&server->inodes, new_parent);
	}
	fuse_inode_put(&server->inodes, old_parent);
	return r;
}

int fuse_do_rename(struct fuse_call *call)
{
	const struct fuse_rename_in *in = fuse_take(call, sizeof(*in));

	return in ? rename_to(call, in->newdir, 0) : -EINVAL;
}

int fuse_do_rename2(struct fuse_call *call)
{
	const struct fuse_rename2_in *in = fuse_take(call, sizeof(*in));

	if (!in || in->flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	return rename_to(call, in->newdir, in->flags);
}
