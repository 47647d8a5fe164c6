/* SPDX-License-Identifier: Apache-2.0 */
/* For cffi: see native/src/vsock/device.h. */
#include <vsock/device.h>

#define VSOCK_TO_GUEST ...
#define VSOCK_FROM_GUEST ...

struct vsock_event {
	uint64_t stream;
	uint64_t bytes;
	int error;
	...;
};

struct vsock_device;

int vsock_device_new(uint64_t guest_cid, struct vsock_device **ret_device);
struct virtio_device *vsock_device_virtio(struct vsock_device *dev);
int vsock_device_listen(struct vsock_device *dev, int listen_fd, uint32_t guest_port);
int vsock_device_open_stream(struct vsock_device *dev, uint64_t stream, uint32_t guest_port,
			     int direction, int fd, const void *prefix, size_t prefix_len);
unsigned vsock_device_connections(const struct vsock_device *dev);
int vsock_device_event_fd(const struct vsock_device *dev);
int vsock_device_next_event(struct vsock_device *dev, struct vsock_event *ret_event);
