/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fuse/dir.h"
#include "fuse/state.h"

/* Descriptors held for files that the client uses by node id.  More are opened
 * when all of them are in use at once. */
#define MAX_OPEN_DATA 1024U
/* Slots that one request looks at when it makes room. */
#define SLOTS_A_SEARCH 1024U

void fuse_handles_init(struct fuse_handles *handles)
{
	fuse_table_init(&handles->table, sizeof(struct fuse_handle));
}

static void destroy(struct fuse_handles *handles, struct fuse_handle *handle)
{
	fuse_dir_free(handle->dir);
	close(handle->fd);
	fuse_table_recycle(&handles->table, &handle->entry);
}

void fuse_handles_clear(struct fuse_handles *handles)
{
	for (uint32_t slot = 0; slot < handles->table.used; slot++) {
		struct fuse_handle *handle = fuse_table_at(&handles->table, slot);

		if (fuse_table_kill(&handle->entry))
			fuse_handle_put(handles, handle);
	}
}

void fuse_handles_release(struct fuse_handles *handles)
{
	fuse_handles_clear(handles);
	fuse_table_release(&handles->table);
}

int fuse_handle_new(struct fuse_handles *handles, int fd, uint32_t type, uint64_t *ret_id)
{
	struct fuse_dir *dir = type == S_IFDIR ? fuse_dir_new() : NULL;
	struct fuse_handle *handle;

	if (type == S_IFDIR && !dir)
		goto no_memory;
	handle = fuse_table_add(&handles->table);
	if (!handle)
		goto no_memory;
	handle->fd = fd;
	handle->type = type;
	handle->dir = dir;
	*ret_id = fuse_table_id(&handle->entry);
	return 0;
no_memory:
	fuse_dir_free(dir);
	close(fd);
	return -ENOMEM;
}

struct fuse_handle *fuse_handle_get(struct fuse_handles *handles, uint64_t id)
{
	return fuse_table_get(&handles->table, id);
}

void fuse_handle_put(struct fuse_handles *handles, struct fuse_handle *handle)
{
	if (fuse_table_put(&handle->entry))
		destroy(handles, handle);
}

int fuse_handle_close(struct fuse_handles *handles, uint64_t id)
{
	struct fuse_handle *handle = fuse_handle_get(handles, id);

	if (!handle)
		return -EBADF;
	if (fuse_table_kill(&handle->entry))
		fuse_handle_put(handles, handle);
	fuse_handle_put(handles, handle);
	return 0;
}

/* CLOCK replacement over the inodes: closes a descriptor that was not used since
 * the last pass.  Slots may be dead or change meanwhile: only their words are
 * relied on. */
static bool close_idle(struct fuse_server *server, unsigned slots, bool spare_recent)
{
	struct fuse_table *table = &server->inodes.table;

	for (unsigned i = 0; i < slots; i++) {
		struct fuse_inode *inode = fuse_table_at(table, server->inodes.data_hand++);

		if (!inode) {
			server->inodes.data_hand = 0;
			continue;
		}
		if (fuse_data_close(&inode->read_data, spare_recent) ||
		    fuse_data_close(&inode->write_data, spare_recent)) {
			server->inodes.open_data--;
			return true;
		}
	}
	return false;
}

bool fuse_free_descriptor(struct fuse_server *server)
{
	const int error = errno;
	const bool closed = error == EMFILE && server->inodes.open_data > 0 &&
			    close_idle(server, server->inodes.table.used + 1, false);

	errno = error;
	return closed;
}

int fuse_reopen_fd(struct fuse_server *server, int path_fd, uint32_t type, int flags)
{
	char name[16];
	int fd;

	if (type != S_IFREG && type != S_IFDIR)
		return -EINVAL;
	snprintf(name, sizeof(name), "%d", path_fd);
	do
		fd = openat(server->proc_fd, name, (flags & ~(O_NOFOLLOW | O_CREAT)) | O_CLOEXEC);
	while (fd < 0 && fuse_free_descriptor(server));
	if (fd < 0)
		return errno == EMFILE ? -ENFILE : -errno;
	return fd;
}

