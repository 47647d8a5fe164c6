/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/pci_config.h"

#include <endian.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stddef.h>
#include <string.h>

#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_FIRST_DEVICE 0x1040 /* §4.1.2: plus the virtio device type */
#define VIRTIO_SUBSYSTEM 0x0040	   /* §4.1.2.1: 0x40 or more for modern devices */
#define MODERN_REVISION 1

static void put16(struct pci_config *config, unsigned at, uint16_t value)
{
	value = htole16(value);
	memcpy(config->bytes + at, &value, sizeof(value));
}

static void put32(struct pci_config *config, unsigned at, uint32_t value)
{
	value = htole32(value);
	memcpy(config->bytes + at, &value, sizeof(value));
}

static uint16_t get16(const struct pci_config *config, unsigned at)
{
	uint16_t value;

	memcpy(&value, config->bytes + at, sizeof(value));
	return le16toh(value);
}

static uint32_t get32(const struct pci_config *config, unsigned at)
{
	uint32_t value;

	memcpy(&value, config->bytes + at, sizeof(value));
	return le32toh(value);
}

/* Capabilities are placed one after the other from 0x40 on. */
struct capabilities {
	struct pci_config *config;
	unsigned link; /* where the offset of the next one goes */
	unsigned next;
};

static unsigned add_capability(struct capabilities *list, const void *bytes, unsigned len)
{
	const unsigned at = list->next;

	memcpy(list->config->bytes + at, bytes, len);
	list->config->bytes[list->link] = (uint8_t)at;
	list->link = at + PCI_CAP_LIST_NEXT;
	list->next = (at + len + 3) / 4 * 4;
	return at;
}

static unsigned add_virtio(struct capabilities *list, uint8_t type, unsigned cap_len,
			   uint32_t offset, uint32_t length)
{
	const struct virtio_pci_notify_cap cap = {
		.cap =
			{
				.cap_vndr = PCI_CAP_ID_VNDR,
				.cap_len = (uint8_t)cap_len,
				.cfg_type = type,
				.offset = htole32(offset),
				.length = htole32(length),
			},
		.notify_off_multiplier =
			htole32(type == VIRTIO_PCI_CAP_NOTIFY_CFG ? PCI_NOTIFY_MULTIPLIER : 0),
	};

	return add_capability(list, &cap, cap_len);
}

