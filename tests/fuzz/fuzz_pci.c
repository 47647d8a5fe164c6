/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses of a hostile guest to configuration space and BAR of a virtio device, while
 * the device asks for resets and the host changes its configuration.  With FUZZ_THREADS
 * from two vCPUs at once. */
#include "input.h"
#include "pci_driver.h"

#ifdef FUZZ_THREADS
#define VCPUS 2
#else
#define VCPUS 1
#endif

struct vcpu {
	struct machine *m;
	struct input in;
	pthread_t thread;
};

static uint64_t take_place(struct input *in)
{
	static const uint64_t pages[] = {PCI_BAR_COMMON, PCI_BAR_ISR,	PCI_BAR_DEVICE,
					 PCI_BAR_NOTIFY, PCI_BAR_TABLE, PCI_BAR_PENDING};
	const uint8_t kind = take_u8(in);

	if (kind < 96)
		return BAR_GPA + pages[kind % 6] + take_u8(in);
	if (kind < 192)
		return config_gpa(take_u8(in));
	if (kind < 208)
		return BAR_GPA + take_u16(in);
	if (kind < 224)
		return ECAM_GPA + take_u32(in) % (PCI_ECAM_BYTES + 8);
	return WINDOW_GPA + take_u32(in) % (WINDOW_BYTES + 8);
}

/* What a driver does in order: bytes alone hardly ever come so far. */
static void shortcut(struct machine *m, uint8_t which)
{
	switch (which % 5) {
	case 0:
		negotiate(m, read_features(m));
		break;
	case 1:
		set_queue(m, which / 8 % QUEUES, (uint16_t)(1u << which / 16));
		break;
	case 2:
		config_write(m, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
		break;
	case 3:
		write_vector(m, which / 8 % VECTORS, 0xfee00000 + which, which, which >> 7);
		break;
	case 4:
		SET_COMMON(m, device_status, UP);
		break;
	}
}

static void step(struct machine *m, struct input *in)
{
	const uint8_t what = take_u8(in);
	struct pci_device_counters counters;
	uint8_t byte;

	switch (what % 16) {
	case 0:
	case 1:
	case 2:
		read_at(m, take_place(in), 1u << (what >> 6));
		break;
	case 3:
		shortcut(m, take_u8(in));
		break;
	case 4:
		m->model.virtio.needs_reset(m->model.virtio.transport);
		break;
	case 5:
		byte = take_u8(in);
		pci_window_set_config(m->window, SLOT, byte % 16, &byte, 1);
		break;
	case 6:
		pci_window_read_counters(m->window, SLOT, &counters);
		break;
	case 7:
		bus_write(m->bus, BUS_MEMORY, take_place(in), (uint64_t[]){take_u64(in)},
			  1 + (what >> 5));
		break;
	default:
		write_at(m, take_place(in), take_number(in), 1u << (what >> 6));
	}
}

static void *run(void *context)
{
	struct vcpu *vcpu = context;

	while (more(&vcpu->in))
		step(vcpu->m, &vcpu->in);
	return NULL;
}

/* What was assigned is the device's, and what is saved can be restored. */
static void check_saved(struct machine *m)
{
	static struct virtio_pci_state state;
	struct machine other;
	int r;

	pci_window_stop(m->window);
	if (pci_window_save(m->window, SLOT, &state) < 0)
		return;
	machine_setup(&other);
	r = pci_window_stage_routes(other.window, SLOT, &state);
	CHECK_EQUAL(r, 0);
	CHECK_EQUAL(pci_window_commit_routes(other.window), 0);
	pci_window_restore(other.window, SLOT, &state);
	machine_teardown(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct vcpu vcpus[VCPUS];
	struct machine m;
	bool save;

	machine_setup(&m);
	save = take_u8(&in) & 1;
	if (!save)
		bring_up(&m);
	for (unsigned i = 0; i < VCPUS; i++)
		vcpus[i] = (struct vcpu){.m = &m, .in = take_part(&in, size / VCPUS + 1)};
	for (unsigned i = 1; i < VCPUS; i++)
		CHECK_EQUAL(pthread_create(&vcpus[i].thread, NULL, run, &vcpus[i]), 0);
	run(&vcpus[0]);
	for (unsigned i = 1; i < VCPUS; i++)
		CHECK_EQUAL(pthread_join(vcpus[i].thread, NULL), 0);
	if (save)
		check_saved(&m);
	machine_teardown(&m);
	return 0;
}
