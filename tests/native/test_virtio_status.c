/* SPDX-License-Identifier: Apache-2.0 */
/* The common configuration structure and the status machine: virtio 1.2 §2.1,
 * §2.2, §3.1, §4.1.4.3. */
#include <linux/virtio_ring.h>

#include "pci_driver.h"

/* --- §3.1.1 driver requirements: device initialization -------------------- */

static void a_driver_that_keeps_to_the_order_gets_an_active_device(void)
{
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	CHECK_EQUAL(COMMON(&m, device_status), UP);
	CHECK_EQUAL(m.model.activations, 1);
	CHECK_EQUAL(m.model.count, QUEUES);
	CHECK_EQUAL(m.model.features, OWN_FEATURES | 1ULL << VIRTIO_F_VERSION_1 |
					      1ULL << VIRTIO_RING_F_EVENT_IDX |
					      1ULL << VIRTIO_RING_F_INDIRECT_DESC);
	for (unsigned i = 0; i < QUEUES; i++) {
		const struct virtqueue *vq = &m.model.queues[i];

		CHECK(vq->enabled && vq->event_idx);
		CHECK_EQUAL(vq->size, 16);
		CHECK(vq->desc == m.ram + QUEUE_GPA(i));
		CHECK(vq->driver == m.ram + QUEUE_GPA(i) + 0x4000);
		CHECK(vq->device == m.ram + QUEUE_GPA(i) + 0x8000);
		CHECK(vq->kick_fd >= 0 && vq->call_fd >= 0);
	}
	machine_teardown(&m);
}

static void without_version_1_features_are_refused(void)
{
	struct machine m;

	machine_setup(&m);
	negotiate(&m, read_features(&m) & ~(1ULL << VIRTIO_F_VERSION_1));
	CHECK_EQUAL(COMMON(&m, device_status), UP_TO_DRIVER);
	machine_teardown(&m);
}

static void features_that_were_not_offered_are_refused(void)
{
	struct machine m;

	machine_setup(&m);
	negotiate(&m, read_features(&m) | 1ULL << 63);
	CHECK_EQUAL(COMMON(&m, device_status), UP_TO_DRIVER);
	machine_teardown(&m);
}

static void features_stay_once_they_are_agreed(void)
{
	struct machine m;
	const uint64_t agreed = 1ULL << VIRTIO_F_VERSION_1;

	machine_setup(&m);
	negotiate(&m, agreed);
	accept_features(&m, read_features(&m));
	for (uint16_t i = 0; i < QUEUES; i++)
		set_queue(&m, i, 16);
	SET_COMMON(&m, device_status, UP);
	CHECK_EQUAL(m.model.features, agreed);
	CHECK(!m.model.queues[0].event_idx);
	machine_teardown(&m);
}

static void feature_words_beyond_the_second_are_empty(void)
{
	struct machine m;

	machine_setup(&m);
	SET_COMMON(&m, device_feature_select, 2);
	CHECK_EQUAL(COMMON(&m, device_feature), 0);
	SET_COMMON(&m, device_feature_select, UINT32_MAX);
	CHECK_EQUAL(COMMON(&m, device_feature), 0);
	SET_COMMON(&m, guest_feature_select, 7);
	SET_COMMON(&m, guest_feature, UINT32_MAX);
	CHECK_EQUAL(COMMON(&m, guest_feature), 0);
	machine_teardown(&m);
}

