/* SPDX-License-Identifier: Apache-2.0 */
/* File contents.  They move between files and the client's memory directly;
 * nothing here allocates. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuse/credentials.h"
#include "fuse/state.h"

/* Of one COPY_FILE_RANGE: even a slow disk copies it within a second; the client asks for
 * the rest. */
#define MAX_COPY ((size_t)8 << 20)
/* Reads and writes of at least this size are assumed to wait for the disk. */
#define LONG_IO (64U << 10)

/* Not every file system can tell whether data is in the page cache (overlayfs
 * cannot). */
static ssize_t read_file(const struct fuse_server *server, int fd, const struct iovec *iov,
			 unsigned count, const struct fuse_read_in *in)
{
	ssize_t n;

	if (server->about_to_wait) {
		n = preadv2(fd, iov, (int)count, (off_t)in->offset, RWF_NOWAIT);
		if (n == (ssize_t)in->size || n == 0 ||
		    (n < 0 && errno != EAGAIN && errno != EOPNOTSUPP))
			return n;
		if (n > 0 || errno == EAGAIN || in->size >= LONG_IO)
			fuse_about_to_wait(server);
	}
	return preadv(fd, iov, (int)count, (off_t)in->offset);
}

int fuse_do_read(struct fuse_call *call)
{
	const struct fuse_read_in *in = fuse_take(call, sizeof(*in));
	struct iovec iov[IOV_MAX];
	struct fuse_file file;
	unsigned count;
	ssize_t n;
	int r;

	/* Bounds: no more than the reply has room for. */
	if (!in || in->size > FUSE_IO_MAX || in->size > fuse_reply_space(call))
		return -EINVAL;
	r = fuse_file_use(call->server, in->fh, call->header.nodeid, S_IFREG, false, &file);
	if (r < 0)
		return r;
	count = fuse_slice(call->out, call->out_count, sizeof(struct fuse_out_header), in->size,
			   iov);
	n = read_file(call->server, file.fd, iov, count, in);
	r = n < 0 ? -errno : 0;
	fuse_file_unuse(call->server, &file);
	if (r == 0)
		call->reply_bytes = (size_t)n;
	return r;
}

/* A write from the page cache goes to its offset, even if the client names a
 * handle that appends. */
static int use_for_write(struct fuse_call *call, const struct fuse_write_in *in,
			 struct fuse_file *file, int *ret_flags)
{
	int r = fuse_file_use(call->server, in->fh, call->header.nodeid, S_IFREG, true, file);

	*ret_flags = r == 0 && file->append && !(in->write_flags & FUSE_WRITE_CACHE) ? RWF_APPEND
										     : 0;
	return r;
}

int fuse_do_write(struct fuse_call *call)
{
	const struct fuse_write_in *in = fuse_take(call, sizeof(*in));
	const size_t data_at = sizeof(call->header) + sizeof(*in);
	struct fuse_write_out out = {0};
	struct iovec iov[IOV_MAX];
	struct fuse_file file;
	unsigned count;
	bool kill;
	ssize_t n;
	int flags, r;

	/* Bounds: the data is what follows, all of it. */
	if (!in || in->size > FUSE_IO_MAX || in->size != call->in_bytes - data_at)
		return -EINVAL;
	r = use_for_write(call, in, &file, &flags);
	if (r < 0)
		return r;
	kill = in->write_flags & FUSE_WRITE_KILL_SUIDGID;
	count = fuse_slice(call->in, call->in_count, data_at, in->size, iov);
	if (in->size >= LONG_IO)
		fuse_about_to_wait(call->server);
	if (kill)
		fuse_no_fsetid_begin();
	n = pwritev2(file.fd, iov, (int)count, (off_t)in->offset, flags);
	r = n < 0 ? -errno : 0;
	if (kill)
		fuse_no_fsetid_end();
	fuse_file_unuse(call->server, &file);
	if (r < 0)
		return r;
	out.size = (uint32_t)n;
	return fuse_reply(call, &out, sizeof(out));
}

/* FSYNC and FSYNCDIR. */
int fuse_do_fsync(struct fuse_call *call)
{
	const struct fuse_fsync_in *in = fuse_take(call, sizeof(*in));
	const uint32_t type = call->header.opcode == FUSE_FSYNCDIR ? S_IFDIR : S_IFREG;
	struct fuse_file file;
	int r;

	if (!in)
		return -EINVAL;
	r = fuse_file_use(call->server, in->fh, call->header.nodeid, type, false, &file);
	if (r < 0)
		return r;
	r = in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(file.fd) : fsync(file.fd);
	r = r < 0 ? -errno : 0;
	fuse_file_unuse(call->server, &file);
	return r;
}

int fuse_do_fallocate(struct fuse_call *call)
{
	const struct fuse_fallocate_in *in = fuse_take(call, sizeof(*in));
	struct fuse_file file;
	int r;

	if (!in)
		return -EINVAL;
	r = fuse_file_use(call->server, in->fh, call->header.nodeid, S_IFREG, true, &file);
	if (r < 0)
		return r;
	r = fallocate(file.fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0 ? -errno
											: 0;
	fuse_file_unuse(call->server, &file);
	return r;
}

/* Only SEEK_DATA and SEEK_HOLE mean anything: the position is the client's.  A client
 * with a write-back cache does not write back before it asks (Linux 6.12), and would take
 * its unwritten data for a hole: it is told ENOSYS, and then reports data alone. */
int fuse_do_lseek(struct fuse_call *call)
{
	const struct fuse_server_config *config = &call->server->config;
	const struct fuse_lseek_in *in = fuse_take(call, sizeof(*in));
	struct fuse_lseek_out out;
	struct fuse_file file;
	off_t offset;
	int r;

	if (config->exclusive && !config->read_only)
		return -ENOSYS;
	if (!in || (in->whence != SEEK_DATA && in->whence != SEEK_HOLE))
		return -EINVAL;
	r = fuse_file_use(call->server, in->fh, call->header.nodeid, S_IFREG, false, &file);
	if (r < 0)
		return r;
	offset = lseek(file.fd, (off_t)in->offset, (int)in->whence);
	r = offset < 0 ? -errno : 0;
	fuse_file_unuse(call->server, &file);
	if (r < 0)
		return r;
	out.offset = (uint64_t)offset;
	return fuse_reply(call, &out, sizeof(out));
}

int fuse_do_copy_file_range(struct fuse_call *call)
{
	const struct fuse_copy_file_range_in *in = fuse_take(call, sizeof(*in));
	struct fuse_server *server = call->server;
	struct fuse_write_out out = {0};
	struct fuse_file from, to;
	off_t from_at, to_at;
	ssize_t n;
	int r;

	if (!in || in->flags != 0)
		return -EINVAL;
	r = fuse_file_use(server, in->fh_in, call->header.nodeid, S_IFREG, false, &from);
	if (r < 0)
		return r;
	r = fuse_file_use(server, in->fh_out, in->nodeid_out, S_IFREG, true, &to);
	if (r < 0) {
		fuse_file_unuse(server, &from);
		return r;
	}
	from_at = (off_t)in->off_in;
	to_at = (off_t)in->off_out;
	n = copy_file_range(from.fd, &from_at, to.fd, &to_at,
			    in->len < MAX_COPY ? in->len : MAX_COPY, 0);
	r = n < 0 ? -errno : 0;
	fuse_file_unuse(server, &from);
	fuse_file_unuse(server, &to);
	if (r < 0)
		return r;
	out.size = (uint32_t)n;
	return fuse_reply(call, &out, sizeof(out));
}
