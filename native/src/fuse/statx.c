/* SPDX-License-Identifier: Apache-2.0 */
/* STATX: attributes with the time of birth. */
#include <errno.h>
#include <fcntl.h>

#include "fuse/state.h"

#if FUSE_KERNEL_MINOR_VERSION >= 39

#define NS_PER_S 1000000000ULL

static struct fuse_sx_time time_of(const struct statx_timestamp *t)
{
	return (struct fuse_sx_time){.tv_sec = t->tv_sec, .tv_nsec = t->tv_nsec};
}

static void fill(struct fuse_statx *out, const struct statx *st)
{
	*out = (struct fuse_statx){
		.mask = st->stx_mask & (STATX_BASIC_STATS | STATX_BTIME),
		.blksize = st->stx_blksize,
		.attributes = st->stx_attributes,
		.attributes_mask = st->stx_attributes_mask,
		.nlink = st->stx_nlink,
		.uid = st->stx_uid,
		.gid = st->stx_gid,
		.mode = st->stx_mode,
		.ino = st->stx_ino,
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = time_of(&st->stx_atime),
		.btime = time_of(&st->stx_btime),
		.ctime = time_of(&st->stx_ctime),
		.mtime = time_of(&st->stx_mtime),
		.rdev_major = st->stx_rdev_major,
		.rdev_minor = st->stx_rdev_minor,
		.dev_major = st->stx_dev_major,
		.dev_minor = st->stx_dev_minor,
	};
}

int fuse_do_statx(struct fuse_call *call)
{
	const struct fuse_statx_in *in = fuse_take(call, sizeof(*in));
	const uint64_t valid_ns = call->server->config.attr_valid_ns;
	struct fuse_statx_out out = {
		.attr_valid = valid_ns / NS_PER_S,
		.attr_valid_nsec = (uint32_t)(valid_ns % NS_PER_S),
	};
	struct statx st;
	int r;

	if (!in)
		return -EINVAL;
	r = fuse_stat_file(call, in->getattr_flags & FUSE_GETATTR_FH ? in->fh : 0,
			   FUSE_STATX_MASK | STATX_BTIME, &st);
	if (r < 0)
		return r;
	fill(&out.stat, &st);
	return fuse_reply(call, &out, sizeof(out));
}

#endif