static void driver_ok_without_features_ok_starts_nothing(void)
{
	struct machine m;

	machine_setup(&m);
	SET_COMMON(&m, device_status, UP_TO_DRIVER);
	SET_COMMON(&m, device_status, UP_TO_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
	CHECK_EQUAL(COMMON(&m, device_status), UP_TO_DRIVER);
	CHECK_EQUAL(m.model.activations, 0);
	machine_teardown(&m);
}

/* Both bits in one write, and the features do not pass. */
static void driver_ok_beside_refused_features_starts_nothing(void)
{
	struct machine m;

	machine_setup(&m);
	SET_COMMON(&m, device_status, UP);
	CHECK_EQUAL(COMMON(&m, device_status), UP_TO_DRIVER);
	CHECK_EQUAL(m.model.activations, 0);
	machine_teardown(&m);
}

static void a_device_starts_once(void)
{
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	SET_COMMON(&m, device_status, UP);
	SET_COMMON(&m, device_status, UP);
	CHECK_EQUAL(m.model.activations, 1);
	machine_teardown(&m);
}

/* §2.1.1: the driver must not clear a bit; §2.1: unknown bits mean nothing. */
static void bits_are_neither_cleared_nor_invented(void)
{
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	SET_COMMON(&m, device_status, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	CHECK_EQUAL(COMMON(&m, device_status), UP);
	SET_COMMON(&m, device_status, VIRTIO_CONFIG_S_FAILED);
	CHECK_EQUAL(COMMON(&m, device_status), UP);
	SET_COMMON(&m, device_status, UP | 0x30 | VIRTIO_CONFIG_S_NEEDS_RESET);
	CHECK_EQUAL(COMMON(&m, device_status), UP);
	SET_COMMON(&m, device_status, UP | VIRTIO_CONFIG_S_FAILED);
	CHECK_EQUAL(COMMON(&m, device_status), UP | VIRTIO_CONFIG_S_FAILED);
	machine_teardown(&m);
}

/* --- §2.4 device reset ---------------------------------------------------- */

static void reset_leaves_nothing_of_the_driver(void)
{
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	bar_write(&m, PCI_BAR_NOTIFY, 0, 2);
	CHECK_EQUAL(m.kvm.ioeventfd_count, 1);
	SET_COMMON(&m, msix_config, 0);
	SET_COMMON(&m, queue_msix_vector, 1);
	SET_COMMON(&m, device_status, 0);
	CHECK_EQUAL(COMMON(&m, device_status), 0);
	CHECK_EQUAL(m.model.resets, 1);
	CHECK_EQUAL(m.kvm.ioeventfd_count, 0);
	CHECK_EQUAL(COMMON(&m, msix_config), 0xffff);
	CHECK_EQUAL(COMMON(&m, device_feature_select), 0);
	CHECK_EQUAL(COMMON(&m, guest_feature), 0);
	CHECK_EQUAL(COMMON(&m, queue_select), 0);
	CHECK_EQUAL(COMMON(&m, queue_size), 256);
	CHECK_EQUAL(COMMON(&m, queue_enable), 0);
	CHECK_EQUAL(COMMON(&m, queue_msix_vector), 0xffff);
	CHECK_EQUAL(COMMON(&m, queue_desc_lo), 0);
	bring_up(&m);
	CHECK_EQUAL(COMMON(&m, device_status), UP);
	CHECK_EQUAL(m.model.activations, 2);
	machine_teardown(&m);
}

static void reset_of_an_idle_device_does_not_reach_the_model(void)
{
	struct machine m;

	machine_setup(&m);
	SET_COMMON(&m, device_status, 0);
	SET_COMMON(&m, device_status, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	SET_COMMON(&m, device_status, 0);
	CHECK_EQUAL(m.model.resets, 0);
	machine_teardown(&m);
}

static void kicks_of_the_life_before_are_forgotten(void)
{
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	CHECK_EQUAL(eventfd_write(m.model.queues[0].kick_fd, 1), 0);
	SET_COMMON(&m, device_status, 0);
	CHECK(!is_readable(m.model.queues[0].kick_fd));
	machine_teardown(&m);
}

/* --- §2.1.2, §2.1: DEVICE_NEEDS_RESET ------------------------------------- */

static void expect_fault(struct machine *m, const char *text)
{
	struct machine_event event;

	CHECK_EQUAL(machine_events_next(m->events, &event), 1);
	CHECK_EQUAL(event.kind, MACHINE_DEVICE_FAULT);
	CHECK(strstr(event.text, "nothing: ") == event.text);
	CHECK(strstr(event.text, text) != NULL);
	CHECK_EQUAL(machine_events_next(m->events, &event), 0);
	CHECK(!machine_events_ended(m->events));
}

static void a_queue_outside_memory_needs_a_reset(void)
{
	struct machine m;

	machine_setup(&m);
	negotiate(&m, read_features(&m));
	set_queue(&m, 0, 16);
	SET_COMMON(&m, queue_select, 1);
	SET_COMMON(&m, queue_desc_hi, 1);
	SET_COMMON(&m, queue_enable, 1);
	SET_COMMON(&m, device_status, UP);
	CHECK_EQUAL(COMMON(&m, device_status), UP | VIRTIO_CONFIG_S_NEEDS_RESET);
	CHECK_EQUAL(m.model.activations, 0);
	expect_fault(&m, "outside its memory");
	SET_COMMON(&m, device_status, 0);
	CHECK_EQUAL(COMMON(&m, device_status), 0);
	machine_teardown(&m);
}

static void a_model_that_does_not_start_needs_a_reset(void)
{
	struct machine m;

	machine_setup(&m);
	m.model.refuse = -ENOMEM;
	bring_up(&m);
	CHECK_EQUAL(COMMON(&m, device_status), UP | VIRTIO_CONFIG_S_NEEDS_RESET);
	expect_fault(&m, "could not be started");
	SET_COMMON(&m, device_status, 0);
	CHECK_EQUAL(m.model.resets, 1);
	m.model.refuse = 0;
	bring_up(&m);
	CHECK_EQUAL(COMMON(&m, device_status), UP);
	machine_teardown(&m);
}

/* §2.1.2: the driver is told; the host too, once. */
static void a_model_may_ask_for_a_reset(void)
{
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	SET_COMMON(&m, msix_config, 0);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_ISR, 1), 0);
	m.model.virtio.needs_reset(m.model.virtio.transport);
	m.model.virtio.needs_reset(m.model.virtio.transport);
	CHECK_EQUAL(COMMON(&m, device_status), UP | VIRTIO_CONFIG_S_NEEDS_RESET);
	expect_fault(&m, "broke the protocol");
	/* Masked as it is, the interrupt shows as pending. */
	CHECK_EQUAL(bar_read(&m, PCI_BAR_PENDING, 8), 1);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_ISR, 1), 2);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_ISR, 1), 0);
	machine_teardown(&m);
}

