/* SPDX-License-Identifier: Apache-2.0 */
/* For cffi: see native/src/fuse/device.h and server.h. */
#include <fuse/device.h>
#include <fuse/server.h>

#define FUSE_OPCODES ...

struct fuse_server_config {
	int root_fd;
	bool read_only;
	uint64_t entry_valid_ns, attr_valid_ns;
	bool exclusive;
	uint64_t keep_after_ns;
	bool announce_submounts;
	bool own_mount_writable;
	bool privileged_attributes;
	...;
};

struct fuse_server;

int fuse_server_new(const struct fuse_server_config *config, struct fuse_server **ret_server);
void fuse_server_free(struct fuse_server *server);
int fs_device_new(struct fuse_server *server, unsigned request_queues, unsigned worker_count,
		  struct virtio_device **ret_device);
ptrdiff_t fs_device_save(const struct virtio_device *device, void *buffer, size_t bytes);
int fs_device_restore(struct virtio_device *device, const void *state, size_t bytes);
void fs_device_counters(const struct virtio_device *device, uint64_t *ret_counts);
