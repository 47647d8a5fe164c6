/* SPDX-License-Identifier: Apache-2.0 */
/* The host side of a vsock connection: a non-blocking file descriptor of any
 * kind, what epoll last reported of it, and the bytes that it has not taken yet.
 * Used by the device's worker thread alone. */
#ifndef SAMPAN_VSOCK_ENDPOINT_H
#define SAMPAN_VSOCK_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/worker.h"

/* The most bytes that wait for a slow file descriptor; the guest gets it as our
 * buf_alloc.  The memory exists only while bytes wait. */
#define VSOCK_BACKLOG_BYTES (256u << 10)

struct vsock_endpoint {
	int fd;			 /* owned; -1: closed */
	bool pollable;		 /* false: regular files and the like, which are always ready */
	bool readable, writable; /* true until EAGAIN after the last edge */
	struct worker *worker;
	struct worker_source source;
	uint8_t *backlog; /* ring of VSOCK_BACKLOG_BYTES, NULL when empty */
	uint32_t backlog_start, backlog_len;
};

/* Takes `fd` over whatever the outcome.  `handle` is called at every edge of
 * `events` (EPOLLIN, EPOLLOUT). */
int vsock_endpoint_open(struct vsock_endpoint *e, int fd, struct worker *worker, uint32_t events,
			source_handler handle, void *context);

/* Drops the backlog too.  Idempotent. */
void vsock_endpoint_close(struct vsock_endpoint *e);

/* Records an edge. */
void vsock_endpoint_note(struct vsock_endpoint *e, uint32_t events);

/* Bytes read (> 0), 0 at the end of the file, or -errno. */
ptrdiff_t vsock_endpoint_read(struct vsock_endpoint *e, const struct iovec *iov, unsigned count);

/* Takes all bytes: what the fd refuses now waits in the backlog.  Returns how
 * many reached the fd, or -errno.  The caller keeps the sum within
 * VSOCK_BACKLOG_BYTES (-ENOBUFS otherwise). */
ptrdiff_t vsock_endpoint_write(struct vsock_endpoint *e, const struct iovec *iov, unsigned count,
			       size_t bytes);

/* Moves backlog to the fd; returns as vsock_endpoint_write does. */
ptrdiff_t vsock_endpoint_flush(struct vsock_endpoint *e);

#endif
