/* SPDX-License-Identifier: Apache-2.0 */
/* One pair of a net device's queues and its queue of the tap: the thread that waits
 * for their events, and moves packets by net_path or leaves this to vhost-net.
 *
 * Lifecycle: init, then start and stop in turn, destroy.  attach at any time. */
#ifndef SAMPAN_NET_PAIR_H
#define SAMPAN_NET_PAIR_H

#include <pthread.h>

#include "net/path.h"
#include "net/vhost.h"
#include "virtio/device.h"
#include "virtio/worker.h"

struct net_pair {
	struct virtio_device *virtio; /* its needs_reset reports violations */
	struct worker *worker;	      /* NULL between stop and start */
	struct worker_source rx_source, tx_source, again_source, tap_source, error_source;
	struct virtqueue *queues; /* receive, transmit */
	uint64_t features;	  /* as negotiated */
	bool polling_tap;	  /* the worker listens to the tap */
	struct net_path path;
	struct net_vhost vhost; /* has the queues and the tap while it runs, not the path */

	int again_fd;	      /* eventfd: another round is due, or a tap was attached */
	pthread_mutex_t lock; /* for the descriptors of the tap and of vhost-net */
	int tap_fd;	      /* -1: none yet */
};

int net_pair_init(struct net_pair *pair, struct virtio_device *virtio);

/* `queues`: this pair's two, started.  `features` as negotiated. */
int net_pair_start(struct net_pair *pair, struct virtqueue *queues, uint64_t features);
void net_pair_stop(struct net_pair *pair);

bool net_pair_has_tap(struct net_pair *pair);

/* Takes both descriptors over; for a pair without a tap.  `vhost_fd` may be -1.
 * Any thread. */
void net_pair_attach(struct net_pair *pair, int tap_fd, int vhost_fd);

/* Whether the tap gives this pair packets (TUNSETQUEUE); for a tap of several queues.
 * Any thread. */
void net_pair_enable(struct net_pair *pair, bool enabled);

/* After stop. */
void net_pair_destroy(struct net_pair *pair);

#endif
