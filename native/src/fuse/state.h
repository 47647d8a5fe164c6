/* SPDX-License-Identifier: Apache-2.0 */
/* The server's parts, for the files that implement its requests.
 *
 * A request handler gets the parsed call, appends to its reply and returns 0 or
 * -errno. */
#ifndef SAMPAN_FUSE_STATE_H
#define SAMPAN_FUSE_STATE_H

#include "fuse/handle.h"
#include "fuse/inode.h"
#include "fuse/proto.h"
#include "fuse/server.h"

/* A bit beside the INIT flags: INIT was answered. */
#define FUSE_IS_OPEN ((uint64_t)1 << 63)

struct fuse_server {
	struct fuse_server_config config;
	int proc_fd;  /* /proc/self/fd: opens files by their O_PATH descriptors */
	int node_fds; /* descriptors from here on are for contents alone */
	struct fuse_inodes inodes;
	struct fuse_handles handles;
	_Atomic uint64_t features;	      /* INIT flags agreed on; 0: no INIT yet */
	void (*about_to_wait)(void *context); /* NULL: no callback */
	void *wait_context;
	_Atomic uint64_t counters[FUSE_OPCODES];
};

/* Files are reached by node id, without OPEN: only the client changes them, so an open
 * has nothing to check.  One word holds all that INIT agrees on, as another INIT may come
 * while requests are handled. */
static inline bool fuse_is_without_open(const struct fuse_server *server)
{
	const uint64_t both = FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT;

	return (server->features & both) == both;
}

static inline void fuse_about_to_wait(const struct fuse_server *server)
{
	if (server->about_to_wait)
		server->about_to_wait(server->wait_context);
}

/* --- session.c ----------------------------------------------------------- */
int fuse_do_init(struct fuse_call *call);
int fuse_do_destroy(struct fuse_call *call);

/* --- attr.c -------------------------------------------------------------- */
#define FUSE_STATX_MASK (STATX_BASIC_STATS | STATX_MNT_ID)

void fuse_fill_attr(struct fuse_attr *attr, const struct statx *st);
/* Attributes of a handle, or of the request's node when `handle_id` is 0. */
int fuse_stat_file(struct fuse_call *call, uint64_t handle_id, unsigned mask, struct statx *ret_st);
int fuse_do_getattr(struct fuse_call *call);
int fuse_do_setattr(struct fuse_call *call);
int fuse_do_statfs(struct fuse_call *call);

/* --- statx.c, with headers that have it ---------------------------------- */
int fuse_do_statx(struct fuse_call *call);

/* --- node.c -------------------------------------------------------------- */
/* 0, or -EROFS for a file in the share's own mount.  Decided by the mount id of the
 * file's O_PATH descriptor: a later mount of the host over the name does not matter,
 * and a file system that is mounted twice counts as two. */
int fuse_check_change(const struct fuse_server *server, const struct fuse_inode *inode);
/* Gets a reference to the file, or to the directory of a name, that a request will
 * change: -ESTALE or -EROFS. */
int fuse_get_to_change(struct fuse_server *server, uint64_t node_id, struct fuse_inode **ret_inode);
/* Looks up one name for the client and fills the reply; counts a lookup. */
int fuse_node_lookup(struct fuse_server *server, struct fuse_inode *parent, const char *name,
		     struct fuse_entry_out *ret_entry);
/* The same for a file that is open already: `fd` is any descriptor of it. */
int fuse_node_adopt(struct fuse_server *server, struct fuse_inode *parent, int fd,
		    struct fuse_entry_out *ret_entry);
/* Replies with an entry, and `open` if it is not NULL. If the reply has no room
 * the client does not learn of the entry, and the lookup is undone. */
int fuse_reply_entry(struct fuse_call *call, const struct fuse_entry_out *entry,
		     const struct fuse_open_out *open);
int fuse_do_lookup(struct fuse_call *call);
int fuse_do_forget(struct fuse_call *call);
int fuse_do_batch_forget(struct fuse_call *call);
int fuse_do_readlink(struct fuse_call *call);

/* --- create.c ------------------------------------------------------------ */
int fuse_do_mknod(struct fuse_call *call);
int fuse_do_mkdir(struct fuse_call *call);
int fuse_do_symlink(struct fuse_call *call);
int fuse_do_create(struct fuse_call *call);
int fuse_do_tmpfile(struct fuse_call *call);

/* --- names.c ------------------------------------------------------------- */
int fuse_do_link(struct fuse_call *call);
int fuse_do_unlink(struct fuse_call *call);
int fuse_do_rmdir(struct fuse_call *call);
int fuse_do_rename(struct fuse_call *call);
int fuse_do_rename2(struct fuse_call *call);

/* --- open.c -------------------------------------------------------------- */
int fuse_do_open(struct fuse_call *call);
int fuse_do_release(struct fuse_call *call);
int fuse_do_flush(struct fuse_call *call);

/* --- io.c ---------------------------------------------------------------- */
int fuse_do_read(struct fuse_call *call);
int fuse_do_write(struct fuse_call *call);
int fuse_do_fsync(struct fuse_call *call);
int fuse_do_fallocate(struct fuse_call *call);
int fuse_do_lseek(struct fuse_call *call);
int fuse_do_copy_file_range(struct fuse_call *call);

/* --- sync.c -------------------------------------------------------------- */
int fuse_do_syncfs(struct fuse_call *call);

/* --- readdir.c ----------------------------------------------------------- */
int fuse_do_opendir(struct fuse_call *call);
int fuse_do_readdir(struct fuse_call *call);
int fuse_do_readdirplus(struct fuse_call *call);
int fuse_do_releasedir(struct fuse_call *call);

/* --- xattr.c ------------------------------------------------------------- */
int fuse_do_setxattr(struct fuse_call *call);
int fuse_do_getxattr(struct fuse_call *call);
int fuse_do_listxattr(struct fuse_call *call);
int fuse_do_removexattr(struct fuse_call *call);

#endif
