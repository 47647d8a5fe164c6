/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of a hostile guest to connections of the host, known and unknown, with
 * buffers and descriptors as it likes, while the host's ends read, write and close. */
#include <sys/socket.h>

#include "input.h"
#include "settle.h"
#include "vsock_driver.h"

#define PORT 1025
#define LIVE 4
#define RX_BUFFERS 16
#define MOST_STREAMS 32

static struct driver d;
static uint64_t opened, ended;
static bool raw; /* buffers for packets are no longer those of the driver */
static struct {
	uint32_t host_port, guest_port, got;
	int peer; /* the host's other end, -1: none */
} live[LIVE];
static unsigned next_live, next_peer;

static void close_peer(unsigned i)
{
	if (live[i].peer >= 0)
		close(live[i].peer);
	live[i].peer = -1;
}

static void open_stream(uint8_t what)
{
	const bool to_guest = what & 1;
	int fds[2] = {-1, -1};

	if (opened - ended >= MOST_STREAMS)
		return;
	switch (what / 2 % 4) {
	case 0:
		fds[0] = open(to_guest ? "/dev/zero" : "/dev/null", O_RDWR | O_CLOEXEC);
		break;
	case 1:
		CHECK_EQUAL(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
		if (!to_guest) {
			const int fd = fds[0];

			fds[0] = fds[1];
			fds[1] = fd;
		}
		break;
	case 2:
		CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
			    0);
		break;
	default:
		fds[0] = eventfd(1, EFD_CLOEXEC);
	}
	close_peer(next_peer % LIVE);
	live[next_peer++ % LIVE].peer = fds[1];
	CHECK_EQUAL(vsock_device_open_stream(d.device, opened++, PORT,
					     to_guest ? VSOCK_TO_GUEST : VSOCK_FROM_GUEST, fds[0],
					     "prefix", what / 8 % 7),
		    0);
}

static void take_events(void)
{
	struct vsock_event event;

	while (vsock_device_next_event(d.device, &event)) {
		CHECK(event.stream < opened);
		ended++;
	}
}

static void receive(bool keep)
{
	struct vring_used_elem used;
	struct received p;

	settle(d.queues[0].call_fd);
	if (raw) {
		while (ring_take_used(&d.rings[0], &used, 0))
			CHECK(used.id < RX_MAX);
		return;
	}
	while (driver_try_receive(&d, &p, keep, 0)) {
		unsigned i;

		if (p.h.op == VIRTIO_VSOCK_OP_REQUEST) {
			i = next_live++ % LIVE;
			live[i].host_port = p.h.src_port;
			live[i].guest_port = p.h.dst_port;
			live[i].got = 0;
		}
		for (i = 0; i < LIVE; i++)
			if (live[i].host_port == p.h.src_port)
				live[i].got += p.h.len;
	}
}

/* The driver waits for a slot that is free: here only if the device has one. */
static bool has_slot(void)
{
	struct vring_used_elem used;

	settle(d.queues[1].call_fd);
	if (raw)
		return false;
	while (ring_has_used(&d.rings[1]) && ring_take_used(&d.rings[1], &used, 0))
		d.tx_free |= 1u << used.id % TX_SLOTS;
	return d.tx_free != 0;
}

static void send_packet(struct input *in)
{
	static const uint8_t payload[8 << 10];
	const uint8_t usual = take_u8(in), where = take_u8(in);
	const unsigned i = where % LIVE;
	struct virtio_vsock_hdr h = {
		.src_cid = GUEST_CID,
		.dst_cid = 2,
		.src_port = live[i].guest_port,
		.dst_port = live[i].host_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = usual % 16,
		.buf_alloc = BUF_ALLOC,
		.fwd_cnt = live[i].got,
	};
	uint32_t len;

	if (usual & 0x10)
		h.len = (uint32_t)take_number(in);
	if (usual & 0x20)
		h.flags = take_u8(in);
	if (usual & 0x40) {
		h.buf_alloc = (uint32_t)take_number(in);
		h.fwd_cnt = (uint32_t)take_number(in);
	}
	if (usual & 0x80)
		take_bytes(in, &h, sizeof(h));
	len = h.len < sizeof(payload) ? h.len : sizeof(payload);
	if (has_slot())
		driver_send(&d, h, payload, len, where & 0x80 ? take_u8(in) : 0);
}

static void put_descriptor(struct input *in)
{
	const uint8_t where = take_u8(in);
	struct ring *ring = &d.rings[where % 2];
	const uint16_t index = take_u8(in) % TX_SLOTS;
	const uint64_t gpa = where & 2 ? take_number(in) : (uint64_t)TX_AREA + take_u16(in);

	raw = true;
	GUEST_BEGIN();
	ring->desc[index] = (struct vring_desc){gpa, (uint32_t)take_number(in), take_u8(in) % 8,
						take_u8(in)};
	GUEST_END();
	if (where & 4)
		ring_publish(ring, where & 8 ? take_u8(in) : index);
}

static void use_peer(uint8_t what)
{
	static uint8_t bytes[4096];
	const int fd = live[what % LIVE].peer;
	const size_t len = 16u << (what >> 4) % 9;

	if (fd < 0)
		return;
	if (what & 4)
		(void)!read(fd, bytes, len);
	else
		(void)!write(fd, bytes, len);
	if (what & 8)
		close_peer(what % LIVE);
}

static void start(uint8_t what)
{
	settle(d.queues[0].call_fd);
	raw = false;
	driver_activate(&d, what % (RX_BUFFERS + 1), what & 0x80);
	take_events();
}

static void step(struct input *in)
{
	const uint8_t what = take_u8(in);

	switch (what % 8) {
	case 0:
		open_stream(what / 8);
		break;
	case 1:
	case 2:
	case 3:
		send_packet(in);
		break;
	case 4:
		receive(what & 8);
		break;
	case 5:
		use_peer(take_u8(in));
		break;
	case 6:
		put_descriptor(in);
		break;
	case 7:
		if (what & 0x80)
			start(take_u8(in));
		else
			take_events();
		break;
	}
}

/* What was opened ends once, whatever came between. */
static void end_all(void)
{
	settle(d.queues[0].call_fd);
	d.virtio->ops->reset(d.virtio);
	take_events();
#ifndef FUZZ_THREADS
	CHECK_EQUAL(ended, opened);
	CHECK_EQUAL(vsock_device_connections(d.device), 0);
#endif
	for (unsigned i = 0; i < LIVE; i++)
		close_peer(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	if (!d.ram) {
		signal(SIGPIPE, SIG_IGN);
		driver_new(&d);
	}
	for (unsigned i = 0; i < LIVE; i++) {
		live[i].host_port = live[i].guest_port = live[i].got = 0;
		live[i].peer = -1;
	}
	next_live = next_peer = 0;
	start(take_u8(&in));
	while (more(&in))
		step(&in);
	end_all();
	return 0;
}
