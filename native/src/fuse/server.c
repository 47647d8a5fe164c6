/* SPDX-License-Identifier: Apache-2.0 */
/* Life cycle, and the table from opcodes to handlers. */
#include "fuse/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fuse/credentials.h"
#include "fuse/state.h"

/* The descriptor table of a process with threads grows slowly: every doubling
 * waits for all CPUs.  So it grows once, before there are threads. */
#define EXPECTED_FDS 4096
#define CONTENT_DESCRIPTORS 64

struct operation {
	int (*handle)(struct fuse_call *call);
	bool changes; /* refused on a read-only share */
	bool no_reply;
	bool waits; /* usually waits for a disk */
	bool bulk;  /* more than arguments: up to FUSE_REQUEST_MAX */
};

static const struct operation operations[FUSE_OPCODES] = {
	[FUSE_LOOKUP] = {fuse_do_lookup},
	[FUSE_FORGET] = {fuse_do_forget, .no_reply = true},
	[FUSE_GETATTR] = {fuse_do_getattr},
	[FUSE_SETATTR] = {fuse_do_setattr, .changes = true},
	[FUSE_READLINK] = {fuse_do_readlink},
	[FUSE_SYMLINK] = {fuse_do_symlink, .changes = true},
	[FUSE_MKNOD] = {fuse_do_mknod, .changes = true},
	[FUSE_MKDIR] = {fuse_do_mkdir, .changes = true},
	[FUSE_UNLINK] = {fuse_do_unlink, .changes = true},
	[FUSE_RMDIR] = {fuse_do_rmdir, .changes = true},
	[FUSE_RENAME] = {fuse_do_rename, .changes = true},
	[FUSE_RENAME2] = {fuse_do_rename2, .changes = true},
	[FUSE_LINK] = {fuse_do_link, .changes = true},
	[FUSE_OPEN] = {fuse_do_open},
	[FUSE_READ] = {fuse_do_read},
	[FUSE_WRITE] = {fuse_do_write, .changes = true, .bulk = true},
	[FUSE_STATFS] = {fuse_do_statfs},
	[FUSE_RELEASE] = {fuse_do_release},
	[FUSE_FSYNC] = {fuse_do_fsync, .waits = true},
	[FUSE_SETXATTR] = {fuse_do_setxattr, .changes = true, .bulk = true},
	[FUSE_GETXATTR] = {fuse_do_getxattr},
	[FUSE_LISTXATTR] = {fuse_do_listxattr},
	[FUSE_REMOVEXATTR] = {fuse_do_removexattr, .changes = true},
	[FUSE_FLUSH] = {fuse_do_flush},
	[FUSE_INIT] = {fuse_do_init},
	[FUSE_OPENDIR] = {fuse_do_opendir},
	[FUSE_READDIR] = {fuse_do_readdir},
	[FUSE_READDIRPLUS] = {fuse_do_readdirplus},
	[FUSE_RELEASEDIR] = {fuse_do_releasedir},
	[FUSE_FSYNCDIR] = {fuse_do_fsync, .waits = true},
	[FUSE_CREATE] = {fuse_do_create, .changes = true},
	[FUSE_TMPFILE] = {fuse_do_tmpfile, .changes = true},
	[FUSE_INTERRUPT] = {.no_reply = true}, /* running requests finish normally */
	[FUSE_DESTROY] = {fuse_do_destroy},
	[FUSE_BATCH_FORGET] = {fuse_do_batch_forget, .no_reply = true, .bulk = true},
	[FUSE_FALLOCATE] = {fuse_do_fallocate, .changes = true, .waits = true},
	[FUSE_LSEEK] = {fuse_do_lseek},
	[FUSE_COPY_FILE_RANGE] = {fuse_do_copy_file_range, .changes = true, .waits = true},
	[FUSE_SYNCFS] = {fuse_do_syncfs, .waits = true},
#if FUSE_KERNEL_MINOR_VERSION >= 39
	[FUSE_STATX] = {fuse_do_statx},
#endif
};

