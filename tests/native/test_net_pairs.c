/* SPDX-License-Identifier: Apache-2.0 */
/* A net device of several pairs of queues against virtio 1.2 §5.1.6.5.5, seen from the
 * driver.  A packet socket for each pair replaces a tap's queue. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define DRIVER_PAIRS 2
#include "net_driver.h"

static int second_wire = -1;

static void attach_wires(struct driver *d)
{
	int first[2], second[2], taps[DRIVER_PAIRS];

	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, first), 0);
	CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, second), 0);
	d->wire = first[0];
	second_wire = second[0];
	taps[0] = first[1];
	taps[1] = second[1];
	CHECK_EQUAL(net_device_attach(d->device, taps, NULL, DRIVER_PAIRS), 0);
}

static void close_second(void)
{
	close(second_wire);
}

static void test_a_driver_uses_as_many_pairs_as_it_says(struct driver *d)
{
	attach_wires(d);
	activate(d, SEVERAL, true);
	CHECK_EQUAL(use_pairs(d, 2), VIRTIO_NET_OK);
	CHECK_EQUAL(use_pairs(d, 1), VIRTIO_NET_OK);
	CHECK_EQUAL(use_pairs(d, 2), VIRTIO_NET_OK);
	transmit_on(d, TX, 0, 100, 1);
	expect_on_wire(d, 100, 1);
	expect_tx_done(d, 0);
	transmit_on(d, SECOND_TX, 1, 200, 2);
	expect_done_on(d, SECOND_TX, 1);
	close(d->wire);
	d->wire = second_wire; /* each pair has a queue of its own */
	expect_on_wire(d, 200, 2);
	d->wire = -1;
	close_second();
}

static void test_a_number_of_pairs_that_is_not_there_is_refused(struct driver *d)
{
	attach_wires(d);
	activate(d, SEVERAL, true);
	CHECK_EQUAL(use_pairs(d, 0), VIRTIO_NET_ERR);
	CHECK_EQUAL(use_pairs(d, 3), VIRTIO_NET_ERR);
	CHECK_EQUAL(use_pairs(d, 0x8000), VIRTIO_NET_ERR);
	CHECK_EQUAL(command(d, VIRTIO_NET_CTRL_MQ, 1, 2, 4), VIRTIO_NET_ERR);
	CHECK_EQUAL(command(d, VIRTIO_NET_CTRL_MAC, 0, 2, 4), VIRTIO_NET_ERR);
	CHECK_EQUAL(command(d, VIRTIO_NET_CTRL_MQ, 0, 2, 3), VIRTIO_NET_ERR);
	CHECK_EQUAL(use_pairs(d, 2), VIRTIO_NET_OK);
	close_second();
}

static void test_a_command_without_room_for_an_answer_is_a_violation(struct driver *d)
{
	activate(d, SEVERAL, true);
	describe(d, CONTROL, 0, REQUEST_AREA, 4, 0, 0);
	ring_publish(&d->rings[CONTROL], 0);
	expect_reset_wanted(d);
}

static void test_without_several_pairs_negotiated_the_first_works_alone(struct driver *d)
{
	attach_wires(d);
	activate(d, MERGEABLE, true);
	post_all_rx(d);
	send_on_wire(d, 100, 1);
	expect_rx(d, 100, 1, 1);
	transmit(d, 0, 100, 1);
	expect_on_wire(d, 100, 1);
	expect_tx_done(d, 0);
	close_second();
}

static void test_a_tap_has_as_many_queues_as_the_device_has_pairs(struct driver *d)
{
	const int none[] = {-1, -1, -1};

	CHECK_EQUAL(net_device_attach(d->device, none, NULL, 1), -EINVAL);
	CHECK_EQUAL(net_device_attach(d->device, none, NULL, 3), -EINVAL);
	attach_wires(d);
	CHECK_EQUAL(net_device_attach(d->device, none, NULL, 2), -EBUSY);
	close_second();
}

static _Atomic bool flooding;

/* As a vCPU that makes each command available again before the device looks. */
static void *flood(void *context)
{
	struct ring *ring = &((struct driver *)context)->rings[CONTROL];
	const uint16_t ahead = ring->vq->size / 2;

	while (flooding) {
		const uint16_t used = __atomic_load_n(&ring->used->idx, __ATOMIC_SEQ_CST);

		__atomic_store_n(&ring->avail->idx, used + ahead, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void kick_and_sleep(const struct virtqueue *queue)
{
	eventfd_write(queue->kick_fd, 1);
	usleep(1000);
}

/* A round of the device ends with an interrupt, and is no longer than the queue. */
static void test_a_driver_that_never_stops_does_not_keep_the_device_from_its_end(struct driver *d)
{
	const struct virtqueue *queue = &d->queues[CONTROL];
	pthread_t thread;

	activate(d, SEVERAL, false);
	CHECK_EQUAL(use_pairs(d, 2), VIRTIO_NET_OK);
	flooding = true;
	CHECK_EQUAL(pthread_create(&thread, NULL, flood, d), 0);
	while (__atomic_load_n(&d->rings[CONTROL].used->idx, __ATOMIC_SEQ_CST) < 20000)
		kick_and_sleep(queue);
	d->virtio->ops->reset(d->virtio);
	flooding = false;
	pthread_join(thread, NULL);
	CHECK(queue->pops >= 20000 && queue->pops <= queue->signals * QUEUE_SIZE);
}

static void test_random_chains_crash_nothing(struct driver *d)
{
	attach_wires(d);
	for (unsigned life = 0; life < 40; life++) {
		activate(d, life % 4 ? SEVERAL : MERGEABLE, life % 3 == 0);
		publish_noise(d, 200, life);
	}
	activate(d, SEVERAL, true);
	CHECK_EQUAL(use_pairs(d, 2), VIRTIO_NET_OK);
	transmit_on(d, SECOND_TX, 0, 100, 1);
	expect_done_on(d, SECOND_TX, 0);
	close_second();
}

static const struct {
	const char *name;
	void (*run)(struct driver *d);
} cases[] = {
	CASE(test_a_driver_uses_as_many_pairs_as_it_says),
	CASE(test_a_number_of_pairs_that_is_not_there_is_refused),
	CASE(test_a_command_without_room_for_an_answer_is_a_violation),
	CASE(test_without_several_pairs_negotiated_the_first_works_alone),
	CASE(test_a_tap_has_as_many_queues_as_the_device_has_pairs),
	CASE(test_a_driver_that_never_stops_does_not_keep_the_device_from_its_end),
	CASE(test_random_chains_crash_nothing),
};

RUN_CASES_IN_MAIN(cases)
