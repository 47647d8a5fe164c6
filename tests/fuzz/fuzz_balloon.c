/* SPDX-License-Identifier: Apache-2.0 */
/* Reports of a hostile guest: whatever it writes, only pages that a descriptor names
 * go back to the host. */
#include "balloon_driver.h"
#include "input.h"
#include "settle.h"

#define TABLES 16
#define TABLE_AT (DATA + (PAGES - 1) * page) /* its page is not looked at */

static struct driver d;
static bool named[PAGES];

static void name_pages(uint64_t gpa, uint64_t len)
{
	if (len == 0 || gpa >= d.ram_bytes)
		return;
	for (unsigned i = 0; i < PAGES; i++)
		if (gpa < DATA + (i + 1) * page && gpa + len > DATA + i * page)
			named[i] = true;
}

static struct vring_desc take_descriptor(struct input *in)
{
	const uint8_t kind = take_u8(in);
	struct vring_desc desc = {.addr = DATA + (kind / 4) * page, .flags = take_u8(in) % 8};

	switch (kind % 4) {
	case 0:
		desc.addr += take_u16(in);
		break;
	case 1:
		desc.addr = take_number(in);
		break;
	case 2:
		desc.addr = TABLE_AT + kind / 4 % TABLES * sizeof(desc);
		break;
	}
	desc.len = kind & 128 ? (uint32_t)take_number(in) : (uint32_t)(take_u8(in) * (page / 16));
	desc.next = take_u8(in);
	name_pages(desc.addr, desc.len);
	return desc;
}

static void step(struct input *in)
{
	const uint8_t what = take_u8(in);
	struct ring *ring = &d.rings[what / 8 % BALLOON_QUEUES];
	struct vring_desc desc, *tables = (void *)(d.ram + TABLE_AT);
	uint8_t index;

	switch (what % 8) {
	case 0:
	case 1:
	case 2:
		desc = take_descriptor(in);
		index = take_u8(in);
		GUEST_BEGIN();
		*(what & 0x80 ? &tables[index % TABLES] : &ring->desc[index % QUEUE_SIZE]) = desc;
		GUEST_END();
		break;
	case 3:
	case 4:
	case 5:
		ring_publish(ring, take_u8(in) % (QUEUE_SIZE + 1));
		break;
	default:
		settle(ring->vq->call_fd);
	}
}

/* A descriptor that a device's thread reads while it is written may have one's address and
 * another's length: then no descriptor has named what goes back. */
static bool is_named(unsigned index)
{
#ifdef FUZZ_THREADS
	(void)index;
	return true;
#else
	return named[index];
#endif
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t what;

	if (!d.ram)
		driver_new(&d);
	memset(named, 0, sizeof(named));
	named[PAGES - 1] = true;
	what = take_u8(&in);
	activate(&d, 2 + what % 3, what & 0x80);
	while (more(&in))
		step(&in);
	settle(d.queues[2 + what % 3].call_fd);
	d.virtio->ops->reset(d.virtio);
	for (unsigned i = 0; i < PAGES; i++) {
		CHECK(is_named(i) || is_kept(&d, i));
		if (is_named(i))
			memset(d.ram + DATA + i * page, 0x5a, page);
	}
	return 0;
}
