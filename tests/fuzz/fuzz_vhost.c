/* SPDX-License-Identifier: Apache-2.0 */
/* A network device whose packets vhost-net would move: a driver that brings it up, lays
 * its queues anywhere and resets it, taps that come and go, and a kernel that may refuse
 * any call.  The kernel is made up here (--wrap=ioctl): it checks what a real one relies
 * on, and that nothing of a queue is left to it after a reset. */
#define DRIVER_PAIRS 2
#include "input.h"
#include "net_driver.h"
#include "settle.h"

#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <stdarg.h>
#include <sys/ioctl.h>

#define KERNELS 8 /* descriptors of /dev/vhost-net */
#define RINGS 2
#define NEVER 255
#define CONTROL_AREA RX_AREA

struct kernel_ring {
	unsigned size;
	struct vhost_vring_addr at;
	int kick_fd, call_fd, error_fd, backend_fd;
};

struct kernel {
	int fd;
	bool owned, has_memory, has_features;
	struct kernel_ring rings[RINGS];
};

static struct driver d;
static struct kernel kernels[KERNELS];
static unsigned kernel_count, calls_until_refusal;
static uint64_t known_features;
static uint32_t next_base;
static int wires[DRIVER_PAIRS];

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

/* --- the host's kernel ---------------------------------------------------------- */

static struct kernel *kernel_of(int fd)
{
	for (unsigned i = kernel_count; i > 0; i--)
		if (kernels[i - 1].fd == fd)
			return &kernels[i - 1];
	abort();
}

static void check_memory(const struct vhost_memory *table)
{
	CHECK_EQUAL(table->nregions, 1);
	CHECK_EQUAL(table->regions[0].guest_phys_addr, 0);
	CHECK_EQUAL(table->regions[0].memory_size, RAM_BYTES);
	CHECK_EQUAL(table->regions[0].userspace_addr, (uintptr_t)d.ram);
}

static void check_inside(uint64_t address, uint64_t bytes)
{
	const uint64_t ram = (uintptr_t)d.ram;

	CHECK(address >= ram && bytes <= RAM_BYTES && address - ram <= RAM_BYTES - bytes);
}

static void check_addresses(const struct kernel_ring *ring, const struct vhost_vring_addr *at)
{
	CHECK_EQUAL(at->flags, 0);
	check_inside(at->desc_user_addr, 16ULL * ring->size);
	check_inside(at->avail_user_addr, 2ULL * (ring->size + 2));
	check_inside(at->used_user_addr, 8ULL * ring->size + 4);
}

static void set_backend(const struct kernel *kernel, struct kernel_ring *ring, int fd)
{
	ring->backend_fd = fd;
	if (fd < 0)
		return;
	CHECK(kernel->owned && kernel->has_memory && kernel->has_features && ring->size > 0);
	CHECK(ring->kick_fd >= 0 && ring->call_fd >= 0 && ring->error_fd >= 0);
	check_addresses(ring, &ring->at);
}

static void set_file(const struct kernel *kernel, struct kernel_ring *ring, unsigned long request,
		     int fd)
{
	if (request == VHOST_NET_SET_BACKEND)
		set_backend(kernel, ring, fd);
	else if (request == VHOST_SET_VRING_KICK)
		ring->kick_fd = fd;
	else if (request == VHOST_SET_VRING_CALL)
		ring->call_fd = fd;
	else
		ring->error_fd = fd;
}

static int call_ring(const struct kernel *kernel, unsigned long request, void *argument)
{
	struct vhost_vring_state *state = argument; /* the number comes first in all of them */
	struct kernel_ring *ring;

	CHECK(kernel->owned && state->index < RINGS);
	ring = (struct kernel_ring *)&kernel->rings[state->index];
	switch (request) {
	case VHOST_SET_VRING_NUM:
		CHECK(ring->backend_fd < 0);
		CHECK(state->num > 0 && state->num <= 32768 && !(state->num & (state->num - 1)));
		ring->size = state->num;
		return 0;
	case VHOST_SET_VRING_BASE:
		CHECK(ring->backend_fd < 0 && state->num <= UINT16_MAX);
		return 0;
	case VHOST_GET_VRING_BASE:
		CHECK(ring->backend_fd < 0);
		state->num = next_base;
		return 0;
	case VHOST_SET_VRING_ADDR:
		ring->at = *(struct vhost_vring_addr *)argument;
		check_addresses(ring, &ring->at);
		return 0;
	default:
		set_file(kernel, ring, request, ((struct vhost_vring_file *)argument)->fd);
		return 0;
	}
}

