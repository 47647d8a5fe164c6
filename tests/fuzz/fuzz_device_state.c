/* SPDX-License-Identifier: Apache-2.0 */
/* The saved state of a device, damaged: a valid one whose bytes the input changes.  It
 * is refused or restored, and the driver that comes then can do what it likes. */
#include "input.h"
#include "pci_driver.h"

static struct virtio_pci_state valid;

static void make_valid(void)
{
	struct machine m;

	machine_setup(&m);
	config_write(&m, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	for (unsigned i = 0; i < VECTORS; i++)
		write_vector(&m, i, 0xfee00000, 0x40 + i, 0);
	config_write(&m, msix_flags_at(&m), PCI_MSIX_FLAGS_ENABLE, 2);
	negotiate(&m, read_features(&m));
	for (uint16_t i = 0; i < QUEUES; i++) {
		set_queue(&m, i, 16);
		SET_COMMON(&m, queue_msix_vector, i + 1);
	}
	SET_COMMON(&m, device_status, UP);
	pci_window_stop(m.window);
	CHECK_EQUAL(pci_window_save(m.window, SLOT, &valid), 0);
	machine_teardown(&m);
}

/* Places that matter: the parts of the structure, their first fields. */
static size_t take_place(struct input *in)
{
	static const size_t starts[] = {
		offsetof(struct virtio_pci_state, config),
		offsetof(struct virtio_pci_state, entries),
		offsetof(struct virtio_pci_state, driver_features),
		offsetof(struct virtio_pci_state, queues),
	};
	const uint8_t kind = take_u8(in);

	return (starts[kind % 4] + take_u8(in)) % sizeof(struct virtio_pci_state);
}

static void damage(struct input *in, struct virtio_pci_state *state)
{
	uint8_t changes = take_u8(in) % 16;

	*state = valid;
	while (changes-- > 0) {
		const size_t place = take_place(in);
		const uint64_t value = take_number(in);
		const size_t width = 1u << (changes % 4), room = sizeof(*state) - place;

		memcpy((uint8_t *)state + place, &value, width < room ? width : room);
	}
}

static void use(struct machine *m, struct input *in)
{
	const struct model *model = &m->model;

	if (model->activations > model->resets && model->queues) {
		static struct virtqueue_chain chain;

		for (unsigned i = 0; i < model->count; i++)
			if (model->queues[i].enabled &&
			    virtqueue_pop(&model->queues[i], &chain) == 1)
				virtqueue_push(&model->queues[i], chain.head, 0);
	}
	while (more(in)) {
		const uint8_t what = take_u8(in);
		const uint64_t gpa = what & 1 ? config_gpa(take_u8(in))
					      : BAR_GPA + (what / 2 % 8) * PCI_BAR_PAGE +
							take_u8(in);

		if (what & 0x10)
			write_at(m, gpa, take_number(in), 1u << (what >> 6));
		else
			read_at(m, gpa, 1u << (what >> 6));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct virtio_pci_state state, again;
	struct input in = {data, size};
	struct machine m;
	int r;

	if (valid.queue_count == 0)
		make_valid();
	damage(&in, &state);
	machine_setup(&m);
	CHECK_EQUAL(pci_window_stage_routes(m.window, SLOT, &state), 0);
	CHECK_EQUAL(pci_window_commit_routes(m.window), 0);
	r = pci_window_restore(m.window, SLOT, &state);
	CHECK(r == 0 || r == -EINVAL || r == -EIO);
	use(&m, &in);
	pci_window_stop(m.window);
	pci_window_save(m.window, SLOT, &again);
	machine_teardown(&m);
	return 0;
}
