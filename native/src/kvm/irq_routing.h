/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's interrupt routes: which message each GSI of a device sends.
 * KVM knows only the whole table (KVM_SET_GSI_ROUTING), so it is kept here.
 * Any thread. */
#ifndef SAMPAN_KVM_IRQ_ROUTING_H
#define SAMPAN_KVM_IRQ_ROUTING_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm/ioctl.h"

#define IRQ_ROUTING_FIRST_MSI_GSI 24
#define IRQ_ROUTING_MAX_MSI 1024

struct irq_routing;

/* `ioapic`: KVM has the PIC and the IOAPIC (KVM_CREATE_IRQCHIP), whose 24 pins
 * keep their routes.  `vm_fd` is used, not taken over. */
int irq_routing_new(const struct kvm_calls *calls, int vm_fd, bool ioapic,
		    struct irq_routing **ret_routing);
void irq_routing_free(struct irq_routing *routing);

/* Takes an unused GSI; -ENOSPC after IRQ_ROUTING_MAX_MSI. */
int irq_routing_take_gsi(struct irq_routing *routing, uint32_t *ret_gsi);

/* Changes several routes at once, as each change of the table costs KVM a grace
 * period: staged routes take effect at the commit, or at the next
 * irq_routing_set. */
void irq_routing_stage(struct irq_routing *routing, uint32_t gsi, uint64_t address, uint32_t data);
int irq_routing_commit(struct irq_routing *routing);

/* From now on the GSI sends this message. */
int irq_routing_set(struct irq_routing *routing, uint32_t gsi, uint64_t address, uint32_t data);

#endif
