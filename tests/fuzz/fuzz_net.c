/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile guest's queues of a network device with two pairs: headers, chains and
 * commands as the input has them, with packets that come in between.
 *
 * FUZZ_WIRE=tap|vhost (root): the other end is a tap of the kernel, whose packets the
 * device or vhost-net moves, instead of sockets. */
#define DRIVER_PAIRS 2
#include "input.h"
#include "net_driver.h"
#include "settle.h"
#include "tap.h"

#include <stdlib.h>

#define USED_QUEUE_SLOTS 32
#define LONGEST_SENT 20000

static struct driver d;
static int second_wire;

static void attach_tap(bool by_vhost)
{
	struct ifreq link = {.ifr_name = "tap0"};
	int taps[DRIVER_PAIRS], vhosts[DRIVER_PAIRS];

	enter_network();
	for (unsigned i = 0; i < DRIVER_PAIRS; i++) {
		taps[i] = open_tap(&link);
		vhosts[i] = by_vhost ? open_vhost() : -1;
	}
	d.wire = second_wire = open_wire(&link);
	CHECK_EQUAL(net_device_attach(d.device, taps, by_vhost ? vhosts : NULL, DRIVER_PAIRS), 0);
}

static void attach_sockets(void)
{
	int first[2], second[2];

	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, first),
		    0);
	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, second),
		    0);
	d.wire = first[0];
	second_wire = second[0];
	CHECK_EQUAL(net_device_attach(d.device, (int[]){first[1], second[1]}, NULL, DRIVER_PAIRS),
		    0);
}

/* Each queue writes to a part of memory of its own: two threads that write to one place
 * would be the driver's race. */
static uint64_t take_gpa(struct input *in, unsigned queue)
{
	const uint64_t part = (RAM_BYTES - RX_AREA) / DRIVER_QUEUES;
	const uint8_t kind = take_u8(in);

	if (kind == 0)
		return RAM_BYTES - take_u8(in);
	if (kind == 1)
		return RAM_BYTES + take_u64(in) / 2;
	return RX_AREA + queue * part + kind * 256;
}

static void put_descriptor(struct input *in, uint8_t what)
{
	const unsigned queue = what % DRIVER_QUEUES;
	const uint16_t index = take_u8(in) % USED_QUEUE_SLOTS;
	const uint64_t gpa = take_gpa(in, queue);
	const uint8_t shape = take_u8(in);
	uint32_t len = shape & 0x80 ? (uint32_t)take_number(in) : (uint32_t)(shape / 8 % 16) * 256;

	if (gpa < RAM_BYTES - 65536 && len > 65536)
		len = 65536;
	describe(&d, queue, index, gpa, len, shape % 8, take_u8(in));
	if (what & 0x80)
		ring_publish(&d.rings[queue], index);
}

/* A packet to send or a command, its first bytes from the input. */
static void put_buffer(struct input *in, uint8_t what)
{
	const unsigned queue = (what & 1 ? TX : CONTROL) + (what & 1 ? what & 2 : 0);
	const uint16_t index = take_u8(in) % (USED_QUEUE_SLOTS - 1);
	const uint64_t gpa = RX_AREA + queue * ((RAM_BYTES - RX_AREA) / DRIVER_QUEUES) + 4096;
	const uint32_t len = what & 1 ? (uint32_t)take_number(in) % 70000 : take_u8(in) % 8;
	uint8_t bytes[16];

	take_bytes(in, bytes, what & 1 ? NET_HEADER_BYTES : 4);
	GUEST_BEGIN();
	memcpy(d.ram + gpa, bytes, what & 1 ? NET_HEADER_BYTES : 4);
	GUEST_END();
	describe(&d, queue, index, gpa, len, what & 1 ? 0 : VRING_DESC_F_NEXT, index + 1);
	if (!(what & 1))
		describe(&d, queue, index + 1, gpa + 64, what >> 6, VRING_DESC_F_WRITE, 0);
	ring_publish(&d.rings[queue], index);
}

static void post_room(uint8_t what)
{
	const unsigned queue = RX + (what & 2);
	const uint64_t part = (RAM_BYTES - RX_AREA) / DRIVER_QUEUES;

	for (uint16_t i = 0; i < what / 4; i++) {
		describe(&d, queue, i, RX_AREA + queue * part + i * 4096u % (part / 2), 4096,
			 VRING_DESC_F_WRITE, 0);
		ring_publish(&d.rings[queue], i);
	}
}

static void come_in(struct input *in, uint8_t what)
{
	static uint8_t packet[65600];
	const size_t len = (size_t)take_number(in) % LONGEST_SENT;

	take_bytes(in, packet, NET_HEADER_BYTES);
	(void)!send(what & 1 ? d.wire : second_wire, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void go_out(void)
{
	static uint8_t packet[1 << 17];

	while (recv(d.wire, packet, sizeof(packet), MSG_DONTWAIT) > 0)
		;
	while (recv(second_wire, packet, sizeof(packet), MSG_DONTWAIT) > 0)
		;
}

static void look_at_used(void)
{
	struct vring_used_elem used;

	for (unsigned i = 0; i < DRIVER_QUEUES; i++)
		while (ring_has_used(&d.rings[i]) && ring_take_used(&d.rings[i], &used, 0))
			CHECK(used.id < QUEUE_SIZE);
}

static void start(uint8_t what)
{
	activate(&d, (what & 1 ? SEVERAL : 0) | (what & 2 ? MERGEABLE : 0), what & 4);
}

static void step(struct input *in)
{
	const uint8_t kind = take_u8(in), what = take_u8(in);

	switch (kind % 8) {
	case 0:
	case 1:
		put_descriptor(in, what);
		break;
	case 2:
		put_buffer(in, what);
		break;
	case 3:
		post_room(what);
		break;
	case 4:
		come_in(in, what);
		break;
	case 5:
		go_out();
		break;
	case 6:
		settle(d.queues[what % DRIVER_QUEUES].call_fd);
		look_at_used();
		break;
	case 7:
		if (what & 0xe0)
			ring_publish(&d.rings[what % DRIVER_QUEUES], what >> 4);
		else
			start(what);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *wire = getenv("FUZZ_WIRE");
	struct input in = {data, size};

	if (!d.ram) {
		driver_new(&d);
		if (wire)
			attach_tap(strcmp(wire, "vhost") == 0);
		else
			attach_sockets();
	}
	start(take_u8(&in));
	while (more(&in))
		step(&in);
	settle(d.queues[TX].call_fd);
	look_at_used();
	go_out();
	d.virtio->ops->reset(d.virtio);
	return 0;
}
