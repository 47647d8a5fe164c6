/* SPDX-License-Identifier: Apache-2.0 */
/* The vsock device under load: every byte arrives once and in order, and nothing
 * stays open.  `test_vsock_load MIB` moves that many through each stream and
 * prints the rates; by default few, silently. */
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "vsock_driver.h"

#define PORT 1025
#define PATTERN_BYTES (1u << 20)

/* Byte `at` of the stream is pattern_data[at mod a number coprime to all sizes]. */
static uint8_t pattern_data[PATTERN_BYTES + (64u << 10)];
#define PERIOD (PATTERN_BYTES - 3)

static uint64_t bytes_a_stream = 8u << 20;
static bool report;
static uint32_t seed = 1;

static uint32_t any(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)(((uint64_t)seed * below) >> 32);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void tell(const char *what, double since)
{
	if (report)
		printf("%-28s %6.0f MiB/s\n", what,
		       (double)(bytes_a_stream >> 20) / (seconds() - since));
}

/* Reads to the end of the file and compares. */
struct reader {
	int fd;
	uint64_t got;
};

static void *read_pattern(void *context)
{
	struct reader *r = context;
	static _Thread_local uint8_t buf[64 << 10];
	ssize_t n;

	while ((n = read(r->fd, buf, sizeof(buf))) > 0) {
		CHECK(memcmp(buf, pattern_data + r->got % PERIOD, (size_t)n) == 0);
		r->got += (uint64_t)n;
	}
	CHECK_EQUAL(n, 0);
	return NULL;
}

static void *write_pattern(void *context)
{
	int fd = *(int *)context;
	uint32_t size = 1;

	for (uint64_t at = 0; at < bytes_a_stream;) {
		uint64_t left = bytes_a_stream - at;
		ssize_t n;

		size = (size * 75 + 74) % 65537;
		n = write(fd, pattern_data + at % PERIOD, 1 + size < left ? 1 + size : left);
		CHECK(n > 0);
		at += (uint64_t)n;
	}
	close(fd);
	return NULL;
}

static void start_stream(struct driver *d, struct guest_socket *s, enum vsock_direction direction,
			 int fd)
{
	struct received p;

	CHECK_EQUAL(
		vsock_device_open_stream(d->device, 1, PORT, direction, fd, "0123456789abcdef", 16),
		0);
	socket_accept(d, s);
	socket_expect(s, VIRTIO_VSOCK_OP_RW, &p);
	s->fwd_cnt += p.h.len;
}

/* Sends like Linux: at most 64 KiB a packet, as far as the credit goes. */
static void send_pattern(struct guest_socket *s, bool random_sizes)
{
	struct received p;

	for (uint64_t at = 0; at < bytes_a_stream;) {
		uint32_t n = random_sizes ? 1 + any(64 << 10) : 64 << 10;

		while (driver_try_receive(s->d, &p, false, 0))
			socket_note(s, &p);
		while (socket_credit(s) == 0)
			socket_expect(s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, &p);
		if (n > socket_credit(s))
			n = socket_credit(s);
		if (n > bytes_a_stream - at)
			n = (uint32_t)(bytes_a_stream - at);
		socket_send(s, VIRTIO_VSOCK_OP_RW, 0, pattern_data + at % PERIOD, n);
		at += n;
	}
}

