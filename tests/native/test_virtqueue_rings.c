/* SPDX-License-Identifier: Apache-2.0 */
/* The rings of a split virtqueue and their notifications: virtio 1.2 §2.7.6 to
 * §2.7.10. */
#include <errno.h>
#include <pthread.h>

#include "memory/iovec.h"
#include "ring_driver.h"

#define SIZE 8
#define READ 0
#define WRITE VRING_DESC_F_WRITE

static struct virtqueue_chain chain;

/* --- §2.7.6 the available ring, §2.7.8 the used ring ------------------------- */

static void more_chains_than_the_queue_holds_are_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 0, DATA_GPA, 1, READ, 0);
	r.avail->idx = SIZE + 1;
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), -EPROTO);
	ring_teardown(&r);
}

static void an_index_that_goes_back_is_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 0, DATA_GPA, 1, READ, 0);
	ring_offer(&r, 0);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 1);
	r.avail->idx--;
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), -EPROTO);
	ring_teardown(&r);
}

static void indices_wrap(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	r.avail->idx = r.used->idx = r.vq.next_avail = r.vq.next_used = UINT16_MAX - 2;
	for (uint16_t i = 0; i < 3 * SIZE; i++) {
		const uint16_t head = i % SIZE;

		ring_describe(&r, head, DATA_GPA, 1, WRITE, 0);
		ring_offer(&r, head);
		CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 1);
		CHECK_EQUAL(chain.head, head);
		virtqueue_push(&r.vq, chain.head, i);
		CHECK_EQUAL(r.used->idx, (uint16_t)(UINT16_MAX - 2 + i + 1));
		CHECK_EQUAL(r.used->ring[(uint16_t)(r.used->idx - 1) % SIZE].id, head);
		CHECK_EQUAL(r.used->ring[(uint16_t)(r.used->idx - 1) % SIZE].len, i);
	}
	ring_teardown(&r);
}

static void an_unpopped_chain_comes_again(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 6, DATA_GPA, 1, READ, 0);
	ring_offer(&r, 6);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 1);
	virtqueue_unpop(&r.vq);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 1);
	CHECK_EQUAL(chain.head, 6);
	CHECK_EQUAL(r.vq.pops, 1);
	ring_teardown(&r);
}

/* --- §2.7.7 and §2.7.10 notification suppression ------------------------------ */

static void an_interrupt_comes_unless_the_driver_says_not_to(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	virtqueue_push(&r.vq, 0, 0);
	virtqueue_signal(&r.vq);
	CHECK_EQUAL(take(r.vq.call_fd), 1);
	r.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	virtqueue_push(&r.vq, 0, 0);
	virtqueue_signal(&r.vq);
	CHECK_EQUAL(take(r.vq.call_fd), 0);
	CHECK_EQUAL(r.vq.signals, 1);
	ring_teardown(&r);
}

static void used_event_says_which_element_interrupts(void)
{
	struct ring r;

	ring_setup(&r, SIZE, true);
	*ring_used_event(&r) = 0;
	virtqueue_push(&r.vq, 0, 0);
	virtqueue_signal(&r.vq);
	CHECK_EQUAL(take(r.vq.call_fd), 1);
	*ring_used_event(&r) = 3;
	for (unsigned i = 0; i < 2; i++) {
		virtqueue_push(&r.vq, 0, 0);
		virtqueue_signal(&r.vq);
		CHECK_EQUAL(take(r.vq.call_fd), 0);
	}
	virtqueue_push(&r.vq, 0, 0);
	virtqueue_signal(&r.vq);
	CHECK_EQUAL(take(r.vq.call_fd), 1);
	ring_teardown(&r);
}

/* Several elements pushed before one signal: the driver waits for one of them. */
static void used_event_in_a_batch_interrupts(void)
{
	struct ring r;

	ring_setup(&r, SIZE, true);
	virtqueue_push(&r.vq, 0, 0);
	virtqueue_signal(&r.vq);
	CHECK_EQUAL(take(r.vq.call_fd), 1);
	*ring_used_event(&r) = 2;
	for (unsigned i = 0; i < 4; i++)
		virtqueue_push(&r.vq, 0, 0);
	virtqueue_signal(&r.vq);
	CHECK_EQUAL(take(r.vq.call_fd), 1);
	ring_teardown(&r);
}

