/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon (virtio 1.2 §5.5) for free page reporting alone: memory that the
 * guest has freed goes back to the host until it is touched again.  Never asks the
 * guest for memory. */
#ifndef SAMPAN_BALLOON_DEVICE_H
#define SAMPAN_BALLOON_DEVICE_H

#include "virtio/device.h"

/* Inflate, deflate, and three more.  A driver that was offered reporting alone
 * uses one of the three for it: the last in the specification, the first in
 * Linux. */
#define BALLOON_QUEUES 5

int balloon_device_new(struct virtio_device **ret_device);

/* The features that the device can offer: bits of virtio 1.2 §5.5.3. */
uint64_t balloon_device_features(void);

#endif