static void test_output(bool random_sizes)
{
	struct driver d;
	struct guest_socket s;
	struct reader reader = {0};
	struct vsock_event event;
	pthread_t thread;
	int fds[2];
	double start;

	driver_new(&d);
	driver_activate(&d, RX_MAX, true);
	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	reader.fd = fds[0];
	start_stream(&d, &s, VSOCK_FROM_GUEST, fds[1]);
	CHECK_EQUAL(pthread_create(&thread, NULL, read_pattern, &reader), 0);
	start = seconds();
	send_pattern(&s, random_sizes);
	socket_send(&s, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	driver_next_event(&d, &event);
	pthread_join(thread, NULL);
	tell(random_sizes ? "output, random sizes" : "output, 64 KiB", start);
	CHECK_EQUAL(event.error, 0);
	CHECK_EQUAL(event.bytes, bytes_a_stream);
	CHECK_EQUAL(reader.got, bytes_a_stream);
	close(fds[0]);
	driver_free(&d);
}

/* Takes a stream to its SHUTDOWN; reports its progress as Linux does, when less
 * than 64 KiB of the buffer seem free. */
static void receive_pattern(struct guest_socket *s)
{
	uint32_t told = s->fwd_cnt;
	uint64_t got = 0;
	struct received p;

	for (;;) {
		driver_receive(s->d, &p);
		if (p.h.op == VIRTIO_VSOCK_OP_SHUTDOWN)
			break;
		if (p.h.op == VIRTIO_VSOCK_OP_RW) {
			CHECK(memcmp(p.data, pattern_data + got % PERIOD, p.h.len) == 0);
			got += p.h.len;
			s->fwd_cnt += p.h.len;
		}
		if (s->fwd_cnt - told > BUF_ALLOC - (64 << 10)) {
			socket_send(s, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, NULL, 0);
			told = s->fwd_cnt;
		}
	}
	CHECK_EQUAL(got, bytes_a_stream);
}

static void test_input(void)
{
	struct driver d;
	struct guest_socket s;
	struct vsock_event event;
	pthread_t thread;
	int fds[2];
	double start;

	driver_new(&d);
	driver_activate(&d, 128, true);
	CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
	start_stream(&d, &s, VSOCK_TO_GUEST, fds[0]);
	start = seconds();
	CHECK_EQUAL(pthread_create(&thread, NULL, write_pattern, &fds[1]), 0);
	receive_pattern(&s);
	pthread_join(thread, NULL);
	tell("input", start);
	driver_next_event(&d, &event);
	CHECK_EQUAL(event.bytes, bytes_a_stream);
	CHECK_EQUAL(event.error, 0);
	driver_free(&d);
}

/* --- many connections --------------------------------------------------------- */

#define CLIENTS 1000

static int socket_at(const char *path, bool listening)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (listening) {
		unlink(path);
		CHECK_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
		CHECK_EQUAL(listen(fd, 64), 0);
	} else {
		CHECK_EQUAL(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	}
	return fd;
}

/* The guest's echo server for all of them at once, until each was closed. */
static void serve_echo(struct driver *d)
{
	static struct guest_socket sockets[CLIENTS];
	unsigned opened = 0, closed = 0;
	struct received p;

	while (closed < CLIENTS) {
		struct guest_socket *s = sockets;

		driver_receive(d, &p);
		if (p.h.op == VIRTIO_VSOCK_OP_REQUEST)
			sockets[opened++] = (struct guest_socket){.d = d,
								  .host_port = p.h.src_port,
								  .guest_port = p.h.dst_port,
								  .buf_alloc = BUF_ALLOC};
		while (s->host_port != p.h.src_port)
			CHECK(++s < sockets + opened);
		if (p.h.op == VIRTIO_VSOCK_OP_REQUEST)
			socket_send(s, VIRTIO_VSOCK_OP_RESPONSE, 0, NULL, 0);
		s->fwd_cnt += p.h.len;
		if (p.h.op == VIRTIO_VSOCK_OP_RW)
			socket_send(s, VIRTIO_VSOCK_OP_RW, 0, p.data, p.h.len);
		/* As Linux: closes once its reader has seen the end. */
		if (p.h.op == VIRTIO_VSOCK_OP_SHUTDOWN &&
		    (p.h.flags & VIRTIO_VSOCK_SHUTDOWN_SEND) && s->guest_port) {
			socket_send(s, VIRTIO_VSOCK_OP_SHUTDOWN,
				    VIRTIO_VSOCK_SHUTDOWN_SEND | VIRTIO_VSOCK_SHUTDOWN_RCV, NULL,
				    0);
			s->guest_port = 0;
			closed++;
		}
	}
}

static void *run_clients(void *context)
{
	static int fds[CLIENTS];

	for (int i = 0; i < CLIENTS; i++) {
		fds[i] = socket_at(context, false);
		CHECK_EQUAL(write(fds[i], &i, sizeof(i)), sizeof(i));
	}
	for (int i = 0; i < CLIENTS; i++) {
		int echoed;

		CHECK_EQUAL(recv(fds[i], &echoed, sizeof(echoed), MSG_WAITALL), sizeof(echoed));
		CHECK_EQUAL(echoed, i);
		if (i % 2)
			shutdown(fds[i], SHUT_WR);
	}
	for (int i = 0; i < CLIENTS; i++) {
		char byte;

		if (i % 2)
			CHECK_EQUAL(recv(fds[i], &byte, 1, 0), 0);
		close(fds[i]);
	}
	return NULL;
}

static void test_thousand_connections_at_once(void)
{
	struct driver d;
	pthread_t thread;
	char path[64];

	snprintf(path, sizeof(path), "/tmp/test-vsock-load-%d", getpid());
	driver_new(&d);
	CHECK_EQUAL(vsock_device_listen(d.device, socket_at(path, true), 1024), 0);
	driver_activate(&d, RX_MAX, true);
	CHECK_EQUAL(pthread_create(&thread, NULL, run_clients, path), 0);
	serve_echo(&d);
	pthread_join(thread, NULL);
	unlink(path);
	driver_free(&d);
}

/* --- reset under load ----------------------------------------------------- */

static void test_reset_while_busy(void)
{
	static const uint8_t chunk[4096];
	struct driver d;
	struct guest_socket in, out;
	struct vsock_event event;

	driver_new(&d);
	for (unsigned round = 0; round < 100; round++) {
		driver_activate(&d, RX_MAX, round % 2);
		start_stream(&d, &out, VSOCK_FROM_GUEST, open("/dev/null", O_WRONLY | O_CLOEXEC));
		start_stream(&d, &in, VSOCK_TO_GUEST, open("/dev/zero", O_RDONLY | O_CLOEXEC));
		for (unsigned i = 0; i < round % 16; i++)
			socket_send(&out, VIRTIO_VSOCK_OP_RW, 0, chunk, sizeof(chunk));
		d.virtio->ops->reset(d.virtio);
		for (unsigned i = 0; i < 2; i++) {
			driver_next_event(&d, &event);
			CHECK_EQUAL(event.error, -ECONNRESET);
		}
	}
	driver_free(&d);
}

int main(int argc, char **argv)
{
	struct rlimit files;
	int before = dup(0), after;

	close(before);
	signal(SIGPIPE, SIG_IGN);
	CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &files), 0);
	if (argc > 1) {
		bytes_a_stream = strtoull(argv[1], NULL, 0) << 20;
		report = true;
	}
	for (unsigned i = 0; i < sizeof(pattern_data); i++)
		pattern_data[i] = pattern(i % PERIOD);

	test_output(true);
	test_output(false);
	test_input();
	test_thousand_connections_at_once();
	test_reset_while_busy();
	after = dup(0);
	close(after);
	CHECK_EQUAL(after, before);
	return 0;
}
