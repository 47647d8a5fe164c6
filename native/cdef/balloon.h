/* SPDX-License-Identifier: Apache-2.0 */
/* For cffi: see native/src/balloon/device.h. */
#include <balloon/device.h>

#define BALLOON_QUEUES ...

int balloon_device_new(struct virtio_device **ret_device);
uint64_t balloon_device_features(void);