int fuse_reopen(struct fuse_server *server, const struct fuse_inode *inode, int flags)
{
	const bool changes = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
	const int r = changes ? fuse_check_change(server, inode) : 0;

	if (r < 0)
		return r;
	return fuse_reopen_fd(server, inode->fd, inode->type, flags);
}

static int publish(struct fuse_server *server, struct fuse_data *data, int fd)
{
	const int shared = fuse_data_publish(data, fd);

	if (shared == fd && ++server->inodes.open_data > MAX_OPEN_DATA)
		close_idle(server, SLOTS_A_SEARCH, true);
	return shared;
}

static int use_data(struct fuse_server *server, struct fuse_inode *inode, bool write,
		    struct fuse_file *file)
{
	int fd;

	/* A writable descriptor serves reads and writes. */
	file->data = &inode->write_data;
	file->fd = fuse_data_use(file->data);
	if (file->fd >= 0)
		return 0;
	if (!write) {
		file->data = &inode->read_data;
		file->fd = fuse_data_use(file->data);
		if (file->fd >= 0)
			return 0;
	}
	fd = fuse_reopen(server, inode, write ? O_RDWR : O_RDONLY);
	if (fd < 0)
		return fd;
	file->fd = publish(server, file->data, fd);
	return 0;
}

/* The directory stream of an inode, made at its first use. */
static struct fuse_dir *dir_of(struct fuse_inode *inode)
{
	struct fuse_dir *dir = atomic_load(&inode->dir), *none = NULL;

	if (dir)
		return dir;
	dir = fuse_dir_new();
	if (!dir || atomic_compare_exchange_strong(&inode->dir, &none, dir))
		return dir;
	fuse_dir_free(dir);
	return none;
}

int fuse_file_use_inode(struct fuse_server *server, uint64_t node_id, uint32_t type, bool write,
			struct fuse_file *ret_file)
{
	struct fuse_file file = {.inode = fuse_inode_get(&server->inodes, node_id)};
	int r = 0;

	if (!file.inode)
		return -ESTALE;
	if (file.inode->type != type)
		r = type == S_IFDIR ? -ENOTDIR : -EBADF;
	if (r == 0 && type == S_IFDIR) {
		file.dir = dir_of(file.inode);
		r = file.dir ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = use_data(server, file.inode, write, &file);
	if (r < 0)
		fuse_inode_put(&server->inodes, file.inode);
	else
		*ret_file = file;
	return r;
}

int fuse_file_use(struct fuse_server *server, uint64_t handle_id, uint64_t node_id, uint32_t type,
		  bool write, struct fuse_file *ret_file)
{
	struct fuse_handle *handle;

	if (handle_id == 0 && fuse_is_without_open(server))
		return fuse_file_use_inode(server, node_id, type, write, ret_file);
	handle = fuse_handle_get(&server->handles, handle_id);
	if (!handle)
		return -EBADF;
	if (handle->type != type || (write && handle->unchangeable)) {
		const int r = handle->type != type ? -EBADF : -EROFS;

		fuse_handle_put(&server->handles, handle);
		return r;
	}
	*ret_file = (struct fuse_file){
		.fd = handle->fd, .append = handle->append, .dir = handle->dir, .handle = handle};
	return 0;
}

void fuse_file_unuse(struct fuse_server *server, struct fuse_file *file)
{
	if (file->handle)
		fuse_handle_put(&server->handles, file->handle);
	if (file->data)
		fuse_data_unuse(file->data);
	if (file->inode)
		fuse_inode_put(&server->inodes, file->inode);
}

void fuse_file_keep(struct fuse_server *server, struct fuse_inode *inode, int fd)
{
	publish(server, &inode->write_data, fd);
	fuse_data_unuse(&inode->write_data);
}
