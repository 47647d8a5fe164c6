/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between a buffer and part of an array of iovecs, with the bounds of both. */
#ifndef SAMPAN_MEMORY_IOVEC_H
#define SAMPAN_MEMORY_IOVEC_H

#include <stddef.h>
#include <sys/uio.h>

/* Answer the bytes copied: fewer than `len` when the array is shorter. */
size_t iov_to_buf(const struct iovec *iov, unsigned count, size_t offset, void *buf, size_t len);
size_t buf_to_iov(const struct iovec *iov, unsigned count, size_t offset, const void *buf,
		  size_t len);

#endif
