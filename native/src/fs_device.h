/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-fs (virtio 1.2 §5.11): queue 0 hiprio, 1.. requests. */
#ifndef SAMPAN_FS_DEVICE_H
#define SAMPAN_FS_DEVICE_H

#include "device.h"
#include "fuse_server.h"

/* `worker_count` threads serve the request queues.  Takes the server over. */
int fs_device_new(struct fuse_server *server, unsigned request_queues, unsigned worker_count,
		  struct virtio_device **ret_device);

#endif
