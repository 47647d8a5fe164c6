/* SPDX-License-Identifier: Apache-2.0 */
/* The state that a driver has given a device, for a snapshot: the writable part
 * of configuration space, MSI-X, status, features, queues and their positions.
 * Not the host's description of the device, nor its model's own state.  Numbers
 * are in the host's byte order: the state never leaves it. */
#ifndef SAMPAN_VIRTIO_STATE_H
#define SAMPAN_VIRTIO_STATE_H

#include "virtio/pci.h"

struct virtio_queue_state {
	uint64_t desc_gpa, driver_gpa, device_gpa;
	uint16_t size, vector, next_avail, next_used;
	uint8_t enabled;
	uint8_t pad[7];
};

struct virtio_pci_state {
	uint8_t config[PCI_CONFIG_BYTES];
	struct msix_entry entries[MSIX_MAX_VECTORS];
	uint64_t driver_features;
	uint32_t device_feature_select, driver_feature_select;
	uint32_t queue_count;
	uint16_t queue_select, config_vector;
	uint8_t status, isr, config_generation;
	uint8_t pad[5];
	struct virtio_queue_state queues[VIRTIO_PCI_MAX_QUEUES];
};

/* After virtio_pci_stop.  -EIO: the device needs a reset. */
int virtio_pci_save(struct virtio_pci *device, struct virtio_pci_state *ret_state);

/* Before virtio_pci_restore: stages the routes of the interrupts that it will wire,
 * so that one irq_routing_commit sets those of the whole machine. */
void virtio_pci_stage_routes(struct virtio_pci *device, const struct virtio_pci_state *state);

/* Into a new device of the same description, after the guest's memory, its
 * interrupt controllers and the model were restored, and before a vCPU runs.
 * Every queue is kicked and its interrupt sent once, so that no notification in
 * flight is lost.  -EINVAL: the state is of another device; -EIO: the device
 * could not be started. */
int virtio_pci_restore(struct virtio_pci *device, const struct virtio_pci_state *state);

#endif
