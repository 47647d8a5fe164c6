/* SPDX-License-Identifier: Apache-2.0 */
/* The table, the pending bits and the vectors of MSI-X: whatever a driver writes, a
 * source that is assigned sends the message that the table has for it. */
#include "input.h"
#include "pci_driver.h"
#include "virtio/msix.h"

#define SOURCES 5

static struct fake_kvm kvm;

static void check_source(const struct msix *msix, unsigned index)
{
	const struct msix_source *source = &msix->sources[index];
	const struct kvm_irq_routing_msi *message = message_of(&kvm, source->fd);
	const struct msix_entry *entry;
	bool listens = msix->enabled && !msix->function_masked && source->vector < msix->count;

	CHECK(source->vector < msix->count || source->vector == MSIX_NO_VECTOR);
	if (listens)
		listens = !(msix->entries[source->vector].control & PCI_MSIX_ENTRY_CTRL_MASKBIT);
	CHECK_EQUAL(is_irqfd(&kvm, source->fd), source->assigned);
	if (msix->error != 0)
		return;
	CHECK_EQUAL(source->assigned, listens);
	if (!listens)
		return;
	entry = &msix->entries[source->vector];
	CHECK(message);
	CHECK_EQUAL(message->address_lo, entry->address_lo);
	CHECK_EQUAL(message->address_hi, entry->address_hi);
	CHECK_EQUAL(message->data, entry->data);
}

static void step(struct msix *msix, struct input *in)
{
	const uint8_t what = take_u8(in);
	const unsigned source = (what >> 3) % SOURCES, len = 1 + (what >> 5);
	uint64_t value;

	switch (what % 8) {
	case 0:
	case 1:
		value = take_number(in);
		msix_write_table(msix, take_number(in), &value, len);
		break;
	case 2:
		msix_set_control(msix, what & 8, what & 16);
		break;
	case 3:
		msix_set_vector(msix, source, (uint16_t)take_number(in));
		break;
	case 4:
		msix_read_table(msix, take_number(in), &value, len);
		msix_read_pending(msix, take_number(in), &value, len);
		break;
	case 5:
		eventfd_write(msix->sources[source].fd, 1);
		break;
	case 6:
		kvm.refuse_routing = what & 0x80 ? -EINVAL : 0;
		break;
	case 7:
		if (what & 0x80)
			msix_detach(msix);
		break;
	}
}

/* As a machine that goes on: routes before there is a vector. */
static void stage(struct msix *msix, struct irq_routing *routing, struct input *in)
{
	struct msix_entry entry;

	for (unsigned count = take_u8(in) % 3; count > 0; count--) {
		take_bytes(in, &entry, sizeof(entry));
		msix_stage_route(msix, count, &entry);
	}
	CHECK_EQUAL(irq_routing_commit(routing), 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct irq_routing *routing;
	struct msix msix;

	fake_kvm_init(&kvm);
	CHECK_EQUAL(irq_routing_new(&kvm.calls, kvm.vm_fd, false, &routing), 0);
	CHECK_EQUAL(msix_init(&msix, &kvm.calls, kvm.vm_fd, routing, SOURCES), 0);
	stage(&msix, routing, &in);
	while (more(&in)) {
		step(&msix, &in);
		for (unsigned i = 0; i < SOURCES; i++)
			check_source(&msix, i);
	}
	msix_destroy(&msix);
	irq_routing_free(routing);
	return 0;
}