/* A driver that breaks and resets its device for ever does not flood the host. */
static void a_fault_is_told_once(void)
{
	struct machine m;
	struct machine_event event;

	machine_setup(&m);
	for (unsigned i = 0; i < 10; i++) {
		bring_up(&m);
		m.model.virtio.needs_reset(m.model.virtio.transport);
		CHECK_EQUAL(COMMON(&m, device_status), UP | VIRTIO_CONFIG_S_NEEDS_RESET);
	}
	CHECK_EQUAL(machine_events_next(m.events, &event), 1);
	CHECK_EQUAL(machine_events_next(m.events, &event), 0);
	machine_teardown(&m);
}

/* --- §4.1.4.3.2 queues ---------------------------------------------------- */

static void a_queue_that_is_not_there_reads_as_size_zero(void)
{
	struct machine m;

	machine_setup(&m);
	for (unsigned index = QUEUES; index <= UINT16_MAX; index += 4093) {
		SET_COMMON(&m, queue_select, index);
		CHECK_EQUAL(COMMON(&m, queue_select), index);
		CHECK_EQUAL(COMMON(&m, queue_size), 0);
		CHECK_EQUAL(COMMON(&m, queue_enable), 0);
		CHECK_EQUAL(COMMON(&m, queue_msix_vector), 0xffff);
		SET_COMMON(&m, queue_size, 4);
		SET_COMMON(&m, queue_desc_lo, 0x1000);
		SET_COMMON(&m, queue_msix_vector, 0);
		SET_COMMON(&m, queue_enable, 1);
		CHECK_EQUAL(COMMON(&m, queue_enable), 0);
	}
	machine_teardown(&m);
}

