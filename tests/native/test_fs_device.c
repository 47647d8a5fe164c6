/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio-fs device, virtio 1.2 §5.11: requests through rings, as a driver
 * sends them. */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <signal.h>
#include <sys/mman.h>

#include "fuse/device.h"
#include "fuse_client.h"
#include "guest_access.h"

#define QUEUES 3 /* hiprio and two for requests */
#define SIZE 16
#define RING_BYTES 0x10000U
#define SLOT_BYTES 0x8000U /* a request's memory: its table, what it sends, what it gets */
#define SENT 0x1000U
#define GOT 0x4000U
#define GOT_BYTES 0x4000U
#define SLOTS_AT (QUEUES * RING_BYTES)
#define RAM_BYTES (SLOTS_AT + QUEUES * SIZE * SLOT_BYTES)

struct ring {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t offered, taken;
};

struct driver {
	struct client files; /* the shared directory; the device owns its server */
	struct guest_memory mem;
	uint8_t *ram;
	struct virtqueue queues[QUEUES];
	struct ring rings[QUEUES];
	struct virtio_device *device;
	int broken_fd;
	uint64_t unique;
};

static struct driver d;

static void on_needs_reset(void *transport)
{
	(void)transport;
	eventfd_write(d.broken_fd, 1);
}

static void start_ring(unsigned q, bool event_idx)
{
	const uint64_t gpa = (uint64_t)q * RING_BYTES;
	struct virtqueue *vq = &d.queues[q];

	*vq = (struct virtqueue){
		.mem = &d.mem,
		.desc_gpa = gpa,
		.driver_gpa = gpa + 0x4000,
		.device_gpa = gpa + 0x8000,
		.size = SIZE,
		.enabled = true,
		.event_idx = event_idx,
		.kick_fd = vq->kick_fd,
		.call_fd = vq->call_fd,
	};
	d.rings[q] = (struct ring){
		.desc = (void *)(d.ram + vq->desc_gpa),
		.avail = (void *)(d.ram + vq->driver_gpa),
		.used = (void *)(d.ram + vq->device_gpa),
	};
	GUEST_BEGIN();
	memset(d.ram + gpa, 0, RING_BYTES);
	GUEST_END();
	CHECK_EQUAL(virtqueue_start(vq), 0);
}

static void activate(bool event_idx)
{
	for (unsigned q = 0; q < QUEUES; q++)
		start_ring(q, event_idx);
	CHECK_EQUAL(d.device->ops->activate(d.device, d.queues, QUEUES, 1ULL << VIRTIO_F_VERSION_1),
		    0);
}

static void set_up(unsigned workers)
{
	memset(&d, 0, sizeof(d));
	client_new(&d.files, SHARED);
	d.ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(d.ram != MAP_FAILED);
	CHECK_EQUAL(guest_memory_add(&d.mem, 0, RAM_BYTES, d.ram), 0);
	for (unsigned q = 0; q < QUEUES; q++) {
		d.queues[q].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		d.queues[q].call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	d.broken_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK_EQUAL(fs_device_new(d.files.server, QUEUES - 1, workers, &d.device), 0);
	d.device->needs_reset = on_needs_reset;
	d.device->transport = &d;
	d.device->ops->reset(d.device);
}

static void tear_down(void)
{
	d.device->ops->reset(d.device);
	d.device->ops->destroy(d.device);
	for (unsigned q = 0; q < QUEUES; q++) {
		close(d.queues[q].kick_fd);
		close(d.queues[q].call_fd);
	}
	close(d.broken_fd);
	munmap(d.ram, RAM_BYTES);
	d.files.server = NULL;
	client_free(&d.files);
}

static uint64_t slot_at(unsigned q, unsigned slot)
{
	return SLOTS_AT + (uint64_t)(q * SIZE + slot) * SLOT_BYTES;
}

static void kick(unsigned q, uint16_t old)
{
	const struct ring *ring = &d.rings[q];
	bool wanted;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (d.queues[q].event_idx)
		wanted = vring_need_event(*(volatile uint16_t *)&ring->used->ring[SIZE],
					  ring->offered, old);
	else
		wanted = !(*(volatile uint16_t *)&ring->used->flags & VRING_USED_F_NO_NOTIFY);
	if (wanted)
		eventfd_write(d.queues[q].kick_fd, 1);
}

/* Sends a request of two parts as Linux does: an indirect table with the request
 * and the reply.  `room` 0: no reply. */
static void send(unsigned q, unsigned slot, uint32_t opcode, uint64_t node, const void *body,
		 size_t len, uint32_t room)
{
	const uint64_t gpa = slot_at(q, slot);
	struct vring_desc *table = (void *)(d.ram + gpa);
	const struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + len),
		.opcode = opcode,
		.unique = ++d.unique,
		.nodeid = node,
		.uid = getuid(),
		.gid = getgid(),
	};
	struct ring *ring = &d.rings[q];
	const uint16_t old = ring->offered;

	GUEST_BEGIN();
	memcpy(d.ram + gpa + SENT, &header, sizeof(header));
	memcpy(d.ram + gpa + SENT + sizeof(header), body, len);
	table[0] = (struct vring_desc){gpa + SENT, header.len, room ? VRING_DESC_F_NEXT : 0, 1};
	table[1] = (struct vring_desc){gpa + GOT, room, VRING_DESC_F_WRITE, 0};
	ring->desc[slot] = (struct vring_desc){gpa, (room ? 2 : 1) * (uint32_t)sizeof(*table),
					       VRING_DESC_F_INDIRECT, 0};
	ring->avail->ring[old % SIZE] = (uint16_t)slot;
	__atomic_store_n(&ring->avail->idx, ++ring->offered, __ATOMIC_SEQ_CST);
	kick(q, old);
	GUEST_END();
}

