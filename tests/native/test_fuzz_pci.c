/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile guest on several vCPUs: random accesses to configuration space and
 * BARs from a fixed seed, while the devices' own threads request resets and the
 * host changes configuration.  `test_fuzz_pci ROUNDS SEED` runs longer. */
#include <stdatomic.h>

#include "pci_driver.h"

#define VCPUS 3
#define DEVICES 2

static unsigned rounds = 20000;
static uint64_t first_seed = 0x5eed;

/* A model with a thread of its own between activate and reset. */
struct live_model {
	struct virtio_device virtio;
	pthread_t thread;
	bool running;
	atomic_bool stop;
	struct virtqueue *queues;
	unsigned count;
};

static void *serve(void *context)
{
	struct live_model *m = context;

	while (!atomic_load(&m->stop)) {
		for (unsigned i = 0; i < m->count; i++) {
			take(m->queues[i].kick_fd);
			eventfd_write(m->queues[i].call_fd, 1);
		}
		m->virtio.needs_reset(m->virtio.transport);
	}
	return NULL;
}

static int live_activate(struct virtio_device *dev, struct virtqueue *queues, unsigned count,
			 uint64_t features)
{
	struct live_model *m = (struct live_model *)dev;

	(void)features;
	CHECK(!m->running);
	atomic_store(&m->stop, false);
	m->queues = queues;
	m->count = count;
	CHECK_EQUAL(pthread_create(&m->thread, NULL, serve, m), 0);
	m->running = true;
	return 0;
}

static void live_reset(struct virtio_device *dev)
{
	struct live_model *m = (struct live_model *)dev;

	if (!m->running)
		return;
	atomic_store(&m->stop, true);
	CHECK_EQUAL(pthread_join(m->thread, NULL), 0);
	m->running = false;
}

static void live_destroy(struct virtio_device *dev)
{
	CHECK(!((struct live_model *)dev)->running);
}

static const struct virtio_device_ops live_ops = {
	.activate = live_activate,
	.reset = live_reset,
	.destroy = live_destroy,
};

struct guest {
	struct machine *m;
	uint64_t seed;
	uint64_t bars[DEVICES];
};

static uint64_t any(struct guest *g, uint64_t below)
{
	g->seed ^= g->seed << 13;
	g->seed ^= g->seed >> 7;
	g->seed ^= g->seed << 17;
	return (g->seed >> 11) % below;
}

static uint64_t any_value(struct guest *g)
{
	switch (any(g, 5)) {
	case 0:
		return any(g, 256);
	case 1:
		return any(g, RAM_BYTES) & ~0xfffULL;
	case 2:
		return 0;
	case 3:
		return UINT64_MAX;
	default:
		return g->seed;
	}
}

/* Mostly natural accesses to places that matter, and some to anywhere. */
static uint64_t any_place(struct guest *g, unsigned len)
{
	const unsigned device = (unsigned)any(g, DEVICES);

	switch (any(g, 8)) {
	case 0:
		return ECAM_GPA + (SLOT + device) * 0x8000 + any(g, 0x110);
	case 1:
		return ECAM_GPA + any(g, PCI_ECAM_BYTES);
	case 2:
		return g->bars[device] + any(g, PCI_BAR_BYTES);
	case 3:
		return g->bars[device] + PCI_BAR_TABLE + any(g, 64) / len * len;
	case 4:
		return g->bars[device] + PCI_BAR_NOTIFY + any(g, 16);
	default:
		return g->bars[device] + any(g, 64) / len * len;
	}
}

/* A whole set-up in order: random accesses hardly ever get that far. */
static void set_up_device(struct guest *g)
{
	const uint64_t bar = g->bars[any(g, DEVICES)];
	static const uint8_t path[] = {0, VIRTIO_CONFIG_S_ACKNOWLEDGE, UP_TO_DRIVER, UP_TO_FEATURES,
				       UP};

	for (unsigned i = 0; i < sizeof(path); i++) {
		if (path[i] == UP_TO_FEATURES) {
			write_at(g->m, bar + VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
			write_at(g->m, bar + VIRTIO_PCI_COMMON_GF, 1, 4);
		}
		write_at(g->m, bar + VIRTIO_PCI_COMMON_STATUS, path[i], 1);
	}
}

static void *attack(void *context)
{
	struct guest *g = context;

	for (unsigned i = 0; i < rounds; i++) {
		const unsigned len = 1u << any(g, 4);
		const uint64_t place = any_place(g, len);

		if (any(g, 64) == 0)
			set_up_device(g);
		else if (any(g, 4) == 0)
			read_at(g->m, place, len);
		else
			write_at(g->m, place, any_value(g), len);
	}
	return NULL;
}

/* Restores the BARs, as a guest that wants to continue its attack does. */
static void *repair(void *context)
{
	struct guest *g = context;
	struct pci_device_counters counters;

	for (unsigned i = 0; i < rounds / 8; i++) {
		for (unsigned d = 0; d < DEVICES; d++) {
			const uint64_t config = ECAM_GPA + (SLOT + d) * 0x8000;

			write_at(g->m, config + PCI_BASE_ADDRESS_0, g->bars[d], 4);
			write_at(g->m, config + PCI_BASE_ADDRESS_1, 0, 4);
			write_at(g->m, config + PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
			pci_window_set_config(g->m->window, SLOT + d, 0, "x", 1);
			pci_window_read_counters(g->m->window, SLOT + d, &counters);
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const int before = lowest_free_fd();
	struct live_model models[DEVICES];
	struct guest guests[VCPUS + 1];
	pthread_t threads[VCPUS + 1];
	struct machine m;

	if (argc > 1)
		rounds = (unsigned)strtoul(argv[1], NULL, 0);
	if (argc > 2)
		first_seed = strtoull(argv[2], NULL, 0);
	machine_setup(&m);
	pci_window_free(m.window);
	CHECK_EQUAL(pci_window_new(&m.kvm.calls, m.kvm.vm_fd, true, &m.mem, m.events, &m.window),
		    0);
	bus_free(m.bus);
	CHECK_EQUAL(bus_new(&m.bus), 0);
	CHECK_EQUAL(pci_window_attach_ecam(m.window, m.bus, ECAM_GPA), 0);
	CHECK_EQUAL(pci_window_attach_memory(m.window, m.bus, WINDOW_GPA, WINDOW_BYTES), 0);
	memset(models, 0, sizeof(models));
	for (unsigned d = 0; d < DEVICES; d++) {
		struct pci_device_description description = describe();

		description.bar_gpa = BAR_GPA + d * PCI_BAR_BYTES;
		models[d].virtio.ops = &live_ops;
		CHECK_EQUAL(pci_window_add(m.window, SLOT + d, &description, &models[d].virtio), 0);
	}
	for (unsigned i = 0; i < VCPUS + 1; i++) {
		guests[i] = (struct guest){.m = &m, .seed = first_seed + i};
		for (unsigned d = 0; d < DEVICES; d++)
			guests[i].bars[d] = BAR_GPA + d * PCI_BAR_BYTES;
		CHECK_EQUAL(
			pthread_create(&threads[i], NULL, i < VCPUS ? attack : repair, &guests[i]),
			0);
	}
	for (unsigned i = 0; i < VCPUS + 1; i++)
		CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
	machine_teardown(&m);
	CHECK_EQUAL(lowest_free_fd(), before);
	return 0;
}