static void without_a_vector_nothing_is_signalled(void)
{
	struct ring r;
	int fd;

	ring_setup(&r, SIZE, false);
	fd = r.vq.call_fd;
	r.vq.call_fd = -1;
	virtqueue_push(&r.vq, 0, 0);
	virtqueue_signal(&r.vq);
	CHECK_EQUAL(r.vq.signals, 0);
	r.vq.call_fd = fd;
	ring_teardown(&r);
}

static void kicks_are_asked_for_by_flag(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	virtqueue_disable_kicks(&r.vq);
	CHECK_EQUAL(r.used->flags, VRING_USED_F_NO_NOTIFY);
	CHECK(!virtqueue_enable_kicks(&r.vq));
	CHECK_EQUAL(r.used->flags, 0);
	ring_teardown(&r);
}

static void kicks_are_asked_for_by_avail_event(void)
{
	struct ring r;

	ring_setup(&r, SIZE, true);
	ring_describe(&r, 0, DATA_GPA, 1, READ, 0);
	ring_offer(&r, 0);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 1);
	CHECK(!virtqueue_enable_kicks(&r.vq));
	CHECK_EQUAL(ring_avail_event(&r), 1);
	ring_teardown(&r);
}

/* The chain that comes between the last pop and the request for kicks. */
static void enabling_kicks_tells_of_a_chain_that_came_meanwhile(void)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct ring r;

		ring_setup(&r, SIZE, event_idx);
		ring_describe(&r, 0, DATA_GPA, 1, READ, 0);
		CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 0);
		ring_offer(&r, 0);
		CHECK(virtqueue_enable_kicks(&r.vq));
		ring_teardown(&r);
	}
}

static void a_broken_queue_is_left_alone(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_offer(&r, SIZE);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), -EPROTO);
	virtqueue_disable_kicks(&r.vq);
	CHECK_EQUAL(r.used->flags, 0);
	CHECK(!virtqueue_enable_kicks(&r.vq));
	virtqueue_signal(&r.vq);
	CHECK_EQUAL(take(r.vq.call_fd), 0);
	ring_teardown(&r);
}

/* --- §2.7 layout -------------------------------------------------------------- */

static void a_queue_of_odd_size_place_or_alignment_does_not_start(void)
{
	const struct virtqueue wrong[] = {
		{.desc_gpa = DESC_GPA, .driver_gpa = AVAIL_GPA, .device_gpa = USED_GPA, .size = 0},
		{.desc_gpa = DESC_GPA, .driver_gpa = AVAIL_GPA, .device_gpa = USED_GPA, .size = 3},
		{.desc_gpa = DESC_GPA,
		 .driver_gpa = AVAIL_GPA,
		 .device_gpa = USED_GPA,
		 .size = 2 * VIRTQUEUE_MAX_SIZE},
		{.desc_gpa = DESC_GPA + 8,
		 .driver_gpa = AVAIL_GPA,
		 .device_gpa = USED_GPA,
		 .size = SIZE},
		{.desc_gpa = DESC_GPA,
		 .driver_gpa = AVAIL_GPA + 1,
		 .device_gpa = USED_GPA,
		 .size = SIZE},
		{.desc_gpa = DESC_GPA,
		 .driver_gpa = AVAIL_GPA,
		 .device_gpa = USED_GPA + 2,
		 .size = SIZE},
		{.desc_gpa = RAM_BYTES - 16 * SIZE + 16,
		 .driver_gpa = AVAIL_GPA,
		 .device_gpa = USED_GPA,
		 .size = SIZE},
		{.desc_gpa = DESC_GPA,
		 .driver_gpa = RAM_BYTES - 4,
		 .device_gpa = USED_GPA,
		 .size = SIZE},
		{.desc_gpa = DESC_GPA,
		 .driver_gpa = AVAIL_GPA,
		 .device_gpa = UINT64_MAX - 3,
		 .size = SIZE},
	};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct ring r;
		struct virtqueue vq = wrong[i];

		ring_setup(&r, SIZE, false);
		vq.mem = &r.mem;
		CHECK_EQUAL(virtqueue_start(&vq), -EPROTO);
		CHECK_EQUAL(virtqueue_pop(&vq, &chain), -EPROTO);
		ring_teardown(&r);
	}
}

