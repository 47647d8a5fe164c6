/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock (virtio 1.2 §5.10), stream sockets, one guest: queue 0 rx,
 * 1 tx, 2 event.  The host side of a connection is a unix socket or any other
 * file descriptor, so container output goes from guest memory to its FIFO
 * without a further hop. */
#ifndef SAMPAN_VSOCK_DEVICE_H
#define SAMPAN_VSOCK_DEVICE_H

#include "virtio/device.h"

#define VSOCK_STREAM_PREFIX_MAX 64

struct vsock_device;

enum vsock_direction {
	VSOCK_TO_GUEST = 1,   /* read fd, send to the guest; EOF becomes SHUTDOWN_SEND */
	VSOCK_FROM_GUEST = 2, /* write what the guest sends to fd */
};

/* Events for Python: read by vsock_device_next_event after event_fd polls
 * readable. */
struct vsock_event {
	uint64_t stream; /* the id given to vsock_device_open_stream */
	uint64_t bytes;	 /* moved in total */
	int error;	 /* 0: ended normally; -errno otherwise (-ECONNREFUSED: nobody listens) */
};

int vsock_device_new(uint64_t guest_cid, struct vsock_device **ret_device);
struct virtio_device *vsock_device_virtio(struct vsock_device *dev);

/* Every connection accepted from `listen_fd` (AF_UNIX, SOCK_STREAM, listening)
 * becomes one to `guest_port`.  Takes listen_fd over.  Before activation. */
int vsock_device_listen(struct vsock_device *dev, int listen_fd, uint32_t guest_port);

/* A connection from the host to `guest_port` whose host side is `fd` (any kind;
 * made non-blocking; taken over on success).  `prefix` is sent first.  Any thread;
 * before activation it waits for that.  One vsock_event reports the end. */
int vsock_device_open_stream(struct vsock_device *dev, uint64_t stream, uint32_t guest_port,
			     enum vsock_direction direction, int fd, const void *prefix,
			     size_t prefix_len);

/* Connections that are open: 0 after the last was closed on both sides.  Any
 * thread. */
unsigned vsock_device_connections(const struct vsock_device *dev);

int vsock_device_event_fd(const struct vsock_device *dev); /* eventfd; owned by the device */
/* 1: an event was taken; 0: none. */
int vsock_device_next_event(struct vsock_device *dev, struct vsock_event *ret_event);

#endif
