/* SPDX-License-Identifier: Apache-2.0 */
/* PCI bus 0 of a machine: up to 32 virtio devices, found through the ECAM window
 * (PCI Express 5.0 §7.2.2), their BARs wherever the guest puts them in the memory
 * windows.  There are no configuration ports: Linux then uses ECAM alone, with
 * one exit for each access instead of two. */
#ifndef SAMPAN_VIRTIO_PCI_WINDOW_H
#define SAMPAN_VIRTIO_PCI_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "platform/bus.h"
#include "virtio/pci.h"
#include "virtio/state.h"

#define PCI_WINDOW_SLOTS 32
#define PCI_ECAM_BYTES 0x100000 /* one bus */

struct pci_window;

/* `ioapic`: see irq_routing_new.  `vm_fd` is used, not taken over; it, `mem`
 * and `events` outlive the window. */
int pci_window_new(const struct kvm_calls *calls, int vm_fd, bool ioapic,
		   const struct guest_memory *mem, struct machine_events *events,
		   struct pci_window **ret_window);
void pci_window_free(struct pci_window *window); /* stops, destroys every model */

int pci_window_attach_ecam(struct pci_window *window, struct bus *bus, uint64_t gpa);
/* BARs inside [gpa, gpa+len) are served. */
int pci_window_attach_memory(struct pci_window *window, struct bus *bus, uint64_t gpa,
			     uint64_t len);

/* Before the first vCPU runs.  Takes `model` over on success.  -EINVAL: no such
 * slot or the description breaks a limit; -EEXIST: the slot is taken. */
int pci_window_add(struct pci_window *window, unsigned slot,
		   const struct pci_device_description *description, struct virtio_device *model);

/* The models' threads have ended when it returns.  After the vCPUs have stopped. */
void pci_window_stop(struct pci_window *window);

/* See state.h and kvm/irq_routing.h; -ENODEV: no device in the slot. */
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

#endif
