/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon device against virtio 1.2 §5.5, seen from the driver: what it reports
 * as free goes back to the host, and nothing else. */
#include "balloon_driver.h"

#define WAIT_MS 5000
#define QUIET_MS 50

static void report(struct driver *d, unsigned queue, uint64_t gpa, uint64_t len)
{
	struct vring_used_elem used;

	describe(d, queue, 0, gpa, (uint32_t)len, VRING_DESC_F_WRITE);
	ring_publish(&d->rings[queue], 0);
	CHECK(ring_take_used(&d->rings[queue], &used, WAIT_MS));
	CHECK_EQUAL(used.id, 0);
	CHECK_EQUAL(used.len, 0);
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
