/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of a balloon device (virtio 1.2 §5.5) that was offered reporting alone. */
#ifndef SAMPAN_TESTS_BALLOON_DRIVER_H
#define SAMPAN_TESTS_BALLOON_DRIVER_H

#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <sys/mman.h>

#include "balloon/device.h"
#include "live_ring.h"

#define QUEUE_SIZE 64
#define DATA (BALLOON_QUEUES * RING_BYTES)
#define PAGES 64u
#define SPECIFIED_QUEUE 4
#define LINUX_QUEUE 2

static uint64_t page;

struct driver {
	struct guest_memory mem;
	uint8_t *ram;
	uint64_t ram_bytes;
	struct virtqueue queues[BALLOON_QUEUES];
	struct ring rings[BALLOON_QUEUES];
	struct virtio_device *virtio;
	int needs_reset_fd;
};

static inline void on_needs_reset(void *transport)
{
	struct driver *d = transport;

	eventfd_write(d->needs_reset_fd, 1);
}

static inline void driver_new(struct driver *d)
{
	memset(d, 0, sizeof(*d));
	page = (uint64_t)sysconf(_SC_PAGESIZE);
	d->ram_bytes = DATA + PAGES * page;
	d->ram = mmap(NULL, d->ram_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	CHECK(d->ram != MAP_FAILED);
	madvise(d->ram, d->ram_bytes, MADV_NOHUGEPAGE);
	CHECK_EQUAL(guest_memory_add(&d->mem, 0, d->ram_bytes, d->ram), 0);
	memset(d->ram + DATA, 0x5a, PAGES * page);
	for (unsigned i = 0; i < BALLOON_QUEUES; i++)
		ring_open(&d->queues[i]);
	d->needs_reset_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK_EQUAL(balloon_device_new(&d->virtio), 0);
	d->virtio->needs_reset = on_needs_reset;
	d->virtio->transport = d;
}

static inline void driver_free(struct driver *d)
{
	d->virtio->ops->reset(d->virtio);
	d->virtio->ops->destroy(d->virtio);
	for (unsigned i = 0; i < BALLOON_QUEUES; i++)
		ring_close(&d->queues[i]);
	close(d->needs_reset_fd);
	munmap(d->ram, d->ram_bytes);
}

/* As a driver that was offered reporting alone: of the queues above deflate it
 * sets up one. */
static inline void activate(struct driver *d, unsigned reporting, bool event_idx)
{
	for (unsigned i = 0; i < BALLOON_QUEUES; i++) {
		ring_lay(&d->rings[i], &d->queues[i], &d->mem, (uint64_t)i * RING_BYTES, QUEUE_SIZE,
			 event_idx);
		d->queues[i].enabled = i < 2 || i == reporting;
	}
	CHECK_EQUAL(
		d->virtio->ops->activate(d->virtio, d->queues, BALLOON_QUEUES,
					 balloon_device_features() | 1ULL << VIRTIO_F_VERSION_1),
		0);
}

static inline void describe(struct driver *d, unsigned queue, uint16_t index, uint64_t gpa,
			    uint32_t len, uint16_t flags)
{
	GUEST_BEGIN();
	d->rings[queue].desc[index] = (struct vring_desc){gpa, len, flags, (uint16_t)(index + 1)};
	GUEST_END();
}

static inline bool is_kept(const struct driver *d, unsigned index)
{
	return d->ram[DATA + index * page] == 0x5a;
}

#endif
