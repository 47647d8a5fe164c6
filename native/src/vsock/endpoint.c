/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "memory/iovec.h"
#include "virtio/virtqueue.h"

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int vsock_endpoint_open(struct vsock_endpoint *e, int fd, struct worker *worker, uint32_t events,
			source_handler handle, void *context)
{
	int r;

	*e = (struct vsock_endpoint){
		.fd = fd,
		.readable = events & EPOLLIN,
		.writable = events & EPOLLOUT,
		.worker = worker,
		.source = {.fd = fd, .handle = handle, .context = context},
	};
	r = set_nonblocking(fd);
	if (r < 0)
		return r;
	/* Edges, not levels: an output that is full for hours must not spin,
	 * and changing the interest costs a system call each time. */
	r = worker_add(worker, &e->source, events | EPOLLET);
	e->pollable = r == 0;
	/* epoll_ctl(2): what cannot be polled is always ready. */
	return r == -EPERM ? 0 : r;
}

static void drop_backlog(struct vsock_endpoint *e)
{
	free(e->backlog);
	e->backlog = NULL;
	e->backlog_start = e->backlog_len = 0;
}

void vsock_endpoint_close(struct vsock_endpoint *e)
{
	if (e->fd < 0)
		return;
	/* close() alone leaves the registration when another process holds the
	 * same open file description. */
	if (e->pollable)
		worker_remove(e->worker, &e->source);
	close(e->fd);
	e->fd = -1;
	e->readable = e->writable = false;
	drop_backlog(e);
}

void vsock_endpoint_note(struct vsock_endpoint *e, uint32_t events)
{
	if (e->fd < 0)
		return;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		e->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		e->writable = true;
}

/* A file that cannot be polled but returns EAGAIN would wait for ever. */
static int would_block(const struct vsock_endpoint *e, bool *ret_ready)
{
	if (!e->pollable)
		return -EIO;
	*ret_ready = false;
	return -EAGAIN;
}

ptrdiff_t vsock_endpoint_read(struct vsock_endpoint *e, const struct iovec *iov, unsigned count)
{
	ssize_t n;

	do
		n = readv(e->fd, iov, (int)count);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	if (errno == EAGAIN)
		return would_block(e, &e->readable);
	/* The master of a terminal whose last slave has closed. */
	if (errno == EIO && isatty(e->fd))
		return 0;
	return -errno;
}

/* One writev; 0 when the fd takes no bytes now. */
static ptrdiff_t write_some(struct vsock_endpoint *e, const struct iovec *iov, unsigned count)
{
	ssize_t n;
	int r;

	if (!e->writable)
		return 0;
	do
		n = writev(e->fd, iov, (int)count);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return n;
	if (n == 0) /* neither progress nor an edge to come */
		return -EIO;
	if (errno != EAGAIN)
		return -errno;
	r = would_block(e, &e->writable);
	return r == -EAGAIN ? 0 : r;
}

/* The backlog's first `len` bytes from `offset` on, as one or two iovecs. */
static unsigned ring_iov(const struct vsock_endpoint *e, uint32_t offset, uint32_t len,
			 struct iovec iov[2])
{
	uint32_t start = (e->backlog_start + offset) % VSOCK_BACKLOG_BYTES;
	uint32_t first = VSOCK_BACKLOG_BYTES - start;

	if (first > len)
		first = len;
	iov[0] = (struct iovec){e->backlog + start, first};
	iov[1] = (struct iovec){e->backlog, len - first};
	return len > first ? 2 : 1;
}

static int append_backlog(struct vsock_endpoint *e, const struct iovec *iov, unsigned count,
			  size_t offset, size_t len)
{
	struct iovec ring[2];
	unsigned parts;

	if (len > VSOCK_BACKLOG_BYTES - e->backlog_len)
		return -ENOBUFS;
	if (!e->backlog) {
		e->backlog = malloc(VSOCK_BACKLOG_BYTES);
		if (!e->backlog)
			return -ENOMEM;
	}
	parts = ring_iov(e, e->backlog_len, (uint32_t)len, ring);
	for (unsigned i = 0; i < parts; i++)
		offset += iov_to_buf(iov, count, offset, ring[i].iov_base, ring[i].iov_len);
	e->backlog_len += (uint32_t)len;
	return 0;
}

ptrdiff_t vsock_endpoint_write(struct vsock_endpoint *e, const struct iovec *iov, unsigned count,
			       size_t bytes)
{
	ptrdiff_t written = 0, flushed;
	int r;

	if (bytes == 0)
		return 0;
	if (e->backlog_len == 0) {
		written = write_some(e, iov, count);
		if (written < 0 || (size_t)written == bytes)
			return written;
	}
	r = append_backlog(e, iov, count, (size_t)written, bytes - (size_t)written);
	if (r < 0)
		return r;
	/* After a short write only EAGAIN promises another edge. */
	flushed = vsock_endpoint_flush(e);
	return flushed < 0 ? flushed : written + flushed;
}

ptrdiff_t vsock_endpoint_flush(struct vsock_endpoint *e)
{
	ptrdiff_t total = 0;

	while (e->backlog_len > 0) {
		struct iovec ring[2];
		unsigned parts = ring_iov(e, 0, e->backlog_len, ring);
		ptrdiff_t n = write_some(e, ring, parts);

		if (n <= 0)
			return n < 0 ? n : total;
		e->backlog_start = (e->backlog_start + (uint32_t)n) % VSOCK_BACKLOG_BYTES;
		e->backlog_len -= (uint32_t)n;
		total += n;
	}
	drop_backlog(e);
	return total;
}
