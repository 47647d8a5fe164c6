/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X of one device (PCI Local Bus 3.0 §6.8.2): the table and the pending bits
 * that the driver sees, and one eventfd for each source of interrupts (a queue,
 * the configuration).
 *
 * While a source's vector is unmasked its eventfd is an irqfd: a write to it
 * interrupts the guest without this code.  While masked, nobody reads the
 * eventfd: its count is the pending bit, and is delivered at the unmask.
 *
 * Everything but the eventfds is under the device's lock. */
#ifndef SAMPAN_VIRTIO_MSIX_H
#define SAMPAN_VIRTIO_MSIX_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm/ioctl.h"
#include "kvm/irq_routing.h"

#define MSIX_MAX_VECTORS 33
#define MSIX_NO_VECTOR 0xffff

struct msix_entry {
	uint32_t address_lo, address_hi, data, control;
};

struct msix_source {
	int fd; /* eventfd */
	uint32_t gsi;
	uint16_t vector;
	bool assigned; /* an irqfd of KVM */
	bool routed;   /* the GSI sends this message: */
	uint64_t address;
	uint32_t data;
};

struct msix {
	const struct kvm_calls *calls;
	int vm_fd;
	struct irq_routing *routing;
	bool enabled, function_masked;
	unsigned count; /* of vectors, and of sources */
	struct msix_entry entries[MSIX_MAX_VECTORS];
	struct msix_source sources[MSIX_MAX_VECTORS];
	int error; /* the first failure to assign a source's irqfd, -errno: the owner takes and
		      clears it */
};

/* As many sources as vectors, none of them with a vector yet. */
int msix_init(struct msix *msix, const struct kvm_calls *calls, int vm_fd,
	      struct irq_routing *routing, unsigned count);
/* Leaves irqfds assigned: the VM is closed next, which removes them. */
void msix_destroy(struct msix *msix);

/* Message control: MSI-X enable and function mask. */
void msix_set_control(struct msix *msix, bool enabled, bool function_masked);

/* Bounds: a vector beyond the table becomes MSIX_NO_VECTOR (virtio 1.2
 * §4.1.5.1.2.1). */
void msix_set_vector(struct msix *msix, unsigned source, uint16_t vector);

/* The source will get a vector with this entry: the next irq_routing_commit gives
 * its route to KVM in advance, with those of others. */
void msix_stage_route(struct msix *msix, unsigned source, const struct msix_entry *entry);

/* Every source loses its vector. */
void msix_detach(struct msix *msix);

/* Accesses to the table and to the pending bits.
 * Bounds: any offset; 1 ≤ len ≤ 8; beyond them reads are 0, writes are ignored. */
void msix_read_table(const struct msix *msix, uint64_t offset, void *data, unsigned len);
void msix_write_table(struct msix *msix, uint64_t offset, const void *data, unsigned len);
void msix_read_pending(const struct msix *msix, uint64_t offset, void *data, unsigned len);

#endif
