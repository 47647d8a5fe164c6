/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net (virtio 1.2 §5.1): pairs of queues, each connected to one queue of a tap
 * of the host; with several pairs (VIRTIO_NET_F_MQ) a control queue after them.  The
 * tap may be attached at any time; without one the device drops packets.  The host's
 * kernel moves the packets where it has vhost-net; else one thread for each pair does,
 * between the tap and guest memory, with no copy in between.  Checksums and
 * segmentation are left to the tap, whose kernel checks every header that the guest
 * wrote. */
#ifndef SAMPAN_NET_DEVICE_H
#define SAMPAN_NET_DEVICE_H

#include "virtio/device.h"

#define NET_MAX_PAIRS 8
#define NET_HEADER_BYTES 12 /* struct virtio_net_hdr_v1 */

struct net_device;

int net_device_new(unsigned pairs, struct net_device **ret_device);
struct virtio_device *net_device_virtio(struct net_device *dev);

/* For a device with that many pairs: the features that it can offer, bits of virtio
 * 1.2 §5.1.3, and its number of queues. */
uint64_t net_device_features(unsigned pairs);
unsigned net_device_queues(unsigned pairs);

/* Attaches a tap to the device, a descriptor for each pair: IFF_TAP | IFF_NO_PI |
 * IFF_VNET_HDR, with several also IFF_MULTI_QUEUE, not blocking, its header of
 * NET_HEADER_BYTES set.  `vhost_fds`: as many of /dev/vhost-net, or NULL.  Takes all
 * of them over on success.  -EBUSY: there is a tap already; -EINVAL: another number
 * of pairs. */
int net_device_attach(struct net_device *dev, const int *tap_fds, const int *vhost_fds,
		      unsigned count);

#endif
