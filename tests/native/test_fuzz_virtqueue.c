/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile driver's queue: random descriptors, indices and tables from a fixed
 * seed.  Whatever is in memory, a pop ends, and every byte of a chain that it
 * hands out is guest memory.  `test_fuzz_virtqueue ROUNDS SEED` runs longer. */
#include <errno.h>

#include "ring_driver.h"

static uint64_t seed = 0x5eed;
static uint64_t taken;

static uint64_t any(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

static uint64_t any_gpa(void)
{
	switch (any(40)) {
	case 0:
		return seed;
	case 1:
		return UINT64_MAX - any(64);
	case 2:
		return RAM_BYTES - any(64);
	default:
		return any(RAM_BYTES);
	}
}

static void put_descriptor(struct vring_desc *d, unsigned count)
{
	const bool table = any(6) == 0;

	*d = (struct vring_desc){
		.addr = any_gpa(),
		.len = any(40) == 0 ? (uint32_t)seed
				    : (uint32_t)(any(4096) + 16) & (table ? ~15u : ~0u),
		.flags = (uint16_t)((table ? VRING_DESC_F_INDIRECT : 0) |
				    (any(2) ? VRING_DESC_F_NEXT : 0) |
				    (any(2) ? VRING_DESC_F_WRITE : 0)),
		.next = (uint16_t)any(count + 1),
	};
	if (table && any(4) != 0)
		d->flags &= (uint16_t)~VRING_DESC_F_NEXT;
}

static void scramble(struct ring *r)
{
	struct vring_desc *tables = (struct vring_desc *)(r->ram + TABLE_GPA);

	for (unsigned i = 0; i < r->vq.size; i++)
		put_descriptor(&r->desc[i], r->vq.size);
	for (unsigned i = 0; i < 64; i++)
		put_descriptor(&tables[any(1024)], r->vq.size);
	for (unsigned i = 0; i < r->vq.size; i++) {
		r->avail->ring[i] = (uint16_t)any(r->vq.size + (any(8) == 0));
		if (any(4) == 0)
			r->desc[i].addr = TABLE_GPA + any(1024) * sizeof(struct vring_desc);
	}
	*ring_used_event(r) = (uint16_t)seed;
}

static void one_life(void)
{
	static struct virtqueue_chain chain;
	struct ring r;
	int popped = 1;

	ring_setup(&r, (uint16_t)(1u << any(9)), any(2));
	r.vq.next_avail = r.avail->idx = (uint16_t)seed;
	r.vq.next_used = r.used->idx = (uint16_t)(seed >> 16);
	scramble(&r);
	r.avail->idx += (uint16_t)any(r.vq.size + (any(8) == 0));
	while (popped == 1) {
		popped = virtqueue_pop(&r.vq, &chain);
		CHECK(popped == 0 || popped == 1 || popped == -EPROTO);
		if (popped == 1) {
			ring_check_chain(&r, &chain);
			taken++;
			virtqueue_push(&r.vq, chain.head, (uint32_t)seed);
		}
		virtqueue_signal(&r.vq);
	}
	virtqueue_enable_kicks(&r.vq);
	virtqueue_disable_kicks(&r.vq);
	ring_teardown(&r);
}

int main(int argc, char **argv)
{
	const unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 1500;

	if (argc > 2)
		seed = strtoull(argv[2], NULL, 0);
	for (unsigned i = 0; i < rounds; i++)
		one_life();
	/* Enough chains must be valid. */
	CHECK(taken > rounds / 2);
	return 0;
}
