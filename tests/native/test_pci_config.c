/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration space and BAR of a virtio device: virtio 1.2 §4.1.2 to §4.1.4,
 * PCI Local Bus 3.0 §6. */
#include "pci_driver.h"

static void ids_are_those_of_a_modern_device(void)
{
	struct machine m;

	machine_setup(&m);
	CHECK_EQUAL(config_read(&m, PCI_VENDOR_ID, 2), 0x1af4);
	CHECK_EQUAL(config_read(&m, PCI_DEVICE_ID, 2), 0x1040 + 42);
	CHECK_EQUAL(config_read(&m, PCI_CLASS_REVISION, 4), 0x01800001);
	CHECK(config_read(&m, PCI_SUBSYSTEM_ID, 2) >= 0x40);
	CHECK_EQUAL(config_read(&m, PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_NORMAL);
	CHECK(config_read(&m, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	CHECK_EQUAL(config_read(&m, PCI_INTERRUPT_PIN, 1), 0);
	machine_teardown(&m);
}

static void absent_devices_functions_and_registers(void)
{
	struct machine m;

	machine_setup(&m);
	for (unsigned slot = 0; slot < PCI_WINDOW_SLOTS; slot++)
		for (unsigned function = 0; function < 8; function++)
			if (slot != SLOT || function != 0)
				CHECK_EQUAL(read_at(&m,
						    ECAM_GPA + slot * 0x8000 + function * 0x1000,
						    4),
					    0xffffffff);
	/* Beyond the 256 bytes: an extended capability list that is empty. */
	CHECK_EQUAL(config_read(&m, 0x100, 4), 0);
	CHECK_EQUAL(config_read(&m, 0xffc, 4), 0);
	CHECK_EQUAL(config_read(&m, 0xfe, 4), 0);
	config_write(&m, 0x100, 0xffffffff, 4);
	config_write(&m, 0xfe, 0xffffffff, 4);
	machine_teardown(&m);
}

static void every_width_and_offset_of_configuration_space_reads_the_same(void)
{
	struct machine m;

	machine_setup(&m);
	for (unsigned at = 0; at < 0xf8; at++) {
		const uint32_t word = config_read(&m, at, 4);

		CHECK_EQUAL(config_read(&m, at, 2), word & 0xffff);
		CHECK_EQUAL(config_read(&m, at, 1), word & 0xff);
		CHECK_EQUAL((uint32_t)read_at(&m, config_gpa(at), 8), word);
	}
	machine_teardown(&m);
}

static void registers_that_are_read_only_stay(void)
{
	struct machine m;
	uint8_t before[256];

	machine_setup(&m);
	for (unsigned at = 0; at < 256; at++)
		before[at] = (uint8_t)config_read(&m, at, 1);
	for (unsigned at = 0; at < 0x40; at++)
		if (at < PCI_BASE_ADDRESS_0 || at >= PCI_BASE_ADDRESS_2)
			config_write(&m, at, 0xff, 1);
	CHECK_EQUAL(config_read(&m, PCI_VENDOR_ID, 4), 0x106a1af4);
	CHECK_EQUAL(config_read(&m, PCI_COMMAND, 2),
		    PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	CHECK_EQUAL(config_read(&m, PCI_BASE_ADDRESS_2, 4), 0);
	CHECK_EQUAL(config_read(&m, PCI_ROM_ADDRESS, 4), 0);
	CHECK_EQUAL(config_read(&m, PCI_CAPABILITY_LIST, 1), before[PCI_CAPABILITY_LIST]);
	machine_teardown(&m);
}

/* §4.1.4.3 to §4.1.4.9: one of each, inside the BAR, none upon another. */
static void every_structure_has_its_capability(void)
{
	const struct {
		uint8_t type;
		uint32_t offset, length;
	} expected[] = {
		{VIRTIO_PCI_CAP_COMMON_CFG, PCI_BAR_COMMON, 56},
		{VIRTIO_PCI_CAP_ISR_CFG, PCI_BAR_ISR, 1},
		{VIRTIO_PCI_CAP_DEVICE_CFG, PCI_BAR_DEVICE, 12},
		{VIRTIO_PCI_CAP_NOTIFY_CFG, PCI_BAR_NOTIFY, 4 * QUEUES},
	};
	struct machine m;
	unsigned at;

	machine_setup(&m);
	for (unsigned i = 0; i < 4; i++) {
		at = find_capability(&m, PCI_CAP_ID_VNDR, expected[i].type);
		CHECK(at != 0);
		CHECK(config_read(&m, at + offsetof(struct virtio_pci_cap, cap_len), 1) >= 16);
		CHECK_EQUAL(config_read(&m, at + offsetof(struct virtio_pci_cap, bar), 1), 0);
		CHECK_EQUAL(config_read(&m, at + offsetof(struct virtio_pci_cap, offset), 4),
			    expected[i].offset);
		CHECK_EQUAL(config_read(&m, at + offsetof(struct virtio_pci_cap, length), 4),
			    expected[i].length);
	}
	at = find_capability(&m, PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_NOTIFY_CFG);
	CHECK_EQUAL(config_read(&m, at + VIRTIO_PCI_NOTIFY_CAP_MULT, 4), 4);
	CHECK(find_capability(&m, PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG) != 0);
	at = find_capability(&m, PCI_CAP_ID_MSIX, 0);
	CHECK_EQUAL(config_read(&m, at + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	CHECK_EQUAL(config_read(&m, at + PCI_MSIX_TABLE, 4), PCI_BAR_TABLE);
	CHECK_EQUAL(config_read(&m, at + PCI_MSIX_PBA, 4), PCI_BAR_PENDING);
	machine_teardown(&m);
}

static void a_device_without_configuration_has_no_capability_for_it(void)
{
	struct machine m;
	struct pci_device_description d = describe();
	struct model model = {.virtio.ops = &model_ops};

	machine_setup(&m);
	d.config_bytes = 0;
	d.bar_gpa += PCI_BAR_BYTES;
	CHECK_EQUAL(pci_window_add(m.window, 0, &d, &model.virtio), 0);
	CHECK_EQUAL(read_at(&m, d.bar_gpa + PCI_BAR_DEVICE, 4), 0);
	CHECK_EQUAL(read_at(&m, ECAM_GPA, 2), 0x1af4);
	for (uint64_t at = read_at(&m, ECAM_GPA + PCI_CAPABILITY_LIST, 1); at != 0;
	     at = read_at(&m, ECAM_GPA + at + PCI_CAP_LIST_NEXT, 1))
		CHECK(read_at(&m, ECAM_GPA + at, 1) != PCI_CAP_ID_VNDR ||
		      read_at(&m, ECAM_GPA + at + 3, 1) != VIRTIO_PCI_CAP_DEVICE_CFG);
	machine_teardown(&m);
	CHECK_EQUAL(model.destroyed, 1);
}

/* PCI 3.0 §6.2.5.1 */
static void the_bar_tells_its_size_and_takes_its_address_back(void)
{
	struct machine m;

	machine_setup(&m);
	CHECK_EQUAL(config_read(&m, PCI_BASE_ADDRESS_0, 4), BAR_GPA | PCI_BASE_ADDRESS_MEM_TYPE_64);
	config_write(&m, PCI_COMMAND, 0, 2);
	config_write(&m, PCI_BASE_ADDRESS_0, 0xffffffff, 4);
	config_write(&m, PCI_BASE_ADDRESS_1, 0xffffffff, 4);
	CHECK_EQUAL(config_read(&m, PCI_BASE_ADDRESS_0, 4),
		    (uint32_t)~(PCI_BAR_BYTES - 1) | PCI_BASE_ADDRESS_MEM_TYPE_64);
	CHECK_EQUAL(config_read(&m, PCI_BASE_ADDRESS_1, 4), 0xffffffff);
	config_write(&m, PCI_BASE_ADDRESS_0, BAR_GPA, 4);
	config_write(&m, PCI_BASE_ADDRESS_1, 0, 4);
	config_write(&m, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	CHECK_EQUAL(COMMON(&m, num_queues), QUEUES);
	machine_teardown(&m);
}

static void the_bar_answers_where_it_was_put_and_only_when_decoded(void)
{
	const uint64_t elsewhere = WINDOW_GPA + 0x100000;
	struct machine m;

	machine_setup(&m);
	config_write(&m, PCI_BASE_ADDRESS_0, (uint32_t)elsewhere, 4);
	CHECK_EQUAL(read_at(&m, elsewhere + PCI_BAR_DEVICE, 1), 1);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_DEVICE, 1), 0xff);
	config_write(&m, PCI_COMMAND, 0, 2);
	CHECK_EQUAL(read_at(&m, elsewhere + PCI_BAR_DEVICE, 1), 0xff);
	machine_teardown(&m);
}

/* The first notification of a queue is an exit; later ones stay in KVM. */
static void a_queue_gets_its_ioeventfd_when_it_is_notified(void)
{
	struct pci_device_counters counters;
	struct machine m;

	machine_setup(&m);
	bar_write(&m, PCI_BAR_NOTIFY, 0, 2);
	bring_up(&m);
	CHECK_EQUAL(m.kvm.ioeventfd_count, 0);
	for (unsigned i = 0; i < QUEUES; i++) {
		bar_write(&m, PCI_BAR_NOTIFY + i * PCI_NOTIFY_MULTIPLIER, i, 2);
		CHECK_EQUAL(take(m.model.queues[i].kick_fd), 1);
		CHECK_EQUAL(m.kvm.ioeventfd_count, i + 1);
		CHECK_EQUAL(m.kvm.ioeventfds[i].addr,
			    BAR_GPA + PCI_BAR_NOTIFY + i * PCI_NOTIFY_MULTIPLIER);
		CHECK_EQUAL(m.kvm.ioeventfds[i].fd, m.model.queues[i].kick_fd);
	}
	/* KVM would answer a second one with EEXIST, and the first would be lost. */
	bar_write(&m, PCI_BAR_NOTIFY, 0, 2);
	CHECK_EQUAL(m.kvm.ioeventfd_count, QUEUES);
	CHECK_EQUAL(pci_window_read_counters(m.window, SLOT, &counters), 0);
	CHECK_EQUAL(counters.notify_exits, QUEUES + 2);
	machine_teardown(&m);
}

/* An active device's notifications follow its BAR. */
static void ioeventfds_move_with_the_bar(void)
{
	const uint64_t elsewhere = WINDOW_GPA + 0x100000;
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	bar_write(&m, PCI_BAR_NOTIFY, 0, 2);
	CHECK_EQUAL(m.kvm.ioeventfds[0].addr, BAR_GPA + PCI_BAR_NOTIFY);
	config_write(&m, PCI_BASE_ADDRESS_0, (uint32_t)elsewhere, 4);
	CHECK_EQUAL(m.kvm.ioeventfd_count, 0);
	write_at(&m, elsewhere + PCI_BAR_NOTIFY, 0, 2);
	CHECK_EQUAL(m.kvm.ioeventfd_count, 1);
	CHECK_EQUAL(m.kvm.ioeventfds[0].addr, elsewhere + PCI_BAR_NOTIFY);
	config_write(&m, PCI_COMMAND, 0, 2);
	CHECK_EQUAL(m.kvm.ioeventfd_count, 0);
	machine_teardown(&m);
}

/* The guest can put a BAR where KVM takes no ioeventfd: nothing breaks. */
static void notifications_without_an_ioeventfd_come_as_exits(void)
{
	struct pci_device_counters counters;
	struct machine m;

	machine_setup(&m);
	m.kvm.refuse_ioeventfd = -EEXIST;
	bring_up(&m);
	bar_write(&m, PCI_BAR_NOTIFY + 4, 1, 2);
	CHECK_EQUAL(take(m.model.queues[1].kick_fd), 1);
	CHECK_EQUAL(take(m.model.queues[0].kick_fd), 0);
	bar_write(&m, PCI_BAR_NOTIFY + 4 * QUEUES, 1, 2);
	bar_write(&m, PCI_BAR_NOTIFY + 2, 1, 2);
	CHECK_EQUAL(pci_window_read_counters(m.window, SLOT, &counters), 0);
	CHECK_EQUAL(counters.notify_exits, 1);
	machine_teardown(&m);
}

/* §4.1.4.9: the BAR by way of configuration space. */
static void the_window_in_configuration_space_reaches_the_bar(void)
{
	struct machine m;
	unsigned at;

	machine_setup(&m);
	at = find_capability(&m, PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG);
	config_write(&m, at + VIRTIO_PCI_CAP_BAR, 0, 1);
	config_write(&m, at + VIRTIO_PCI_CAP_OFFSET, PCI_BAR_DEVICE + 4, 4);
	config_write(&m, at + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	CHECK_EQUAL(config_read(&m, at + 16, 4), 0x08070605);
	config_write(&m, at + VIRTIO_PCI_CAP_OFFSET, VIRTIO_PCI_COMMON_STATUS, 4);
	config_write(&m, at + VIRTIO_PCI_CAP_LENGTH, 1, 4);
	config_write(&m, at + 16, VIRTIO_CONFIG_S_ACKNOWLEDGE, 1);
	CHECK_EQUAL(COMMON(&m, device_status), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	machine_teardown(&m);
}

static void a_window_that_is_set_wrong_reaches_nothing(void)
{
	const struct {
		uint8_t bar;
		uint32_t offset, length;
	} wrong[] = {
		{1, PCI_BAR_DEVICE, 4},	      {0, PCI_BAR_DEVICE, 0},	 {0, PCI_BAR_DEVICE, 3},
		{0, PCI_BAR_DEVICE, 8},	      {0, UINT32_MAX, 4},	 {0, PCI_BAR_BYTES, 4},
		{0, PCI_BAR_DEVICE, 1 << 30}, {0, PCI_BAR_TABLE - 2, 4},
	};
	struct machine m;
	unsigned at;

	machine_setup(&m);
	at = find_capability(&m, PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		config_write(&m, at + VIRTIO_PCI_CAP_BAR, wrong[i].bar, 1);
		config_write(&m, at + VIRTIO_PCI_CAP_OFFSET, wrong[i].offset, 4);
		config_write(&m, at + VIRTIO_PCI_CAP_LENGTH, wrong[i].length, 4);
		config_write(&m, at + 16, 0, 4);
		CHECK_EQUAL(config_read(&m, at + 16, 4), 0);
	}
	machine_teardown(&m);
}

static void device_configuration_reads_at_every_width_and_offset(void)
{
	struct machine m;

	machine_setup(&m);
	for (unsigned at = 0; at < 16; at++)
		for (unsigned len = 1; len <= 8; len++) {
			uint64_t expected = 0;

			for (unsigned i = 0; i < len && at + i < 12; i++)
				expected |= (uint64_t)(at + i + 1) << 8 * i;
			CHECK_EQUAL(bar_read(&m, PCI_BAR_DEVICE + at, len), expected);
		}
	bar_write(&m, PCI_BAR_DEVICE, 0xffffffff, 4);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_DEVICE, 4), 0x04030201);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_DEVICE + 0xffc, 4), 0);
	machine_teardown(&m);
}

static void the_end_of_the_bar_is_the_end(void)
{
	struct machine m;

	machine_setup(&m);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_BYTES - 4, 4), 0);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_BYTES - 2, 4), 0xffffffff);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_BYTES, 4), 0xffffffff);
	CHECK_EQUAL(read_at(&m, BAR_GPA - 2, 4), 0xffffffff);
	machine_teardown(&m);
}

