/* SPDX-License-Identifier: Apache-2.0 */
/* The net device with a tap of the kernel, in a network namespace of its own (root):
 *   tap_net vmm|vhost [CASE]
 * Compiled with DRIVER_PAIRS=2 the device has two pairs of queues, and the tap too.
 * The packets go by the device's own thread, or by vhost-net.  On the tap's other end
 * is a packet socket, which sees every frame that the guest sends. */
#include "net_cases.h"
#include "tap.h"

static const char *const mode_names[] = {"vmm", "vhost"};
static bool by_vhost;

static void attach_wire_by(struct driver *d, bool vhost)
{
	struct ifreq link = {.ifr_name = "tap0"};
	int taps[DRIVER_PAIRS], vhosts[DRIVER_PAIRS];

	for (unsigned i = 0; i < DRIVER_PAIRS; i++) {
		taps[i] = open_tap(&link);
		vhosts[i] = vhost ? open_vhost() : -1;
	}
	d->wire = open_wire(&link);
	d->wire_cut = NET_HEADER_BYTES;
	d->single_uncounted = vhost; /* the tap does not set the field, and Linux does not read it
				      * then */
	CHECK_EQUAL(net_device_attach(d->device, taps, vhosts, DRIVER_PAIRS), 0);
}

static void attach_wire(struct driver *d)
{
	attach_wire_by(d, by_vhost);
}

/* The kernel names its thread, in our process or its own, after the thread that it works
 * for. */
static unsigned count_vhost_threads(void)
{
	char command[256];
	unsigned count = 0;
	FILE *found;

	snprintf(command, sizeof(command),
		 "for tid in $(ls /proc/%d/task); do cat /proc/%d/task/*/comm /proc/[0-9]*/comm "
		 "2>/dev/null | grep -x vhost-$tid; done",
		 getpid(), getpid());
	found = popen(command, "r");
	CHECK(found != NULL);
	while (fgets(command, sizeof(command), found))
		count++;
	pclose(found);
	return count;
}

/* --- what a driver may rely on --------------------------------------------- */

static void test_nothing_is_lost_while_the_guest_gives_no_buffers(struct driver *d)
{
	struct vring_used_elem used;

	attach_wire(d);
	activate(d, MERGEABLE, true);
	send_on_wire(d, 500, 1);
	CHECK(!ring_take_used(&d->rings[RX], &used, QUIET_MS));
	post_all_rx(d);
	expect_rx(d, 500, 1, 1);
}

static void test_it_is_vhost_that_moves_the_packets_where_it_is_wanted(struct driver *d)
{
	attach_wire(d);
	activate(d, MERGEABLE, true);
	post_all_rx(d);
	send_on_wire(d, 200, 2);
	expect_rx(d, 200, 2, 1);
	CHECK_EQUAL(count_vhost_threads() > 0, by_vhost);
	CHECK_EQUAL(d->queues[RX].pops + d->queues[RX].signals > 0, !by_vhost);
}

/* The positions of the queues come back, and their eventfds. */
static void test_reset_takes_the_queues_back_and_the_device_lives_again(struct driver *d)
{
	attach_wire(d);
	for (unsigned i = 0; i < 3; i++) {
		activate(d, MERGEABLE, i % 2);
		post_all_rx(d);
		for (uint16_t slot = 0; slot < 3; slot++) {
			send_on_wire(d, 100, (uint8_t)slot);
			expect_rx(d, 100, (uint8_t)slot, 1);
		}
		transmit(d, 0, 100, 1);
		expect_on_wire(d, 100, 1);
		expect_tx_done(d, 0);
		d->virtio->ops->reset(d->virtio);
		CHECK_EQUAL(d->queues[TX].next_avail, 1);
		CHECK_EQUAL(d->queues[TX].next_used, 1);
		CHECK_EQUAL(d->queues[RX].next_used, 3);
		d->virtio->ops->reset(d->virtio);
	}
}

#if DRIVER_PAIRS == 1

