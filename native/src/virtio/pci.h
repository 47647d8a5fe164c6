/* SPDX-License-Identifier: Apache-2.0 */
/* One virtio device on PCI: modern transport only, MSI-X only (virtio 1.2 §4.1).
 * Owns the queues, their eventfds and the vectors; serves the configuration space
 * and the BAR; tells the device model about DRIVER_OK and reset.  The driver's
 * accesses come on vCPU threads and take the device's lock; notifications
 * (ioeventfd) and interrupts (irqfd) do not pass here. */
#ifndef SAMPAN_VIRTIO_PCI_H
#define SAMPAN_VIRTIO_PCI_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvm/ioctl.h"
#include "kvm/irq_routing.h"
#include "memory/memory.h"
#include "platform/events.h"
#include "virtio/device.h"
#include "virtio/msix.h"
#include "virtio/pci_config.h"
#include "virtio/virtqueue.h"

#define VIRTIO_PCI_MAX_QUEUES 32
#define VIRTIO_PCI_MAX_CONFIG_BYTES 256
#define VIRTIO_PCI_NAME_BYTES 16

/* The device as Python describes it; copied once. */
struct pci_device_description {
	char name[VIRTIO_PCI_NAME_BYTES]; /* for events */
	uint16_t virtio_type;		  /* virtio 1.2 §5 */
	uint32_t class_code;		  /* 24 bits */
	uint64_t features;		  /* the device's own; the transport adds its own */
	unsigned queue_count;
	uint16_t queue_sizes[VIRTIO_PCI_MAX_QUEUES]; /* maxima, powers of two */
	unsigned config_bytes;
	uint8_t config[VIRTIO_PCI_MAX_CONFIG_BYTES]; /* device configuration (§5.x.4) */
	uint64_t bar_gpa;			     /* aligned to PCI_BAR_BYTES */
};

/* What a device has done; each transition is an exit, which adds to boot time. */
struct pci_device_counters {
	uint64_t status_writes;
	uint64_t status_ns; /* of those that set the device up */
	uint64_t reset_ns;
	uint64_t activations;
	uint64_t notify_exits; /* notifications that did not come by ioeventfd */
	uint64_t chains;       /* of all queues, in all lives of the device */
	uint64_t signals;
};

/* What all devices of a machine share; it outlives them. */
struct virtio_pci_machine {
	const struct kvm_calls *calls;
	int vm_fd;
	const struct guest_memory *mem;
	struct irq_routing *routing;
	struct machine_events *events;
};

struct virtio_pci {
	struct virtio_pci_machine machine;
	struct pci_device_description description;
	struct virtio_device *model;
	pthread_mutex_t lock;
	/* under the lock, but for what is marked */
	struct pci_config config;
	struct msix msix;
	_Atomic uint64_t bar_gpa;    /* read without it */
	uint64_t assigned_gpa;	     /* where ioeventfds are registered; PCI_BAR_OFF: nowhere */
	uint32_t assigned;	     /* the queues that have one, a bit each */
	_Atomic uint8_t status;	     /* NEEDS_RESET is set without it */
	_Atomic uint8_t isr;	     /* likewise */
	_Atomic bool fault_reported; /* likewise */
	bool active;		     /* activate succeeded, reset not called since */
	uint8_t config_generation;
	uint32_t device_feature_select, driver_feature_select;
	uint64_t driver_features;
	uint16_t queue_select;
	struct virtqueue queues[VIRTIO_PCI_MAX_QUEUES];
	struct pci_device_counters counters;
};

/* Takes `model` over on success.  -EINVAL: the description breaks a limit. */
int virtio_pci_new(const struct virtio_pci_machine *machine,
		   const struct pci_device_description *description, struct virtio_device *model,
		   struct virtio_pci **ret_device);
/* After the vCPUs have stopped, and before the VM is closed: closing it removes
 * ioeventfds and irqfds in one grace period, not one each. */
void virtio_pci_free(struct virtio_pci *device);

/* The model's threads have ended when it returns; the driver's state stays. */
void virtio_pci_stop(struct virtio_pci *device);

/* New device configuration, and an interrupt that says so (§2.5).  Any thread. */
int virtio_pci_set_config(struct virtio_pci *device, unsigned offset, const void *data,
			  unsigned len);

/* Registers the ioeventfds of an active device at its BAR.  Each is made when its
 * queue is notified for the first time: most queues never are, and each costs KVM
 * a grace period.  Under the lock. */
void virtio_pci_place_notifications(struct virtio_pci *device);

void virtio_pci_read_counters(struct virtio_pci *device, struct pci_device_counters *ret_counters);

/* Accesses of the driver.
 * Bounds: any offset; 1 ≤ len ≤ 8; what lies outside a structure reads as 0. */
void virtio_pci_config_read(struct virtio_pci *device, uint64_t offset, void *data, unsigned len);
void virtio_pci_config_write(struct virtio_pci *device, uint64_t offset, const void *data,
			     unsigned len);
void virtio_pci_bar_read(struct virtio_pci *device, uint64_t offset, void *data, unsigned len);
void virtio_pci_bar_write(struct virtio_pci *device, uint64_t offset, const void *data,
			  unsigned len);

#endif