static int call_kernel(struct kernel *kernel, unsigned long request, void *argument)
{
	switch (request) {
	case VHOST_SET_OWNER:
		CHECK(!kernel->owned);
		kernel->owned = true;
		return 0;
	case VHOST_GET_FEATURES:
		*(uint64_t *)argument = known_features;
		return 0;
	case VHOST_SET_FEATURES:
		CHECK((*(uint64_t *)argument & ~known_features) == 0);
		kernel->has_features = true;
		return 0;
	case VHOST_SET_MEM_TABLE:
		CHECK(kernel->owned);
		check_memory(argument);
		kernel->has_memory = true;
		return 0;
	default:
		return call_ring(kernel, request, argument);
	}
}

/* What takes something back works always, as Linux has it. */
static bool is_refused(unsigned long request, const void *argument)
{
	if (request == VHOST_GET_VRING_BASE)
		return false;
	if (_IOC_SIZE(request) == sizeof(struct vhost_vring_file) &&
	    _IOC_DIR(request) == _IOC_WRITE && ((const struct vhost_vring_file *)argument)->fd < 0)
		return false;
	return calls_until_refusal != NEVER && calls_until_refusal-- == 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (_IOC_TYPE(request) == 'T') /* the tap's: may fail, and nothing hangs on it */
		return 0;
	if (_IOC_TYPE(request) != VHOST_VIRTIO)
		return __real_ioctl(fd, request, argument);
	if (is_refused(request, argument)) {
		calls_until_refusal = NEVER;
		errno = EINVAL;
		return -1;
	}
	return call_kernel(kernel_of(fd), request, argument);
}

static void check_given_back(void)
{
	for (unsigned i = 0; i < kernel_count; i++)
		for (unsigned j = 0; j < RINGS; j++)
			CHECK(kernels[i].rings[j].backend_fd < 0);
}

/* --- taps ------------------------------------------------------------------------- */

static int open_kernel(void)
{
	struct kernel *kernel = &kernels[kernel_count++];

	*kernel = (struct kernel){.fd = eventfd(0, EFD_CLOEXEC)};
	CHECK(kernel->fd >= 0);
	for (unsigned i = 0; i < RINGS; i++)
		kernel->rings[i] = (struct kernel_ring){0, {0}, -1, -1, -1, -1};
	return kernel->fd;
}

static void close_wires(void)
{
	for (unsigned i = 0; i < DRIVER_PAIRS; i++)
		if (wires[i] >= 0)
			close(wires[i]);
	wires[0] = wires[1] = -1;
}

/* With vhost-net or without; refused while there is a tap. */
static void attach(bool with_vhost)
{
	int taps[DRIVER_PAIRS], others[DRIVER_PAIRS], vhosts[DRIVER_PAIRS];

	if (with_vhost && kernel_count + DRIVER_PAIRS > KERNELS)
		return;
	for (unsigned i = 0; i < DRIVER_PAIRS; i++) {
		int pair[2];

		CHECK_EQUAL(
			socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
			0);
		taps[i] = pair[0];
		others[i] = pair[1];
		vhosts[i] = with_vhost ? open_kernel() : -1;
	}
	if (net_device_attach(d.device, taps, with_vhost ? vhosts : NULL, DRIVER_PAIRS) == 0) {
		close_wires();
		memcpy(wires, others, sizeof(wires));
		return;
	}
	for (unsigned i = 0; i < DRIVER_PAIRS; i++) {
		close(taps[i]);
		close(others[i]);
		if (with_vhost)
			close(vhosts[i]);
	}
	if (with_vhost)
		kernel_count -= DRIVER_PAIRS;
}

/* --- the driver ------------------------------------------------------------------- */

