/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/proto.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static size_t total_bytes(const struct iovec *iov, unsigned count)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

int fuse_call_parse(struct fuse_call *call, const struct iovec *in, unsigned in_count,
		    const struct iovec *out, unsigned out_count)
{
	size_t body;

	call->in = in;
	call->in_count = in_count;
	call->in_bytes = total_bytes(in, in_count);
	call->out = out;
	call->out_count = out_count;
	call->out_bytes = total_bytes(out, out_count);
	call->body_bytes = call->parsed_bytes = call->reply_bytes = 0;
	call->reply_at = iov_cursor_at(out, out_count, sizeof(struct fuse_out_header));
	/* Bounds: the whole header or nothing; the length in it must be the length
	 * received. */
	if (iov_to_buf(in, in_count, 0, &call->header, sizeof(call->header)) !=
	    sizeof(call->header))
		return -EPROTO;
	if (call->header.len != call->in_bytes)
		return -EINVAL;
	body = call->in_bytes - sizeof(call->header);
	if (body > sizeof(call->body))
		body = sizeof(call->body);
	call->body_bytes = iov_to_buf(in, in_count, sizeof(call->header), call->body, body);
	return 0;
}

const void *fuse_take(struct fuse_call *call, size_t bytes)
{
	const void *at = call->body + call->parsed_bytes;

	if (bytes > call->body_bytes - call->parsed_bytes)
		return NULL;
	call->parsed_bytes += bytes;
	return at;
}

const char *fuse_take_string(struct fuse_call *call)
{
	const char *at = (const char *)call->body + call->parsed_bytes;
	const size_t left = call->body_bytes - call->parsed_bytes;
	const size_t len = strnlen(at, left);

	if (len == left)
		return NULL;
	call->parsed_bytes += len + 1;
	return at;
}

bool fuse_is_name(const char *name)
{
	return name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       strchr(name, '/') == NULL;
}

int fuse_take_name(struct fuse_call *call, const char **ret_name)
{
	const char *name = fuse_take_string(call);

	if (!name || !fuse_is_name(name))
		return -EINVAL;
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	*ret_name = name;
	return 0;
}

unsigned fuse_slice(const struct iovec *iov, unsigned count, size_t offset, size_t len,
		    struct iovec *ret_slice)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count && len > 0 && n < IOV_MAX; i++) {
		size_t bytes = iov[i].iov_len;

		if (offset >= bytes) {
			offset -= bytes;
			continue;
		}
		bytes -= offset;
		if (bytes > len)
			bytes = len;
		ret_slice[n].iov_base = (uint8_t *)iov[i].iov_base + offset;
		ret_slice[n++].iov_len = bytes;
		len -= bytes;
		offset = 0;
	}
	return n;
}

size_t fuse_copy_body(const struct fuse_call *call, size_t offset, void *buf, size_t len)
{
	return iov_to_buf(call->in, call->in_count, sizeof(call->header) + offset, buf, len);
}

size_t fuse_reply_space(const struct fuse_call *call)
{
	const size_t used = sizeof(struct fuse_out_header) + call->reply_bytes;

	return call->out_bytes > used ? call->out_bytes - used : 0;
}

int fuse_reply(struct fuse_call *call, const void *data, size_t len)
{
	if (len > fuse_reply_space(call))
		return -ERANGE;
	iov_cursor_write(&call->reply_at, data, len);
	call->reply_bytes += len;
	return 0;
}

ptrdiff_t fuse_reply_finish(struct fuse_call *call, int error)
{
	const size_t payload = error ? 0 : call->reply_bytes;
	const struct fuse_out_header header = {
		.len = (uint32_t)(sizeof(header) + payload),
		.error = error,
		.unique = call->header.unique,
	};

	if (call->out_bytes < sizeof(header))
		return -EPROTO;
	buf_to_iov(call->out, call->out_count, 0, &header, sizeof(header));
	return (ptrdiff_t)header.len;
}
