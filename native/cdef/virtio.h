/* SPDX-License-Identifier: Apache-2.0 */
/* For cffi: the PCI bus and what all virtio devices have; see native/src/virtio. */
#include <virtio/device.h>
#include <virtio/pci_window.h>

#define PCI_WINDOW_SLOTS ...
#define PCI_BAR_BYTES ...
#define VIRTIO_PCI_NAME_BYTES ...

struct pci_device_description {
	char name[...];
	uint16_t virtio_type;
	uint32_t class_code;
	uint64_t features;
	unsigned queue_count;
	uint16_t queue_sizes[...];
	unsigned config_bytes;
	uint8_t config[...];
	uint64_t bar_gpa;
	...;
};

struct pci_device_counters {
	uint64_t status_writes;
	uint64_t status_ns;
	uint64_t reset_ns;
	uint64_t activations;
	uint64_t notify_exits;
	uint64_t chains;
	uint64_t signals;
	...;
};

struct virtio_device;
struct pci_window;

void virtio_device_destroy(struct virtio_device *dev);

int pci_window_new(const struct kvm_calls *calls, int vm_fd, bool ioapic,
		   const struct guest_memory *mem, struct machine_events *events,
		   struct pci_window **ret_window);
void pci_window_free(struct pci_window *window);
int pci_window_attach_ecam(struct pci_window *window, struct bus *bus, uint64_t gpa);
int pci_window_attach_memory(struct pci_window *window, struct bus *bus, uint64_t gpa,
			     uint64_t len);
int pci_window_add(struct pci_window *window, unsigned slot,
		   const struct pci_device_description *description, struct virtio_device *model);
void pci_window_stop(struct pci_window *window);
struct virtio_pci_state {
	...;
};

int pci_window_save(struct pci_window *window, unsigned slot, struct virtio_pci_state *ret_state);
int pci_window_stage_routes(struct pci_window *window, unsigned slot,
			    const struct virtio_pci_state *state);
int pci_window_commit_routes(struct pci_window *window);
int pci_window_restore(struct pci_window *window, unsigned slot,
		       const struct virtio_pci_state *state);
int pci_window_set_config(struct pci_window *window, unsigned slot, unsigned offset,
			  const void *data, unsigned len);
int pci_window_read_counters(struct pci_window *window, unsigned slot,
			     struct pci_device_counters *ret_counters);