static void a_wrong_description_is_refused(void)
{
	struct machine m;
	struct model model = {.virtio.ops = &model_ops};
	struct pci_device_description good = describe(), wrong[8];

	machine_setup(&m);
	for (unsigned i = 0; i < 8; i++)
		wrong[i] = good;
	wrong[0].queue_count = 0;
	wrong[1].queue_count = VIRTIO_PCI_MAX_QUEUES + 1;
	wrong[2].queue_sizes[1] = 0;
	wrong[3].queue_sizes[1] = 48;
	wrong[4].queue_sizes[1] = 2 * VIRTQUEUE_MAX_SIZE;
	wrong[5].config_bytes = VIRTIO_PCI_MAX_CONFIG_BYTES + 1;
	wrong[6].bar_gpa += 0x1000;
	wrong[7].class_code = 1 << 24;
	for (unsigned i = 0; i < 8; i++)
		CHECK_EQUAL(pci_window_add(m.window, 1, &wrong[i], &model.virtio), -EINVAL);
	CHECK_EQUAL(pci_window_add(m.window, PCI_WINDOW_SLOTS, &good, &model.virtio), -EINVAL);
	CHECK_EQUAL(pci_window_add(m.window, SLOT, &good, &model.virtio), -EEXIST);
	CHECK_EQUAL(model.destroyed, 0);
	machine_teardown(&m);
}

static const struct test tests[] = {
	TEST(ids_are_those_of_a_modern_device),
	TEST(absent_devices_functions_and_registers),
	TEST(every_width_and_offset_of_configuration_space_reads_the_same),
	TEST(registers_that_are_read_only_stay),
	TEST(every_structure_has_its_capability),
	TEST(a_device_without_configuration_has_no_capability_for_it),
	TEST(the_bar_tells_its_size_and_takes_its_address_back),
	TEST(the_bar_answers_where_it_was_put_and_only_when_decoded),
	TEST(a_queue_gets_its_ioeventfd_when_it_is_notified),
	TEST(ioeventfds_move_with_the_bar),
	TEST(notifications_without_an_ioeventfd_come_as_exits),
	TEST(the_window_in_configuration_space_reaches_the_bar),
	TEST(a_window_that_is_set_wrong_reaches_nothing),
	TEST(device_configuration_reads_at_every_width_and_offset),
	TEST(the_end_of_the_bar_is_the_end),
	TEST(a_wrong_description_is_refused),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
