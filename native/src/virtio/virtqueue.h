/* SPDX-License-Identifier: Apache-2.0 */
/* Split virtqueues, device side (virtio 1.2 §2.7), with indirect descriptors
 * (§2.7.5.3) and event suppression by VIRTIO_F_EVENT_IDX (§2.7.10).
 *
 * One thread at a time uses a queue: the worker of its device.  The driver is
 * hostile: whatever it writes, a call ends in a bounded time with either a
 * chain whose every byte lies in guest memory, or -EPROTO. */
#ifndef SAMPAN_VIRTIO_VIRTQUEUE_H
#define SAMPAN_VIRTIO_VIRTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "memory/memory.h"

#define VIRTQUEUE_MAX_SIZE 1024
#define VIRTQUEUE_MAX_SEGMENTS 1024

struct virtqueue {
	const struct guest_memory *mem;
	/* set by the transport before activation */
	uint64_t desc_gpa, driver_gpa, device_gpa;
	uint16_t size;
	bool enabled;
	bool event_idx;
	int kick_fd; /* eventfd, written by KVM (ioeventfd): owned by the transport */
	int call_fd; /* eventfd, an irqfd of KVM: owned by the transport; -1: no vector */
	/* positions; saved and restored with the device */
	uint16_t next_avail;
	uint16_t next_used;
	/* the members below are private to virtqueue.c */
	void *desc, *driver, *device;
	uint16_t signalled_used;
	bool signalled_valid;
	bool broken;		/* a violation was seen: pops return -EPROTO until reset */
	uint64_t pops, signals; /* counters for the figures; read with __atomic_load_n */
};

/* A chain: first the parts that the device reads, then those that it writes. */
struct virtqueue_chain {
	uint16_t head;
	unsigned readable_count, writable_count;
	size_t readable_bytes, writable_bytes;
	struct iovec iov[VIRTQUEUE_MAX_SEGMENTS]; /* readable, then writable */
};

static inline struct iovec *virtqueue_chain_writable(struct virtqueue_chain *c)
{
	return c->iov + c->readable_count;
}

/* Translates the three areas.  0, or -EPROTO when one is not guest memory,
 * is misaligned, or the size is no power of two ≤ VIRTQUEUE_MAX_SIZE. */
int virtqueue_start(struct virtqueue *vq);

/* Takes the next chain.  1: taken; 0: queue empty; -EPROTO: violation, the
 * queue is broken from now on. */
int virtqueue_pop(struct virtqueue *vq, struct virtqueue_chain *ret_chain);

/* Puts the last popped chain back (only directly after its pop). */
void virtqueue_unpop(struct virtqueue *vq);

/* Hands a chain back with the number of bytes written to it. */
void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t written);

/* Interrupts the driver if it requested that for what was pushed. */
void virtqueue_signal(struct virtqueue *vq);

/* Asks for a kick at the next chain.  true: chains came meanwhile, pop again. */
bool virtqueue_enable_kicks(struct virtqueue *vq);
void virtqueue_disable_kicks(struct virtqueue *vq);

#endif
