/* SPDX-License-Identifier: Apache-2.0 */
/* Split virtqueues, virtio 1.2 §2.7; the driver keeps to it or does not. */
#include <errno.h>

#include "ring_driver.h"

#define SIZE 8
#define READ 0
#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

static struct virtqueue_chain chain;

static void expect_violation(struct ring *r)
{
	CHECK_EQUAL(virtqueue_pop(&r->vq, &chain), -EPROTO);
	CHECK(r->vq.broken);
	/* Broken for good: a fresh, valid chain is not taken any more. */
	ring_describe(r, 0, DATA_GPA, 1, READ, 0);
	ring_offer(r, 0);
	CHECK_EQUAL(virtqueue_pop(&r->vq, &chain), -EPROTO);
	ring_teardown(r);
}

/* --- §2.7.5 the descriptor table ------------------------------------------- */

static void a_chain_is_its_readable_then_its_writable_parts(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 3, DATA_GPA, 16, NEXT, 0);
	ring_describe(&r, 0, DATA_GPA + 0x100, 32, NEXT, 5);
	ring_describe(&r, 5, DATA_GPA + 0x200, 64, NEXT | WRITE, 1);
	ring_describe(&r, 1, DATA_GPA + 0x300, 128, WRITE, 7);
	ring_offer(&r, 3);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 1);
	CHECK_EQUAL(chain.head, 3);
	CHECK_EQUAL(chain.readable_count, 2);
	CHECK_EQUAL(chain.writable_count, 2);
	CHECK_EQUAL(chain.readable_bytes, 48);
	CHECK_EQUAL(chain.writable_bytes, 192);
	CHECK(chain.iov[1].iov_base == r.ram + DATA_GPA + 0x100);
	CHECK(virtqueue_chain_writable(&chain)->iov_base == r.ram + DATA_GPA + 0x200);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 0);
	CHECK_EQUAL(r.vq.pops, 1);
	ring_teardown(&r);
}

static void a_chain_may_be_as_long_as_the_queue(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	for (uint16_t i = 0; i < SIZE; i++)
		ring_describe(&r, i, DATA_GPA + i, 1, i + 1 < SIZE ? NEXT : 0, i + 1);
	ring_offer(&r, 0);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 1);
	CHECK_EQUAL(chain.readable_count, SIZE);
	ring_teardown(&r);
}

static void a_chain_that_loops_is_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 0, DATA_GPA, 1, NEXT, 1);
	ring_describe(&r, 1, DATA_GPA, 1, NEXT, 0);
	ring_offer(&r, 0);
	expect_violation(&r);
}

static void a_chain_that_is_its_own_next_is_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 4, DATA_GPA, 1, NEXT, 4);
	ring_offer(&r, 4);
	expect_violation(&r);
}

static void a_head_beyond_the_queue_is_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_offer(&r, SIZE);
	expect_violation(&r);
}

static void a_next_beyond_the_queue_is_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 0, DATA_GPA, 1, NEXT, UINT16_MAX);
	ring_offer(&r, 0);
	expect_violation(&r);
}

static void a_buffer_outside_memory_is_refused(void)
{
	const struct {
		uint64_t gpa;
		uint32_t len;
	} outside[] = {
		{RAM_BYTES, 1},	     {RAM_BYTES - 1, 2}, {UINT64_MAX, 1},
		{UINT64_MAX - 1, 4}, {0, UINT32_MAX},	 {1ULL << 63, 1},
	};

	for (unsigned i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		struct ring r;

		ring_setup(&r, SIZE, false);
		ring_describe(&r, 0, outside[i].gpa, outside[i].len, WRITE, 0);
		ring_offer(&r, 0);
		expect_violation(&r);
	}
}

static void a_buffer_of_length_zero_is_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 0, DATA_GPA, 0, READ, 0);
	ring_offer(&r, 0);
	expect_violation(&r);
}

/* §2.7.4.2 */
static void readable_after_writable_is_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 0, DATA_GPA, 1, WRITE | NEXT, 1);
	ring_describe(&r, 1, DATA_GPA, 1, READ, 0);
	ring_offer(&r, 0);
	expect_violation(&r);
}

/* --- §2.7.5.3 indirect descriptors ------------------------------------------ */

static void put_table(struct ring *r, unsigned count, uint16_t last_flags)
{
	struct vring_desc *table = (struct vring_desc *)(r->ram + TABLE_GPA);

	for (unsigned i = 0; i < count; i++)
		table[i] = (struct vring_desc){
			.addr = DATA_GPA + i,
			.len = 1,
			.flags = i + 1 < count ? NEXT : last_flags,
			.next = (uint16_t)(i + 1),
		};
}