static void delete_link(const struct ifreq *link)
{
	char command[64];

	snprintf(command, sizeof(command), "ip link delete %.15s", link->ifr_name);
	CHECK_EQUAL(system(command), 0);
}

/* The buffers that the device's thread had taken for packets of the first are not lost. */
static void test_a_tap_that_goes_makes_room_for_another(struct driver *d)
{
	const struct ifreq link = {.ifr_name = "tap0"};

	attach_wire_by(d, false);
	activate(d, MERGEABLE, true);
	post_all_rx(d);
	send_on_wire(d, 100, 1);
	expect_rx(d, 100, 1, 1);
	close(d->wire);
	delete_link(&link);
	usleep(1000 * QUIET_MS); /* until the device has seen it */
	attach_wire(d);
	/* The device's own thread wants room for the largest packet before it reads one. */
	for (unsigned i = 0; i < (by_vhost ? SLOTS - 1 : SLOTS / 2); i++) {
		send_on_wire(d, 100 + i, (uint8_t)i);
		expect_rx(d, 100 + i, (uint8_t)i, 1);
	}
}

#else

/* Incoming packets are spread over the pairs that are used, and over no others. */
static void test_each_pair_of_queues_has_one_of_the_tap_s(struct driver *d)
{
	attach_wire(d);
	activate(d, SEVERAL, true);
	CHECK_EQUAL(use_pairs(d, 2), VIRTIO_NET_OK);
	for (uint16_t i = 0; i < 8; i++) {
		const unsigned queue = i % 2 ? SECOND_TX : TX;

		transmit_on(d, queue, i, 100, (uint8_t)i);
		expect_done_on(d, queue, i);
		expect_on_wire(d, 100, (uint8_t)i);
	}
	CHECK_EQUAL(use_pairs(d, 1), VIRTIO_NET_OK);
	post_all_rx(d);
	for (unsigned i = 0; i < 50; i++) {
		send_on_wire(d, 100 + i, (uint8_t)i);
		expect_rx(d, 100 + i, (uint8_t)i, 1);
	}
}

#endif

/* --- what a hostile driver may not do ------------------------------------- */

static void test_a_buffer_outside_guest_memory_is_a_violation(struct driver *d)
{
	attach_wire(d);
	activate(d, 0, true);
	describe(d, TX, 0, RAM_BYTES - 8, 100, 0, 0);
	ring_publish(&d->rings[TX], 0);
	expect_reset_wanted(d);
}

static void test_random_chains_crash_nothing(struct driver *d)
{
	attach_wire(d);
	for (unsigned life = 0; life < 20; life++) {
		activate(d, life % 2 ? MERGEABLE : 0, life % 3 == 0);
		publish_noise(d, 200, life);
	}
	activate(d, MERGEABLE, true);
	transmit(d, 0, 100, 1);
	expect_tx_done(d, 0);
}

static const struct {
	const char *name;
	void (*run)(struct driver *d);
} cases[] = {
	NET_CASES,
	CASE(test_nothing_is_lost_while_the_guest_gives_no_buffers),
	CASE(test_it_is_vhost_that_moves_the_packets_where_it_is_wanted),
	CASE(test_reset_takes_the_queues_back_and_the_device_lives_again),
#if DRIVER_PAIRS == 1
	CASE(test_a_tap_that_goes_makes_room_for_another),
#else
	CASE(test_each_pair_of_queues_has_one_of_the_tap_s),
#endif
	CASE(test_a_buffer_outside_guest_memory_is_a_violation),
	CASE(test_random_chains_crash_nothing),
};

static void run_case(unsigned index)
{
	const int before = dup(0);
	struct driver d;

	close(before);
	driver_new(&d);
	cases[index].run(&d);
	driver_free(&d);
	CHECK_EQUAL(dup(0), before);
	close(before);
	printf("%s %s\n", mode_names[by_vhost], cases[index].name);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: tap_net vmm|vhost [CASE]\n");
		return 2;
	}
	by_vhost = strcmp(argv[1], mode_names[true]) == 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	enter_network();
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (argc < 3 || strcmp(argv[2], cases[i].name) == 0)
			run_case(i);
	return 0;
}
