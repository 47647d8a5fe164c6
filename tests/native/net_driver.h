/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of a net device (virtio 1.2 §5.1): its two queues, its buffers, packets
 * whose bytes tell where they belong.  The test has the tap's other end. */
#ifndef SAMPAN_TESTS_NET_DRIVER_H
#define SAMPAN_TESTS_NET_DRIVER_H

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "live_ring.h"
#include "net/device.h"

#ifndef DRIVER_PAIRS
#define DRIVER_PAIRS 1
#endif
#define DRIVER_QUEUES (DRIVER_PAIRS > 1 ? 2 * DRIVER_PAIRS + 1 : 2)
#define RX 0 /* of the first pair */
#define TX 1
#define CONTROL (2 * DRIVER_PAIRS)
#define QUEUE_SIZE 256
#define SLOT_BYTES 4096
#define SLOTS 256
#define RX_AREA (DRIVER_QUEUES * RING_BYTES)
#define TX_AREA (RX_AREA + SLOTS * SLOT_BYTES)
#define RAM_BYTES (TX_AREA + SLOTS * SLOT_BYTES)
#define NOISE_BYTES 3000
#define QUIET_MS 50
#define MERGEABLE (1ULL << VIRTIO_NET_F_MRG_RXBUF)
#define LARGE 60000

struct driver {
	struct guest_memory mem;
	uint8_t *ram;
	struct virtqueue queues[DRIVER_QUEUES];
	struct ring rings[DRIVER_QUEUES];
	struct net_device *device;
	struct virtio_device *virtio;
	int needs_reset_fd;
	int wire;	       /* the tap's other end */
	bool mergeable;	       /* as negotiated */
	bool single_uncounted; /* without mergeable buffers num_buffers is not set */
	size_t wire_cut;       /* bytes of a packet's header that do not go over it */
};

static inline void on_needs_reset(void *transport)
{
	struct driver *d = transport;

	eventfd_write(d->needs_reset_fd, 1);
}

static inline void driver_new(struct driver *d)
{
	memset(d, 0, sizeof(*d));
	d->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(d->ram != MAP_FAILED);
	CHECK_EQUAL(guest_memory_add(&d->mem, 0, RAM_BYTES, d->ram), 0);
	for (unsigned i = 0; i < DRIVER_QUEUES; i++)
		ring_open(&d->queues[i]);
	d->needs_reset_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->wire = -1;
	CHECK_EQUAL(net_device_new(DRIVER_PAIRS, &d->device), 0);
	d->virtio = net_device_virtio(d->device);
	d->virtio->needs_reset = on_needs_reset;
	d->virtio->transport = d;
}

static inline void driver_free(struct driver *d)
{
	d->virtio->ops->reset(d->virtio);
	d->virtio->ops->destroy(d->virtio);
	for (unsigned i = 0; i < DRIVER_QUEUES; i++)
		ring_close(&d->queues[i]);
	close(d->needs_reset_fd);
	if (d->wire >= 0)
		close(d->wire);
	munmap(d->ram, RAM_BYTES);
}

static inline void activate(struct driver *d, uint64_t features, bool event_idx)
{
	d->virtio->ops->reset(d->virtio);
	for (unsigned i = 0; i < DRIVER_QUEUES; i++)
		ring_lay(&d->rings[i], &d->queues[i], &d->mem, (uint64_t)i * RING_BYTES, QUEUE_SIZE,
			 event_idx);
	d->mergeable = features & MERGEABLE;
	features |= 1ULL << VIRTIO_F_VERSION_1;
	if (event_idx)
		features |= 1ULL << VIRTIO_RING_F_EVENT_IDX;
	CHECK_EQUAL(d->virtio->ops->activate(d->virtio, d->queues, DRIVER_QUEUES, features), 0);
}

static inline void describe(struct driver *d, unsigned queue, uint16_t index, uint64_t gpa,
			    uint32_t len, uint16_t flags, uint16_t next)
{
	GUEST_BEGIN();
	d->rings[queue].desc[index] = (struct vring_desc){gpa, len, flags, next};
	GUEST_END();
}

static inline void post_rx(struct driver *d, uint16_t slot, uint32_t len)
{
	describe(d, RX, slot, RX_AREA + (uint64_t)slot * SLOT_BYTES, len, VRING_DESC_F_WRITE, 0);
	ring_publish(&d->rings[RX], slot);
}

static inline void post_all_rx(struct driver *d)
{
	for (uint16_t slot = 0; slot < SLOTS; slot++)
		post_rx(d, slot, SLOT_BYTES);
}

/* A packet of `len` bytes, header included, whose bytes tell its place. */
static inline void fill(uint8_t *packet, size_t len, uint8_t tag)
{
	memset(packet, 0, NET_HEADER_BYTES);
	for (size_t i = NET_HEADER_BYTES; i < len; i++)
		packet[i] = (uint8_t)(tag + i);
}

static inline void send_on_wire(struct driver *d, size_t len, uint8_t tag)
{
	static uint8_t packet[1 << 16];

	fill(packet, len, tag);
	CHECK_EQUAL(send(d->wire, packet + d->wire_cut, len - d->wire_cut, 0), len - d->wire_cut);
}

