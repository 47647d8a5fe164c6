/* SPDX-License-Identifier: Apache-2.0 */
/* Carries packets between the queues of an activated device and its connections.
 * Lives from DRIVER_OK to reset; runs on the device's worker thread alone.
 *
 * Deadlock (virtio 1.2 §5.10.6.1): the rx queue may be out of buffers while the
 * guest sends.  So the packets that a connection must send are flags in it;
 * replies to packets of no connection wait in a small ring, and when that is full
 * the tx queue waits. */
#ifndef SAMPAN_VSOCK_BRIDGE_H
#define SAMPAN_VSOCK_BRIDGE_H

#include "virtio/virtqueue.h"
#include "virtio/worker.h"
#include "vsock/connection.h"

struct vsock_bridge;

/* The end of a stream, allocated with it so that reporting it cannot fail. */
struct vsock_stream_end {
	struct vsock_event event;
	struct vsock_stream_end *next;
};

struct vsock_bridge_config {
	uint64_t guest_cid;
	struct virtqueue *rx, *tx; /* started */
	struct worker *worker;
	void *owner; /* for the callbacks below, on the worker's thread */
	void (*stream_ended)(void *owner, struct vsock_stream_end *end); /* takes `end` over */
	void (*connection_gone)(void *owner);
	void (*violation)(void *owner); /* once */
};

/* Registers the kicks of both queues; before the worker starts. */
int vsock_bridge_new(const struct vsock_bridge_config *config, struct vsock_bridge **ret_bridge);

/* The worker has stopped: ends every connection with -ECONNRESET. */
void vsock_bridge_free(struct vsock_bridge *b);

/* Asks the guest for a connection.  Takes `c` (initialised, from malloc) over;
 * when the table is full the connection ends at once with -ENOSPC. */
void vsock_bridge_connect(struct vsock_bridge *b, struct vsock_connection *c);

#endif
