/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#define SLOT_CONFIG_BYTES 0x8000
#define VIRTIO_VENDOR 0x1af4
#define FIRST_DEVICE_ID 0x1040
#define AVAILABLE_AT 0x4000
#define USED_AT 0x8000
#define TABLE_AT 0xc000
#define VECTORS 8
#define VECTOR_BYTES 16
#define FIRST_VECTOR 0x20
#define PATIENCE 2000
#define NOTIFY_MULTIPLIER 4

struct device devices[SLOTS];

unsigned find_devices(void)
{
	unsigned found = 0;

	for (unsigned slot = 0; slot < SLOTS; slot++) {
		struct device *d = &devices[slot];

		d->config = ECAM_GPA + slot * SLOT_CONFIG_BYTES;
		d->bar = PCI_WINDOW_GPA + slot * BAR_BYTES;
		if (read_at(d->config, 2) != VIRTIO_VENDOR)
			continue;
		d->type = (uint16_t)(read_at(d->config + PCI_DEVICE_ID, 2) - FIRST_DEVICE_ID);
		found++;
	}
	return found;
}

static void place_bar(struct device *d, struct random *r)
{
	const uint64_t slot = (d->config - ECAM_GPA) / SLOT_CONFIG_BYTES;

	d->bar = (one_in(r, 4) ? WINDOW64_GPA : PCI_WINDOW_GPA) + slot * BAR_BYTES;
	write_at(d->config + PCI_BASE_ADDRESS_0, d->bar, 4);
	write_at(d->config + PCI_BASE_ADDRESS_1, d->bar >> 32, 4);
	write_at(d->config + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
}

static void enable_interrupts(const struct device *d, struct random *r)
{
	uint64_t at = read_at(d->config + PCI_CAPABILITY_LIST, 1);

	for (unsigned vector = 0; vector < VECTORS; vector++) {
		const uint64_t entry = d->bar + BAR_TABLE + vector * VECTOR_BYTES;

		write_at(entry + PCI_MSIX_ENTRY_LOWER_ADDR, LAPIC_GPA, 4);
		write_at(entry + PCI_MSIX_ENTRY_UPPER_ADDR, 0, 4);
		write_at(entry + PCI_MSIX_ENTRY_DATA, FIRST_VECTOR + below(r, 200), 4);
		write_at(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, one_in(r, 8), 4);
	}
	while (at && read_at(d->config + at, 1) != PCI_CAP_ID_MSIX)
		at = read_at(d->config + at + PCI_CAP_LIST_NEXT, 1);
	if (at)
		write_at(d->config + at + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
}

static void negotiate(const struct device *d, struct random *r)
{
	const uint64_t common = d->bar + BAR_COMMON;

	for (unsigned word = 0; word < 2; word++) {
		uint32_t features;

		write_at(common + VIRTIO_PCI_COMMON_DFSELECT, word, 4);
		features = (uint32_t)read_at(common + VIRTIO_PCI_COMMON_DF, 4);
		if (one_in(r, 2))
			features &= (uint32_t)next(r) | (word == 1);
		write_at(common + VIRTIO_PCI_COMMON_GFSELECT, word, 4);
		write_at(common + VIRTIO_PCI_COMMON_GF, features, 4);
	}
	write_at(common + VIRTIO_PCI_COMMON_STATUS,
		 VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK,
		 1);
}

static void write_gpa(uint64_t at, uint64_t gpa)
{
	write_at(at, gpa, 4);
	write_at(at + 4, gpa >> 32, 4);
}

static void clear(uint64_t gpa, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes; at += 8)
		write_at(gpa + at, 0, 8);
}

static void lay_queue(struct device *d, unsigned index, struct random *r)
{
	const uint64_t common = d->bar + BAR_COMMON;
	const uint64_t number = (uint64_t)(d - devices) * MOST_QUEUES + index;
	const uint64_t gpa = RINGS_GPA + number * RING_BYTES;
	struct queue *queue = &d->queues[index];
	uint16_t most;

	write_at(common + VIRTIO_PCI_COMMON_Q_SELECT, index, 2);
	most = (uint16_t)read_at(common + VIRTIO_PCI_COMMON_Q_SIZE, 2);
	if (most == 0 || most > LONGEST_QUEUE)
		most = 16;
	queue->descriptors = (struct vring_desc *)gpa;
	queue->available = (struct available_ring *)(gpa + AVAILABLE_AT);
	queue->used = (struct used_ring *)(gpa + USED_AT);
	queue->next_descriptor = queue->seen = 0;
	queue->size = most;
	while (queue->size > 8 && one_in(r, 4))
		queue->size /= 2;
	clear(gpa, queue->size * sizeof(struct vring_desc));
	clear(gpa + AVAILABLE_AT, sizeof(uint16_t) * (queue->size + 3U));
	clear(gpa + USED_AT, sizeof(struct vring_used_elem) * (queue->size + 1U));
	write_at(common + VIRTIO_PCI_COMMON_Q_SIZE, queue->size, 2);
	write_at(common + VIRTIO_PCI_COMMON_Q_MSIX, below(r, VECTORS), 2);
	write_gpa(common + VIRTIO_PCI_COMMON_Q_DESCLO, gpa);
	write_gpa(common + VIRTIO_PCI_COMMON_Q_AVAILLO, gpa + AVAILABLE_AT);
	write_gpa(common + VIRTIO_PCI_COMMON_Q_USEDLO, gpa + USED_AT);
	write_at(common + VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
}

void bring_up(struct device *d, struct random *r)
{
	uint64_t common;

	place_bar(d, r);
	common = d->bar + BAR_COMMON;
	write_at(common + VIRTIO_PCI_COMMON_STATUS, 0, 1);
	negotiate(d, r);
	enable_interrupts(d, r);
	d->queue_count = (unsigned)read_at(common + VIRTIO_PCI_COMMON_NUMQ, 2);
	if (d->queue_count > MOST_QUEUES)
		d->queue_count = MOST_QUEUES;
	for (unsigned i = 0; i < d->queue_count; i++)
		lay_queue(d, i, r);
	write_at(common + VIRTIO_PCI_COMMON_STATUS,
		 VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
			 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK,
		 1);
}

bool is_broken(const struct device *d)
{
	return read_at(d->bar + BAR_COMMON + VIRTIO_PCI_COMMON_STATUS, 1) &
	       VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void describe(volatile struct vring_desc *to, const struct part *part, bool last,
		     uint16_t next)
{
	to->addr = part->gpa;
	to->len = part->bytes;
	to->next = next;
	to->flags = (part->writable ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT);
}

/* The other processor may be setting the queue up. */
static uint16_t place_in(const struct queue *queue, unsigned index)
{
	const uint16_t size = *(const volatile uint16_t *)&queue->size;

	return size ? (uint16_t)(index % size) : 0;
}

static void publish(struct queue *queue, uint16_t head)
{
	queue->available->heads[place_in(queue, queue->available->index)] = head;
	__asm__ volatile("" : : : "memory"); /* x86 keeps the order of stores */
	queue->available->index++;
}

uint16_t offer(struct queue *queue, const struct part *parts, unsigned count, bool indirect)
{
	volatile struct vring_desc *table = queue->descriptors;
	const uint16_t head = place_in(queue, queue->next_descriptor);

	if (indirect) {
		const struct part whole = {
			.gpa = (uint64_t)table + TABLE_AT + head % 64 * 128,
			.bytes = count * sizeof(struct vring_desc),
		};

		describe(&table[head], &whole, true, 0);
		table[head].flags |= VRING_DESC_F_INDIRECT;
		for (unsigned i = 0; i < count; i++)
			describe((struct vring_desc *)whole.gpa + i, &parts[i], i + 1 == count,
				 (uint16_t)(i + 1));
		queue->next_descriptor++;
	} else {
		for (unsigned i = 0; i < count; i++)
			describe(&table[place_in(queue, head + i)], &parts[i], i + 1 == count,
				 place_in(queue, head + i + 1));
		queue->next_descriptor += (uint16_t)count;
	}
	publish(queue, head);
	return head;
}

void notify(const struct device *d, unsigned queue, unsigned width)
{
	write_at(d->bar + BAR_NOTIFY + queue * NOTIFY_MULTIPLIER, queue, width);
}

bool wait_used(struct queue *queue)
{
	for (unsigned i = 0; i < PATIENCE; i++) {
		if (queue->used->index != queue->seen) {
			queue->seen++;
			return true;
		}
		__asm__ volatile("pause");
	}
	return false;
}