/* The event words lie behind the rings: with them the rings just fit. */
static void a_queue_may_end_where_memory_ends(void)
{
	struct ring r;
	struct virtqueue vq;

	ring_setup(&r, SIZE, true);
	vq = r.vq;
	vq.driver_gpa = RAM_BYTES - (4 + 2 * SIZE + 2);
	vq.device_gpa = DESC_GPA;
	CHECK_EQUAL(virtqueue_start(&vq), 0);
	vq.driver_gpa += 2;
	CHECK_EQUAL(virtqueue_start(&vq), -EPROTO);
	ring_teardown(&r);
}

/* --- iovecs --------------------------------------------------------------- */

static void flat_copies_stop_at_the_end_of_either_side(void)
{
	uint8_t a[4] = {1, 2, 3, 4}, b[3] = {5, 6, 7}, flat[16] = {0};
	const struct iovec iov[] = {{a, sizeof(a)}, {b, sizeof(b)}};

	CHECK_EQUAL(iov_to_buf(iov, 2, 0, flat, sizeof(flat)), 7);
	CHECK_EQUAL(flat[3], 4);
	CHECK_EQUAL(flat[4], 5);
	CHECK_EQUAL(iov_to_buf(iov, 2, 3, flat, 2), 2);
	CHECK_EQUAL(flat[0], 4);
	CHECK_EQUAL(flat[1], 5);
	CHECK_EQUAL(iov_to_buf(iov, 2, 7, flat, 1), 0);
	CHECK_EQUAL(iov_to_buf(iov, 0, 0, flat, 1), 0);
	CHECK_EQUAL(buf_to_iov(iov, 2, 3, "\x09\x08", 2), 2);
	CHECK_EQUAL(a[3], 9);
	CHECK_EQUAL(b[0], 8);
	CHECK_EQUAL(buf_to_iov(iov, 2, 6, "\x01\x02", 2), 1);
	CHECK_EQUAL(b[2], 1);
}

/* --- figures ------------------------------------------------------------------ */

#define SERVED 2000

static void *serve(void *context)
{
	struct ring *r = context;

	for (unsigned i = 0; i < SERVED; i++) {
		ring_offer(r, 0);
		CHECK_EQUAL(virtqueue_pop(&r->vq, &chain), 1);
		virtqueue_push(&r->vq, chain.head, 0);
		virtqueue_signal(&r->vq);
	}
	return NULL;
}

/* By the thread that asks for figures: TSan sees whether it may. */
static void counters_are_read_while_the_queue_is_served(void)
{
	struct ring r;
	pthread_t thread;
	uint64_t pops = 0, signals = 0;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 0, DATA_GPA, 1, READ, 0);
	CHECK_EQUAL(pthread_create(&thread, NULL, serve, &r), 0);
	while (pops < SERVED || signals < SERVED) {
		CHECK(__atomic_load_n(&r.vq.pops, __ATOMIC_RELAXED) >= pops);
		pops = __atomic_load_n(&r.vq.pops, __ATOMIC_RELAXED);
		signals = __atomic_load_n(&r.vq.signals, __ATOMIC_RELAXED);
	}
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	ring_teardown(&r);
}

static const struct test tests[] = {
	TEST(more_chains_than_the_queue_holds_are_refused),
	TEST(an_index_that_goes_back_is_refused),
	TEST(indices_wrap),
	TEST(an_unpopped_chain_comes_again),
	TEST(an_interrupt_comes_unless_the_driver_says_not_to),
	TEST(used_event_says_which_element_interrupts),
	TEST(used_event_in_a_batch_interrupts),
	TEST(without_a_vector_nothing_is_signalled),
	TEST(kicks_are_asked_for_by_flag),
	TEST(kicks_are_asked_for_by_avail_event),
	TEST(enabling_kicks_tells_of_a_chain_that_came_meanwhile),
	TEST(a_broken_queue_is_left_alone),
	TEST(a_queue_of_odd_size_place_or_alignment_does_not_start),
	TEST(a_queue_may_end_where_memory_ends),
	TEST(flat_copies_stop_at_the_end_of_either_side),
	TEST(counters_are_read_while_the_queue_is_served),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
