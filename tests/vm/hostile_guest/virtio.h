/* SPDX-License-Identifier: Apache-2.0 */
/* The devices as a driver has them: found on the bus, brought up with rings in memory.
 * They work, until the attack changes them. */
#ifndef SAMPAN_HOSTILE_VIRTIO_H
#define SAMPAN_HOSTILE_VIRTIO_H

#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include "machine.h"

#define SLOTS 32
#define MOST_QUEUES 5
#define LONGEST_QUEUE 512
#define RING_BYTES 0x10000
#define CONFIG_BYTES 256
#define BAR_BYTES 0x8000
#define BAR_COMMON 0x0000
#define BAR_DEVICE 0x2000
#define BAR_NOTIFY 0x3000
#define BAR_TABLE 0x4000
#define LONGEST_CHAIN 6

struct used_ring {
	uint16_t flags, index;
	struct vring_used_elem elements[LONGEST_QUEUE];
};

struct available_ring {
	uint16_t flags, index, heads[LONGEST_QUEUE + 1];
};

struct queue {
	volatile struct vring_desc *descriptors;
	volatile struct available_ring *available;
	volatile struct used_ring *used;
	uint16_t size, next_descriptor, seen;
};

struct device {
	uint64_t config, bar; /* guest-physical addresses */
	uint16_t type;	      /* VIRTIO_ID_*, 0: there is none */
	unsigned queue_count;
	struct queue queues[MOST_QUEUES];
	uint64_t nodes[8], handles[8]; /* what a file server has told */
};

struct part {
	uint64_t gpa;
	uint32_t bytes;
	bool writable;
};

extern struct device devices[SLOTS];

unsigned find_devices(void);
void bring_up(struct device *device, struct random *r);
/* Whether the device has found that its driver breaks the protocol. */
bool is_broken(const struct device *device);

/* Offers a chain, in an indirect table if `indirect`; returns its head. */
uint16_t offer(struct queue *queue, const struct part *parts, unsigned count, bool indirect);
void notify(const struct device *device, unsigned queue, unsigned width);
/* Whether the device has used a buffer within a moment. */
bool wait_used(struct queue *queue);

#endif
