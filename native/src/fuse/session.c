/* SPDX-License-Identifier: Apache-2.0 */
/* INIT: what the client's kernel and this server agree on. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fuse/state.h"

/* Linux 5.4: FUSE_CACHE_SYMLINKS, FUSE_NO_OPENDIR_SUPPORT, FUSE_MAX_PAGES. */
#define OLDEST_MINOR 31
/* Requests that the client sends in the background at once: read-ahead and
 * write-back must keep all workers busy. */
#define MAX_BACKGROUND 128

#define BASE_FEATURES                                                                              \
	(FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_DO_READDIRPLUS |                \
	 FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |          \
	 FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_INIT_EXT | FUSE_EXPORT_SUPPORT)

static uint64_t wanted(const struct fuse_server_config *config)
{
	uint64_t features = BASE_FEATURES;

	if (config->exclusive || config->read_only)
		features |= FUSE_CACHE_SYMLINKS | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT;
	else
		features |= FUSE_AUTO_INVAL_DATA | FUSE_ATOMIC_O_TRUNC;
	if (!config->read_only)
		features |= FUSE_POSIX_ACL;
	if (config->exclusive && !config->read_only)
		features |= FUSE_WRITEBACK_CACHE;
	if (config->announce_submounts)
		features |= FUSE_SUBMOUNTS;
	return features;
}

static uint64_t offered(const struct fuse_init_in *in)
{
	uint64_t features = in->flags;

	if (features & FUSE_INIT_EXT)
		features |= (uint64_t)in->flags2 << 32;
	return features;
}

static void fill(struct fuse_init_out *out, const struct fuse_init_in *in, uint64_t features)
{
	*out = (struct fuse_init_out){
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.flags = (uint32_t)features,
		.flags2 = (uint32_t)(features >> 32),
		.max_background = MAX_BACKGROUND,
		.congestion_threshold = MAX_BACKGROUND / 4 * 3,
		.max_write = FUSE_IO_MAX,
		.time_gran = 1,
		.max_pages = (uint16_t)(FUSE_IO_MAX / (unsigned)getpagesize()),
	};
}

int fuse_do_init(struct fuse_call *call)
{
	struct fuse_init_in in = {0};
	struct fuse_init_out out;
	size_t bytes = call->body_bytes < sizeof(in) ? call->body_bytes : sizeof(in);

	/* Bounds: older clients send a shorter structure. */
	if (bytes < offsetof(struct fuse_init_in, flags2))
		return -EINVAL;
	memcpy(&in, fuse_take(call, bytes), bytes);
	if (in.major < FUSE_KERNEL_VERSION ||
	    (in.major == FUSE_KERNEL_VERSION && in.minor < OLDEST_MINOR))
		return -EPROTO;
	if (in.major > FUSE_KERNEL_VERSION) {
		/* The client tries again with our major version. */
		fill(&out, &in, 0);
		return fuse_reply(call, &out, sizeof(out));
	}
	call->features = offered(&in) & wanted(&call->server->config);
	fill(&out, &in, call->features);
	call->server->features = call->features | FUSE_IS_OPEN;
	return fuse_reply(call, &out, sizeof(out));
}

int fuse_do_destroy(struct fuse_call *call)
{
	(void)call;
	return 0;
}
