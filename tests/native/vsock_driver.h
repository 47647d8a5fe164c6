/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's half for tests of the vsock device: a driver that owns a piece
 * of fake guest memory, posts rx buffers as Linux does (header and 4 KiB in one
 * descriptor) and sends by indirect descriptors.  One thread. */
#ifndef SAMPAN_TESTS_VSOCK_DRIVER_H
#define SAMPAN_TESTS_VSOCK_DRIVER_H

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "live_ring.h"
#include "vsock/device.h"

#define GUEST_CID 3
#define HEADER sizeof(struct virtio_vsock_hdr)
#define RX_BYTES (HEADER + 4096)
#define TX_SLOTS 32
#define TX_SLOT_BYTES (72u << 10)
#define TX_DATA 1024 /* the slot's indirect table comes before */
#define RX_AREA (4 * RING_BYTES)
#define RX_STRIDE 8192
#define RX_MAX 256
#define TX_AREA (RX_AREA + RX_MAX * RX_STRIDE)
#define RAM_BYTES (TX_AREA + TX_SLOTS * TX_SLOT_BYTES)
#define BUF_ALLOC (256u << 10)

struct driver {
	struct guest_memory mem;
	uint8_t *ram;
	struct virtqueue queues[3];
	struct ring rings[3];
	unsigned rx_posted;
	uint32_t tx_free; /* bit per slot */
	struct vsock_device *device;
	struct virtio_device *virtio;
	int needs_reset_fd;
};

/* One packet from the host. */
struct received {
	struct virtio_vsock_hdr h;
	uint8_t data[4096];
};

static inline void on_needs_reset(void *transport)
{
	struct driver *d = transport;

	eventfd_write(d->needs_reset_fd, 1);
}

static inline void ring_start(struct driver *d, unsigned i, uint16_t size, bool event_idx)
{
	ring_lay(&d->rings[i], &d->queues[i], &d->mem, (uint64_t)i * RING_BYTES, size, event_idx);
}

static inline void driver_post_rx(struct driver *d, uint16_t slot)
{
	struct ring *rx = &d->rings[0];

	GUEST_BEGIN();
	rx->desc[slot] = (struct vring_desc){
		.addr = RX_AREA + (uint64_t)slot * RX_STRIDE,
		.len = RX_BYTES,
		.flags = VRING_DESC_F_WRITE,
	};
	GUEST_END();
	ring_publish(rx, slot);
}

/* Resets the device, then DRIVER_OK with `rx_buffers` buffers posted. */
static inline void driver_activate(struct driver *d, unsigned rx_buffers, bool event_idx)
{
	d->virtio->ops->reset(d->virtio);
	ring_start(d, 0, RX_MAX, event_idx);
	ring_start(d, 1, TX_SLOTS, event_idx);
	ring_start(d, 2, 16, event_idx);
	d->tx_free = UINT32_MAX;
	for (unsigned i = 0; i < rx_buffers; i++)
		driver_post_rx(d, (uint16_t)i);
	CHECK_EQUAL(d->virtio->ops->activate(d->virtio, d->queues, 3, 0), 0);
}

static inline void driver_new(struct driver *d)
{
	memset(d, 0, sizeof(*d));
	d->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(d->ram != MAP_FAILED);
	CHECK_EQUAL(guest_memory_add(&d->mem, 0, RAM_BYTES, d->ram), 0);
	for (unsigned i = 0; i < 3; i++)
		ring_open(&d->queues[i]);
	d->needs_reset_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK_EQUAL(vsock_device_new(GUEST_CID, &d->device), 0);
	d->virtio = vsock_device_virtio(d->device);
	d->virtio->needs_reset = on_needs_reset;
	d->virtio->transport = d;
}

static inline void driver_free(struct driver *d)
{
	d->virtio->ops->reset(d->virtio);
	d->virtio->ops->destroy(d->virtio);
	for (unsigned i = 0; i < 3; i++)
		ring_close(&d->queues[i]);
	close(d->needs_reset_fd);
	munmap(d->ram, RAM_BYTES);
}

/* --- packets --------------------------------------------------------------- */

/* Takes the next packet and posts its buffer again unless `keep`. */
static inline bool driver_try_receive(struct driver *d, struct received *p, bool keep,
				      int timeout_ms)
{
	struct vring_used_elem used;
	uint8_t *slot;

	if (!ring_take_used(&d->rings[0], &used, timeout_ms))
		return false;
	CHECK(used.len >= HEADER && used.len <= RX_BYTES);
	slot = d->ram + RX_AREA + used.id * RX_STRIDE;
	GUEST_BEGIN();
	memcpy(&p->h, slot, HEADER);
	memcpy(p->data, slot + HEADER, used.len - HEADER);
	GUEST_END();
	CHECK_EQUAL(p->h.len, used.len - HEADER);
	CHECK_EQUAL(p->h.src_cid, 2);
	CHECK_EQUAL(p->h.dst_cid, GUEST_CID);
	if (!keep)
		driver_post_rx(d, (uint16_t)used.id);
	return true;
}

