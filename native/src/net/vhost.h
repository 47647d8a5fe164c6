/* SPDX-License-Identifier: Apache-2.0 */
/* One pair's packets moved by the host's kernel: vhost-net serves the two queues
 * and the tap, and no packet passes through this process.  The kernel checks
 * every descriptor against the memory table that it is given.  One thread at a
 * time. */
#ifndef SAMPAN_NET_VHOST_H
#define SAMPAN_NET_VHOST_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/virtqueue.h"

#define NET_VHOST_QUEUES 2 /* receive, transmit: their numbers are vhost's too */

struct net_vhost {
	int fd;	      /* of /dev/vhost-net, owned; -1: there is none */
	int error_fd; /* eventfd: the kernel writes to it when the guest breaks a queue's rules */
	bool owned;   /* VHOST_SET_OWNER was done: the kernel uses this process' memory */
	bool running;
};

int net_vhost_init(struct net_vhost *vhost);

/* Takes over `fd`, which may be -1, and closes the earlier one; not while it runs. */
void net_vhost_set_fd(struct net_vhost *vhost, int fd);

/* Hands the queues, which nobody else may serve from here on, and the tap to the
 * kernel.  `features` as negotiated.  -errno: nothing has been handed over. */
int net_vhost_start(struct net_vhost *vhost, int tap_fd, struct virtqueue *queues,
		    uint64_t features);

/* Takes them back with their positions; the kernel no longer touches them.
 * Idempotent. */
void net_vhost_stop(struct net_vhost *vhost, struct virtqueue *queues);

/* After stop. */
void net_vhost_destroy(struct net_vhost *vhost);

#endif