/* Takes a packet out of the rx queue; checks length, contents and num_buffers. */
static inline void expect_rx(struct driver *d, size_t len, uint8_t tag, unsigned buffers)
{
	static uint8_t expected[1 << 16];
	struct virtio_net_hdr_v1 header;
	size_t done = 0;

	fill(expected, len, tag);
	for (unsigned i = 0; i < buffers; i++) {
		struct vring_used_elem used;
		const uint8_t *data;

		CHECK(ring_take_used(&d->rings[RX], &used, DEADLINE_MS));
		data = d->ram + RX_AREA + (uint64_t)used.id * SLOT_BYTES;
		GUEST_BEGIN();
		if (i == 0) {
			memcpy(&header, data, sizeof(header));
			if (d->mergeable || !d->single_uncounted)
				CHECK_EQUAL(header.num_buffers, buffers);
			memcpy(expected, data, sizeof(header));
		}
		CHECK(memcmp(data, expected + done, used.len) == 0);
		GUEST_END();
		done += used.len;
	}
	CHECK_EQUAL(done, len);
}

static inline void transmit_on(struct driver *d, unsigned queue, uint16_t slot, uint32_t len,
			       uint8_t tag)
{
	const uint64_t gpa = TX_AREA + (uint64_t)slot * SLOT_BYTES;

	GUEST_BEGIN();
	fill(d->ram + gpa, len, tag);
	GUEST_END();
	describe(d, queue, slot, gpa, len, 0, 0);
	ring_publish(&d->rings[queue], slot);
}

static inline void transmit(struct driver *d, uint16_t slot, uint32_t len, uint8_t tag)
{
	transmit_on(d, TX, slot, len, tag);
}

static inline void expect_done_on(struct driver *d, unsigned queue, uint16_t slot)
{
	struct vring_used_elem used;

	CHECK(ring_take_used(&d->rings[queue], &used, DEADLINE_MS));
	CHECK_EQUAL(used.id, slot);
	CHECK_EQUAL(used.len, 0);
}

static inline void expect_tx_done(struct driver *d, uint16_t slot)
{
	expect_done_on(d, TX, slot);
}

static inline void expect_on_wire(struct driver *d, size_t len, uint8_t tag)
{
	static uint8_t packet[1 << 16], expected[1 << 16];

	CHECK(wait_readable(d->wire, DEADLINE_MS));
	CHECK_EQUAL(recv(d->wire, packet, sizeof(packet), 0), len - d->wire_cut);
	fill(expected, len, tag);
	CHECK(memcmp(packet, expected + d->wire_cut, len - d->wire_cut) == 0);
}

static inline void expect_reset_wanted(struct driver *d)
{
	eventfd_t count;

	CHECK(wait_readable(d->needs_reset_fd, DEADLINE_MS));
	CHECK_EQUAL(eventfd_read(d->needs_reset_fd, &count), 0);
}

/* Where a random chain may be: anywhere, also outside memory.  With several threads
 * each has its own part, as a write to another's buffers would be a race of the driver
 * itself. */
static inline uint64_t noise_gpa(unsigned queue, uint64_t random)
{
	const uint64_t part = (RAM_BYTES - RX_AREA) / DRIVER_QUEUES;

	if (DRIVER_PAIRS == 1)
		return random % (RAM_BYTES + 4096);
	if (random % 16 == 0)
		return RAM_BYTES - random % 4096;
	return RX_AREA + queue * part + random % (part - NOISE_BYTES);
}

/* Random chains on all queues; now and then an incoming packet. */
static inline void publish_noise(struct driver *d, unsigned count, uint64_t seed)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned queue;
		uint16_t index;

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		queue = (unsigned)(seed >> 20) % DRIVER_QUEUES;
		index = (uint16_t)((seed >> 24) % QUEUE_SIZE);
		describe(d, queue, index, noise_gpa(queue, seed >> 30),
			 (uint32_t)(seed >> 40) % NOISE_BYTES, (uint16_t)(seed >> 12) % 8,
			 (uint16_t)((seed >> 50) % (QUEUE_SIZE + 2)));
		ring_publish(&d->rings[queue], index);
		if (i % 16 == 0)
			(void)!send(d->wire, &seed, sizeof(seed), MSG_DONTWAIT);
	}
}

/* --- several pairs -------------------------------------------------------- */

#if DRIVER_PAIRS > 1

#define SEVERAL (1ULL << VIRTIO_NET_F_MQ | 1ULL << VIRTIO_NET_F_CTRL_VQ | MERGEABLE)
#define SECOND_TX 3
#define REQUEST_AREA (TX_AREA + 200 * SLOT_BYTES)
#define ANSWER_AREA (REQUEST_AREA + 64)

/* Returns the device's ack of a command of `len` bytes. */
static inline uint8_t command(struct driver *d, uint8_t class, uint8_t cmd, uint16_t pairs,
			      uint32_t len)
{
	const uint8_t bytes[] = {class, cmd, (uint8_t)pairs, (uint8_t)(pairs >> 8)};
	struct vring_used_elem used;
	uint8_t answer;

	GUEST_BEGIN();
	memcpy(d->ram + REQUEST_AREA, bytes, sizeof(bytes));
	d->ram[ANSWER_AREA] = 0xff;
	GUEST_END();
	describe(d, CONTROL, 0, REQUEST_AREA, len, VRING_DESC_F_NEXT, 1);
	describe(d, CONTROL, 1, ANSWER_AREA, 1, VRING_DESC_F_WRITE, 0);
	ring_publish(&d->rings[CONTROL], 0);
	CHECK(ring_take_used(&d->rings[CONTROL], &used, DEADLINE_MS));
	CHECK_EQUAL(used.len, 1);
	GUEST_BEGIN();
	answer = d->ram[ANSWER_AREA];
	GUEST_END();
	return answer;
}

static inline uint8_t use_pairs(struct driver *d, uint16_t pairs)
{
	return command(d, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, pairs, 4);
}

#endif

#endif
