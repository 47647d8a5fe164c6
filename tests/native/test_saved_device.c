/* SPDX-License-Identifier: Apache-2.0 */
/* A device restored in another machine, as its driver left it. */
#include <sys/eventfd.h>

#include "pci_driver.h"
#include "platform/serial.h"

#define MESSAGE_ADDRESS 0xfee01000u
#define POSITION 7

static void bring_up_with_interrupts(struct machine *m)
{
	config_write(m, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	for (unsigned i = 0; i < VECTORS; i++)
		write_vector(m, i, MESSAGE_ADDRESS, 0x40 + i, 0);
	config_write(m, msix_flags_at(m), PCI_MSIX_FLAGS_ENABLE, 2);
	negotiate(m, read_features(m));
	SET_COMMON(m, msix_config, 0);
	for (uint16_t i = 0; i < QUEUES; i++) {
		set_queue(m, i, 16);
		SET_COMMON(m, queue_msix_vector, i + 1);
	}
	SET_COMMON(m, device_status, UP);
}

/* As if the device had taken and returned chains. */
static void move_on(struct machine *m)
{
	for (unsigned i = 0; i < QUEUES; i++) {
		m->model.queues[i].next_avail = (uint16_t)(POSITION + i);
		m->model.queues[i].next_used = (uint16_t)(POSITION + i - 1);
	}
}

static void save(struct machine *m, struct virtio_pci_state *state)
{
	pci_window_stop(m->window);
	CHECK_EQUAL(pci_window_save(m->window, SLOT, state), 0);
}

/* `a` is saved, `b` made and restored. */
static void go_on(struct machine *a, struct machine *b)
{
	struct virtio_pci_state state;

	save(a, &state);
	machine_setup(b);
	CHECK_EQUAL(pci_window_stage_routes(b->window, SLOT, &state), 0);
	CHECK_EQUAL(b->kvm.routings, 0);
	CHECK_EQUAL(pci_window_commit_routes(b->window), 0);
	CHECK_EQUAL(pci_window_restore(b->window, SLOT, &state), 0);
	CHECK_EQUAL(b->kvm.routings, 1);
}

static void teardown(struct machine *a, struct machine *b)
{
	machine_teardown(a);
	machine_teardown(b);
}

static void a_device_goes_on_where_it_was(void)
{
	struct machine a, b;

	machine_setup(&a);
	bring_up_with_interrupts(&a);
	move_on(&a);
	go_on(&a, &b);
	CHECK_EQUAL(COMMON(&b, device_status), UP);
	CHECK_EQUAL(b.model.activations, 1);
	CHECK_EQUAL(b.model.features, a.model.features);
	for (uint16_t i = 0; i < QUEUES; i++) {
		const struct virtqueue *vq = &b.model.queues[i];

		CHECK_EQUAL(vq->next_avail, POSITION + i);
		CHECK_EQUAL(vq->next_used, POSITION + i - 1);
		CHECK(vq->desc == b.ram + QUEUE_GPA(i) && vq->enabled && vq->event_idx);
		SET_COMMON(&b, queue_select, i);
		CHECK_EQUAL(COMMON(&b, queue_size), 16);
		CHECK_EQUAL(COMMON(&b, queue_msix_vector), i + 1);
		CHECK_EQUAL(message_of(&b.kvm, vq->call_fd)->data, 0x41 + i);
		CHECK_EQUAL(message_of(&b.kvm, vq->call_fd)->address_lo, MESSAGE_ADDRESS);
	}
	/* Those that are used get one: each costs KVM a grace period. */
	CHECK_EQUAL(b.kvm.ioeventfd_count, 0);
	bar_write(&b, PCI_BAR_NOTIFY + 4, 1, 2);
	CHECK_EQUAL(b.kvm.ioeventfds[0].fd, b.model.queues[1].kick_fd);
	teardown(&a, &b);
}

/* Kicks and interrupts that were in flight when the machine was stopped. */
static void every_queue_is_looked_at_and_every_vector_comes_once(void)
{
	struct machine a, b;

	machine_setup(&a);
	bring_up_with_interrupts(&a);
	go_on(&a, &b);
	for (unsigned i = 0; i < QUEUES; i++) {
		CHECK(is_readable(b.model.queues[i].kick_fd));
		CHECK(is_readable(b.model.queues[i].call_fd));
	}
	teardown(&a, &b);
}

/* A vector that the driver has masked may hold anything. */
static void only_what_the_driver_listens_to_is_routed(void)
{
	struct virtio_pci_state state;
	struct machine a, b;
	unsigned pins;

	machine_setup(&a);
	bring_up_with_interrupts(&a);
	write_vector(&a, 2, 0, 0, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	save(&a, &state);
	machine_setup(&b);
	CHECK_EQUAL(pci_window_commit_routes(b.window), 0);
	pins = b.kvm.routes;
	state.queue_count++;
	CHECK_EQUAL(pci_window_stage_routes(b.window, SLOT, &state), 0);
	CHECK_EQUAL(pci_window_commit_routes(b.window), 0);
	CHECK_EQUAL(b.kvm.routes, pins);
	state.queue_count--;
	CHECK_EQUAL(pci_window_stage_routes(b.window, SLOT, &state), 0);
	CHECK_EQUAL(pci_window_commit_routes(b.window), 0);
	CHECK_EQUAL(b.kvm.routes, pins + VECTORS - 1);
	CHECK_EQUAL(pci_window_stage_routes(b.window, SLOT + 1, &state), -ENODEV);
	teardown(&a, &b);
}

static void a_bar_that_was_moved_is_where_it_was_moved_to(void)
{
	const uint64_t moved = BAR_GPA + 5 * PCI_BAR_BYTES;
	struct machine a, b;

	machine_setup(&a);
	bring_up(&a);
	config_write(&a, PCI_BASE_ADDRESS_0, (uint32_t)moved, 4);
	go_on(&a, &b);
	CHECK_EQUAL(read_at(&b, moved + offsetof(struct virtio_pci_common_cfg, device_status), 1),
		    UP);
	CHECK_EQUAL(COMMON(&b, device_status), 0xff);
	teardown(&a, &b);
}

static void a_device_without_a_driver_stays_without(void)
{
	struct machine a, b;

	machine_setup(&a);
	go_on(&a, &b);
	CHECK_EQUAL(b.model.activations, 0);
	bring_up(&b);
	CHECK_EQUAL(b.model.activations, 1);
	teardown(&a, &b);
}

static void a_restored_device_can_be_reset_and_brought_up_again(void)
{
	struct machine a, b;

	machine_setup(&a);
	bring_up_with_interrupts(&a);
	move_on(&a);
	go_on(&a, &b);
	bring_up(&b);
	CHECK_EQUAL(b.model.activations, 2);
	CHECK_EQUAL(b.model.queues[0].next_avail, 0);
	teardown(&a, &b);
}

static void what_the_host_says_of_a_device_is_the_new_hosts(void)
{
	struct virtio_pci_state state;
	struct machine a, b;

	machine_setup(&a);
	bring_up(&a);
	save(&a, &state);
	memset(state.config + PCI_VENDOR_ID, 0, 4);
	machine_setup(&b);
	CHECK_EQUAL(pci_window_restore(b.window, SLOT, &state), 0);
	CHECK_EQUAL(config_read(&b, PCI_VENDOR_ID, 2), 0x1af4);
	teardown(&a, &b);
}

static int restore_damaged(void (*damage)(struct virtio_pci_state *state))
{
	struct virtio_pci_state state;
	struct machine a, b;
	int r;

	machine_setup(&a);
	bring_up_with_interrupts(&a);
	save(&a, &state);
	damage(&state);
	machine_setup(&b);
	r = pci_window_restore(b.window, SLOT, &state);
	teardown(&a, &b);
	return r;
}

static void of_another_device(struct virtio_pci_state *state)
{
	state->queue_count = QUEUES + 1;
}

static void with_features_that_are_not_offered(struct virtio_pci_state *state)
{
	state->driver_features |= 1ULL << 63;
}

static void with_a_queue_too_large(struct virtio_pci_state *state)
{
	state->queues[1].size = 128;
}

static void with_a_queue_outside_of_memory(struct virtio_pci_state *state)
{
	state->queues[0].desc_gpa = RAM_BYTES;
}

static void broken(struct virtio_pci_state *state)
{
	state->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void a_state_that_does_not_fit_is_refused(void)
{
	CHECK_EQUAL(restore_damaged(of_another_device), -EINVAL);
	CHECK_EQUAL(restore_damaged(with_features_that_are_not_offered), -EINVAL);
	CHECK_EQUAL(restore_damaged(with_a_queue_too_large), -EINVAL);
	CHECK_EQUAL(restore_damaged(with_a_queue_outside_of_memory), -EIO);
	CHECK_EQUAL(restore_damaged(broken), -EINVAL);
}

static void a_device_that_runs_or_is_broken_is_not_saved(void)
{
	struct virtio_pci_state state;
	struct machine m;

	machine_setup(&m);
	bring_up(&m);
	CHECK_EQUAL(pci_window_save(m.window, SLOT, &state), -EBUSY);
	m.model.virtio.needs_reset(m.model.virtio.transport);
	pci_window_stop(m.window);
	CHECK_EQUAL(pci_window_save(m.window, SLOT, &state), -EIO);
	CHECK_EQUAL(pci_window_save(m.window, SLOT + 1, &state), -ENODEV);
	CHECK_EQUAL(pci_window_restore(m.window, SLOT + 1, &state), -ENODEV);
	machine_teardown(&m);
}

static void a_serial_port_keeps_its_registers(void)
{
	struct serial_state state = {.ier = 2, .lcr = 3, .mcr = 11, .scratch = 9, .fifo = 1}, found;
	struct serial *serial;

	CHECK_EQUAL(serial_new(NULL, -1, &serial), 0);
	serial_restore(serial, &state);
	serial_save(serial, &found);
	CHECK_EQUAL(memcmp(&state, &found, sizeof(state)), 0);
	serial_free(serial);
}

static const struct test tests[] = {
	TEST(a_device_goes_on_where_it_was),
	TEST(every_queue_is_looked_at_and_every_vector_comes_once),
	TEST(only_what_the_driver_listens_to_is_routed),
	TEST(a_bar_that_was_moved_is_where_it_was_moved_to),
	TEST(a_device_without_a_driver_stays_without),
	TEST(a_restored_device_can_be_reset_and_brought_up_again),
	TEST(what_the_host_says_of_a_device_is_the_new_hosts),
	TEST(a_state_that_does_not_fit_is_refused),
	TEST(a_device_that_runs_or_is_broken_is_not_saved),
	TEST(a_serial_port_keeps_its_registers),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
