/* SPDX-License-Identifier: Apache-2.0 */
/* The vsock device against virtio 1.2 §5.10, seen from the driver. */
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "vsock_driver.h"

#define PORT 1025
#define TOKEN "0123456789abcdef"
#define TOKEN_BYTES 16

static uint64_t next_stream = 1;

static void open_stream(struct driver *d, enum vsock_direction direction, int fd)
{
	CHECK_EQUAL(vsock_device_open_stream(d->device, next_stream++, PORT, direction, fd, TOKEN,
					     TOKEN_BYTES),
		    0);
}

/* A stream as far as the token has arrived. */
static void start_stream(struct driver *d, struct guest_socket *s, enum vsock_direction direction,
			 int fd)
{
	struct received p;

	open_stream(d, direction, fd);
	socket_accept(d, s);
	socket_expect(s, VIRTIO_VSOCK_OP_RW, &p);
	CHECK_EQUAL(p.h.len, TOKEN_BYTES);
	CHECK(memcmp(p.data, TOKEN, TOKEN_BYTES) == 0);
	s->fwd_cnt += TOKEN_BYTES;
}

static void expect_event(struct driver *d, uint64_t bytes, int error)
{
	struct vsock_event event;

	driver_next_event(d, &event);
	CHECK_EQUAL(event.stream, next_stream - 1);
	CHECK_EQUAL(event.bytes, bytes);
	CHECK_EQUAL(event.error, error);
	CHECK_EQUAL(vsock_device_next_event(d->device, &event), 0);
}

static void read_exactly(int fd, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n;

		CHECK(wait_readable(fd, DEADLINE_MS));
		n = read(fd, (char *)buf + done, len - done);
		CHECK(n > 0);
		done += (size_t)n;
	}
}

static void expect_eof(int fd)
{
	char byte;

	CHECK(wait_readable(fd, DEADLINE_MS));
	CHECK_EQUAL(read(fd, &byte, 1), 0);
}

/* Waits until the device reports that it has forwarded all that was sent. */
static void wait_forwarded(struct guest_socket *s)
{
	struct received p;

	while (s->peer_fwd_cnt != s->sent) {
		socket_send(s, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, NULL, 0);
		socket_expect(s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, &p);
	}
}

static int listener_new(char path[64])
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(path, 64, "/tmp/test-vsock-%d", getpid());
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	CHECK_EQUAL(listen(fd, 128), 0);
	return fd;
}

