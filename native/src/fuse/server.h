/* SPDX-License-Identifier: Apache-2.0 */
/* A FUSE server over one shared directory: requests in, replies out, no
 * transport.  Serves virtio-fs (device.c); tests also use /dev/fuse.
 *
 * The client is hostile.  Whatever it sends, a call touches nothing outside
 * the shared directory and the mounts below it, and ends with a well-formed
 * reply or none (FORGET). */
#ifndef SAMPAN_FUSE_SERVER_H
#define SAMPAN_FUSE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct fuse_server;

struct fuse_server_config {
	int root_fd; /* O_PATH|O_DIRECTORY of the shared directory; duplicated */
	bool read_only;
	/* How long the client may cache names and attributes; 0: not at all. */
	uint64_t entry_valid_ns, attr_valid_ns;
	/* The client is the only user of these files: write-back cache, page
	 * cache kept over open, negative entries cached. */
	bool exclusive;
	/* On other shares the client may keep contents over an open when they had not
	 * changed for this long; 0: never. */
	uint64_t keep_after_ns;
	bool announce_submounts; /* FUSE_SUBMOUNTS */
	/* The client may also change files in the mount that the root is in.  Only for
	 * tests over a plain directory: in a machine that mount is the host's, which
	 * mounts and removes names in it; the client changes what is mounted below. */
	bool own_mount_writable;
	/* The client may set attributes for which a host process needs CAP_SYS_ADMIN:
	 * trusted.*, and security.* but security.capability. */
	bool privileged_attributes;
};

int fuse_server_new(const struct fuse_server_config *config, struct fuse_server **ret_server);
void fuse_server_free(struct fuse_server *server);

/* Handles one request; any number of threads at once.  Returns the bytes written
 * to `out` (the fuse_out_header included), 0 when the request has no reply, or
 * -EPROTO when there is no room for a reply or no whole header.  READ and WRITE
 * data move between the file and the iovecs directly. */
ptrdiff_t fuse_server_handle(struct fuse_server *server, const struct iovec *in, unsigned in_count,
			     const struct iovec *out, unsigned out_count);

/* To be called once by every thread before its first request: gives it a umask
 * and a working directory of its own. */
int fuse_server_enter_thread(struct fuse_server *server);

/* `about_to_wait` is called on the handling thread, at most once a request,
 * before a step that may wait for a disk. */
void fuse_server_on_wait(struct fuse_server *server, void (*about_to_wait)(void *context),
			 void *context);

/* Saves what the client knows (its INIT and the files by their ids), for another
 * server over the same files; nobody else may use the server.  Returns the bytes
 * that this takes, of which at most `bytes` were written.  -EBUSY: the client has
 * files open; -ESTALE: a file that it knows has no name any more. */
ptrdiff_t fuse_server_save(struct fuse_server *server, void *buffer, size_t bytes);

/* Restores that state in a new server, before its first request.  -EINVAL: not
 * what fuse_server_save wrote; -ENOENT and others: a file is not there. */
int fuse_server_restore(struct fuse_server *server, const void *state, size_t bytes);

/* Requests so far, by opcode. */
#define FUSE_OPCODES 64
void fuse_server_counters(const struct fuse_server *server, uint64_t ret_counts[FUSE_OPCODES]);

/* Forgets every inode and handle: a new INIT may follow. */
void fuse_server_reset(struct fuse_server *server);

#endif
