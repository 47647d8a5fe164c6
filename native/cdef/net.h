/* SPDX-License-Identifier: Apache-2.0 */
/* For cffi: see native/src/net/device.h. */
#include <net/device.h>

struct net_device;

int net_device_new(unsigned pairs, struct net_device **ret_device);
struct virtio_device *net_device_virtio(struct net_device *dev);
uint64_t net_device_features(unsigned pairs);
unsigned net_device_queues(unsigned pairs);
int net_device_attach(struct net_device *dev, const int *tap_fds, const int *vhost_fds,
		      unsigned count);
