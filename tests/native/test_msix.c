/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts: MSI-X (PCI Local Bus 3.0 §6.8.2), virtio 1.2 §4.1.5.1. */
#include "pci_driver.h"

#define ADDRESS 0xfee01000u
#define DATA 0x4021u

static void enable(struct machine *m, uint16_t flags)
{
	config_write(m, msix_flags_at(m), flags, 2);
}

/* A device that is up, MSI-X on, queue 0 on vector 1, which sends the message. */
static void setup(struct machine *m)
{
	machine_setup(m);
	m->kvm.quiet = true;
	bring_up(m);
	enable(m, PCI_MSIX_FLAGS_ENABLE);
	SET_COMMON(m, queue_select, 0);
	SET_COMMON(m, queue_msix_vector, 1);
	CHECK_EQUAL(COMMON(m, queue_msix_vector), 1);
	write_vector(m, 1, ADDRESS, DATA, 0);
}

static int call_fd(struct machine *m, unsigned queue)
{
	return m->model.queues[queue].call_fd;
}

static uint64_t pending(struct machine *m)
{
	return bar_read(m, PCI_BAR_PENDING, 8);
}

static void an_open_vector_is_an_irqfd_with_the_drivers_message(void)
{
	const struct kvm_irq_routing_msi *msi;
	struct machine m;

	setup(&m);
	msi = message_of(&m.kvm, call_fd(&m, 0));
	CHECK(msi != NULL);
	CHECK_EQUAL(msi->address_lo, ADDRESS);
	CHECK_EQUAL(msi->address_hi, 0);
	CHECK_EQUAL(msi->data, DATA);
	CHECK(!is_irqfd(&m.kvm, call_fd(&m, 1)));
	/* An interrupt that KVM has not fetched yet is in flight, not pending. */
	eventfd_write(call_fd(&m, 0), 1);
	CHECK_EQUAL(pending(&m), 0);
	machine_teardown(&m);
}

/* §6.8.2.9: everything is masked after power-on. */
static void vectors_start_masked(void)
{
	struct machine m;

	machine_setup(&m);
	for (unsigned i = 0; i < VECTORS; i++)
		CHECK_EQUAL(bar_read(&m, PCI_BAR_TABLE + 16 * i + PCI_MSIX_ENTRY_VECTOR_CTRL, 4),
			    PCI_MSIX_ENTRY_CTRL_MASKBIT);
	CHECK_EQUAL(m.kvm.irqfd_count, 0);
	machine_teardown(&m);
}

/* §6.8.3.5: an interrupt while masked is pending, and is sent at the unmask. */
static void a_masked_vector_keeps_its_interrupt(void)
{
	struct machine m;

	setup(&m);
	write_vector(&m, 1, ADDRESS, DATA, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	CHECK(!is_irqfd(&m.kvm, call_fd(&m, 0)));
	CHECK_EQUAL(pending(&m), 0);
	eventfd_write(call_fd(&m, 0), 1);
	CHECK_EQUAL(pending(&m), 1 << 1);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_PENDING, 1), 1 << 1);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_PENDING + 4, 4), 0);
	write_vector(&m, 1, ADDRESS, DATA, 0);
	CHECK(is_irqfd(&m.kvm, call_fd(&m, 0)));
	/* Written after the irqfd was there: KVM sees it. */
	CHECK_EQUAL(take(call_fd(&m, 0)), 1);
	CHECK_EQUAL(pending(&m), 0);
	machine_teardown(&m);
}

