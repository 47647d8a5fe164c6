/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptor chains, virtio 1.2 §2.7.5, from drivers that follow it and drivers
 * that do not. */
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
	/* Broken until reset: a new, valid chain is not taken any more. */
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
	ring_describe(&r, SIZE, DATA_GPA, 1, READ, 0); /* it would be valid */
	ring_offer(&r, SIZE);
	expect_violation(&r);
}

static void a_next_beyond_the_queue_is_refused(void)
{
	struct ring r;

	ring_setup(&r, SIZE, false);
	ring_describe(&r, 0, DATA_GPA, 1, NEXT, SIZE);
	ring_describe(&r, SIZE, DATA_GPA, 1, READ, 0);
	ring_offer(&r, 0);
	expect_violation(&r);
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
	struct vring_desc *table;
	struct ring r;

	ring_setup(&r, SIZE, false);
	put_table(&r, 2, INDIRECT);
	/* The table that it points to would be valid by itself. */
	table = (struct vring_desc *)(r.ram + TABLE_GPA);
	table[1].addr = TABLE_GPA + 2 * sizeof(*table);
	table[1].len = sizeof(*table);
	table[2] = (struct vring_desc){DATA_GPA, 1, READ, 0};
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
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
