/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon device against virtio 1.2 §5.5, seen from the driver: what it reports
 * as free goes back to the host, and nothing else. */
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
#define WAIT_MS 5000
#define QUIET_MS 50

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

static void on_needs_reset(void *transport)
{
	struct driver *d = transport;

	eventfd_write(d->needs_reset_fd, 1);
}

static void driver_new(struct driver *d)
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

static void driver_free(struct driver *d)
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
static void activate(struct driver *d, unsigned reporting, bool event_idx)
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

static void describe(struct driver *d, unsigned queue, uint16_t index, uint64_t gpa, uint32_t len,
		     uint16_t flags)
{
	GUEST_BEGIN();
	d->rings[queue].desc[index] = (struct vring_desc){gpa, len, flags, (uint16_t)(index + 1)};
	GUEST_END();
}

static void report(struct driver *d, unsigned queue, uint64_t gpa, uint64_t len)
{
	struct vring_used_elem used;

	describe(d, queue, 0, gpa, (uint32_t)len, VRING_DESC_F_WRITE);
	ring_publish(&d->rings[queue], 0);
	CHECK(ring_take_used(&d->rings[queue], &used, WAIT_MS));
	CHECK_EQUAL(used.id, 0);
	CHECK_EQUAL(used.len, 0);
}

static bool is_kept(const struct driver *d, unsigned index)
{
	return d->ram[DATA + index * page] == 0x5a;
}

static void reported_pages_go_back(struct driver *d, unsigned queue, bool event_idx)
{
	activate(d, queue, event_idx);
	report(d, queue, DATA + 8 * page, 16 * page);
	for (unsigned i = 0; i < PAGES; i++)
		CHECK_EQUAL(is_kept(d, i), i < 8 || i >= 24);
}

static void reported_pages_go_back_by_the_specified_queue(struct driver *d)
{
	reported_pages_go_back(d, SPECIFIED_QUEUE, false);
}

static void reported_pages_go_back_by_linuxs_queue(struct driver *d)
{
	reported_pages_go_back(d, LINUX_QUEUE, true);
}

static void they_can_be_used_again(struct driver *d)
{
	activate(d, LINUX_QUEUE, true);
	for (unsigned turn = 0; turn < 3; turn++) {
		report(d, LINUX_QUEUE, DATA, 4 * page);
		CHECK_EQUAL(d->ram[DATA], 0);
		memset(d->ram + DATA, 0x5a, 4 * page);
	}
}

static void a_report_of_many_ranges_is_one_request(struct driver *d)
{
	struct vring_used_elem used;

	activate(d, LINUX_QUEUE, true);
	for (uint16_t i = 0; i < 32; i++)
		describe(d, LINUX_QUEUE, i, DATA + 2 * i * page, (uint32_t)page,
			 VRING_DESC_F_WRITE | (i < 31 ? VRING_DESC_F_NEXT : 0));
	ring_publish(&d->rings[LINUX_QUEUE], 0);
	CHECK(ring_take_used(&d->rings[LINUX_QUEUE], &used, WAIT_MS));
	for (unsigned i = 0; i < PAGES; i++)
		CHECK_EQUAL(is_kept(d, i), i % 2 == 1);
}

static void parts_of_pages_stay(struct driver *d)
{
	activate(d, LINUX_QUEUE, false);
	report(d, LINUX_QUEUE, DATA + page + 1, 2 * page);
	CHECK(is_kept(d, 1));
	CHECK(!is_kept(d, 2));
	CHECK(is_kept(d, 3));
	report(d, LINUX_QUEUE, DATA + 8, page - 16);
	CHECK(is_kept(d, 0));
}

/* Inflate (§5.5.6): a list of pages that the device reads. */
static void what_is_no_report_is_answered_and_does_nothing(struct driver *d)
{
	struct vring_used_elem used;

	activate(d, LINUX_QUEUE, false);
	describe(d, 0, 0, DATA, 64, 0);
	ring_publish(&d->rings[0], 0);
	CHECK(ring_take_used(&d->rings[0], &used, WAIT_MS));
	for (unsigned i = 0; i < PAGES; i++)
		CHECK(is_kept(d, i));
}

static void memory_that_is_none_is_a_violation(struct driver *d)
{
	activate(d, LINUX_QUEUE, false);
	describe(d, LINUX_QUEUE, 0, DATA, (uint32_t)((PAGES + 1) * page), VRING_DESC_F_WRITE);
	ring_publish(&d->rings[LINUX_QUEUE], 0);
	CHECK(wait_readable(d->needs_reset_fd, WAIT_MS));
	for (unsigned i = 0; i < PAGES; i++)
		CHECK(is_kept(d, i));
}

static void a_device_that_was_reset_begins_anew(struct driver *d)
{
	activate(d, LINUX_QUEUE, false);
	d->virtio->ops->reset(d->virtio);
	describe(d, LINUX_QUEUE, 0, DATA, (uint32_t)page, VRING_DESC_F_WRITE);
	ring_publish(&d->rings[LINUX_QUEUE], 0);
	CHECK(!wait_readable(d->queues[LINUX_QUEUE].call_fd, QUIET_MS));
	CHECK(is_kept(d, 0));
	activate(d, SPECIFIED_QUEUE, true);
	report(d, SPECIFIED_QUEUE, DATA, page);
	CHECK(!is_kept(d, 0));
}

static void what_was_there_before_the_device_ran_is_served(struct driver *d)
{
	struct vring_used_elem used;

	activate(d, LINUX_QUEUE, false);
	d->virtio->ops->reset(d->virtio);
	describe(d, LINUX_QUEUE, 0, DATA, (uint32_t)page, VRING_DESC_F_WRITE);
	ring_publish(&d->rings[LINUX_QUEUE], 0);
	/* As in a clone: the queue continues at its saved position. */
	CHECK_EQUAL(d->virtio->ops->activate(d->virtio, d->queues, BALLOON_QUEUES,
					     1ULL << VIRTIO_F_VERSION_1),
		    0);
	CHECK(ring_take_used(&d->rings[LINUX_QUEUE], &used, WAIT_MS));
	CHECK(!is_kept(d, 0));
}

static const struct {
	const char *name;
	void (*run)(struct driver *d);
} cases[] = {
	CASE(reported_pages_go_back_by_the_specified_queue),
	CASE(reported_pages_go_back_by_linuxs_queue),
	CASE(they_can_be_used_again),
	CASE(a_report_of_many_ranges_is_one_request),
	CASE(parts_of_pages_stay),
	CASE(what_is_no_report_is_answered_and_does_nothing),
	CASE(memory_that_is_none_is_a_violation),
	CASE(a_device_that_was_reset_begins_anew),
	CASE(what_was_there_before_the_device_ran_is_served),
};

RUN_CASES_IN_MAIN(cases)