static void an_indirect_table_is_followed(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	put_table(&r, 3, WRITE);
	ring_describe(&r, 2, TABLE_GPA, 3 * sizeof(struct vring_desc), INDIRECT, 0);
	ring_offer(&r, 2);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 1);
	CHECK_EQUAL(chain.readable_count, 2);
	CHECK_EQUAL(chain.writable_count, 1);
	ring_teardown(&r);
}

/* §2.7.5.3.1: the chain's first part may be direct; the table ends it. */
static void an_indirect_table_may_follow_direct_descriptors(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	put_table(&r, 2, WRITE);
	ring_describe(&r, 0, DATA_GPA + 0x100, 8, NEXT, 1);
	ring_describe(&r, 1, TABLE_GPA, 2 * sizeof(struct vring_desc), INDIRECT, 0);
	ring_offer(&r, 0);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 1);
	CHECK_EQUAL(chain.readable_bytes, 9);
	CHECK_EQUAL(chain.writable_bytes, 1);
	ring_teardown(&r);
}

static void an_indirect_table_may_be_as_long_as_the_queue_and_no_longer(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	put_table(&r, SIZE, READ);
	ring_describe(&r, 0, TABLE_GPA, SIZE * sizeof(struct vring_desc), INDIRECT, 0);
	ring_offer(&r, 0);
	CHECK_EQUAL(virtqueue_pop(&r.vq, &chain), 1);
	CHECK_EQUAL(chain.readable_count, SIZE);
	put_table(&r, SIZE + 1, READ);
	ring_describe(&r, 0, TABLE_GPA, (SIZE + 1) * sizeof(struct vring_desc), INDIRECT, 0);
	ring_offer(&r, 0);
	expect_violation(&r);
}

static void a_nested_indirect_table_is_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	put_table(&r, 2, INDIRECT);
	ring_describe(&r, 0, TABLE_GPA, 2 * sizeof(struct vring_desc), INDIRECT, 0);
	ring_offer(&r, 0);
	expect_violation(&r);
}

static void an_indirect_table_with_a_next_is_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	put_table(&r, 1, READ);
	ring_describe(&r, 0, TABLE_GPA, sizeof(struct vring_desc), INDIRECT | NEXT, 1);
	ring_offer(&r, 0);
	expect_violation(&r);
}

static void an_indirect_table_of_odd_size_or_place_is_refused(void)
{
	const struct {
		uint64_t gpa;
		uint32_t len;
	} tables[] = {
		{TABLE_GPA, 0},	     {TABLE_GPA, 15},
		{TABLE_GPA, 17},     {TABLE_GPA, UINT32_MAX - 15},
		{RAM_BYTES - 8, 16}, {UINT64_MAX - 7, 16},
	};

	for (unsigned i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		struct ring r;

		ring_setup(&r, SIZE, false);
		put_table(&r, 1, READ);
		ring_describe(&r, 0, tables[i].gpa, tables[i].len, INDIRECT, 0);
		ring_offer(&r, 0);
		expect_violation(&r);
	}
}

static void an_indirect_table_that_loops_is_refused(void)
{
	struct ring r;
	struct vring_desc *table;

	ring_setup(&r, SIZE, false);
	put_table(&r, 2, READ);
	table = (struct vring_desc *)(r.ram + TABLE_GPA);
	table[1].flags = NEXT;
	table[1].next = 0;
	ring_describe(&r, 0, TABLE_GPA, 2 * sizeof(struct vring_desc), INDIRECT, 0);
	ring_offer(&r, 0);
	expect_violation(&r);
}

/* --- §2.7.6 the available ring, §2.7.8 the used ring ------------------------- */

static void more_chains_than_the_queue_holds_are_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
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

/* The chain that comes between the last pop and the wish for kicks. */
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

/* --- iovecs -------------------------------------------------------------------- */

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

static const struct test tests[] = {
	TEST(a_chain_is_its_readable_then_its_writable_parts),
	TEST(a_chain_may_be_as_long_as_the_queue),
	TEST(a_chain_that_loops_is_refused),
	TEST(a_chain_that_is_its_own_next_is_refused),
	TEST(a_head_beyond_the_queue_is_refused),
	TEST(a_next_beyond_the_queue_is_refused),
	TEST(a_buffer_outside_memory_is_refused),
	TEST(a_buffer_of_length_zero_is_refused),
	TEST(readable_after_writable_is_refused),
	TEST(an_indirect_table_is_followed),
	TEST(an_indirect_table_may_follow_direct_descriptors),
	TEST(an_indirect_table_may_be_as_long_as_the_queue_and_no_longer),
	TEST(a_nested_indirect_table_is_refused),
	TEST(an_indirect_table_with_a_next_is_refused),
	TEST(an_indirect_table_of_odd_size_or_place_is_refused),
	TEST(an_indirect_table_that_loops_is_refused),
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
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
