/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile driver: random packets to live and unknown connections, for a
 * fixed number of rounds from a fixed seed.  Whatever it sends, every stream
 * ends exactly once, no file descriptor stays, and the device works on. */
#include "vsock_driver.h"

#define ROUNDS 40000
#define PORT 1025
#define LIVE 16

struct fuzz {
	struct driver d;
	uint64_t seed;
	uint64_t opened, ended;
	struct {
		uint32_t host_port, guest_port, got;
	} live[LIVE]; /* of the latest requests */
	unsigned next_live;
};

static uint32_t any(struct fuzz *f, uint32_t below)
{
	f->seed ^= f->seed << 13;
	f->seed ^= f->seed >> 7;
	f->seed ^= f->seed << 17;
	return (uint32_t)((f->seed >> 11) % below);
}

static void open_any(struct fuzz *f)
{
	bool to_guest = any(f, 2);
	int fds[2], fd;

	switch (any(f, 3)) {
	case 0:
		fd = open(to_guest ? "/dev/zero" : "/dev/null", O_RDWR | O_CLOEXEC);
		break;
	case 1: /* nobody keeps the other end open: EOF or EPIPE */
		CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
		fd = fds[!to_guest];
		close(fds[to_guest]);
		break;
	default:
		fd = eventfd(1, EFD_CLOEXEC); /* reads once, writes oddly */
	}
	CHECK_EQUAL(vsock_device_open_stream(f->d.device, f->opened++, PORT,
					     to_guest ? VSOCK_TO_GUEST : VSOCK_FROM_GUEST, fd, "t",
					     1),
		    0);
}

static void drain(struct fuzz *f)
{
	struct received p;
	struct vsock_event event;

	while (driver_try_receive(&f->d, &p, false, 0)) {
		unsigned i;

		if (p.h.op == VIRTIO_VSOCK_OP_REQUEST) {
			i = f->next_live++ % LIVE;
			f->live[i].host_port = p.h.src_port;
			f->live[i].guest_port = p.h.dst_port;
			f->live[i].got = 0;
		}
		for (i = 0; i < LIVE; i++)
			if (f->live[i].host_port == p.h.src_port)
				f->live[i].got += p.h.len;
	}
	while (vsock_device_next_event(f->d.device, &event)) {
		CHECK(event.stream < f->opened);
		f->ended++;
	}
}

static void send_any(struct fuzz *f)
{
	static const uint8_t payload[64 << 10];
	static const uint32_t allocs[] = {0, 1, 4096, BUF_ALLOC, UINT32_MAX};
	static const uint16_t usual[] = {VIRTIO_VSOCK_OP_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE,
					 VIRTIO_VSOCK_OP_RW, VIRTIO_VSOCK_OP_CREDIT_UPDATE,
					 VIRTIO_VSOCK_OP_CREDIT_REQUEST};
	unsigned i = any(f, LIVE);
	struct virtio_vsock_hdr h = {
		.src_cid = any(f, 50) ? GUEST_CID : any(f, 9),
		.dst_cid = any(f, 50) ? 2 : any(f, 9),
		.src_port = any(f, 20) ? f->live[i].guest_port : any(f, 99999),
		.dst_port = any(f, 20) ? f->live[i].host_port : any(f, 99999),
		.len = any(f, 3) ? any(f, 32) : any(f, sizeof(payload)),
		.type = any(f, 30) ? 1 : (uint16_t)any(f, 4),
		.op = any(f, 3) ? usual[any(f, 5)] : (uint16_t)any(f, 10),
		.flags = any(f, 5),
		.buf_alloc = allocs[any(f, 5)],
		.fwd_cnt = any(f, 10) ? f->live[i].got : any(f, 1000),
	};

	driver_send(&f->d, h, payload, h.len, any(f, 2) ? 1 + any(f, 5000) : 0);
}

/* More payload claimed than there is: the one thing that ends the device. */
static void break_device(struct fuzz *f)
{
	struct virtio_vsock_hdr h = {.len = 1 + any(f, UINT32_MAX - 1)};
	eventfd_t n;

	driver_send(&f->d, h, NULL, 0, 0);
	CHECK(wait_readable(f->d.needs_reset_fd, DEADLINE_MS));
	eventfd_read(f->d.needs_reset_fd, &n);
	driver_activate(&f->d, RX_MAX, any(f, 2));
}

/* Once the last one asks for its connection, no stream waits to be started:
 * a reset then ends every one. */
static void end_all(struct fuzz *f)
{
	struct received p;

	driver_activate(&f->d, RX_MAX, true);
	CHECK_EQUAL(vsock_device_open_stream(f->d.device, f->opened++, PORT + 1, VSOCK_TO_GUEST,
					     open("/dev/zero", O_RDONLY | O_CLOEXEC), NULL, 0),
		    0);
	do
		driver_receive(&f->d, &p);
	while (p.h.dst_port != PORT + 1);
	f->d.virtio->ops->reset(f->d.virtio);
	drain(f);
	CHECK_EQUAL(f->ended, f->opened);
}

static void expect_working(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	struct vsock_event event;

	driver_activate(d, RX_MAX, true);
	CHECK_EQUAL(vsock_device_open_stream(d->device, 7, PORT, VSOCK_FROM_GUEST,
					     open("/dev/null", O_WRONLY | O_CLOEXEC), "t", 1),
		    0);
	socket_accept(d, &s);
	socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	driver_next_event(d, &event);
	CHECK_EQUAL(event.error, 0);
}

int main(int argc, char **argv)
{
	static struct fuzz f;
	int before = dup(0), after;

	close(before);
	signal(SIGPIPE, SIG_IGN);
	f.seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 0x5eed5eed5eed5eed;
	driver_new(&f.d);
	driver_activate(&f.d, RX_MAX, true);
	for (unsigned round = 0; round < ROUNDS; round++) {
		drain(&f);
		if (f.opened - f.ended < 100 && any(&f, 4) == 0)
			open_any(&f);
		if (any(&f, 2000) == 0)
			break_device(&f);
		else
			send_any(&f);
	}
	end_all(&f);
	expect_working(&f.d);
	driver_free(&f.d);
	after = dup(0);
	close(after);
	CHECK_EQUAL(after, before);
	return 0;
}