static void reserve_descriptors(int fd)
{
	const int high = fcntl(fd, F_DUPFD_CLOEXEC, EXPECTED_FDS - 1);

	if (high >= 0)
		close(high);
}

/* Some are reserved for contents: else the last descriptor could go to a lookup or
 * a create, and that file could be neither read nor written. */
static int first_content_descriptor(void)
{
	struct rlimit limit;
	rlim_t first;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
		return INT_MAX;
	first = limit.rlim_cur - (limit.rlim_cur < 4 * CONTENT_DESCRIPTORS ? limit.rlim_cur / 4
									   : CONTENT_DESCRIPTORS);
	return (int)first;
}

int fuse_server_new(const struct fuse_server_config *config, struct fuse_server **ret_server)
{
	struct fuse_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return -ENOMEM;
	server->config = *config;
	/* Resolved now: later the process may be in another root, or forked. */
	server->proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (server->proc_fd < 0) {
		r = -errno;
		free(server);
		return r;
	}
	reserve_descriptors(server->proc_fd);
	server->node_fds = first_content_descriptor();
	r = fuse_inodes_init(&server->inodes, config->root_fd);
	if (r < 0) {
		close(server->proc_fd);
		free(server);
		return r;
	}
	fuse_handles_init(&server->handles);
	*ret_server = server;
	return 0;
}

void fuse_server_reset(struct fuse_server *server)
{
	server->features = 0;
	fuse_handles_clear(&server->handles);
	fuse_inodes_clear(&server->inodes);
}

void fuse_server_free(struct fuse_server *server)
{
	if (!server)
		return;
	fuse_handles_release(&server->handles);
	fuse_inodes_release(&server->inodes);
	close(server->proc_fd);
	free(server);
}

int fuse_server_enter_thread(struct fuse_server *server)
{
	const int r = fuse_credentials_separate();

	if (r < 0)
		return r;
	return fchdir(server->proc_fd) < 0 ? -errno : 0;
}

void fuse_server_on_wait(struct fuse_server *server, void (*about_to_wait)(void *context),
			 void *context)
{
	server->about_to_wait = about_to_wait;
	server->wait_context = context;
}

/* Bounds: work is proportional to the length of a request, so the length is
 * bounded. */
static bool is_too_long(const struct fuse_call *call, const struct operation *operation)
{
	return call->in_bytes >
	       (operation->bulk ? FUSE_REQUEST_MAX : sizeof(call->header) + FUSE_BODY_MAX);
}

static int dispatch(struct fuse_call *call, const struct operation *operation)
{
	struct fuse_server *server = call->server;

	call->features = server->features;
	if (call->features == 0 && call->header.opcode != FUSE_INIT)
		return -EIO;
	if (operation->changes && server->config.read_only)
		return -EROFS;
	if (operation->waits)
		fuse_about_to_wait(server);
	return operation->handle ? operation->handle(call) : -ENOSYS;
}

ptrdiff_t fuse_server_handle(struct fuse_server *server, const struct iovec *in, unsigned in_count,
			     const struct iovec *out, unsigned out_count)
{
	static const struct operation unknown;
	const struct operation *operation = &unknown;
	struct fuse_call call;
	int r;

	call.server = server;
	r = fuse_call_parse(&call, in, in_count, out, out_count);
	if (r == -EPROTO)
		return r;
	if (call.header.opcode < FUSE_OPCODES) {
		operation = &operations[call.header.opcode];
		server->counters[call.header.opcode]++;
	}
	if (r == 0)
		r = is_too_long(&call, operation) ? -EINVAL : dispatch(&call, operation);
	return operation->no_reply ? 0 : fuse_reply_finish(&call, r);
}

void fuse_server_counters(const struct fuse_server *server, uint64_t ret_counts[FUSE_OPCODES])
{
	for (unsigned i = 0; i < FUSE_OPCODES; i++)
		ret_counts[i] = server->counters[i];
}
