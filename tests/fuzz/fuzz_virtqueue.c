/* SPDX-License-Identifier: Apache-2.0 */
/* Chains of a hostile driver: descriptors, tables and indices as the input has them. */
#include <errno.h>

#include "input.h"
#include "ring_driver.h"

#define TABLES 64
#define LONGEST_QUEUE 256

static struct ring ring;

static uint64_t take_gpa(struct input *in)
{
	const uint8_t kind = take_u8(in);

	if (kind == 0)
		return take_u64(in);
	if (kind == 1)
		return UINT64_MAX - take_u8(in);
	if (kind == 2)
		return RAM_BYTES - take_u8(in);
	if (kind < 64)
		return TABLE_GPA + kind % TABLES * sizeof(struct vring_desc);
	return DATA_GPA + kind * 64;
}

static void take_descriptor(struct input *in, struct vring_desc *desc)
{
	*desc = (struct vring_desc){.addr = take_gpa(in), .len = (uint32_t)take_number(in)};
	desc->flags = take_u8(in);
	desc->next = take_u8(in);
	/* A table's length: bytes of whole descriptors are rare otherwise. */
	if (desc->flags & 8)
		desc->len = (desc->len % TABLES) * sizeof(*desc);
	desc->flags &= 7;
}

static void start(struct input *in)
{
	const uint8_t shape = take_u8(in);

	memset(ring.desc, 0, LONGEST_QUEUE * sizeof(*ring.desc));
	memset(ring.avail, 0, 2 * (LONGEST_QUEUE + 3));
	memset(ring.used, 0, 8 * LONGEST_QUEUE + 6);
	memset(ring.ram + TABLE_GPA, 0, TABLES * sizeof(struct vring_desc));
	ring.vq = (struct virtqueue){
		.mem = &ring.mem,
		.desc_gpa = DESC_GPA,
		.driver_gpa = AVAIL_GPA,
		.device_gpa = USED_GPA,
		.size = (uint16_t)(1u << shape % 9),
		.enabled = true,
		.event_idx = shape & 0x80,
		.kick_fd = ring.vq.kick_fd,
		.call_fd = ring.vq.call_fd,
	};
	if (shape & 0x40)
		ring.vq.next_avail = ring.avail->idx = ring.vq.next_used = ring.used->idx =
			take_u16(in);
	if (shape & 0x20) {
		ring.vq.size = take_u16(in);
		ring.vq.desc_gpa = take_gpa(in);
		ring.vq.driver_gpa = take_gpa(in);
		ring.vq.device_gpa = take_gpa(in);
	}
}

static int pop(uint32_t written)
{
	static struct virtqueue_chain chain;
	const int r = virtqueue_pop(&ring.vq, &chain);

	CHECK(r == 0 || r == 1 || r == -EPROTO);
	if (r != 1)
		return r;
	ring_check_chain(&ring, &chain);
	if (written % 8 == 7)
		virtqueue_unpop(&ring.vq);
	else
		virtqueue_push(&ring.vq, chain.head, written);
	return r;
}

static void step(struct input *in)
{
	struct vring_desc *tables = (struct vring_desc *)(ring.ram + TABLE_GPA);
	const uint8_t what = take_u8(in);

	switch (what % 8) {
	case 0:
		take_descriptor(in, &ring.desc[take_u8(in)]);
		break;
	case 1:
		take_descriptor(in, &tables[take_u8(in) % TABLES]);
		break;
	case 2:
		ring_offer(&ring, take_u8(in) | (what & 0x80) << 1);
		break;
	case 3:
		ring.avail->idx += (uint16_t)take_number(in);
		break;
	case 4:
		pop((uint32_t)take_number(in));
		break;
	case 5:
		if (what & 8)
			virtqueue_disable_kicks(&ring.vq);
		else
			virtqueue_enable_kicks(&ring.vq);
		break;
	case 6:
		virtqueue_signal(&ring.vq);
		break;
	case 7:
		*ring_used_event(&ring) = take_u16(in);
		ring.avail->flags = what >> 7;
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	unsigned popped = 0;

	if (!ring.ram)
		ring_setup(&ring, 16, false);
	start(&in);
	if (virtqueue_start(&ring.vq) < 0)
		return 0;
	if (ring.vq.size > LONGEST_QUEUE)
		ring.vq.size = LONGEST_QUEUE;
	while (more(&in))
		step(&in);
	while (pop(0) == 1)
		CHECK(++popped <= ring.vq.size);
	virtqueue_signal(&ring.vq);
	return 0;
}
