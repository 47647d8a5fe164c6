/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-fs (virtio 1.2 §5.11): queue 0 hiprio, 1.. requests.
 *
 * All workers serve all queues, one at a time each: one listens for kicks while
 * others handle requests.  A worker handles short requests one after another
 * without waking the others; before it waits for a disk, or when more requests
 * wait than it can take, it wakes the next one. */
#ifndef SAMPAN_FUSE_DEVICE_H
#define SAMPAN_FUSE_DEVICE_H

#include "fuse/server.h"
#include "virtio/device.h"

#define FS_DEVICE_MAX_WORKERS 16
#define FS_DEVICE_MAX_QUEUES 16 /* hiprio included */

/* `worker_count` threads serve the request queues.  Takes the server over. */
int fs_device_new(struct fuse_server *server, unsigned request_queues, unsigned worker_count,
		  struct virtio_device **ret_device);

/* The session of the driver, as fuse_server_save and fuse_server_restore; -EBUSY
 * while workers run. */
ptrdiff_t fs_device_save(const struct virtio_device *device, void *buffer, size_t bytes);
int fs_device_restore(struct virtio_device *device, const void *state, size_t bytes);

/* Requests so far, by FUSE opcode. */
void fs_device_counters(const struct virtio_device *device, uint64_t ret_counts[FUSE_OPCODES]);

#endif
