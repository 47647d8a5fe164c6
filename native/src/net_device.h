/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net (virtio 1.2 §5.1): queue 0 receives, queue 1 transmits, a tap of the
 * host behind them.  The tap may come at any time; without one the device drops
 * what it is given.  One thread moves packets between the tap and guest memory,
 * with no copy in between; checksums and segmentation are left to the tap, whose
 * kernel checks every header that the guest wrote. */
#ifndef SAMPAN_NET_DEVICE_H
#define SAMPAN_NET_DEVICE_H

#include "device.h"

struct net_device;

int net_device_new(struct net_device **ret_device);
struct virtio_device *net_device_virtio(struct net_device *dev);

/* The features that the device can offer: bits of virtio 1.2 §5.1.3. */
uint64_t net_device_features(void);

/* Joins the device with a tap: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, its header of
 * NET_HEADER_BYTES set.  Takes the descriptor over on success.  -EBUSY: there is
 * one already.  Any thread. */
int net_device_attach(struct net_device *dev, int tap_fd);

#define NET_HEADER_BYTES 12 /* struct virtio_net_hdr_v1 */

#endif