static void a_queue_size_must_be_a_power_of_two_within_the_maximum(void)
{
	struct machine m;

	machine_setup(&m);
	SET_COMMON(&m, queue_select, 1);
	CHECK_EQUAL(COMMON(&m, queue_size), 64);
	for (unsigned size = 0; size <= 1024; size++) {
		const bool good = size == 1 || size == 2 || size == 4 || size == 8 || size == 16 ||
				  size == 32 || size == 64;

		SET_COMMON(&m, queue_size, 64);
		SET_COMMON(&m, queue_size, size);
		CHECK_EQUAL(COMMON(&m, queue_size), good ? size : 64);
	}
	machine_teardown(&m);
}

static void a_queue_that_is_enabled_stays_as_it_is(void)
{
	struct machine m;

	machine_setup(&m);
	set_queue(&m, 0, 16);
	SET_COMMON(&m, queue_size, 32);
	SET_COMMON(&m, queue_desc_lo, 0x5000);
	SET_COMMON(&m, queue_enable, 0);
	CHECK_EQUAL(COMMON(&m, queue_size), 16);
	CHECK_EQUAL(COMMON(&m, queue_desc_lo), QUEUE_GPA(0));
	CHECK_EQUAL(COMMON(&m, queue_enable), 1);
	machine_teardown(&m);
}

/* The model's threads read queues without a lock. */
static void an_active_device_keeps_its_queues(void)
{
	struct machine m;

	machine_setup(&m);
	negotiate(&m, read_features(&m));
	set_queue(&m, 0, 16);
	SET_COMMON(&m, device_status, UP);
	CHECK(!m.model.queues[1].enabled);
	set_queue(&m, 1, 16);
	CHECK(!m.model.queues[1].enabled);
	CHECK_EQUAL(m.model.queues[1].desc_gpa, 0);
	CHECK_EQUAL(m.model.queues[1].size, 64);
	machine_teardown(&m);
}

/* --- §4.1.3.1 widths ------------------------------------------------------ */

static void fields_are_written_whole_or_not_at_all(void)
{
	struct machine m;

	machine_setup(&m);
	for (unsigned at = 0; at < 0x100; at++)
		for (unsigned len = 1; len <= 8; len++) {
			const bool status = at == VIRTIO_PCI_COMMON_STATUS && len == 1;
			const bool whole = len == 2 || len == 4;

			if (!status && !(whole && at % len == 0))
				bar_write(&m, PCI_BAR_COMMON + at, 0x0101010101010101, len);
		}
	CHECK_EQUAL(COMMON(&m, device_status), 0);
	CHECK_EQUAL(COMMON(&m, device_feature_select), 0);
	CHECK_EQUAL(COMMON(&m, guest_feature_select), 0);
	CHECK_EQUAL(COMMON(&m, queue_select), 0);
	CHECK_EQUAL(COMMON(&m, queue_size), 256);
	CHECK_EQUAL(COMMON(&m, queue_enable), 0);
	CHECK_EQUAL(COMMON(&m, queue_desc_lo), 0);
	CHECK_EQUAL(m.model.activations, 0);
	machine_teardown(&m);
}

static void reads_of_any_width_stay_inside_the_structure(void)
{
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	for (unsigned at = 56; at < 0x1000; at += 7)
		for (unsigned len = 1; len <= 8; len++)
			CHECK_EQUAL(bar_read(&m, PCI_BAR_COMMON + at, len), 0);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_COMMON + 54, 4), 0);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_COMMON + VIRTIO_PCI_COMMON_STATUS, 1), UP);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_COMMON + VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_COMMON + VIRTIO_PCI_COMMON_NUMQ, 4), QUEUES | UP << 16);
	machine_teardown(&m);
}

/* --- §2.5 device configuration -----------------------------------------------------------------
 */