/* Returns the slot of the next finished request.  Waits for the interrupt. */
static unsigned take_done(unsigned q, uint32_t *ret_len)
{
	struct ring *ring = &d.rings[q];
	struct vring_used_elem done;

	for (;;) {
		bool any;

		GUEST_BEGIN();
		ring->avail->ring[SIZE] = ring->taken; /* used_event */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		any = __atomic_load_n(&ring->used->idx, __ATOMIC_SEQ_CST) != ring->taken;
		if (any)
			done = ring->used->ring[ring->taken++ % SIZE];
		GUEST_END();
		if (any)
			break;
		wait_readable(d.queues[q].call_fd);
		take(d.queues[q].call_fd);
	}
	CHECK(done.id < SIZE);
	*ret_len = done.len;
	return done.id;
}

/* Sends and waits; copies the reply. */
static int call(unsigned q, uint32_t opcode, uint64_t node, const void *body, size_t len,
		void *reply, size_t reply_bytes)
{
	struct fuse_out_header header;
	uint32_t got;

	send(q, 0, opcode, node, body, len, GOT_BYTES);
	CHECK_EQUAL(take_done(q, &got), 0);
	GUEST_BEGIN();
	memcpy(&header, d.ram + slot_at(q, 0) + GOT, sizeof(header));
	CHECK(got >= sizeof(header) && got == header.len);
	if (header.error == 0 && reply_bytes) {
		CHECK(got >= sizeof(header) + reply_bytes);
		memcpy(reply, d.ram + slot_at(q, 0) + GOT + sizeof(header), reply_bytes);
	}
	GUEST_END();
	CHECK_EQUAL(header.unique, d.unique);
	return header.error;
}

static void init(unsigned q)
{
	const struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION,
					.minor = FUSE_KERNEL_MINOR_VERSION};
	struct fuse_init_out out;

	CHECK_EQUAL(call(q, FUSE_INIT, 0, &in, sizeof(in), &out, sizeof(out)), 0);
	CHECK_EQUAL(out.major, FUSE_KERNEL_VERSION);
}

static uint64_t look_up(unsigned q, const char *name)
{
	struct fuse_entry_out entry;

	CHECK_EQUAL(
		call(q, FUSE_LOOKUP, FUSE_ROOT_ID, name, strlen(name) + 1, &entry, sizeof(entry)),
		0);
	return entry.nodeid;
}

static void every_request_queue_is_served(void)
{
	for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
		set_up(2);
		activate(event_idx);
		client_write_host(&d.files, "file", "contents");
		init(1);
		CHECK_EQUAL(look_up(1, "file"), look_up(2, "file"));
		tear_down();
	}
}

static void a_forget_on_the_hiprio_queue_takes_effect_without_a_reply(void)
{
	const struct fuse_forget_in forget = {1};
	const struct fuse_getattr_in in = {0};
	uint64_t node;
	uint32_t got;

	set_up(1);
	activate(true);
	client_write_host(&d.files, "file", "contents");
	init(1);
	node = look_up(1, "file");
	CHECK_EQUAL(call(1, FUSE_GETATTR, node, &in, sizeof(in), NULL, 0), 0);
	send(0, 0, FUSE_FORGET, node, &forget, sizeof(forget), 0);
	CHECK_EQUAL(take_done(0, &got), 0);
	CHECK_EQUAL(got, 0);
	CHECK_EQUAL(call(1, FUSE_GETATTR, node, &in, sizeof(in), NULL, 0), -ESTALE);
	tear_down();
}