static inline void driver_receive(struct driver *d, struct received *p)
{
	CHECK(driver_try_receive(d, p, false, DEADLINE_MS));
}

/* Sends header and payload cut into pieces of `cut` bytes after the header
 * (0: one piece); waits for a free slot. */
static inline void driver_send(struct driver *d, struct virtio_vsock_hdr h, const void *payload,
			       uint32_t len, uint32_t cut)
{
	struct ring *tx = &d->rings[1];
	struct vring_used_elem used;
	struct vring_desc *table;
	uint32_t slot, count = 0;
	uint64_t gpa;

	while (d->tx_free == 0 || ring_has_used(tx)) {
		if (!ring_take_used(tx, &used, DEADLINE_MS))
			CHECK(!"the tx queue moves on");
		d->tx_free |= 1u << used.id;
	}
	slot = (uint32_t)__builtin_ctz(d->tx_free);
	d->tx_free &= ~(1u << slot);
	gpa = TX_AREA + (uint64_t)slot * TX_SLOT_BYTES;
	table = (void *)(d->ram + gpa);
	GUEST_BEGIN();
	memcpy(d->ram + gpa + TX_DATA, &h, HEADER);
	if (len > 0)
		memcpy(d->ram + gpa + TX_DATA + HEADER, payload, len);
	table[count++] = (struct vring_desc){gpa + TX_DATA, HEADER, VRING_DESC_F_NEXT, 1};
	for (uint32_t at = 0; at < len; count++) {
		uint32_t n = cut && cut < len - at && count < 30 ? cut : len - at;

		table[count] = (struct vring_desc){gpa + TX_DATA + HEADER + at, n,
						   VRING_DESC_F_NEXT, (uint16_t)(count + 1)};
		at += n;
	}
	table[count - 1].flags = 0;
	tx->desc[slot] = (struct vring_desc){gpa, count * sizeof(*table), VRING_DESC_F_INDIRECT, 0};
	GUEST_END();
	ring_publish(tx, (uint16_t)slot);
}

/* --- a socket of the guest -------------------------------------------------- */

struct guest_socket {
	struct driver *d;
	uint32_t host_port, guest_port;
	uint32_t buf_alloc, fwd_cnt; /* ours */
	uint32_t sent, peer_fwd_cnt, peer_buf_alloc;
};

static inline void socket_send(struct guest_socket *s, uint16_t op, uint32_t flags,
			       const void *payload, uint32_t len)
{
	driver_send(s->d,
		    (struct virtio_vsock_hdr){
			    .src_cid = GUEST_CID,
			    .dst_cid = 2,
			    .src_port = s->guest_port,
			    .dst_port = s->host_port,
			    .len = len,
			    .type = VIRTIO_VSOCK_TYPE_STREAM,
			    .op = op,
			    .flags = flags,
			    .buf_alloc = s->buf_alloc,
			    .fwd_cnt = s->fwd_cnt,
		    },
		    payload, len, 0);
	s->sent += len;
}

static inline void socket_note(struct guest_socket *s, const struct received *p)
{
	CHECK_EQUAL(p->h.src_port, s->host_port);
	CHECK_EQUAL(p->h.dst_port, s->guest_port);
	CHECK_EQUAL(p->h.type, VIRTIO_VSOCK_TYPE_STREAM);
	s->peer_fwd_cnt = p->h.fwd_cnt;
	s->peer_buf_alloc = p->h.buf_alloc;
}

static inline uint32_t socket_credit(const struct guest_socket *s)
{
	return s->peer_buf_alloc - (s->sent - s->peer_fwd_cnt);
}

/* The next packet, which must be for `s` and of kind `op`. */
static inline void socket_expect(struct guest_socket *s, uint16_t op, struct received *p)
{
	driver_receive(s->d, p);
	if (p->h.op != op)
		fprintf(stderr, "op %u came\n", p->h.op);
	CHECK_EQUAL(p->h.op, op);
	socket_note(s, p);
}

/* Takes the REQUEST that must come next. */
static inline void socket_take_request(struct driver *d, struct guest_socket *s)
{
	struct received p;

	driver_receive(d, &p);
	CHECK_EQUAL(p.h.op, VIRTIO_VSOCK_OP_REQUEST);
	*s = (struct guest_socket){
		.d = d,
		.host_port = p.h.src_port,
		.guest_port = p.h.dst_port,
		.buf_alloc = BUF_ALLOC,
	};
	socket_note(s, &p);
}

static inline void socket_accept(struct driver *d, struct guest_socket *s)
{
	socket_take_request(d, s);
	socket_send(s, VIRTIO_VSOCK_OP_RESPONSE, 0, NULL, 0);
}

static inline void driver_next_event(struct driver *d, struct vsock_event *event)
{
	while (vsock_device_next_event(d->device, event) == 0)
		CHECK(wait_readable(vsock_device_event_fd(d->device), DEADLINE_MS));
}

/* Byte `at` of an endless stream that no wrong order reproduces. */
static inline uint8_t pattern(uint64_t at)
{
	return (uint8_t)((at * 0x9e3779b97f4a7c15u) >> 53);
}

#endif
