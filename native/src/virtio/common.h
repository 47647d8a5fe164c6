/* SPDX-License-Identifier: Apache-2.0 */
/* The common configuration structure and the device status machine (virtio 1.2
 * §4.1.4.3, §2.1, §3.1).  Under the device's lock. */
#ifndef SAMPAN_VIRTIO_COMMON_H
#define SAMPAN_VIRTIO_COMMON_H

#include "virtio/pci.h"

/* Bounds: any offset and length; outside the structure reads are 0. */
void virtio_common_read(struct virtio_pci *device, uint64_t offset, void *data, unsigned len);
/* Only whole fields at their own width are written; other writes are ignored. */
void virtio_common_write(struct virtio_pci *device, uint64_t offset, const void *data,
			 unsigned len);

/* Status 0: the model is reset, queues and vectors are as after power-on. */
void virtio_common_reset(struct virtio_pci *device);

/* The driver's features are a subset of what was offered (§2.2.2), with VERSION_1 (§6.2). */
bool virtio_common_features_acceptable(const struct virtio_pci *device);

/* DRIVER_OK: queues and model start, or the device breaks. */
void virtio_common_activate(struct virtio_pci *device);

/* The configuration change interrupt (§2.5).  Any thread, no lock. */
void virtio_common_config_changed(struct virtio_pci *device);

/* DEVICE_NEEDS_RESET, and the interrupt if the driver is up.  Takes no lock:
 * the model's threads call it while a reset waits for them. */
void virtio_common_break(struct virtio_pci *device, const char *why);

#endif
