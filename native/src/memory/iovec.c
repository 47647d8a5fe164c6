/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/iovec.h"

#include <stdint.h>
#include <string.h>

/* The next bytes in one piece, at most `len`; 0: the array has ended. */
static size_t take_piece(struct iov_cursor *cursor, size_t len, uint8_t **ret_piece)
{
	size_t left;

	while (cursor->count > 0 && cursor->offset >= cursor->iov->iov_len) {
		cursor->offset -= cursor->iov->iov_len;
		cursor->iov++;
		cursor->count--;
	}
	if (cursor->count == 0)
		return 0;
	left = cursor->iov->iov_len - cursor->offset;
	*ret_piece = (uint8_t *)cursor->iov->iov_base + cursor->offset;
	if (len > left)
		len = left;
	cursor->offset += len;
	return len;
}

struct iov_cursor iov_cursor_at(const struct iovec *iov, unsigned count, size_t offset)
{
	return (struct iov_cursor){.iov = iov, .count = count, .offset = offset};
}

size_t iov_cursor_read(struct iov_cursor *cursor, void *buf, size_t len)
{
	size_t done = 0, n;
	uint8_t *piece;

	while (done < len && (n = take_piece(cursor, len - done, &piece)) > 0) {
		memcpy((uint8_t *)buf + done, piece, n);
		done += n;
	}
	return done;
}

size_t iov_cursor_write(struct iov_cursor *cursor, const void *buf, size_t len)
{
	size_t done = 0, n;
	uint8_t *piece;

	while (done < len && (n = take_piece(cursor, len - done, &piece)) > 0) {
		memcpy(piece, (const uint8_t *)buf + done, n);
		done += n;
	}
	return done;
}

size_t iov_to_buf(const struct iovec *iov, unsigned count, size_t offset, void *buf, size_t len)
{
	struct iov_cursor cursor = iov_cursor_at(iov, count, offset);

	return iov_cursor_read(&cursor, buf, len);
}

size_t buf_to_iov(const struct iovec *iov, unsigned count, size_t offset, const void *buf,
		  size_t len)
{
	struct iov_cursor cursor = iov_cursor_at(iov, count, offset);

	return iov_cursor_write(&cursor, buf, len);
}
