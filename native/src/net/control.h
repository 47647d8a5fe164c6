/* SPDX-License-Identifier: Apache-2.0 */
/* A net device's control queue (virtio 1.2 §5.1.6.5): how many pairs of queues the
 * driver uses.  It has its own thread, which almost always sleeps. */
#ifndef SAMPAN_NET_CONTROL_H
#define SAMPAN_NET_CONTROL_H

#include "virtio/device.h"
#include "virtio/worker.h"

struct net_control {
	struct virtio_device *virtio; /* its needs_reset reports violations */
	unsigned max_pairs;
	void (*use_pairs)(struct virtio_device *virtio, unsigned pairs); /* 1 ≤ pairs ≤ max */

	struct worker *worker; /* NULL between stop and start */
	struct worker_source source;
	struct virtqueue *queue;
	struct virtqueue_chain chain;
};

int net_control_start(struct net_control *control, struct virtqueue *queue);
void net_control_stop(struct net_control *control); /* idempotent */

#endif