static void a_change_of_configuration_is_told(void)
{
	const uint8_t bytes[] = {0xaa, 0xbb};
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	SET_COMMON(&m, msix_config, 2);
	CHECK_EQUAL(COMMON(&m, config_generation), 0);
	CHECK_EQUAL(pci_window_set_config(m.window, SLOT, 10, bytes, 2), 0);
	CHECK_EQUAL(COMMON(&m, config_generation), 1);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_DEVICE + 8, 4), 0xbbaa0a09);
	CHECK_EQUAL(bar_read(&m, PCI_BAR_PENDING, 8), 1 << 2);
	CHECK_EQUAL(pci_window_set_config(m.window, SLOT, 11, bytes, 2), -EINVAL);
	CHECK_EQUAL(pci_window_set_config(m.window, SLOT, 13, bytes, 0), -EINVAL);
	CHECK_EQUAL(pci_window_set_config(m.window, SLOT + 1, 0, bytes, 2), -ENODEV);
	machine_teardown(&m);
}

static void transitions_are_counted(void)
{
	struct machine m;
	struct pci_device_counters counters;

	machine_setup(&m);
	bring_up(&m);
	CHECK_EQUAL(pci_window_read_counters(m.window, SLOT, &counters), 0);
	CHECK_EQUAL(counters.status_writes, 5);
	CHECK_EQUAL(counters.activations, 1);
	CHECK(counters.status_ns > 0);
	CHECK_EQUAL(counters.notify_exits, 0);
	/* A reset keeps the queues' counters. */
	m.model.queues[0].pops = 5;
	m.model.queues[1].signals = 7;
	SET_COMMON(&m, device_status, 0);
	bring_up(&m);
	m.model.queues[0].pops = 1;
	CHECK_EQUAL(pci_window_read_counters(m.window, SLOT, &counters), 0);
	CHECK_EQUAL(counters.chains, 6);
	CHECK_EQUAL(counters.signals, 7);
	CHECK_EQUAL(pci_window_read_counters(m.window, SLOT - 1, &counters), -ENODEV);
	machine_teardown(&m);
}

/* --- the end of the machine
 * ----------------------------------------------------------------------- */

static void stopping_the_machine_resets_what_is_active(void)
{
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	pci_window_stop(m.window);
	pci_window_stop(m.window);
	CHECK_EQUAL(m.model.resets, 1);
	machine_teardown(&m);
	CHECK_EQUAL(m.model.resets, 1);
}

static const struct test tests[] = {
	TEST(a_driver_that_keeps_to_the_order_gets_an_active_device),
	TEST(without_version_1_features_are_refused),
	TEST(features_that_were_not_offered_are_refused),
	TEST(features_stay_once_they_are_agreed),
	TEST(feature_words_beyond_the_second_are_empty),
	TEST(driver_ok_without_features_ok_starts_nothing),
	TEST(driver_ok_beside_refused_features_starts_nothing),
	TEST(a_device_starts_once),
	TEST(bits_are_neither_cleared_nor_invented),
	TEST(reset_leaves_nothing_of_the_driver),
	TEST(reset_of_an_idle_device_does_not_reach_the_model),
	TEST(kicks_of_the_life_before_are_forgotten),
	TEST(a_queue_outside_memory_needs_a_reset),
	TEST(a_model_that_does_not_start_needs_a_reset),
	TEST(a_model_may_ask_for_a_reset),
	TEST(a_fault_is_told_once),
	TEST(a_queue_that_is_not_there_reads_as_size_zero),
	TEST(a_queue_size_must_be_a_power_of_two_within_the_maximum),
	TEST(a_queue_that_is_enabled_stays_as_it_is),
	TEST(an_active_device_keeps_its_queues),
	TEST(fields_are_written_whole_or_not_at_all),
	TEST(reads_of_any_width_stay_inside_the_structure),
	TEST(a_change_of_configuration_is_told),
	TEST(transitions_are_counted),
	TEST(stopping_the_machine_resets_what_is_active),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
