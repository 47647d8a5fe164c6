/* SPDX-License-Identifier: Apache-2.0 */
/* A driver's half of one split virtqueue, written from virtio 1.2 §2.7 for
 * drivers: it lays descriptors into memory and never calls into the device. */
#ifndef SAMPAN_TESTS_RING_DRIVER_H
#define SAMPAN_TESTS_RING_DRIVER_H

#include <linux/virtio_ring.h>
#include <sys/mman.h>

#include "check.h"
#include "memory/memory.h"
#include "virtio/virtqueue.h"

#define RAM_BYTES 0x100000u
#define DESC_GPA 0x1000u
#define AVAIL_GPA 0x8000u
#define USED_GPA 0xa000u
#define TABLE_GPA 0x10000u /* indirect tables */
#define DATA_GPA 0x40000u

struct ring {
	struct guest_memory mem;
	uint8_t *ram;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct virtqueue vq;
};

static inline void ring_setup(struct ring *r, uint16_t size, bool event_idx)
{
	memset(r, 0, sizeof(*r));
	r->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(r->ram != MAP_FAILED);
	CHECK_EQUAL(guest_memory_add(&r->mem, 0, RAM_BYTES, r->ram), 0);
	r->desc = (struct vring_desc *)(r->ram + DESC_GPA);
	r->avail = (struct vring_avail *)(r->ram + AVAIL_GPA);
	r->used = (struct vring_used *)(r->ram + USED_GPA);
	r->vq = (struct virtqueue){
		.mem = &r->mem,
		.desc_gpa = DESC_GPA,
		.driver_gpa = AVAIL_GPA,
		.device_gpa = USED_GPA,
		.size = size,
		.enabled = true,
		.event_idx = event_idx,
		.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	CHECK_EQUAL(virtqueue_start(&r->vq), 0);
}

static inline void ring_teardown(struct ring *r)
{
	close(r->vq.kick_fd);
	close(r->vq.call_fd);
	munmap(r->ram, RAM_BYTES);
}

static inline void ring_describe(struct ring *r, unsigned index, uint64_t gpa, uint32_t len,
				 uint16_t flags, uint16_t next)
{
	r->desc[index] = (struct vring_desc){gpa, len, flags, next};
}

static inline void ring_offer(struct ring *r, uint16_t head)
{
	r->avail->ring[r->avail->idx % r->vq.size] = head;
	r->avail->idx++;
}

static inline uint16_t *ring_used_event(struct ring *r)
{
	return &r->avail->ring[r->vq.size];
}

static inline uint16_t ring_avail_event(const struct ring *r)
{
	return *(const uint16_t *)&r->used->ring[r->vq.size];
}

/* Every byte of a chain that was handed out is guest memory. */
static inline void ring_check_chain(const struct ring *r, const struct virtqueue_chain *chain)
{
	size_t readable = 0, writable = 0;

	CHECK(chain->head < r->vq.size);
	CHECK(chain->readable_count + chain->writable_count >= 1);
	CHECK(chain->readable_count + chain->writable_count <= VIRTQUEUE_MAX_SEGMENTS);
	for (unsigned i = 0; i < chain->readable_count + chain->writable_count; i++) {
		const uint8_t *start = chain->iov[i].iov_base;

		CHECK(start >= r->ram && chain->iov[i].iov_len <= RAM_BYTES);
		CHECK(start + chain->iov[i].iov_len <= r->ram + RAM_BYTES);
		*(i < chain->readable_count ? &readable : &writable) += chain->iov[i].iov_len;
	}
	CHECK_EQUAL(chain->readable_bytes, readable);
	CHECK_EQUAL(chain->writable_bytes, writable);
}

#endif
