/* SPDX-License-Identifier: Apache-2.0 */
/* What the driver of a net device may rely on, and may not do, with any kind of tap.
 * The including file has attach_wire(), which attaches a tap to the device. */
#ifndef SAMPAN_TESTS_NET_CASES_H
#define SAMPAN_TESTS_NET_CASES_H

#include "net_driver.h"

static void attach_wire(struct driver *d);

static void test_packets_go_out_whole_and_in_order(struct driver *d)
{
	attach_wire(d);
	activate(d, 0, true);
	for (uint16_t i = 0; i < 200; i++)
		transmit(d, i, 64u + i, (uint8_t)i);
	for (uint16_t i = 0; i < 200; i++) {
		expect_on_wire(d, 64u + i, (uint8_t)i);
		expect_tx_done(d, i);
	}
}

static void test_packets_come_in_whole_and_in_order(struct driver *d)
{
	attach_wire(d);
	activate(d, MERGEABLE, true);
	post_all_rx(d);
	for (unsigned i = 0; i < 100; i++)
		send_on_wire(d, 100 + i, (uint8_t)i);
	for (unsigned i = 0; i < 100; i++)
		expect_rx(d, 100 + i, (uint8_t)i, 1);
}

static void test_a_large_packet_takes_as_many_buffers_as_it_needs(struct driver *d)
{
	attach_wire(d);
	activate(d, MERGEABLE, true);
	post_all_rx(d);
	send_on_wire(d, LARGE, 7);
	send_on_wire(d, 4096, 8);
	send_on_wire(d, 4097, 9);
	expect_rx(d, LARGE, 7, (LARGE + SLOT_BYTES - 1) / SLOT_BYTES);
	expect_rx(d, 4096, 8, 1);
	expect_rx(d, 4097, 9, 2);
}

static void test_without_mergeable_buffers_each_packet_has_one(struct driver *d)
{
	attach_wire(d);
	activate(d, 0, false);
	for (uint16_t slot = 0; slot < 4; slot++)
		post_rx(d, slot, 1526);
	for (unsigned i = 0; i < 4; i++)
		send_on_wire(d, 1000 + i, (uint8_t)i);
	for (unsigned i = 0; i < 4; i++)
		expect_rx(d, 1000 + i, (uint8_t)i, 1);
}

static void test_the_tap_may_come_after_the_driver(struct driver *d)
{
	activate(d, MERGEABLE, true);
	post_all_rx(d);
	transmit(d, 0, 100, 1); /* no tap yet: packets are lost, buffers returned */
	expect_tx_done(d, 0);
	attach_wire(d);
	send_on_wire(d, 200, 2);
	expect_rx(d, 200, 2, 1);
	transmit(d, 1, 300, 3);
	expect_on_wire(d, 300, 3);
	expect_tx_done(d, 1);
}

static void test_a_buffer_to_transmit_that_is_writable_is_a_violation(struct driver *d)
{
	attach_wire(d);
	activate(d, 0, true);
	describe(d, TX, 0, TX_AREA, 100, VRING_DESC_F_WRITE, 0);
	ring_publish(&d->rings[TX], 0);
	expect_reset_wanted(d);
}

#define NET_CASES                                                                                  \
	CASE(test_packets_go_out_whole_and_in_order),                                              \
		CASE(test_packets_come_in_whole_and_in_order),                                     \
		CASE(test_a_large_packet_takes_as_many_buffers_as_it_needs),                       \
		CASE(test_without_mergeable_buffers_each_packet_has_one),                          \
		CASE(test_the_tap_may_come_after_the_driver),                                      \
		CASE(test_a_buffer_to_transmit_that_is_writable_is_a_violation)

#endif