/* All slots in flight at once: each is answered, with its own reply. */
static void requests_in_flight_are_all_answered(void)
{
	char name[16], expected[16];

	set_up(3);
	activate(true);
	init(1);
	for (unsigned i = 0; i < SIZE; i++) {
		snprintf(name, sizeof(name), "file%u", i);
		client_write_host(&d.files, name, name);
	}
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < SIZE; i++) {
			snprintf(name, sizeof(name), "file%u", i);
			send(1, i, FUSE_LOOKUP, FUSE_ROOT_ID, name, strlen(name) + 1, GOT_BYTES);
		}
		for (unsigned i = 0; i < SIZE; i++) {
			struct fuse_entry_out entry;
			uint32_t got;
			unsigned slot = take_done(1, &got);

			GUEST_BEGIN();
			memcpy(&entry,
			       d.ram + slot_at(1, slot) + GOT + sizeof(struct fuse_out_header),
			       sizeof(entry));
			GUEST_END();
			CHECK_EQUAL(got, sizeof(struct fuse_out_header) + sizeof(entry));
			snprintf(expected, sizeof(expected), "file%u", slot);
			CHECK_EQUAL(entry.attr.size, strlen(expected));
		}
	}
	tear_down();
}

/* The request that waits: a truncation of a file on which a lease is held. */
static void a_request_that_waits_holds_up_no_other(void)
{
	const struct fuse_setattr_in truncate = {.valid = FATTR_SIZE};
	const struct fuse_getattr_in in = {0};
	uint32_t got;
	int fd;

	set_up(2);
	activate(true);
	init(1);
	client_write_host(&d.files, "file", "contents");
	fd = openat(d.files.share_fd, "file", O_RDONLY | O_CLOEXEC);
	signal(SIGIO, SIG_IGN);
	CHECK_EQUAL(fcntl(fd, F_SETLEASE, F_RDLCK), 0);
	send(2, 1, FUSE_SETATTR, look_up(1, "file"), &truncate, sizeof(truncate), GOT_BYTES);
	for (unsigned i = 0; i < 100; i++)
		CHECK_EQUAL(call(1, FUSE_GETATTR, FUSE_ROOT_ID, &in, sizeof(in), NULL, 0), 0);
	CHECK(!is_readable(d.queues[2].call_fd));
	CHECK_EQUAL(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
	CHECK_EQUAL(take_done(2, &got), 1);
	close(fd);
	tear_down();
}

static void a_request_without_room_for_a_reply_goes_back_unanswered(void)
{
	const struct fuse_getattr_in in = {0};
	uint32_t got;

	set_up(1);
	activate(true);
	init(1);
	send(1, 3, FUSE_GETATTR, FUSE_ROOT_ID, &in, sizeof(in), 8);
	CHECK_EQUAL(take_done(1, &got), 3);
	CHECK_EQUAL(got, 0);
	tear_down();
}

static void a_violation_is_reported_once_and_other_queues_go_on(void)
{
	const struct fuse_getattr_in in = {0};

	set_up(2);
	activate(true);
	init(1);
	GUEST_BEGIN();
	d.rings[2].avail->ring[0] = SIZE; /* beyond the table */
	__atomic_store_n(&d.rings[2].avail->idx, 1, __ATOMIC_SEQ_CST);
	GUEST_END();
	eventfd_write(d.queues[2].kick_fd, 1);
	wait_readable(d.broken_fd);
	CHECK_EQUAL(call(1, FUSE_GETATTR, FUSE_ROOT_ID, &in, sizeof(in), NULL, 0), 0);
	CHECK_EQUAL(take(d.broken_fd), 1);
	tear_down();
}

static void after_reset_and_activate_nothing_is_known_of_before(void)
{
	const struct fuse_getattr_in in = {0};
	uint64_t node;

	set_up(2);
	client_write_host(&d.files, "file", "contents");
	activate(true);
	init(1);
	node = look_up(1, "file");
	d.device->ops->reset(d.device);
	d.device->ops->reset(d.device);
	activate(false);
	CHECK_EQUAL(call(1, FUSE_GETATTR, FUSE_ROOT_ID, &in, sizeof(in), NULL, 0), -EIO);
	init(2);
	CHECK_EQUAL(call(1, FUSE_GETATTR, node, &in, sizeof(in), NULL, 0), -ESTALE);
	CHECK(look_up(1, "file") != node);
	tear_down();
}

static void requests_are_counted_by_opcode(void)
{
	uint64_t counts[FUSE_OPCODES];

	set_up(1);
	client_write_host(&d.files, "file", "contents");
	activate(true);
	init(1);
	look_up(1, "file");
	look_up(1, "file");
	fs_device_counters(d.device, counts);
	CHECK_EQUAL(counts[FUSE_LOOKUP], 2);
	CHECK_EQUAL(counts[FUSE_WRITE], 0);
	tear_down();
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(every_request_queue_is_served),
		TEST(a_forget_on_the_hiprio_queue_takes_effect_without_a_reply),
		TEST(requests_in_flight_are_all_answered),
		TEST(a_request_that_waits_holds_up_no_other),
		TEST(a_request_without_room_for_a_reply_goes_back_unanswered),
		TEST(a_violation_is_reported_once_and_other_queues_go_on),
		TEST(after_reset_and_activate_nothing_is_known_of_before),
		TEST(requests_are_counted_by_opcode),
	};

	return RUN_TESTS(tests, argc, argv);
}
