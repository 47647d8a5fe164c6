/* SPDX-License-Identifier: Apache-2.0 */
/* The interface between the virtio-pci transport (pci_window) and a device model.
 * The transport owns queues, eventfds and vectors; a device owns its worker
 * threads. */
#ifndef SAMPAN_VIRTIO_DEVICE_H
#define SAMPAN_VIRTIO_DEVICE_H

#include <stdint.h>

#include "virtio/virtqueue.h"

struct virtio_device;

struct virtio_device_ops {
	/* DRIVER_OK was written (on a vCPU thread).  `queues` stay valid and
	 * untouched by the transport until reset returns.  Starts the workers.
	 * 0, or -errno: the transport sets DEVICE_NEEDS_RESET. */
	int (*activate)(struct virtio_device *dev, struct virtqueue *queues, unsigned count,
			uint64_t features);
	/* Status 0 was written, or the machine stops.  When it returns no thread
	 * of the device touches queues or guest memory.  Idempotent. */
	void (*reset)(struct virtio_device *dev);
	/* After reset; frees everything. */
	void (*destroy)(struct virtio_device *dev);
	/* The machine stops, perhaps for a snapshot: as reset, but the device
	 * keeps the state of its driver's session.  NULL: reset is called
	 * instead. */
	void (*stop)(struct virtio_device *dev);
};

/* First member of every device's struct. */
struct virtio_device {
	const struct virtio_device_ops *ops;
	/* Set by the transport when the device is attached to it. */
	void (*needs_reset)(
		void *transport); /* any thread; DEVICE_NEEDS_RESET + config interrupt */
	void *transport;
};

/* For a device that no transport has taken over. */
static inline void virtio_device_destroy(struct virtio_device *dev)
{
	dev->ops->destroy(dev);
}

#endif