static void reset(void)
{
	d.virtio->ops->reset(d.virtio);
	check_given_back();
}

/* Queues of any size, at any place that is theirs, or not there at all. */
static void bring_up(struct input *in)
{
	const uint8_t shape = take_u8(in);
	uint64_t features = (shape & 1 ? SEVERAL : 0) | (shape & 2 ? MERGEABLE : 0) |
			    1ULL << VIRTIO_F_VERSION_1;

	reset();
	for (unsigned i = 0; i < DRIVER_QUEUES; i++) {
		ring_lay(&d.rings[i], &d.queues[i], &d.mem, (uint64_t)i * RING_BYTES,
			 shape & 8 ? (uint16_t)(1u << take_u8(in) % 9) : QUEUE_SIZE, shape & 4);
		d.queues[i].enabled = !(shape & 16) || take_u8(in) % 4;
	}
	if (shape & 32)
		features |= 1ULL << VIRTIO_RING_F_EVENT_IDX;
	known_features = shape & 64 ? take_u64(in) : UINT64_MAX;
	(void)d.virtio->ops->activate(d.virtio, d.queues, DRIVER_QUEUES, features);
}

/* A queue breaks the rules: the kernel says so, and the device does too. */
static void complain(uint8_t which)
{
	const struct kernel *kernel = &kernels[which % KERNELS];
	const struct kernel_ring *ring = &kernel->rings[which / KERNELS % RINGS];
	eventfd_t count;

	if (which % KERNELS >= kernel_count || ring->backend_fd < 0)
		return;
	eventfd_write(ring->error_fd, 1);
	settle(d.queues[RX].call_fd);
	CHECK_EQUAL(eventfd_read(d.needs_reset_fd, &count), 0);
}

static void use_control(struct input *in)
{
	uint8_t bytes[4] = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 0, 0};

	bytes[2] = take_u8(in) % 4;
	if (!d.queues[CONTROL].enabled || d.queues[CONTROL].size < 2)
		return;
	memcpy(d.ram + CONTROL_AREA, bytes, sizeof(bytes));
	describe(&d, CONTROL, 0, CONTROL_AREA, sizeof(bytes), VRING_DESC_F_NEXT, 1);
	describe(&d, CONTROL, 1, CONTROL_AREA + 64, 1, VRING_DESC_F_WRITE, 0);
	ring_publish(&d.rings[CONTROL], 0);
}

static void use_queue(struct input *in, uint8_t what)
{
	const unsigned queue = what % (2 * DRIVER_PAIRS);
	const uint16_t index = (uint16_t)(take_u8(in) % d.queues[queue].size);

	describe(&d, queue, index, TX_AREA + take_u8(in) * SLOT_BYTES / 2, take_u16(in),
		 queue % 2 ? 0 : VRING_DESC_F_WRITE, 0);
	ring_publish(&d.rings[queue], index);
}

static void step(struct input *in)
{
	const uint8_t kind = take_u8(in), what = take_u8(in);
	static const uint8_t packet[NET_HEADER_BYTES + 60];

	switch (kind % 10) {
	case 0:
		attach(what & 1);
		break;
	case 1:
		bring_up(in);
		break;
	case 2:
		close_wires();
		break;
	case 3:
		calls_until_refusal = what;
		break;
	case 4:
		complain(what);
		break;
	case 5:
		use_control(in);
		break;
	case 6:
		(void)!send(wires[what % DRIVER_PAIRS], packet, sizeof(packet),
			    MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 7:
		next_base = take_u16(in);
		reset();
		break;
	case 8:
		use_queue(in, what);
		break;
	default:
		settle(d.queues[RX].call_fd);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	const int before = dup(0);

	close(before);
	driver_new(&d);
	kernel_count = 0;
	calls_until_refusal = NEVER;
	next_base = 0;
	wires[0] = wires[1] = -1;
	bring_up(&in);
	attach(take_u8(&in) & 1);
	settle(d.queues[RX].call_fd);
	while (more(&in))
		step(&in);
	settle(d.queues[RX].call_fd);
	reset();
	driver_free(&d);
	close_wires();
	CHECK_EQUAL(dup(0), before);
	close(before);
	return 0;
}