static void add_msix(struct capabilities *list, unsigned vectors)
{
	uint8_t cap[PCI_CAP_MSIX_SIZEOF] = {PCI_CAP_ID_MSIX};
	struct pci_config *config = list->config;
	const unsigned at = add_capability(list, cap, sizeof(cap));

	config->msix_at = (uint8_t)at;
	put16(config, at + PCI_MSIX_FLAGS, (uint16_t)(vectors - 1));
	put32(config, at + PCI_MSIX_TABLE, PCI_BAR_TABLE); /* BAR 0 in the low bits */
	put32(config, at + PCI_MSIX_PBA, PCI_BAR_PENDING);
	config->writable[at + PCI_MSIX_FLAGS + 1] =
		(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
}

static void add_window(struct capabilities *list)
{
	struct pci_config *config = list->config;
	const unsigned at = add_virtio(list, VIRTIO_PCI_CAP_PCI_CFG,
				       sizeof(struct virtio_pci_cfg_cap), 0, 0);

	config->window_at = (uint8_t)at;
	config->writable[at + offsetof(struct virtio_pci_cap, bar)] = 0xff;
	memset(config->writable + at + offsetof(struct virtio_pci_cap, offset), 0xff,
	       sizeof(struct virtio_pci_cfg_cap) - offsetof(struct virtio_pci_cap, offset));
}

static void add_header(struct pci_config *config, uint16_t virtio_type, uint32_t class_code,
		       uint64_t bar_gpa)
{
	const uint64_t bar_mask = ~(PCI_BAR_BYTES - 1);

	put16(config, PCI_VENDOR_ID, VIRTIO_VENDOR);
	put16(config, PCI_DEVICE_ID, (uint16_t)(VIRTIO_FIRST_DEVICE + virtio_type));
	put16(config, PCI_COMMAND, PCI_COMMAND_MEMORY);
	put16(config, PCI_STATUS, PCI_STATUS_CAP_LIST);
	put32(config, PCI_CLASS_REVISION, class_code << 8 | MODERN_REVISION);
	put32(config, PCI_BASE_ADDRESS_0, (uint32_t)bar_gpa | PCI_BASE_ADDRESS_MEM_TYPE_64);
	put32(config, PCI_BASE_ADDRESS_1, bar_gpa >> 32);
	put16(config, PCI_SUBSYSTEM_VENDOR_ID, VIRTIO_VENDOR);
	put16(config, PCI_SUBSYSTEM_ID, (uint16_t)(VIRTIO_SUBSYSTEM + virtio_type));

	config->writable[PCI_COMMAND] = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	config->writable[PCI_COMMAND + 1] = PCI_COMMAND_INTX_DISABLE >> 8;
	config->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	config->writable[PCI_INTERRUPT_LINE] = 0xff;
	/* A driver learns the BAR's size from the bits that stay 0. */
	for (unsigned i = 0; i < sizeof(bar_mask); i++)
		config->writable[PCI_BASE_ADDRESS_0 + i] = (uint8_t)(bar_mask >> 8 * i);
}

void pci_config_init(struct pci_config *config, uint16_t virtio_type, uint32_t class_code,
		     uint64_t bar_gpa, unsigned queue_count, unsigned device_config_bytes)
{
	const unsigned plain = sizeof(struct virtio_pci_cap);
	struct capabilities list = {
		.config = config,
		.link = PCI_CAPABILITY_LIST,
		.next = PCI_STD_HEADER_SIZEOF,
	};

	memset(config, 0, sizeof(*config));
	add_header(config, virtio_type, class_code, bar_gpa);
	add_virtio(&list, VIRTIO_PCI_CAP_COMMON_CFG, plain, PCI_BAR_COMMON,
		   sizeof(struct virtio_pci_common_cfg));
	add_virtio(&list, VIRTIO_PCI_CAP_ISR_CFG, plain, PCI_BAR_ISR, 1);
	if (device_config_bytes > 0)
		add_virtio(&list, VIRTIO_PCI_CAP_DEVICE_CFG, plain, PCI_BAR_DEVICE,
			   device_config_bytes);
	add_virtio(&list, VIRTIO_PCI_CAP_NOTIFY_CFG, sizeof(struct virtio_pci_notify_cap),
		   PCI_BAR_NOTIFY, queue_count * PCI_NOTIFY_MULTIPLIER);
	add_window(&list);
	add_msix(&list, queue_count + 1);
}

void pci_config_read(const struct pci_config *config, uint64_t offset, void *data, unsigned len)
{
	memset(data, 0, len);
	if (offset < PCI_CONFIG_BYTES && len <= PCI_CONFIG_BYTES - offset)
		memcpy(data, config->bytes + offset, len);
}

void pci_config_write(struct pci_config *config, uint64_t offset, const void *data, unsigned len)
{
	const uint8_t *from = data;

	if (offset >= PCI_CONFIG_BYTES || len > PCI_CONFIG_BYTES - offset)
		return;
	for (unsigned i = 0; i < len; i++) {
		const uint8_t mask = config->writable[offset + i];
		uint8_t *to = &config->bytes[offset + i];

		*to = (*to & (uint8_t)~mask) | (from[i] & mask);
	}
}

struct pci_decoded pci_config_decode(const struct pci_config *config)
{
	const uint16_t control = get16(config, config->msix_at + PCI_MSIX_FLAGS);
	struct pci_decoded decoded = {
		.bar_gpa = PCI_BAR_OFF,
		.msix_enabled = control & PCI_MSIX_FLAGS_ENABLE,
		.msix_masked = control & PCI_MSIX_FLAGS_MASKALL,
	};

	if (get16(config, PCI_COMMAND) & PCI_COMMAND_MEMORY)
		decoded.bar_gpa = (uint64_t)get32(config, PCI_BASE_ADDRESS_1) << 32 |
				  (get32(config, PCI_BASE_ADDRESS_0) &
				   (uint32_t)PCI_BASE_ADDRESS_MEM_MASK);
	return decoded;
}

struct pci_bar_window pci_config_window(const struct pci_config *config)
{
	const unsigned at = config->window_at;
	const uint32_t len = get32(config, at + offsetof(struct virtio_pci_cap, length));
	const bool valid = config->bytes[at + offsetof(struct virtio_pci_cap, bar)] == 0 &&
			   (len == 1 || len == 2 || len == 4);

	return (struct pci_bar_window){
		.offset = get32(config, at + offsetof(struct virtio_pci_cap, offset)),
		.len = valid ? len : 0,
		.data_at = at + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data),
	};
}