static int dial(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	CHECK_EQUAL(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* --- §5.10.6.5 connection establishment -------------------------------------- */

static void test_request_carries_addresses_and_credit(struct driver *d)
{
	struct guest_socket s;
	int fds[2];

	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	open_stream(d, VSOCK_FROM_GUEST, fds[1]);
	socket_accept(d, &s);
	CHECK_EQUAL(s.guest_port, PORT);
	CHECK(s.host_port >= 1024);
	CHECK_EQUAL(s.peer_buf_alloc, BUF_ALLOC);
	CHECK_EQUAL(s.peer_fwd_cnt, 0);
	close(fds[0]);
}

static void test_refused_stream_ends_with_econnrefused(struct driver *d)
{
	struct guest_socket s;
	int fds[2];

	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	open_stream(d, VSOCK_FROM_GUEST, fds[1]);
	socket_take_request(d, &s);
	socket_send(&s, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
	expect_event(d, 0, -ECONNREFUSED);
	expect_eof(fds[0]);
	close(fds[0]);
}

/* Whatever has no connection is answered by RST to the port it came from. */
static void test_unknown_connection_is_reset(struct driver *d)
{
	struct guest_socket s = {
		.d = d, .host_port = 4711, .guest_port = 815, .buf_alloc = BUF_ALLOC};
	struct received p;
	uint16_t ops[] = {VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RW, VIRTIO_VSOCK_OP_SHUTDOWN,
			  VIRTIO_VSOCK_OP_CREDIT_UPDATE, 77};

	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		socket_send(&s, VIRTIO_VSOCK_OP_RST, 0, NULL, 0); /* no answer to this one */
		socket_send(&s, ops[i], 0, NULL, 0);
		driver_receive(d, &p);
		CHECK_EQUAL(p.h.op, VIRTIO_VSOCK_OP_RST);
		CHECK_EQUAL(p.h.src_port, 4711);
		CHECK_EQUAL(p.h.dst_port, 815);
	}
}

static void test_stream_opened_before_driver_ok_waits(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	int fds[2];

	d->virtio->ops->reset(d->virtio);
	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	open_stream(d, VSOCK_FROM_GUEST, fds[1]);
	driver_activate(d, RX_MAX, true);
	socket_accept(d, &s);
	socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
	CHECK(memcmp(p.data, TOKEN, TOKEN_BYTES) == 0);
	close(fds[0]);
}

/* --- §5.10.6.5 disconnect; data from the guest -------------------------------- */

static void test_output_ends_when_guest_shuts_its_side(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	char buf[5];
	int fds[2];

	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	start_stream(d, &s, VSOCK_FROM_GUEST, fds[1]);
	socket_send(&s, VIRTIO_VSOCK_OP_RW, 0, "hello", 5);
	read_exactly(fds[0], buf, 5);
	CHECK(memcmp(buf, "hello", 5) == 0);
	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	expect_event(d, 5, 0);
	expect_eof(fds[0]);
	socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	CHECK_EQUAL(p.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
	CHECK_EQUAL(p.h.fwd_cnt, 5);
	socket_send(&s, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
	/* The connection is gone: its port is unknown. */
	socket_send(&s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_RST, &p);
	close(fds[0]);
}

/* A guest that closes waits for RST; its last bytes are still written. */
static void test_close_is_answered_at_once_and_loses_nothing(struct driver *d)
{
	static uint8_t sent[128 << 10], got[128 << 10];
	struct guest_socket s;
	struct received p;
	int fds[2];

	for (unsigned i = 0; i < sizeof(sent); i++)
		sent[i] = pattern(i);
	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	start_stream(d, &s, VSOCK_FROM_GUEST, fds[1]);
	socket_send(&s, VIRTIO_VSOCK_OP_RW, 0, sent, 64 << 10);
	socket_send(&s, VIRTIO_VSOCK_OP_RW, 0, sent + (64 << 10), 64 << 10);
	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN,
		    VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV, NULL, 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_RST, &p);
	read_exactly(fds[0], got, sizeof(got));
	CHECK(memcmp(sent, got, sizeof(got)) == 0);
	expect_event(d, sizeof(got), 0);
	expect_eof(fds[0]);
	close(fds[0]);
}

/* The reader has gone: the guest's writer must learn that though it sends nothing. */
static void test_vanished_reader_resets_the_guest(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	int fds[2];

	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	start_stream(d, &s, VSOCK_FROM_GUEST, fds[1]);
	close(fds[0]);
	socket_expect(&s, VIRTIO_VSOCK_OP_RST, &p);
	expect_event(d, 0, -EPIPE);
}

static void test_write_error_is_reported_with_the_bytes_written(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	start_stream(d, &s, VSOCK_FROM_GUEST, fd);
	socket_send(&s, VIRTIO_VSOCK_OP_RW, 0, "x", 1);
	socket_expect(&s, VIRTIO_VSOCK_OP_RST, &p);
	expect_event(d, 0, -ENOSPC);
}

/* epoll refuses regular files; they are always ready. */
static void test_regular_files_serve_both_directions(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	char path[] = "/tmp/test-vsock-XXXXXX", buf[8];
	int fd = mkostemp(path, O_CLOEXEC), copy = open(path, O_RDWR | O_CLOEXEC);

	unlink(path);
	start_stream(d, &s, VSOCK_FROM_GUEST, fd);
	socket_send(&s, VIRTIO_VSOCK_OP_RW, 0, "to file", 7);
	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	expect_event(d, 7, 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	CHECK_EQUAL(pread(copy, buf, sizeof(buf), 0), 7);

	start_stream(d, &s, VSOCK_TO_GUEST, copy);
	socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
	CHECK_EQUAL(p.h.len, 7);
	CHECK(memcmp(p.data, "to file", 7) == 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	expect_event(d, 7, 0);
}

static void test_dev_null_serves_both_directions(struct driver *d)
{
	struct guest_socket s;
	struct received p;

	start_stream(d, &s, VSOCK_TO_GUEST, open("/dev/null", O_RDONLY | O_CLOEXEC));
	socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	CHECK_EQUAL(p.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	expect_event(d, 0, 0);

	start_stream(d, &s, VSOCK_FROM_GUEST, open("/dev/null", O_WRONLY | O_CLOEXEC));
	socket_send(&s, VIRTIO_VSOCK_OP_RW, 0, "gone", 4);
	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	expect_event(d, 4, 0);
}

/* --- data to the guest ---------------------------------------------------- */

static void test_input_ends_with_shutdown_of_one_side(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	int fds[2];

	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	start_stream(d, &s, VSOCK_TO_GUEST, fds[0]);
	CHECK_EQUAL(write(fds[1], "input", 5), 5);
	socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
	CHECK(p.h.len == 5 && memcmp(p.data, "input", 5) == 0);
	close(fds[1]);
	socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	CHECK_EQUAL(p.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	expect_event(d, 5, 0);
	/* The guest still reads: no packet may take its side away … */
	socket_send(&s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	socket_send(&s, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, NULL, 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, &p);
	/* … until it closes by itself. */
	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN,
		    VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV, NULL, 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_RST, &p);
}

/* The container ended without reading its input. */
static void test_input_that_nobody_reads_ends_in_order(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	int fds[2];

	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	start_stream(d, &s, VSOCK_TO_GUEST, fds[0]);
	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN,
		    VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV, NULL, 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_RST, &p);
	expect_event(d, 0, 0);
	CHECK(write(fds[1], "x", 1) < 0 && errno == EPIPE);
	close(fds[1]);
}

static void test_terminal_hangup_is_end_of_input(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;

	CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	CHECK(slave >= 0);
	start_stream(d, &s, VSOCK_TO_GUEST, master);
	CHECK_EQUAL(write(slave, "tty", 3), 3);
	socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
	CHECK_EQUAL(p.h.len, 3);
	close(slave);
	socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	expect_event(d, 3, 0);
}

/* --- §5.10.6.3 buffer space management ------------------------------------ */

/* The device never sends beyond the guest's buffer, asks once and goes on. */
static void test_host_stops_when_guest_has_no_buffer(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	uint32_t got = TOKEN_BYTES;
	int fds[2];
	static uint8_t data[16 << 10];

	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	open_stream(d, VSOCK_TO_GUEST, fds[0]);
	socket_take_request(d, &s);
	s.buf_alloc = 5000;
	socket_send(&s, VIRTIO_VSOCK_OP_RESPONSE, 0, NULL, 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
	CHECK_EQUAL(write(fds[1], data, sizeof(data)), sizeof(data));
	while (got < 5000) {
		socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
		got += p.h.len;
	}
	CHECK_EQUAL(got, 5000);
	socket_expect(&s, VIRTIO_VSOCK_OP_CREDIT_REQUEST, &p);
	/* No room yet: an answer to it brings neither data nor another request,
	 * so the next thing heard is the answer to ours. */
	socket_send(&s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	socket_send(&s, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, NULL, 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, &p);
	s.fwd_cnt = 5000;
	socket_send(&s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
	close(fds[1]);
}

/* A full FIFO stops the guest by credit; once drained, nothing is missing. */
static void test_full_fifo_holds_back_and_drains(struct driver *d)
{
	static uint8_t chunk[4096], got[4096];
	struct guest_socket s;
	struct received p;
	char path[64];
	uint64_t sent = 0;
	int reader, writer, pending;

	snprintf(path, sizeof(path), "/tmp/test-vsock-fifo-%d", getpid());
	unlink(path);
	CHECK_EQUAL(mkfifo(path, 0600), 0);
	/* As the shim opens it: no reader needed, never EPIPE. */
	writer = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	unlink(path);
	start_stream(d, &s, VSOCK_FROM_GUEST, writer);
	for (bool full = false; !full;) {
		for (; socket_credit(&s) >= sizeof(chunk); sent += sizeof(chunk)) {
			for (unsigned i = 0; i < sizeof(chunk); i++)
				chunk[i] = pattern(sent + i);
			socket_send(&s, VIRTIO_VSOCK_OP_RW, 0, chunk, sizeof(chunk));
		}
		socket_send(&s, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, NULL, 0);
		socket_expect(&s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, &p);
		full = socket_credit(&s) < sizeof(chunk);
	}
	CHECK_EQUAL(ioctl(reader, FIONREAD, &pending), 0);
	CHECK_EQUAL(pending, s.peer_fwd_cnt);
	CHECK_EQUAL(sent - (uint64_t)pending, BUF_ALLOC);

	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	for (uint64_t at = 0; at < sent; at += sizeof(got)) {
		read_exactly(reader, got, sizeof(got));
		for (unsigned i = 0; i < sizeof(got); i++)
			CHECK_EQUAL(got[i], pattern(at + i));
	}
	expect_event(d, sent, 0);
	close(reader);
}

static void test_more_data_than_credit_is_reset(struct driver *d)
{
	static uint8_t chunk[64 << 10];
	struct guest_socket s;
	struct received p;
	int fds[2];

	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	start_stream(d, &s, VSOCK_FROM_GUEST, fds[1]);
	/* 64 KiB fill the pipe, 256 KiB our buffer. */
	for (unsigned i = 0; i < 6; i++)
		socket_send(&s, VIRTIO_VSOCK_OP_RW, 0, chunk, sizeof(chunk));
	socket_expect(&s, VIRTIO_VSOCK_OP_RST, &p);
	expect_event(d, 64 << 10, -EPROTO);
	close(fds[0]);
}

static void test_acknowledging_what_was_never_sent_is_reset(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	int fds[2];

	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	start_stream(d, &s, VSOCK_TO_GUEST, fds[0]);
	s.fwd_cnt = TOKEN_BYTES + 1;
	socket_send(&s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
	socket_expect(&s, VIRTIO_VSOCK_OP_RST, &p);
	expect_event(d, 0, -EPROTO);
	close(fds[1]);
}

/* --- §5.10.6.1 the rx queue runs dry -------------------------------------- */

/* With one rx buffer every connection is served in turn and no reply is lost. */
static void test_starved_rx_queue_serves_all_in_turn(struct driver *d)
{
	enum { COUNT = 8 };
	struct guest_socket s[COUNT];
	struct received p;
	int fds[COUNT][2], turns[COUNT] = {0};
	static uint8_t data[16 << 10];

	driver_activate(d, 1, true);
	for (unsigned i = 0; i < COUNT; i++) {
		CHECK_EQUAL(pipe2(fds[i], O_CLOEXEC), 0);
		start_stream(d, &s[i], VSOCK_TO_GUEST, fds[i][0]);
	}
	for (unsigned i = 0; i < COUNT; i++)
		CHECK_EQUAL(write(fds[i][1], data, sizeof(data)), sizeof(data));
	/* All are ready by the time that each has sent once; from then on no one
	 * sends twice before every other has. */
	for (unsigned seen = 0; seen < COUNT * 4; seen++) {
		driver_receive(d, &p);
		CHECK_EQUAL(p.h.op, VIRTIO_VSOCK_OP_RW);
		CHECK_EQUAL(p.h.len, 4096);
		for (unsigned i = 0; i < COUNT; i++)
			turns[i] += p.h.src_port == s[i].host_port;
	}
	for (unsigned i = 0; i < COUNT; i++) {
		CHECK_EQUAL(turns[i], 4);
		close(fds[i][1]);
	}
}

/* Without any rx buffer the device stops taking packets that need an answer,
 * in bounded memory, and goes on when buffers come. */
static void test_no_rx_buffer_stops_tx_until_some_come(struct driver *d)
{
	struct guest_socket s = {.d = d, .buf_alloc = BUF_ALLOC, .guest_port = 9};
	struct received p;

	driver_activate(d, 0, true);
	for (unsigned i = 0; i < 80; i++) {
		s.host_port = 5000 + i;
		/* 64 are remembered, the rest waits in the 32 slots of the ring. */
		socket_send(&s, VIRTIO_VSOCK_OP_REQUEST, 0, NULL, 0);
	}
	driver_post_rx(d, 0);
	for (unsigned i = 0; i < 80; i++) {
		driver_receive(d, &p);
		CHECK_EQUAL(p.h.op, VIRTIO_VSOCK_OP_RST);
		CHECK_EQUAL(p.h.src_port, 5000 + i);
	}
}

/* --- unix sockets --------------------------------------------------------- */

static void test_unix_connection_both_ways_with_half_close(struct driver *d)
{
	struct guest_socket s;
	struct received p;
	char path[64], buf[16];
	int listen_fd = listener_new(path), client;

	d->virtio->ops->reset(d->virtio);
	CHECK_EQUAL(vsock_device_listen(d->device, listen_fd, 1024), 0);
	driver_activate(d, RX_MAX, true);
	client = dial(path);
	socket_accept(d, &s);
	CHECK_EQUAL(s.guest_port, 1024);
	CHECK_EQUAL(write(client, "ping", 4), 4);
	socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
	CHECK(p.h.len == 4 && memcmp(p.data, "ping", 4) == 0);

	shutdown(client, SHUT_WR);
	socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	CHECK_EQUAL(p.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	socket_send(&s, VIRTIO_VSOCK_OP_RW, 0, "pong", 4);
	read_exactly(client, buf, 4);
	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	expect_eof(client);
	socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	CHECK_EQUAL(p.h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV);
	socket_send(&s, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
	close(client);

	/* Nobody listens in the guest: the client sees a closed connection. */
	client = dial(path);
	socket_take_request(d, &s);
	socket_send(&s, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
	expect_eof(client);
	close(client);

	/* The guest's half close comes first. */
	client = dial(path);
	socket_accept(d, &s);
	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	expect_eof(client);
	CHECK_EQUAL(write(client, "late", 4), 4);
	socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
	CHECK_EQUAL(p.h.len, 4);
	close(client);
	socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);

	/* A client that vanishes ends both directions. */
	client = dial(path);
	socket_accept(d, &s);
	socket_send(&s, VIRTIO_VSOCK_OP_RW, 0, "hello", 5);
	read_exactly(client, buf, 5);
	close(client);
	do
		socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
	while (p.h.flags != (VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV));
	socket_send(&s, VIRTIO_VSOCK_OP_RST, 0, NULL, 0);
	unlink(path);
}

/* --- §5.10.6.2 addresses; hostile drivers --------------------------------- */

static void test_packets_with_foreign_addresses_are_dropped(struct driver *d)
{
	struct guest_socket s = {.d = d, .host_port = 7, .guest_port = 8};
	struct virtio_vsock_hdr h = {
		.src_port = 1, .dst_port = 2, .type = 1, .op = VIRTIO_VSOCK_OP_REQUEST};
	struct received p;

	h.src_cid = GUEST_CID + 1, h.dst_cid = 2;
	driver_send(d, h, NULL, 0, 0);
	h.src_cid = GUEST_CID, h.dst_cid = GUEST_CID;
	driver_send(d, h, NULL, 0, 0);
	socket_send(&s, VIRTIO_VSOCK_OP_REQUEST, 0, NULL, 0);
	driver_receive(d, &p);
	CHECK_EQUAL(p.h.src_port, 7);
}

static void test_unknown_socket_type_is_reset(struct driver *d)
{
	struct virtio_vsock_hdr h = {.src_cid = GUEST_CID,
				     .dst_cid = 2,
				     .src_port = 1,
				     .dst_port = 2,
				     .type = VIRTIO_VSOCK_TYPE_SEQPACKET,
				     .op = VIRTIO_VSOCK_OP_REQUEST};
	struct received p;

	driver_send(d, h, NULL, 0, 0);
	driver_receive(d, &p);
	CHECK_EQUAL(p.h.op, VIRTIO_VSOCK_OP_RST);
	CHECK_EQUAL(p.h.type, VIRTIO_VSOCK_TYPE_SEQPACKET);
}

static void test_length_beyond_the_chain_needs_reset(struct driver *d)
{
	struct virtio_vsock_hdr h = {.src_cid = GUEST_CID, .dst_cid = 2, .len = 1, .type = 1};

	driver_send(d, h, NULL, 0, 0);
	CHECK(wait_readable(d->needs_reset_fd, DEADLINE_MS));
	driver_activate(d, RX_MAX, true);
}

static void test_rx_buffer_without_room_needs_reset(struct driver *d)
{
	struct guest_socket s = {.d = d, .host_port = 7, .guest_port = 8};

	driver_activate(d, 0, true);
	GUEST_BEGIN();
	d->rings[0].desc[0] = (struct vring_desc){RX_AREA, HEADER - 1, VRING_DESC_F_WRITE, 0};
	GUEST_END();
	ring_publish(&d->rings[0], 0);
	socket_send(&s, VIRTIO_VSOCK_OP_REQUEST, 0, NULL, 0);
	CHECK(wait_readable(d->needs_reset_fd, DEADLINE_MS));
}

/* Header and payload may be cut anywhere (§2.7.4.2). */
static void test_payload_in_many_descriptors(struct driver *d)
{
	struct guest_socket s;
	char data[100], got[100];
	int fds[2];

	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (char)pattern(i);
	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	start_stream(d, &s, VSOCK_FROM_GUEST, fds[1]);
	driver_send(d,
		    (struct virtio_vsock_hdr){.src_cid = GUEST_CID,
					      .dst_cid = 2,
					      .src_port = s.guest_port,
					      .dst_port = s.host_port,
					      .len = sizeof(data),
					      .type = VIRTIO_VSOCK_TYPE_STREAM,
					      .op = VIRTIO_VSOCK_OP_RW,
					      .buf_alloc = BUF_ALLOC,
					      .fwd_cnt = s.fwd_cnt},
		    data, sizeof(data), 7);
	read_exactly(fds[0], got, sizeof(got));
	CHECK(memcmp(data, got, sizeof(got)) == 0);
	s.sent = sizeof(data);
	wait_forwarded(&s);
	close(fds[0]);
}

/* --- reset ---------------------------------------------------------------- */

static void test_reset_ends_streams_and_keeps_listeners(struct driver *d)
{
	struct guest_socket s;
	char path[64];
	int listen_fd = listener_new(path), client, fds[2];

	d->virtio->ops->reset(d->virtio);
	CHECK_EQUAL(vsock_device_listen(d->device, listen_fd, 1026), 0);
	driver_activate(d, RX_MAX, true);
	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	start_stream(d, &s, VSOCK_TO_GUEST, fds[0]);
	client = dial(path);
	socket_accept(d, &s);
	d->virtio->ops->reset(d->virtio);
	d->virtio->ops->reset(d->virtio);
	expect_event(d, 0, -ECONNRESET);
	expect_eof(client);
	close(client);
	close(fds[1]);

	driver_activate(d, RX_MAX, true);
	client = dial(path);
	socket_accept(d, &s);
	CHECK_EQUAL(s.guest_port, 1026);
	close(client);
	unlink(path);
}

/* A guest that never closes its side cannot use the host's table up. */
static void test_ended_connections_make_room(struct driver *d)
{
	struct guest_socket s;
	struct received p;

	for (unsigned i = 0; i < 2100; i++) {
		open_stream(d, VSOCK_TO_GUEST, open("/dev/null", O_RDONLY | O_CLOEXEC));
		do
			driver_receive(d, &p);
		while (p.h.op == VIRTIO_VSOCK_OP_RST); /* of one that made room */
		CHECK_EQUAL(p.h.op, VIRTIO_VSOCK_OP_REQUEST);
		s = (struct guest_socket){.d = d,
					  .host_port = p.h.src_port,
					  .guest_port = PORT,
					  .buf_alloc = BUF_ALLOC};
		socket_send(&s, VIRTIO_VSOCK_OP_RESPONSE, 0, NULL, 0);
		socket_expect(&s, VIRTIO_VSOCK_OP_RW, &p);
		socket_expect(&s, VIRTIO_VSOCK_OP_SHUTDOWN, &p);
		expect_event(d, 0, 0);
	}
}

static const struct {
	const char *name;
	void (*run)(struct driver *d);
} tests[] = {
#define TEST(name) {#name, test_##name}
	TEST(request_carries_addresses_and_credit),
	TEST(refused_stream_ends_with_econnrefused),
	TEST(unknown_connection_is_reset),
	TEST(stream_opened_before_driver_ok_waits),
	TEST(output_ends_when_guest_shuts_its_side),
	TEST(close_is_answered_at_once_and_loses_nothing),
	TEST(vanished_reader_resets_the_guest),
	TEST(write_error_is_reported_with_the_bytes_written),
	TEST(regular_files_serve_both_directions),
	TEST(dev_null_serves_both_directions),
	TEST(input_ends_with_shutdown_of_one_side),
	TEST(input_that_nobody_reads_ends_in_order),
	TEST(terminal_hangup_is_end_of_input),
	TEST(host_stops_when_guest_has_no_buffer),
	TEST(full_fifo_holds_back_and_drains),
	TEST(more_data_than_credit_is_reset),
	TEST(acknowledging_what_was_never_sent_is_reset),
	TEST(starved_rx_queue_serves_all_in_turn),
	TEST(no_rx_buffer_stops_tx_until_some_come),
	TEST(unix_connection_both_ways_with_half_close),
	TEST(packets_with_foreign_addresses_are_dropped),
	TEST(unknown_socket_type_is_reset),
	TEST(length_beyond_the_chain_needs_reset),
	TEST(rx_buffer_without_room_needs_reset),
	TEST(payload_in_many_descriptors),
	TEST(reset_ends_streams_and_keeps_listeners),
	TEST(ended_connections_make_room),
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (argc > 1 && strcmp(argv[1], tests[i].name) != 0)
			continue;
		for (int event_idx = 0; event_idx < 2; event_idx++) {
			struct driver d;
			int before = dup(0), after;

			close(before);
			driver_new(&d);
			driver_activate(&d, RX_MAX, event_idx);
			tests[i].run(&d);
			driver_free(&d);
			after = dup(0);
			close(after);
			if (after != before)
				fprintf(stderr, "%s leaks a file descriptor\n", tests[i].name);
			CHECK_EQUAL(after, before);
		}
		if (argc > 1)
			printf("%s\n", tests[i].name);
	}
	return 0;
}
