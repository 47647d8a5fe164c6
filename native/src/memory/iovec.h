/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between a buffer and part of an array of iovecs, with the bounds of both. */
#ifndef SAMPAN_MEMORY_IOVEC_H
#define SAMPAN_MEMORY_IOVEC_H

#include <stddef.h>
#include <sys/uio.h>

/* Return the bytes copied: fewer than `len` when the array is shorter. */
size_t iov_to_buf(const struct iovec *iov, unsigned count, size_t offset, void *buf, size_t len);
size_t buf_to_iov(const struct iovec *iov, unsigned count, size_t offset, const void *buf,
		  size_t len);

/* A position in an array of iovecs that only moves forward: however many pieces are
 * copied, each segment is passed once.  The array must not change meanwhile. */
struct iov_cursor {
	const struct iovec *iov;
	unsigned count;
	size_t offset; /* bytes into the first segment */
};

struct iov_cursor iov_cursor_at(const struct iovec *iov, unsigned count, size_t offset);
/* Return the bytes copied: fewer than `len` at the end of the array. */
size_t iov_cursor_read(struct iov_cursor *cursor, void *buf, size_t len);
size_t iov_cursor_write(struct iov_cursor *cursor, const void *buf, size_t len);

#endif
