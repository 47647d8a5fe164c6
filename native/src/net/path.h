/* SPDX-License-Identifier: Apache-2.0 */
/* Moves one pair's packets between its two queues and a tap.  One thread.  Knows
 * queues and a descriptor; nothing of events, life cycles or the transport.  What
 * the guest writes is used only as packets, never trusted. */
#ifndef SAMPAN_NET_PATH_H
#define SAMPAN_NET_PATH_H

#include <stdbool.h>

#include "net/device.h"
#include "virtio/virtqueue.h"

/* A packet with its header (§5.1.6.3.1): with segmentation left to the guest, and without. */
#define NET_LARGE_PACKET (65550u + NET_HEADER_BYTES)
#define NET_SMALL_PACKET (1514u + NET_HEADER_BYTES)
#define NET_MAX_CHAINS VIRTQUEUE_MAX_SIZE

/* Buffers of the guest, taken from its queue, that wait for a packet. */
struct net_buffers {
	unsigned first_chain, chain_count;
	unsigned first_iov, iov_count;
	size_t bytes;
	struct {
		uint16_t head;
		unsigned iov_count;
		size_t bytes;
	} chains[NET_MAX_CHAINS];
	struct iovec iov[VIRTQUEUE_MAX_SEGMENTS];
};

struct net_path {
	struct virtqueue *rx, *tx;
	int tap_fd; /* not owned; -1: none */
	bool mergeable;
	size_t packet_max; /* the largest packet; none is read before there is room for that much */
	struct net_buffers buffers;
	struct virtqueue_chain chain;
};

enum net_result {
	NET_IDLE,	/* nothing left to do until an event */
	NET_MORE,	/* this round's budget is used up */
	NET_NO_BUFFERS, /* a packet may wait; the guest has given too few buffers */
	NET_GONE,	/* the tap no longer works */
	NET_VIOLATION,	/* the guest broke the rules of its queue */
};

/* `features` as negotiated. */
void net_path_start(struct net_path *path, struct virtqueue *rx, struct virtqueue *tx,
		    uint64_t features);

/* Puts the buffers that wait for a packet back into the queue: another may serve
 * it. */
void net_path_give_back(struct net_path *path);

/* From the tap to the guest, as many packets as one round may move. */
enum net_result net_path_receive(struct net_path *path);

/* From the guest to the tap.  Never NET_NO_BUFFERS. */
enum net_result net_path_transmit(struct net_path *path);

#endif
