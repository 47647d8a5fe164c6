/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/irq_routing.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

#define PIC_PINS 8
#define PIC_GSIS 16
#define IOAPIC_GSIS 24
#define PIN_ROUTES (PIC_GSIS + IOAPIC_GSIS)
#define MAX_ROUTES (PIN_ROUTES + IRQ_ROUTING_MAX_MSI)

struct irq_routing {
	const struct kvm_calls *calls;
	int vm_fd;
	pthread_mutex_t lock;
	uint32_t next_gsi;
	/* as KVM_SET_GSI_ROUTING takes it */
	struct kvm_irq_routing *table;
};

static struct kvm_irq_routing_entry *append(struct irq_routing *routing, uint32_t gsi,
					    uint32_t type)
{
	struct kvm_irq_routing_entry *entry = &routing->table->entries[routing->table->nr++];

	*entry = (struct kvm_irq_routing_entry){.gsi = gsi, .type = type};
	return entry;
}

/* The routes that KVM_CREATE_IRQCHIP sets up, as our table replaces them. */
static void add_pins(struct irq_routing *routing)
{
	struct kvm_irq_routing_entry *entry;

	for (uint32_t gsi = 0; gsi < IOAPIC_GSIS; gsi++) {
		entry = append(routing, gsi, KVM_IRQ_ROUTING_IRQCHIP);
		entry->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		entry->u.irqchip.pin = gsi;
		if (gsi >= PIC_GSIS)
			continue;
		entry = append(routing, gsi, KVM_IRQ_ROUTING_IRQCHIP);
		entry->u.irqchip.irqchip = gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER
							  : KVM_IRQCHIP_PIC_SLAVE;
		entry->u.irqchip.pin = gsi % PIC_PINS;
	}
}

int irq_routing_new(const struct kvm_calls *calls, int vm_fd, bool ioapic,
		    struct irq_routing **ret_routing)
{
	struct irq_routing *routing = calloc(1, sizeof(*routing));

	if (!routing)
		return -ENOMEM;
	routing->table = calloc(1, offsetof(struct kvm_irq_routing, entries) +
					   MAX_ROUTES * sizeof(struct kvm_irq_routing_entry));
	if (!routing->table) {
		free(routing);
		return -ENOMEM;
	}
	routing->calls = calls;
	routing->vm_fd = vm_fd;
	routing->next_gsi = IRQ_ROUTING_FIRST_MSI_GSI;
	pthread_mutex_init(&routing->lock, NULL);
	if (ioapic)
		add_pins(routing);
	*ret_routing = routing;
	return 0;
}

void irq_routing_free(struct irq_routing *routing)
{
	if (!routing)
		return;
	pthread_mutex_destroy(&routing->lock);
	free(routing->table);
	free(routing);
}

int irq_routing_take_gsi(struct irq_routing *routing, uint32_t *ret_gsi)
{
	int r = -ENOSPC;

	pthread_mutex_lock(&routing->lock);
	if (routing->next_gsi < IRQ_ROUTING_FIRST_MSI_GSI + IRQ_ROUTING_MAX_MSI) {
		*ret_gsi = routing->next_gsi++;
		r = 0;
	}
	pthread_mutex_unlock(&routing->lock);
	return r;
}

/* Each GSI that was taken has at most one entry, so the table never overflows. */
static struct kvm_irq_routing_entry *find_or_append(struct irq_routing *routing, uint32_t gsi)
{
	for (uint32_t i = 0; i < routing->table->nr; i++)
		if (routing->table->entries[i].gsi == gsi)
			return &routing->table->entries[i];
	return append(routing, gsi, KVM_IRQ_ROUTING_MSI);
}

static void fill(struct kvm_irq_routing_entry *entry, uint64_t address, uint32_t data)
{
	entry->u.msi.address_lo = (uint32_t)address;
	entry->u.msi.address_hi = address >> 32;
	entry->u.msi.data = data;
}

static int give_to_kvm(const struct irq_routing *routing)
{
	const int r = routing->calls->ioctl(routing->calls, routing->vm_fd, KVM_SET_GSI_ROUTING,
					    routing->table);

	return r < 0 ? r : 0;
}

void irq_routing_stage(struct irq_routing *routing, uint32_t gsi, uint64_t address, uint32_t data)
{
	pthread_mutex_lock(&routing->lock);
	fill(find_or_append(routing, gsi), address, data);
	pthread_mutex_unlock(&routing->lock);
}

int irq_routing_commit(struct irq_routing *routing)
{
	int r;

	pthread_mutex_lock(&routing->lock);
	r = give_to_kvm(routing);
	pthread_mutex_unlock(&routing->lock);
	return r;
}

int irq_routing_set(struct irq_routing *routing, uint32_t gsi, uint64_t address, uint32_t data)
{
	struct kvm_irq_routing_entry *entry, old_entry;
	uint32_t old_nr;
	int r;

	pthread_mutex_lock(&routing->lock);
	old_nr = routing->table->nr;
	entry = find_or_append(routing, gsi);
	old_entry = *entry;
	fill(entry, address, data);
	r = give_to_kvm(routing);
	/* The guest chooses the message: one that KVM refuses must not make the
	 * table fail for the other devices. */
	if (r < 0) {
		*entry = old_entry;
		routing->table->nr = old_nr;
	}
	pthread_mutex_unlock(&routing->lock);
	return r;
}
