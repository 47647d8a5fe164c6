/* SPDX-License-Identifier: Apache-2.0 */
/* LOOKUP and FORGET: how the client learns node ids and drops them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fuse/state.h"

#define NS_PER_S 1000000000ULL

static bool is_own_mount(const struct fuse_server *server, uint64_t mount_id)
{
	return mount_id == server->inodes.root->identity.mount_id;
}

int fuse_check_change(const struct fuse_server *server, const struct fuse_inode *inode)
{
	if (server->config.own_mount_writable || !is_own_mount(server, inode->identity.mount_id))
		return 0;
	return -EROFS;
}

int fuse_get_to_change(struct fuse_server *server, uint64_t node_id, struct fuse_inode **ret_inode)
{
	struct fuse_inode *inode = fuse_inode_get(&server->inodes, node_id);
	int r;

	if (!inode)
		return -ESTALE;
	r = fuse_check_change(server, inode);
	if (r < 0)
		fuse_inode_put(&server->inodes, inode);
	else
		*ret_inode = inode;
	return r;
}

/* The host mounts and unmounts file systems on directories right below the root
 * of a share with submounts, so the client must not cache those names. */
static bool can_cache_names(const struct fuse_server *server, const struct fuse_inode *parent)
{
	const struct fuse_server_config *config = &server->config;

	return (config->exclusive || config->read_only) &&
	       (!config->announce_submounts || parent != server->inodes.root);
}

static void fill_validity(const struct fuse_server *server, const struct fuse_inode *parent,
			  struct fuse_entry_out *entry)
{
	const struct fuse_server_config *config = &server->config;
	uint64_t ns = config->entry_valid_ns;

	if (config->announce_submounts && parent == server->inodes.root)
		ns = 0;
	entry->entry_valid = ns / NS_PER_S;
	entry->entry_valid_nsec = (uint32_t)(ns % NS_PER_S);
	entry->attr_valid = config->attr_valid_ns / NS_PER_S;
	entry->attr_valid_nsec = (uint32_t)(config->attr_valid_ns % NS_PER_S);
}

/* A mount of the share's own file system is not reported as a submount: in a submount
 * Linux asks at each write(2) whether the file has capabilities to lose (its super
 * block does not inherit FUSE_HANDLE_KILLPRIV_V2). */
static bool is_submount(const struct fuse_server *server, const struct fuse_inode *parent,
			const struct statx *st)
{
	const uint64_t mount_id = parent->identity.mount_id;

	return server->features & FUSE_SUBMOUNTS && S_ISDIR(st->stx_mode) &&
	       st->stx_mnt_id != mount_id && !is_own_mount(server, mount_id);
}

static void fill_entry(struct fuse_server *server, const struct fuse_inode *parent, uint64_t id,
		       const struct statx *st, struct fuse_entry_out *entry)
{
	*entry = (struct fuse_entry_out){.nodeid = id};
	fill_validity(server, parent, entry);
	fuse_fill_attr(&entry->attr, st);
	if (is_submount(server, parent, st))
		entry->attr.flags |= FUSE_ATTR_SUBMOUNT;
}

static int stat_at(int fd, const char *name, struct statx *ret_st)
{
	const int flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;

	return statx(fd, name, flags, FUSE_STATX_MASK, ret_st) < 0 ? -errno : 0;
}

/* Opens the O_PATH descriptor that will stand for a file. */
static int open_node(struct fuse_server *server, int dir_fd, const char *name, int flags)
{
	int fd;

	do {
		fd = openat(dir_fd, name, O_PATH | O_CLOEXEC | flags);
		if (fd >= server->node_fds) {
			close(fd);
			fd = -1;
			errno = EMFILE;
		}
	} while (fd < 0 && fuse_free_descriptor(server));
	if (fd < 0)
		return errno == EMFILE ? -ENFILE : -errno;
	return fd;
}

int fuse_node_lookup(struct fuse_server *server, struct fuse_inode *parent, const char *name,
		     struct fuse_entry_out *ret_entry)
{
	struct fuse_identity identity;
	struct statx st;
	uint64_t id;
	int fd, r;

	r = stat_at(parent->fd, name, &st);
	if (r < 0)
		return r;
	identity = fuse_identity_of(&st);
	id = fuse_inodes_find(&server->inodes, &identity);
	if (id == 0) {
		fd = open_node(server, parent->fd, name, O_NOFOLLOW);
		if (fd < 0)
			return fd;
		/* The name may lead elsewhere by now: only what was opened counts. */
		r = stat_at(fd, "", &st);
		if (r < 0)
			close(fd);
		else
			r = fuse_inodes_learn(&server->inodes, fd, &st, &id);
		if (r < 0)
			return r;
	}
	fill_entry(server, parent, id, &st, ret_entry);
	return 0;
}

