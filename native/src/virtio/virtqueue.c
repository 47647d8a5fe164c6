/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/virtqueue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* Ring fields, which the driver may write at any time: each is loaded once. */
static uint16_t load_u16(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void store_u16(uint16_t *p, uint16_t value)
{
	__atomic_store_n(p, value, __ATOMIC_RELAXED);
}

/* virtio 1.2 §2.7.10: used_event follows the available ring, avail_event the
 * used ring. */
static const uint16_t *used_event(const struct virtqueue *vq)
{
	const struct vring_avail *avail = vq->driver;

	return &avail->ring[vq->size];
}

static uint16_t *avail_event(const struct virtqueue *vq)
{
	struct vring_used *used = vq->device;

	return (uint16_t *)&used->ring[vq->size];
}

static int violation(struct virtqueue *vq)
{
	vq->broken = true;
	return -EPROTO;
}

int virtqueue_start(struct virtqueue *vq)
{
	const uint16_t size = vq->size;

	if (size == 0 || size > VIRTQUEUE_MAX_SIZE || (size & (size - 1)) != 0)
		return violation(vq);
	if (vq->desc_gpa % 16 != 0 || vq->driver_gpa % 2 != 0 || vq->device_gpa % 4 != 0)
		return violation(vq);
	vq->desc = guest_memory_at(vq->mem, vq->desc_gpa, sizeof(struct vring_desc) * size);
	vq->driver = guest_memory_at(vq->mem, vq->driver_gpa,
				     sizeof(struct vring_avail) + sizeof(uint16_t) * (size + 1U));
	vq->device = guest_memory_at(vq->mem, vq->device_gpa,
				     sizeof(struct vring_used) +
					     sizeof(struct vring_used_elem) * size +
					     sizeof(uint16_t));
	if (vq->desc == NULL || vq->driver == NULL || vq->device == NULL)
		return violation(vq);
	vq->broken = false;
	vq->signalled_valid = false;
	return 0;
}

static int add_segment(struct virtqueue *vq, struct virtqueue_chain *chain,
		       const struct vring_desc *d)
{
	const unsigned at = chain->readable_count + chain->writable_count;
	void *hva = guest_memory_at(vq->mem, d->addr, d->len);

	if (hva == NULL || at == VIRTQUEUE_MAX_SEGMENTS)
		return -EPROTO;
	chain->iov[at] = (struct iovec){.iov_base = hva, .iov_len = d->len};
	if (d->flags & VRING_DESC_F_WRITE) {
		chain->writable_count++;
		chain->writable_bytes += d->len;
		return 0;
	}
	/* §2.7.4.2: readable descriptors come first. */
	if (chain->writable_count != 0)
		return -EPROTO;
	chain->readable_count++;
	chain->readable_bytes += d->len;
	return 0;
}

/* Bounds: every index is below `count` before use, and at most `count` (≤ the
 * queue's size) descriptors are followed, so a loop ends. */
static int walk(struct virtqueue *vq, struct virtqueue_chain *chain, const struct vring_desc *table,
		unsigned count, unsigned index, bool indirect)
{
	for (unsigned left = count; left > 0; left--) {
		struct vring_desc d;
		int r;

		if (index >= count)
			return -EPROTO;
		/* One copy, used from here on: the driver may rewrite the table. */
		memcpy(&d, &table[index], sizeof(d));
		if (d.flags & VRING_DESC_F_INDIRECT) {
			const struct vring_desc *inner;
			const unsigned inner_count = d.len / sizeof(d);

			/* §2.7.5.3.1: one level, no NEXT beside it, whole descriptors. */
			if (indirect || (d.flags & VRING_DESC_F_NEXT) || d.len == 0 ||
			    d.len % sizeof(d) != 0 || inner_count > vq->size)
				return -EPROTO;
			inner = guest_memory_at(vq->mem, d.addr, d.len);
			if (inner == NULL)
				return -EPROTO;
			return walk(vq, chain, inner, inner_count, 0, true);
		}
		r = add_segment(vq, chain, &d);
		if (r < 0)
			return r;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 0;
		index = d.next;
	}
	return -EPROTO;
}

/* One thread at a time writes a counter, any may read it. */
static void count(uint64_t *counter, int step)
{
	__atomic_store_n(counter, *counter + (uint64_t)(int64_t)step, __ATOMIC_RELAXED);
}

int virtqueue_pop(struct virtqueue *vq, struct virtqueue_chain *ret_chain)
{
	const struct vring_avail *avail = vq->driver;
	uint16_t idx;

	if (vq->broken)
		return -EPROTO;
	idx = load_u16(&avail->idx);
	if (idx == vq->next_avail)
		return 0;
	if ((uint16_t)(idx - vq->next_avail) > vq->size)
		return violation(vq);
	/* Ring entries and descriptors are not read before the index that
	 * published them. */
	atomic_thread_fence(memory_order_acquire);
	ret_chain->head = load_u16(&avail->ring[vq->next_avail & (vq->size - 1)]);
	ret_chain->readable_count = ret_chain->writable_count = 0;
	ret_chain->readable_bytes = ret_chain->writable_bytes = 0;
	if (walk(vq, ret_chain, vq->desc, vq->size, ret_chain->head, false) < 0)
		return violation(vq);
	vq->next_avail++;
	count(&vq->pops, 1);
	return 1;
}

void virtqueue_unpop(struct virtqueue *vq)
{
	vq->next_avail--;
	count(&vq->pops, -1);
}

void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	struct vring_used *used = vq->device;
	struct vring_used_elem *e = &used->ring[vq->next_used & (vq->size - 1)];

	e->id = head;
	e->len = written;
	vq->next_used++;
	/* The element and the data are visible before the index that publishes them. */
	atomic_thread_fence(memory_order_release);
	store_u16(&used->idx, vq->next_used);
}

static bool driver_wants_signal(struct virtqueue *vq)
{
	const struct vring_avail *avail = vq->driver;
	const uint16_t old = vq->signalled_used, now = vq->next_used;
	const bool had_old = vq->signalled_valid;

	if (!vq->event_idx)
		return !(load_u16(&avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	vq->signalled_used = now;
	vq->signalled_valid = true;
	return !had_old || vring_need_event(load_u16(used_event(vq)), now, old);
}

void virtqueue_signal(struct virtqueue *vq)
{
	const uint64_t one = 1;

	if (vq->broken || vq->call_fd < 0)
		return;
	/* The used index is written before the driver's request for interrupts is
	 * read: otherwise both sides may wait for each other. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!driver_wants_signal(vq))
		return;
	count(&vq->signals, 1);
	/* Fails only when the counter is full: the interrupt is pending then. */
	(void)!write(vq->call_fd, &one, sizeof(one));
}

bool virtqueue_enable_kicks(struct virtqueue *vq)
{
	const struct vring_avail *avail = vq->driver;
	struct vring_used *used = vq->device;

	if (vq->broken)
		return false;
	if (vq->event_idx)
		store_u16(avail_event(vq), vq->next_avail);
	else
		store_u16(&used->flags, 0);
	/* The request for kicks is written before the index is read again: a
	 * chain that came in between is seen here or causes a kick. */
	atomic_thread_fence(memory_order_seq_cst);
	return load_u16(&avail->idx) != vq->next_avail;
}

void virtqueue_disable_kicks(struct virtqueue *vq)
{
	struct vring_used *used = vq->device;

	/* With event_idx an old avail_event already suppresses kicks. */
	if (!vq->broken && !vq->event_idx)
		store_u16(&used->flags, VRING_USED_F_NO_NOTIFY);
}