static void nothing_pending_means_no_interrupt_at_the_unmask(void)
{
	struct machine m;

	setup(&m);
	write_vector(&m, 1, ADDRESS, DATA, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	write_vector(&m, 1, ADDRESS, DATA, 0);
	CHECK_EQUAL(take(call_fd(&m, 0)), 0);
	machine_teardown(&m);
}

static void the_function_mask_masks_every_vector(void)
{
	struct machine m;

	setup(&m);
	enable(&m, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	CHECK_EQUAL(m.kvm.irqfd_count, 0);
	eventfd_write(call_fd(&m, 0), 1);
	CHECK_EQUAL(pending(&m), 1 << 1);
	enable(&m, PCI_MSIX_FLAGS_ENABLE);
	CHECK(is_irqfd(&m.kvm, call_fd(&m, 0)));
	CHECK_EQUAL(take(call_fd(&m, 0)), 1);
	machine_teardown(&m);
}

static void disabling_msix_ends_interrupts(void)
{
	struct machine m;

	setup(&m);
	enable(&m, 0);
	CHECK_EQUAL(m.kvm.irqfd_count, 0);
	machine_teardown(&m);
}

/* Drivers move interrupts between processors by the table alone. */
static void a_new_message_replaces_the_old(void)
{
	struct machine m;

	setup(&m);
	write_vector(&m, 1, 0x100000000ULL | ADDRESS, DATA + 1, 0);
	CHECK_EQUAL(message_of(&m.kvm, call_fd(&m, 0))->address_hi, 1);
	CHECK_EQUAL(message_of(&m.kvm, call_fd(&m, 0))->data, DATA + 1);
	machine_teardown(&m);
}

/* KVM_SET_GSI_ROUTING is slow: a mask and unmask alone must not need it. */
static void an_unchanged_message_is_not_routed_again(void)
{
	struct machine m;
	unsigned before;

	setup(&m);
	before = m.kvm.routings;
	for (unsigned i = 0; i < 3; i++) {
		write_vector(&m, 1, ADDRESS, DATA, PCI_MSIX_ENTRY_CTRL_MASKBIT);
		write_vector(&m, 1, ADDRESS, DATA, 0);
	}
	CHECK_EQUAL(m.kvm.routings, before);
	machine_teardown(&m);
}

static void the_pins_of_the_ioapic_keep_their_routes(void)
{
	struct machine m;
	unsigned pins = 0, pic = 0;

	setup(&m);
	for (unsigned i = 0; i < m.kvm.routes; i++) {
		const struct kvm_irq_routing_entry *entry = &m.kvm.table[i];

		if (entry->type != KVM_IRQ_ROUTING_IRQCHIP)
			continue;
		if (entry->u.irqchip.irqchip == KVM_IRQCHIP_IOAPIC) {
			CHECK_EQUAL(entry->u.irqchip.pin, entry->gsi);
			pins++;
		} else {
			CHECK_EQUAL(entry->u.irqchip.pin, entry->gsi % 8);
			pic++;
		}
	}
	CHECK_EQUAL(pins, 24);
	CHECK_EQUAL(pic, 16);
	machine_teardown(&m);
}

/* §4.1.5.1.2: drivers share a vector when they get too few. */
static void sources_may_share_a_vector(void)
{
	struct machine m;

	setup(&m);
	SET_COMMON(&m, queue_select, 1);
	SET_COMMON(&m, queue_msix_vector, 1);
	CHECK_EQUAL(message_of(&m.kvm, call_fd(&m, 0))->data, DATA);
	CHECK_EQUAL(message_of(&m.kvm, call_fd(&m, 1))->data, DATA);
	write_vector(&m, 1, ADDRESS, DATA, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	CHECK_EQUAL(m.kvm.irqfd_count, 0);
	eventfd_write(call_fd(&m, 1), 1);
	CHECK_EQUAL(pending(&m), 1 << 1);
	machine_teardown(&m);
}

/* §4.1.5.1.2.1 */
static void a_vector_beyond_the_table_is_none(void)
{
	struct machine m;

	setup(&m);
	for (unsigned vector = VECTORS; vector <= UINT16_MAX; vector += 1021) {
		SET_COMMON(&m, queue_msix_vector, vector);
		CHECK_EQUAL(COMMON(&m, queue_msix_vector), 0xffff);
		SET_COMMON(&m, msix_config, vector);
		CHECK_EQUAL(COMMON(&m, msix_config), 0xffff);
	}
	CHECK_EQUAL(m.kvm.irqfd_count, 0);
	machine_teardown(&m);
}

/* Interrupts from before a source had a vector are not sent by its new one. */
static void a_vector_starts_clean(void)
{
	struct machine m;

	setup(&m);
	SET_COMMON(&m, queue_msix_vector, 0xffff);
	eventfd_write(call_fd(&m, 0), 1);
	CHECK_EQUAL(pending(&m), 0);
	SET_COMMON(&m, queue_msix_vector, 1);
	CHECK_EQUAL(take(call_fd(&m, 0)), 0);
	CHECK(is_irqfd(&m.kvm, call_fd(&m, 0)));
	machine_teardown(&m);
}

/* §6.8.2: aligned DWORDs and QWORDs; other accesses do nothing. */
static void the_table_takes_whole_words_only(void)
{
	struct machine m;

	setup(&m);
	for (unsigned at = 0; at < 16 * VECTORS + 32; at++)
		for (unsigned len = 1; len <= 8; len++)
			if (!((len == 4 || len == 8) && at % len == 0))
				bar_write(&m, PCI_BAR_TABLE + at, 0, len);
	CHECK_EQUAL(message_of(&m.kvm, call_fd(&m, 0))->data, DATA);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_TABLE + 12, 4), PCI_MSIX_ENTRY_CTRL_MASKBIT);
	bar_write(&m, PCI_BAR_TABLE + 16, 0x1122334455667788, 8);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_TABLE + 16, 8), 0x1122334455667788);
	CHECK_EQUAL(message_of(&m.kvm, call_fd(&m, 0))->address_hi, 0x11223344);
	bar_write(&m, PCI_BAR_TABLE + 16 * VECTORS, 1, 4);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_TABLE + 16 * VECTORS, 4), 0);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_TABLE + 16 * VECTORS - 4, 8), 0);
	bar_write(&m, PCI_BAR_PENDING, 0xff, 4);
	CHECK_EQUAL(pending(&m), 0);
	machine_teardown(&m);
}