int fuse_node_adopt(struct fuse_server *server, struct fuse_inode *parent, int fd,
		    struct fuse_entry_out *ret_entry)
{
	struct statx st;
	uint64_t id;
	char name[16];
	int path_fd, r;

	r = stat_at(fd, "", &st);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%d", fd);
	path_fd = open_node(server, server->proc_fd, name, 0);
	if (path_fd < 0)
		return path_fd;
	r = fuse_inodes_learn(&server->inodes, path_fd, &st, &id);
	if (r == 0)
		fill_entry(server, parent, id, &st, ret_entry);
	return r;
}

int fuse_reply_entry(struct fuse_call *call, const struct fuse_entry_out *entry,
		     const struct fuse_open_out *open)
{
	int r = fuse_reply(call, entry, sizeof(*entry));

	if (r == 0 && open)
		r = fuse_reply(call, open, sizeof(*open));
	if (r < 0 && entry->nodeid != 0)
		fuse_inodes_forget(&call->server->inodes, entry->nodeid, 1);
	return r;
}

/* LOOKUP of "." and ".." (FUSE_EXPORT_SUPPORT): the client turns a file handle
 * into a node again.  ".." gives only a directory that the client knows, which is
 * therefore inside the share. */
static int lookup_dots(struct fuse_server *server, struct fuse_inode *inode, const char *name,
		       struct fuse_entry_out *ret_entry)
{
	struct fuse_identity identity;
	struct statx st;
	uint64_t id;
	int r;

	if (inode == server->inodes.root)
		name = ".";
	r = stat_at(inode->fd, name[1] ? ".." : "", &st);
	if (r < 0)
		return r;
	identity = fuse_identity_of(&st);
	id = fuse_inodes_find(&server->inodes, &identity);
	if (id == 0)
		return -ESTALE;
	fill_entry(server, inode, id, &st, ret_entry);
	return 0;
}

static int look_up(struct fuse_call *call, struct fuse_inode *parent, struct fuse_entry_out *entry)
{
	struct fuse_server *server = call->server;
	const char *name = fuse_take_string(call);
	int r;

	if (!name)
		return -EINVAL;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return lookup_dots(server, parent, name, entry);
	if (!fuse_is_name(name))
		return -EINVAL;
	r = fuse_node_lookup(server, parent, name, entry);
	/* Node 0: the client may cache that there is no such name. */
	if (r == -ENOENT && can_cache_names(server, parent)) {
		*entry = (struct fuse_entry_out){0};
		fill_validity(server, parent, entry);
		return 0;
	}
	return r;
}

int fuse_do_lookup(struct fuse_call *call)
{
	struct fuse_inode *parent = fuse_inode_get(&call->server->inodes, call->header.nodeid);
	struct fuse_entry_out entry;
	int r;

	if (!parent)
		return -ESTALE;
	r = look_up(call, parent, &entry);
	fuse_inode_put(&call->server->inodes, parent);
	if (r < 0)
		return r;
	return fuse_reply_entry(call, &entry, NULL);
}

int fuse_do_forget(struct fuse_call *call)
{
	const struct fuse_forget_in *in = fuse_take(call, sizeof(*in));

	if (in)
		fuse_inodes_forget(&call->server->inodes, call->header.nodeid, in->nlookup);
	return 0;
}

int fuse_do_batch_forget(struct fuse_call *call)
{
	const struct fuse_batch_forget_in *in = fuse_take(call, sizeof(*in));
	struct iov_cursor list = iov_cursor_at(call->in, call->in_count,
					       sizeof(call->header) + sizeof(*in));
	struct fuse_forget_one one;

	if (!in)
		return 0;
	/* Bounds: the loop ends with the request, whatever its count says; each segment
	 * is passed once. */
	for (uint32_t i = in->count; i > 0; i--) {
		if (iov_cursor_read(&list, &one, sizeof(one)) != sizeof(one))
			break;
		fuse_inodes_forget(&call->server->inodes, one.nodeid, one.nlookup);
	}
	return 0;
}

int fuse_do_readlink(struct fuse_call *call)
{
	struct fuse_inode *inode = fuse_inode_get(&call->server->inodes, call->header.nodeid);
	char target[FUSE_PATH_MAX];
	ssize_t n;

	if (!inode)
		return -ESTALE;
	n = readlinkat(inode->fd, "", target, sizeof(target));
	if (n < 0)
		n = errno == ENOENT ? -EINVAL : -errno;
	fuse_inode_put(&call->server->inodes, inode);
	return n < 0 ? (int)n : fuse_reply(call, target, (size_t)n);
}
