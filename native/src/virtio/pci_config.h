/* SPDX-License-Identifier: Apache-2.0 */
/* The 256 bytes of configuration space of a virtio device: a type 0 header with
 * one 64-bit memory BAR, and the capabilities of virtio 1.2 §4.1.4 and MSI-X.
 * Pure: the bytes, and the mask of the bits that can be written. */
#ifndef SAMPAN_VIRTIO_PCI_CONFIG_H
#define SAMPAN_VIRTIO_PCI_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_CONFIG_BYTES 256
#define PCI_BAR_BYTES 0x8000ULL
#define PCI_BAR_OFF UINT64_MAX /* the BAR is not decoded */

/* Where the structures lie in the BAR: a page each. */
#define PCI_BAR_COMMON 0x0000
#define PCI_BAR_ISR 0x1000
#define PCI_BAR_DEVICE 0x2000
#define PCI_BAR_NOTIFY 0x3000
#define PCI_BAR_TABLE 0x4000
#define PCI_BAR_PENDING 0x5000
#define PCI_BAR_PAGE 0x1000
#define PCI_NOTIFY_MULTIPLIER 4

struct pci_config {
	uint8_t bytes[PCI_CONFIG_BYTES];
	uint8_t writable[PCI_CONFIG_BYTES]; /* a bit is set where the driver may write */
	uint8_t msix_at, window_at;	    /* offsets of these capabilities */
};

/* The values that the bytes hold. */
struct pci_decoded {
	uint64_t bar_gpa; /* PCI_BAR_OFF without memory decoding */
	bool msix_enabled, msix_masked;
};

/* The window of VIRTIO_PCI_CAP_PCI_CFG onto the BAR (§4.1.4.9). */
struct pci_bar_window {
	uint32_t offset;
	unsigned len; /* 0: the driver has not selected an access that is allowed */
	unsigned data_at;
};

void pci_config_init(struct pci_config *config, uint16_t virtio_type, uint32_t class_code,
		     uint64_t bar_gpa, unsigned queue_count, unsigned device_config_bytes);

/* Bounds: any offset and length; beyond the 256 bytes reads are 0, writes are
 * ignored. */
void pci_config_read(const struct pci_config *config, uint64_t offset, void *data, unsigned len);
void pci_config_write(struct pci_config *config, uint64_t offset, const void *data, unsigned len);

struct pci_decoded pci_config_decode(const struct pci_config *config);
struct pci_bar_window pci_config_window(const struct pci_config *config);

#endif