/* The guest chooses the message: KVM may refuse it. */
static void a_message_that_kvm_refuses_breaks_this_device_alone(void)
{
	struct machine m;

	setup(&m);
	m.kvm.refuse_routing = -EINVAL;
	write_vector(&m, 1, ADDRESS, DATA + 7, 0);
	CHECK(COMMON(&m, device_status) & VIRTIO_CONFIG_S_NEEDS_RESET);
	m.kvm.refuse_routing = 0;
	SET_COMMON(&m, device_status, 0);
	CHECK_EQUAL(COMMON(&m, device_status), 0);
	/* The next device can still set the table. */
	bring_up(&m);
	SET_COMMON(&m, msix_config, 0);
	write_vector(&m, 0, ADDRESS, DATA, 0);
	for (unsigned i = 0; i < m.kvm.routes; i++)
		CHECK(m.kvm.table[i].type != KVM_IRQ_ROUTING_MSI ||
		      m.kvm.table[i].u.msi.data == DATA);
	CHECK_EQUAL(COMMON(&m, device_status), UP);
	machine_teardown(&m);
}

static void reset_takes_the_irqfds_away(void)
{
	struct machine m;

	setup(&m);
	SET_COMMON(&m, device_status, 0);
	CHECK_EQUAL(m.kvm.irqfd_count, 0);
	machine_teardown(&m);
}

static const struct test tests[] = {
	TEST(an_open_vector_is_an_irqfd_with_the_drivers_message),
	TEST(vectors_start_masked),
	TEST(a_masked_vector_keeps_its_interrupt),
	TEST(nothing_pending_means_no_interrupt_at_the_unmask),
	TEST(the_function_mask_masks_every_vector),
	TEST(disabling_msix_ends_interrupts),
	TEST(a_new_message_replaces_the_old),
	TEST(an_unchanged_message_is_not_routed_again),
	TEST(the_pins_of_the_ioapic_keep_their_routes),
	TEST(sources_may_share_a_vector),
	TEST(a_vector_beyond_the_table_is_none),
	TEST(a_vector_starts_clean),
	TEST(the_table_takes_whole_words_only),
	TEST(a_message_that_kvm_refuses_breaks_this_device_alone),
	TEST(reset_takes_the_irqfds_away),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
