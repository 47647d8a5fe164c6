/* SPDX-License-Identifier: Apache-2.0 */
/* Saves a client's session and restores it in another server: a header, then the
 * files in the order of their slots, by their paths below the root.  Numbers are
 * in the host's byte order: the state never leaves it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuse/state.h"

struct saved_session {
	uint64_t features;
	uint64_t files;
};

/* Its path follows, without a NUL. */
struct saved_file {
	uint64_t id, lookups;
	uint32_t type;
	uint32_t path_bytes;
};

struct output {
	uint8_t *buffer;
	size_t capacity;
	size_t bytes; /* also those that did not fit */
};

static void put(struct output *out, const void *data, size_t bytes)
{
	if (out->bytes < out->capacity) {
		const size_t left = out->capacity - out->bytes;

		memcpy(out->buffer + out->bytes, data, bytes < left ? bytes : left);
	}
	out->bytes += bytes;
}

static struct fuse_entry *get_alive_at(struct fuse_table *table, uint32_t slot)
{
	struct fuse_entry *entry = fuse_table_at(table, slot);

	return entry && fuse_table_is_alive(entry) ? entry : NULL;
}

static int read_path(const struct fuse_server *server, int fd, char path[FUSE_PATH_MAX])
{
	char name[16];
	ssize_t n;

	snprintf(name, sizeof(name), "%d", fd);
	n = readlinkat(server->proc_fd, name, path, FUSE_PATH_MAX - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	return 0;
}

/* Never opens anything outside the share, whatever the state says. */
static int open_below(int root_fd, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	const int fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

static int stat_fd(int fd, struct statx *ret_st)
{
	return statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_MNT_ID, ret_st) < 0
		       ? -errno
		       : 0;
}

static bool is_path_of(int root_fd, const char *path, const struct fuse_inode *inode)
{
	struct fuse_identity found;
	struct statx st;
	const int fd = open_below(root_fd, path);
	int r;

	if (fd < 0)
		return false;
	r = stat_fd(fd, &st);
	close(fd);
	if (r < 0)
		return false;
	found = fuse_identity_of(&st);
	return found.number == inode->identity.number && found.device == inode->identity.device;
}

static int save_file(struct fuse_server *server, const char *root_path, struct fuse_inode *inode,
		     struct output *out)
{
	const size_t root_bytes = strlen(root_path);
	struct saved_file file = {
		.id = fuse_inode_id(inode), .lookups = inode->lookups, .type = inode->type};
	char path[FUSE_PATH_MAX];
	const char *below;
	int r = read_path(server, inode->fd, path);

	if (r < 0)
		return r;
	if (strncmp(path, root_path, root_bytes) != 0 || path[root_bytes] != '/')
		return -ESTALE;
	below = path + root_bytes + 1;
	if (!is_path_of(server->inodes.root->fd, below, inode))
		return -ESTALE;
	file.path_bytes = (uint32_t)strlen(below);
	put(out, &file, sizeof(file));
	put(out, below, file.path_bytes);
	return 0;
}

static int save_files(struct fuse_server *server, struct output *out)
{
	struct fuse_table *table = &server->inodes.table;
	char root_path[FUSE_PATH_MAX];
	int r = read_path(server, server->inodes.root->fd, root_path);

	if (r < 0)
		return r;
	if (strcmp(root_path, "/") == 0)
		root_path[0] = '\0';
	for (uint32_t slot = 0; r == 0 && slot < table->used; slot++) {
		struct fuse_inode *inode = (struct fuse_inode *)get_alive_at(table, slot);

		if (inode && inode != server->inodes.root)
			r = save_file(server, root_path, inode, out);
	}
	return r;
}

ptrdiff_t fuse_server_save(struct fuse_server *server, void *buffer, size_t bytes)
{
	const struct saved_session session = {
		.features = server->features,
		.files = server->inodes.count - 1,
	};
	struct output out = {.buffer = buffer, .capacity = bytes};
	int r;

	for (uint32_t slot = 0; slot < server->handles.table.used; slot++)
		if (get_alive_at(&server->handles.table, slot))
			return -EBUSY;
	put(&out, &session, sizeof(session));
	r = save_files(server, &out);
	return r < 0 ? r : (ptrdiff_t)out.bytes;
}

/* --- restoring ------------------------------------------------------------ */

struct input {
	const uint8_t *at;
	size_t left;
};

static bool take(struct input *in, void *data, size_t bytes)
{
	if (bytes > in->left)
		return false;
	memcpy(data, in->at, bytes);
	in->at += bytes;
	in->left -= bytes;
	return true;
}

static int restore_file(struct fuse_server *server, struct input *in)
{
	struct saved_file file;
	char path[FUSE_PATH_MAX];
	struct statx st;
	int fd, r;

	if (!take(in, &file, sizeof(file)) || file.path_bytes >= sizeof(path) ||
	    !take(in, path, file.path_bytes))
		return -EINVAL;
	path[file.path_bytes] = '\0';
	fd = open_below(server->inodes.root->fd, path);
	if (fd < 0)
		return fd;
	r = stat_fd(fd, &st);
	if (r == 0 && (st.stx_mode & S_IFMT) != file.type)
		r = -ESTALE;
	if (r < 0) {
		close(fd);
		return r;
	}
	return fuse_inodes_restore(&server->inodes, file.id, file.lookups, fd, &st);
}

int fuse_server_restore(struct fuse_server *server, const void *state, size_t bytes)
{
	struct input in = {.at = state, .left = bytes};
	struct saved_session session;
	int r = 0;

	if (server->features != 0 || server->inodes.count != 1)
		return -EBUSY;
	if (!take(&in, &session, sizeof(session)))
		return -EINVAL;
	for (uint64_t i = 0; r == 0 && i < session.files; i++)
		r = restore_file(server, &in);
	if (r == 0 && in.left > 0)
		r = -EINVAL;
	if (r < 0) {
		fuse_server_reset(server);
		return r;
	}
	server->features = session.features;
	return 0;
}
