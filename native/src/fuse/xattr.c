/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes: names and values pass unchanged.  Attributes that a host process
 * without CAP_SYS_ADMIN could not set or see (xattr(7)) are refused and hidden, unless
 * the share allows them.
 *
 * There is no setxattrat(2) that takes an O_PATH descriptor on the kernels
 * served: the file is named relative to the thread's working directory, which
 * is /proc/self/fd (fuse_server_enter_thread). */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "fuse/state.h"

struct named_file {
	struct fuse_inode *inode;
	char path[16];
};

static int name_file(struct fuse_call *call, struct named_file *file)
{
	file->inode = fuse_inode_get(&call->server->inodes, call->header.nodeid);
	if (!file->inode)
		return -ESTALE;
	snprintf(file->path, sizeof(file->path), "%d", file->inode->fd);
	return 0;
}

static int name_file_to_change(struct fuse_call *call, struct named_file *file)
{
	const int r = fuse_get_to_change(call->server, call->header.nodeid, &file->inode);

	if (r == 0)
		snprintf(file->path, sizeof(file->path), "%d", file->inode->fd);
	return r;
}

static void unname_file(struct fuse_call *call, struct named_file *file)
{
	fuse_inode_put(&call->server->inodes, file->inode);
}

static bool is_of(const char *name, const char *space)
{
	return strncmp(name, space, strlen(space)) == 0;
}

static bool is_hidden(const struct fuse_call *call, const char *name)
{
	return !call->server->config.privileged_attributes && is_of(name, XATTR_TRUSTED_PREFIX);
}

static bool is_settable(const struct fuse_call *call, const char *name)
{
	if (call->server->config.privileged_attributes)
		return true;
	return !is_of(name, XATTR_TRUSTED_PREFIX) &&
	       (!is_of(name, XATTR_SECURITY_PREFIX) || strcmp(name, XATTR_NAME_CAPS) == 0);
}

static int take_attribute_name(struct fuse_call *call, const char **ret_name)
{
	const char *name = fuse_take_string(call);

	if (!name || name[0] == '\0')
		return -EINVAL;
	if (strlen(name) > XATTR_NAME_MAX)
		return -ERANGE;
	*ret_name = name;
	return 0;
}

/* For a client without CAP_FSETID, outside the file's group, that sets an access
 * ACL. */
static int kill_sgid(struct fuse_call *call, const struct named_file *file)
{
	struct stat st;

	if (fstatat(file->inode->fd, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	if (!(st.st_mode & S_ISGID))
		return 0;
	return fchmodat(call->server->proc_fd, file->path, st.st_mode & 07777 & ~S_ISGID, 0) < 0
		       ? -errno
		       : 0;
}

static int set(struct fuse_call *call, const struct fuse_setxattr_in *in, const char *name,
	       const void *value)
{
	struct named_file file;
	int r = name_file_to_change(call, &file);

	if (r < 0)
		return r;
	r = -EPERM;
	if (is_settable(call, name))
		r = setxattr(file.path, name, value, in->size, (int)in->flags) < 0 ? -errno : 0;
	if (r == 0 && in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
		r = kill_sgid(call, &file);
	unname_file(call, &file);
	return r;
}

int fuse_do_setxattr(struct fuse_call *call)
{
	const bool extended = call->features & FUSE_SETXATTR_EXT;
	const size_t bytes = extended ? sizeof(struct fuse_setxattr_in)
				      : FUSE_COMPAT_SETXATTR_IN_SIZE;
	const void *at = fuse_take(call, bytes);
	struct fuse_setxattr_in in = {0};
	const char *name;
	void *value;
	int r;

	if (!at)
		return -EINVAL;
	memcpy(&in, at, bytes);
	r = take_attribute_name(call, &name);
	if (r < 0)
		return r;
	if (in.size > XATTR_SIZE_MAX)
		return -E2BIG;
	value = malloc(in.size + 1UL);
	if (!value)
		return -ENOMEM;
	/* Bounds: the whole value is present, or the request is refused. */
	r = -EINVAL;
	if (fuse_copy_body(call, call->parsed_bytes, value, in.size) == in.size)
		r = set(call, &in, name, value);
	free(value);
	return r;
}

/* Size 0 asks for the length only. */
static int reply_sized(struct fuse_call *call, uint32_t size, const void *data, size_t bytes)
{
	const struct fuse_getxattr_out out = {.size = (uint32_t)bytes};

	if (size == 0)
		return fuse_reply(call, &out, sizeof(out));
	return bytes > size ? -ERANGE : fuse_reply(call, data, bytes);
}

static int get(struct fuse_call *call, uint32_t size, const char *name)
{
	struct named_file file;
	void *buffer = NULL;
	ssize_t n;
	int r;

	if (size > XATTR_SIZE_MAX)
		size = XATTR_SIZE_MAX;
	if (size > 0 && !(buffer = malloc(size)))
		return -ENOMEM;
	r = name_file(call, &file);
	if (r == 0) {
		n = getxattr(file.path, name, buffer, size);
		r = n < 0 ? -errno : 0;
		unname_file(call, &file);
	}
	if (r == 0)
		r = reply_sized(call, size, buffer, (size_t)n);
	free(buffer);
	return r;
}

/* Returns the bytes of the names that are left. */
static size_t drop_hidden(const struct fuse_call *call, char *names, size_t bytes)
{
	size_t kept = 0;

	for (size_t at = 0, len; at < bytes; at += len) {
		len = strnlen(names + at, bytes - at - 1) + 1;
		if (is_hidden(call, names + at))
			continue;
		memmove(names + kept, names + at, len);
		kept += len;
	}
	return kept;
}

static int list(struct fuse_call *call, uint32_t size)
{
	struct named_file file;
	char *names = malloc(XATTR_LIST_MAX);
	ssize_t n;
	int r;

	if (!names)
		return -ENOMEM;
	r = name_file(call, &file);
	if (r == 0) {
		n = listxattr(file.path, names, XATTR_LIST_MAX);
		r = n < 0 ? -errno : 0;
		unname_file(call, &file);
	}
	if (r == 0)
		r = reply_sized(call, size, names, drop_hidden(call, names, (size_t)n));
	free(names);
	return r;
}

int fuse_do_getxattr(struct fuse_call *call)
{
	const struct fuse_getxattr_in *in = fuse_take(call, sizeof(*in));
	const char *name;
	int r;

	if (!in)
		return -EINVAL;
	r = take_attribute_name(call, &name);
	if (r < 0)
		return r;
	return is_hidden(call, name) ? -ENODATA : get(call, in->size, name);
}

int fuse_do_listxattr(struct fuse_call *call)
{
	const struct fuse_getxattr_in *in = fuse_take(call, sizeof(*in));

	return in ? list(call, in->size) : -EINVAL;
}

int fuse_do_removexattr(struct fuse_call *call)
{
	struct named_file file;
	const char *name;
	int r = take_attribute_name(call, &name);

	if (r == 0)
		r = name_file_to_change(call, &file);
	if (r < 0)
		return r;
	r = -EPERM;
	if (is_settable(call, name))
		r = removexattr(file.path, name) < 0 ? -errno : 0;
	unname_file(call, &file);
	return r;
}
