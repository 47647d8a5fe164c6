/* SPDX-License-Identifier: Apache-2.0 */
/* One FUSE request as the handlers see it: a private copy of its header and
 * arguments, read with bounds, and the buffers for its reply.
 *
 * Everything is copied out of the client's memory once and checked in the copy,
 * as the client may change it at any time.  Only file contents are moved
 * between the client's memory and files directly. */
#ifndef SAMPAN_FUSE_PROTO_H
#define SAMPAN_FUSE_PROTO_H

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "memory/iovec.h"

struct fuse_server;

/* The longest arguments of any request but WRITE, SETXATTR and BATCH_FORGET:
 * SYMLINK's two strings. */
#define FUSE_BODY_MAX 8192
#define FUSE_PATH_MAX 4096 /* a symlink's target, NUL included */
/* What one READ or WRITE moves at most (max_write, max_pages). */
#define FUSE_IO_MAX (1U << 20)
/* The longest request of all: header, arguments and the data of a WRITE. */
#define FUSE_REQUEST_MAX (sizeof(struct fuse_in_header) + FUSE_BODY_MAX + FUSE_IO_MAX)

struct fuse_call {
	struct fuse_server *server;
	struct fuse_in_header header;
	const struct iovec *in, *out;
	unsigned in_count, out_count;
	size_t in_bytes, out_bytes;
	uint64_t features; /* INIT flags agreed on */

	uint8_t body[FUSE_BODY_MAX]; /* what follows the header, or its first part */
	size_t body_bytes;	     /* of the copy */
	size_t parsed_bytes;	     /* of the copy, taken by fuse_take_* */

	size_t reply_bytes;	    /* after the header */
	struct iov_cursor reply_at; /* after what fuse_reply has appended */
};

/* Copies header and arguments; -EPROTO when there is no whole header, -EINVAL
 * when its lengths do not agree with what was sent. */
int fuse_call_parse(struct fuse_call *call, const struct iovec *in, unsigned in_count,
		    const struct iovec *out, unsigned out_count);

/* --- arguments, in their order ------------------------------------------- */

/* The next `bytes` bytes; NULL: not there. */
const void *fuse_take(struct fuse_call *call, size_t bytes);

/* The next NUL-terminated string; NULL: no NUL within the arguments. */
const char *fuse_take_string(struct fuse_call *call);

/* A string that is one name in a directory: not empty, ".", "..", no slash. */
int fuse_take_name(struct fuse_call *call, const char **ret_name);
bool fuse_is_name(const char *name);

/* The part [offset, offset+len) of the iovecs, in `ret_slice` (room for IOV_MAX);
 * returns their number.  Bounds: shorter when the iovecs are. */
unsigned fuse_slice(const struct iovec *iov, unsigned count, size_t offset, size_t len,
		    struct iovec *ret_slice);

/* Copies what follows the header in the request, from `offset`. */
size_t fuse_copy_body(const struct fuse_call *call, size_t offset, void *buf, size_t len);

/* --- the reply ------------------------------------------------------------ */

/* Bytes free for a reply after its header. */
size_t fuse_reply_space(const struct fuse_call *call);

/* Appends to the reply; -ERANGE: no room. */
int fuse_reply(struct fuse_call *call, const void *data, size_t len);

/* Writes the header; returns the bytes of the whole reply or -EPROTO. */
ptrdiff_t fuse_reply_finish(struct fuse_call *call, int error);

#endif
