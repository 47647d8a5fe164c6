/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/pci_window.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ECAM_FUNCTION_BYTES 0x1000
#define ECAM_DEVICE_BYTES (8 * ECAM_FUNCTION_BYTES)
#define MAX_RANGES 2

/* A window of memory in which BARs are served. */
struct range {
	struct pci_window *window;
	uint64_t gpa;
};

struct pci_window {
	struct virtio_pci_machine machine;
	struct virtio_pci *slots[PCI_WINDOW_SLOTS];
	unsigned range_count;
	struct range ranges[MAX_RANGES];
};

int pci_window_new(const struct kvm_calls *calls, int vm_fd, bool ioapic,
		   const struct guest_memory *mem, struct machine_events *events,
		   struct pci_window **ret_window)
{
	struct pci_window *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->machine = (struct virtio_pci_machine){
		.calls = calls,
		.vm_fd = vm_fd,
		.mem = mem,
		.events = events,
	};
	r = irq_routing_new(calls, vm_fd, ioapic, &w->machine.routing);
	if (r < 0) {
		free(w);
		return r;
	}
	*ret_window = w;
	return 0;
}

void pci_window_stop(struct pci_window *w)
{
	for (unsigned i = 0; i < PCI_WINDOW_SLOTS; i++)
		if (w->slots[i])
			virtio_pci_stop(w->slots[i]);
}

void pci_window_free(struct pci_window *w)
{
	if (!w)
		return;
	for (unsigned i = 0; i < PCI_WINDOW_SLOTS; i++)
		virtio_pci_free(w->slots[i]);
	irq_routing_free(w->machine.routing);
	free(w);
}

int pci_window_add(struct pci_window *w, unsigned slot,
		   const struct pci_device_description *description, struct virtio_device *model)
{
	if (slot >= PCI_WINDOW_SLOTS)
		return -EINVAL;
	if (w->slots[slot])
		return -EEXIST;
	return virtio_pci_new(&w->machine, description, model, &w->slots[slot]);
}

/* --- configuration space ------------------------------------------------- */

/* Bounds: `offset` lies inside PCI_ECAM_BYTES, so the slot does inside `slots`;
 * functions 1 to 7 are absent. */
static struct virtio_pci *function_at(const struct pci_window *w, uint64_t offset,
				      uint64_t *ret_register)
{
	const uint64_t within = offset % ECAM_DEVICE_BYTES;

	*ret_register = within;
	return within < ECAM_FUNCTION_BYTES ? w->slots[offset / ECAM_DEVICE_BYTES] : NULL;
}

static void read_ecam(void *context, uint64_t offset, void *data, unsigned len)
{
	uint64_t at;
	struct virtio_pci *device = function_at(context, offset, &at);

	if (device)
		virtio_pci_config_read(device, at, data, len);
	else
		memset(data, 0xff, len);
}

static void write_ecam(void *context, uint64_t offset, const void *data, unsigned len)
{
	uint64_t at;
	struct virtio_pci *device = function_at(context, offset, &at);

	if (device)
		virtio_pci_config_write(device, at, data, len);
}

static const struct bus_ops ecam_ops = {.read = read_ecam, .write = write_ecam};

int pci_window_attach_ecam(struct pci_window *w, struct bus *bus, uint64_t gpa)
{
	return bus_add(bus, BUS_MEMORY, gpa, PCI_ECAM_BYTES, "pci-ecam", &ecam_ops, w);
}

/* --- BARs ---------------------------------------------------------------- */

/* Bounds: [gpa, gpa+len) must lie in one BAR; the guest may put two at the same
 * place, then the lower slot answers. */
static struct virtio_pci *bar_at(const struct pci_window *w, uint64_t gpa, unsigned len,
				 uint64_t *ret_offset)
{
	for (unsigned i = 0; i < PCI_WINDOW_SLOTS; i++) {
		uint64_t bar_gpa;

		if (!w->slots[i])
			continue;
		bar_gpa = atomic_load(&w->slots[i]->bar_gpa);
		if (bar_gpa == PCI_BAR_OFF || gpa < bar_gpa || gpa - bar_gpa > PCI_BAR_BYTES - len)
			continue;
		*ret_offset = gpa - bar_gpa;
		return w->slots[i];
	}
	return NULL;
}

static void read_memory(void *context, uint64_t offset, void *data, unsigned len)
{
	const struct range *range = context;
	struct virtio_pci *device = bar_at(range->window, range->gpa + offset, len, &offset);

	if (device)
		virtio_pci_bar_read(device, offset, data, len);
	else
		memset(data, 0xff, len);
}

static void write_memory(void *context, uint64_t offset, const void *data, unsigned len)
{
	const struct range *range = context;
	struct virtio_pci *device = bar_at(range->window, range->gpa + offset, len, &offset);

	if (device)
		virtio_pci_bar_write(device, offset, data, len);
}

static const struct bus_ops memory_ops = {.read = read_memory, .write = write_memory};

int pci_window_attach_memory(struct pci_window *w, struct bus *bus, uint64_t gpa, uint64_t len)
{
	struct range *range;
	int r;

	if (w->range_count == MAX_RANGES)
		return -ENOSPC;
	range = &w->ranges[w->range_count];
	*range = (struct range){.window = w, .gpa = gpa};
	r = bus_add(bus, BUS_MEMORY, gpa, len, "pci-bar", &memory_ops, range);
	if (r == 0)
		w->range_count++;
	return r;
}

/* --- for the host -------------------------------------------------------- */

int pci_window_save(struct pci_window *w, unsigned slot, struct virtio_pci_state *ret_state)
{
	if (slot >= PCI_WINDOW_SLOTS || !w->slots[slot])
		return -ENODEV;
	return virtio_pci_save(w->slots[slot], ret_state);
}

int pci_window_stage_routes(struct pci_window *w, unsigned slot,
			    const struct virtio_pci_state *state)
{
	if (slot >= PCI_WINDOW_SLOTS || !w->slots[slot])
		return -ENODEV;
	virtio_pci_stage_routes(w->slots[slot], state);
	return 0;
}

int pci_window_commit_routes(struct pci_window *w)
{
	return irq_routing_commit(w->machine.routing);
}

int pci_window_restore(struct pci_window *w, unsigned slot, const struct virtio_pci_state *state)
{
	if (slot >= PCI_WINDOW_SLOTS || !w->slots[slot])
		return -ENODEV;
	return virtio_pci_restore(w->slots[slot], state);
}

int pci_window_set_config(struct pci_window *w, unsigned slot, unsigned offset, const void *data,
			  unsigned len)
{
	if (slot >= PCI_WINDOW_SLOTS || !w->slots[slot])
		return -ENODEV;
	return virtio_pci_set_config(w->slots[slot], offset, data, len);
}

int pci_window_read_counters(struct pci_window *w, unsigned slot,
			     struct pci_device_counters *ret_counters)
{
	if (slot >= PCI_WINDOW_SLOTS || !w->slots[slot])
		return -ENODEV;
	virtio_pci_read_counters(w->slots[slot], ret_counters);
	return 0;
}
