/* SPDX-License-Identifier: Apache-2.0 */
/* The net device against virtio 1.2 §5.1, seen from the driver.  A packet socket
 * replaces the tap: it keeps packets apart and has the same calls. */
#include <fcntl.h>
#include <sys/socket.h>

#include "net_cases.h"

static void attach_wire(struct driver *d)
{
	const int room = 4 << 20;
	int fds[2];

	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	for (unsigned i = 0; i < 2; i++)
		setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	d->wire = fds[0];
	CHECK_EQUAL(net_device_attach(d->device, &fds[1], NULL, 1), 0);
}

/* --- what a driver may rely on --------------------------------------------- */

/* A packet waits in the tap until there is room, and the device for a kick. */
static void test_nothing_is_lost_while_the_guest_gives_no_buffers(struct driver *d)
{
	struct vring_used_elem used;

	attach_wire(d);
	activate(d, MERGEABLE, true);
	send_on_wire(d, 500, 1);
	CHECK(!ring_take_used(&d->rings[RX], &used, QUIET_MS));
	for (uint16_t slot = 0; slot < 8; slot++) /* not enough for the largest packet */
		post_rx(d, slot, SLOT_BYTES);
	CHECK(!ring_take_used(&d->rings[RX], &used, QUIET_MS));
	for (uint16_t slot = 8; slot < 32; slot++)
		post_rx(d, slot, SLOT_BYTES);
	expect_rx(d, 500, 1, 1);
}

static void test_a_second_tap_is_refused(struct driver *d)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	attach_wire(d);
	CHECK_EQUAL(net_device_attach(d->device, &fd, NULL, 1), -EBUSY);
	close(fd);
}

static void test_a_tap_that_goes_takes_nothing_with_it_and_another_may_come(struct driver *d)
{
	attach_wire(d);
	activate(d, MERGEABLE, true);
	post_all_rx(d);
	send_on_wire(d, 100, 1);
	expect_rx(d, 100, 1, 1);
	close(d->wire);
	transmit(d, 0, 100, 1);
	expect_tx_done(d, 0);
	usleep(1000 * QUIET_MS); /* until the device has seen it */
	attach_wire(d);
	send_on_wire(d, 200, 2);
	expect_rx(d, 200, 2, 1);
}

static void test_reset_ends_the_thread_and_the_device_lives_again(struct driver *d)
{
	attach_wire(d);
	for (unsigned i = 0; i < 3; i++) {
		activate(d, MERGEABLE, i % 2);
		post_all_rx(d);
		send_on_wire(d, 100, (uint8_t)i);
		expect_rx(d, 100, (uint8_t)i, 1);
		d->virtio->ops->reset(d->virtio);
		d->virtio->ops->reset(d->virtio);
	}
}

/* --- what a hostile driver may not do ------------------------------------- */

static void test_a_packet_without_a_header_is_a_violation(struct driver *d)
{
	attach_wire(d);
	activate(d, 0, true);
	transmit(d, 0, NET_HEADER_BYTES - 1, 0);
	expect_reset_wanted(d);
}

static void test_a_buffer_to_receive_that_is_readable_is_a_violation(struct driver *d)
{
	attach_wire(d);
	activate(d, MERGEABLE, true);
	describe(d, RX, 0, RX_AREA, 100, 0, 0);
	ring_publish(&d->rings[RX], 0);
	expect_reset_wanted(d);
}

static void test_a_buffer_too_small_for_a_header_is_a_violation(struct driver *d)
{
	attach_wire(d);
	activate(d, MERGEABLE, true);
	post_rx(d, 0, NET_HEADER_BYTES - 1);
	expect_reset_wanted(d);
}

/* The header may be cut anywhere, num_buffers too. */
static void test_a_header_in_pieces_is_written_all_the_same(struct driver *d)
{
	struct vring_used_elem used;
	uint8_t header[NET_HEADER_BYTES];

	attach_wire(d);
	activate(d, MERGEABLE, true);
	for (uint16_t i = 0; i < 11; i++)
		describe(d, RX, i, RX_AREA + i, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT,
			 (uint16_t)(i + 1));
	describe(d, RX, 11, RX_AREA + 11, SLOT_BYTES, VRING_DESC_F_WRITE, 0);
	ring_publish(&d->rings[RX], 0);
	for (uint16_t slot = 16; slot < 40; slot++)
		post_rx(d, slot, SLOT_BYTES);
	send_on_wire(d, 100, 1);
	CHECK(ring_take_used(&d->rings[RX], &used, DEADLINE_MS));
	CHECK_EQUAL(used.id, 0);
	CHECK_EQUAL(used.len, 100);
	GUEST_BEGIN();
	memcpy(header, d->ram + RX_AREA, sizeof(header));
	GUEST_END();
	CHECK_EQUAL(header[10] | header[11] << 8, 1);
}

static void test_tiny_buffers_by_the_hundred_are_a_violation_and_no_overrun(struct driver *d)
{
	attach_wire(d);
	activate(d, MERGEABLE, true);
	for (uint16_t i = 0; i < QUEUE_SIZE - 1; i++)
		describe(d, RX, i, RX_AREA + i, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT,
			 (uint16_t)(i + 1));
	describe(d, RX, QUEUE_SIZE - 1, RX_AREA, 1, VRING_DESC_F_WRITE, 0);
	for (unsigned i = 0; i < 5; i++) /* the same long chain again and again */
		ring_publish(&d->rings[RX], 0);
	expect_reset_wanted(d);
}

static void test_random_chains_crash_nothing(struct driver *d)
{
	attach_wire(d);
	for (unsigned life = 0; life < 60; life++) {
		activate(d, life % 2 ? MERGEABLE : 0, life % 3 == 0);
		publish_noise(d, 200, life);
	}
	activate(d, MERGEABLE, true);
	transmit(d, 0, 100, 1);
	expect_tx_done(d, 0);
}

static const struct {
	const char *name;
	void (*run)(struct driver *d);
} cases[] = {
	NET_CASES,
	CASE(test_nothing_is_lost_while_the_guest_gives_no_buffers),
	CASE(test_a_second_tap_is_refused),
	CASE(test_a_tap_that_goes_takes_nothing_with_it_and_another_may_come),
	CASE(test_reset_ends_the_thread_and_the_device_lives_again),
	CASE(test_a_packet_without_a_header_is_a_violation),
	CASE(test_a_buffer_to_receive_that_is_readable_is_a_violation),
	CASE(test_a_buffer_too_small_for_a_header_is_a_violation),
	CASE(test_a_header_in_pieces_is_written_all_the_same),
	CASE(test_tiny_buffers_by_the_hundred_are_a_violation_and_no_overrun),
	CASE(test_random_chains_crash_nothing),
};

RUN_CASES_IN_MAIN(cases)
