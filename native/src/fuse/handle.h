/* SPDX-License-Identifier: Apache-2.0 */
/* Open files and directories of the client, by their handle ids, and the only
 * lookup from a request to the descriptor that serves it. */
#ifndef SAMPAN_FUSE_HANDLE_H
#define SAMPAN_FUSE_HANDLE_H

#include "fuse/inode.h"
#include "fuse/table.h"

struct fuse_server;

struct fuse_handle {
	struct fuse_entry entry;
	int fd;
	uint32_t type;	      /* S_IFREG or S_IFDIR */
	bool append;	      /* WRITE appends, whatever its offset */
	bool unchangeable;    /* a file in the share's own mount */
	struct fuse_dir *dir; /* of a directory */
};

struct fuse_handles {
	struct fuse_table table;
};

void fuse_handles_init(struct fuse_handles *handles);
/* Closes all; nobody else may use the table. */
void fuse_handles_clear(struct fuse_handles *handles);
void fuse_handles_release(struct fuse_handles *handles);

/* Takes `fd` over in any case. */
int fuse_handle_new(struct fuse_handles *handles, int fd, uint32_t type, uint64_t *ret_id);

struct fuse_handle *fuse_handle_get(struct fuse_handles *handles, uint64_t id);
void fuse_handle_put(struct fuse_handles *handles, struct fuse_handle *handle);

/* For RELEASE: the client does not use it any more. */
int fuse_handle_close(struct fuse_handles *handles, uint64_t id);

/* --- the file that a request is about -------------------------------------- */

/* A descriptor in use: of a handle, or of an inode's data. */
struct fuse_file {
	int fd;
	bool append;
	struct fuse_dir *dir;
	/* references held while it is in use */
	struct fuse_handle *handle;
	struct fuse_inode *inode;
	struct fuse_data *data;
};

/* `handle_id` 0: by node id, where the server allows it.  `type`: S_IFREG or
 * S_IFDIR.  -EBADF, -ESTALE, -EROFS, or why the file cannot be opened. */
int fuse_file_use(struct fuse_server *server, uint64_t handle_id, uint64_t node_id, uint32_t type,
		  bool write, struct fuse_file *ret_file);
void fuse_file_unuse(struct fuse_server *server, struct fuse_file *file);

/* Always by node id; for requests that an append handle must not serve. */
int fuse_file_use_inode(struct fuse_server *server, uint64_t node_id, uint32_t type, bool write,
			struct fuse_file *ret_file);

/* Keeps a descriptor just opened for reading and writing as the inode's data. */
void fuse_file_keep(struct fuse_server *server, struct fuse_inode *inode, int fd);

/* At the limit of descriptors (errno EMFILE): closes one that is held for a file
 * not in use.  False: errno is another, or no such descriptor; errno is
 * unchanged. */
bool fuse_free_descriptor(struct fuse_server *server);

/* Opens a file that is known by an O_PATH descriptor: never one whose opening has
 * effects (a device, a fifo), never for writing where the client may not change it. */
int fuse_reopen(struct fuse_server *server, const struct fuse_inode *inode, int flags);
/* The same for a file that is no inode; `type`: its S_IFMT bits. */
int fuse_reopen_fd(struct fuse_server *server, int path_fd, uint32_t type, int flags);

#endif
