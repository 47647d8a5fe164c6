/* SPDX-License-Identifier: Apache-2.0 */
/* A driver's half of a queue whose device runs on a thread of its own: it
 * publishes in the order of virtio 1.2 §2.7.13, kicks by eventfd and waits for
 * the device's interrupts. */
#ifndef SAMPAN_TESTS_LIVE_RING_H
#define SAMPAN_TESTS_LIVE_RING_H

#include <errno.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "assertions.h"
#include "guest_access.h"
#include "memory/memory.h"
#include "virtio/virtqueue.h"

#define RING_BYTES 0x10000

struct ring {
	struct virtqueue *vq;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t avail_idx, last_used;
};

static inline bool wait_readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int r;

	do
		r = poll(&p, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	return r == 1;
}

static inline void ring_open(struct virtqueue *vq)
{
	vq->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vq->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static inline void ring_close(const struct virtqueue *vq)
{
	close(vq->kick_fd);
	close(vq->call_fd);
}

/* Lays an empty queue of `size` at `gpa`, RING_BYTES of `mem`. */
static inline void ring_lay(struct ring *ring, struct virtqueue *vq, const struct guest_memory *mem,
			    uint64_t gpa, uint16_t size, bool event_idx)
{
	uint8_t *at = guest_memory_at(mem, gpa, RING_BYTES);
	int kick_fd = vq->kick_fd, call_fd = vq->call_fd;

	CHECK(at != NULL);
	*vq = (struct virtqueue){
		.mem = mem,
		.desc_gpa = gpa,
		.driver_gpa = gpa + 0x4000,
		.device_gpa = gpa + 0x8000,
		.size = size,
		.enabled = true,
		.event_idx = event_idx,
		.kick_fd = kick_fd,
		.call_fd = call_fd,
	};
	*ring = (struct ring){
		.vq = vq,
		.desc = (void *)at,
		.avail = (void *)(at + 0x4000),
		.used = (void *)(at + 0x8000),
	};
	GUEST_BEGIN();
	memset(at, 0, RING_BYTES);
	GUEST_END();
	CHECK_EQUAL(virtqueue_start(vq), 0);
}

/* §2.7.10: after the used ring. */
static inline const uint16_t *ring_avail_event(const struct ring *ring)
{
	return (const void *)&ring->used->ring[ring->vq->size];
}

/* Makes `head` available and kicks if the device asked for it (§2.7.13). */
static inline void ring_publish(struct ring *ring, uint16_t head)
{
	uint16_t old = ring->avail_idx, event;
	bool kick;

	GUEST_BEGIN();
	ring->avail->ring[old % ring->vq->size] = head;
	__atomic_store_n(&ring->avail->idx, ++ring->avail_idx, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = __atomic_load_n(ring_avail_event(ring), __ATOMIC_SEQ_CST);
	if (ring->vq->event_idx)
		kick = vring_need_event(event, ring->avail_idx, old);
	else
		kick = !(__atomic_load_n(&ring->used->flags, __ATOMIC_SEQ_CST) &
			 VRING_USED_F_NO_NOTIFY);
	GUEST_END();
	if (kick)
		eventfd_write(ring->vq->kick_fd, 1);
}

static inline bool ring_has_used(const struct ring *ring)
{
	return __atomic_load_n(&ring->used->idx, __ATOMIC_SEQ_CST) != ring->last_used;
}

/* Next used element; waits for the device's interrupt. */
static inline bool ring_take_used(struct ring *ring, struct vring_used_elem *ret, int timeout_ms)
{
	for (;;) {
		eventfd_t n;
		bool any;

		GUEST_BEGIN();
		ring->avail->ring[ring->vq->size] = ring->last_used; /* used_event */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		any = ring_has_used(ring);
		if (any)
			*ret = ring->used->ring[ring->last_used++ % ring->vq->size];
		GUEST_END();
		if (any)
			return true;
		if (!wait_readable(ring->vq->call_fd, timeout_ms))
			return false;
		eventfd_read(ring->vq->call_fd, &n);
	}
}

#define CASE(name) {#name, name}

/* The main of tests that each get a driver of their own, or of the one that is named;
 * none may leave a descriptor.  The file has `struct driver`, driver_new, driver_free. */
#define RUN_CASES_IN_MAIN(cases)                                                                   \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {                  \
			struct driver d;                                                           \
			const int before = dup(0);                                                 \
                                                                                                   \
			close(before);                                                             \
			if (argc > 1 && strcmp(argv[1], cases[i].name) != 0)                       \
				continue;                                                          \
			driver_new(&d);                                                            \
			cases[i].run(&d);                                                          \
			driver_free(&d);                                                           \
			CHECK_EQUAL(dup(0), before);                                               \
			close(before);                                                             \
		}                                                                                  \
		return 0;                                                                          \
	}

#endif
