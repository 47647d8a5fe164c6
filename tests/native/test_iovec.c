/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between a buffer and segments: their bounds, and that a cursor passes each
 * segment once. */
#include "check.h"
#include "memory/iovec.h"

#define SEGMENTS 8

static uint8_t bytes[SEGMENTS * 3];
static struct iovec iov[SEGMENTS + 1];

/* Segments of 3 bytes, and an empty one in the middle. */
static void make_segments(void)
{
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	for (unsigned i = 0; i <= SEGMENTS; i++) {
		const unsigned part = i > 4 ? i - 1 : i;

		iov[i] = (struct iovec){bytes + 3UL * part, i == 4 ? 0 : 3};
	}
}

static void a_cursor_goes_on_where_it_was(void)
{
	struct iov_cursor cursor;
	uint8_t two[2];

	make_segments();
	cursor = iov_cursor_at(iov, SEGMENTS + 1, 4);
	for (uint8_t at = 4; at + 1 < (uint8_t)sizeof(bytes); at += 2) {
		CHECK_EQUAL(iov_cursor_read(&cursor, two, 2), 2);
		CHECK(two[0] == at && two[1] == at + 1);
	}
	CHECK_EQUAL(iov_cursor_read(&cursor, two, 2), 0);
}

static void a_cursor_looks_at_no_segment_again(void)
{
	struct iov_cursor cursor;
	uint8_t three[3];

	make_segments();
	cursor = iov_cursor_at(iov, SEGMENTS + 1, 0);
	for (unsigned i = 0; i < SEGMENTS; i++) {
		CHECK_EQUAL(iov_cursor_read(&cursor, three, 3), 3);
		CHECK_EQUAL(three[0], 3 * i);
		/* These would be read again by a cursor that starts over. */
		for (struct iovec *passed = iov; passed < cursor.iov; passed++)
			*passed = (struct iovec){NULL, SIZE_MAX};
	}
}

static void copies_end_with_the_segments(void)
{
	uint8_t buffer[64];
	struct iov_cursor cursor;

	make_segments();
	CHECK_EQUAL(iov_to_buf(iov, SEGMENTS + 1, 20, buffer, 64), 4);
	CHECK_EQUAL(iov_to_buf(iov, SEGMENTS + 1, 24, buffer, 64), 0);
	CHECK_EQUAL(iov_to_buf(iov, SEGMENTS + 1, SIZE_MAX, buffer, 64), 0);
	CHECK_EQUAL(iov_to_buf(iov, 0, 0, buffer, 64), 0);
	CHECK_EQUAL(buf_to_iov(iov, SEGMENTS + 1, 22, "ab!", 3), 2);
	CHECK(bytes[22] == 'a' && bytes[23] == 'b');
	cursor = iov_cursor_at(iov, SEGMENTS + 1, 21);
	CHECK_EQUAL(iov_cursor_write(&cursor, "xyz!", 4), 3);
	CHECK_EQUAL(iov_cursor_write(&cursor, "!", 1), 0);
	CHECK(bytes[21] == 'x' && bytes[23] == 'z');
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(a_cursor_goes_on_where_it_was),
		TEST(a_cursor_looks_at_no_segment_again),
		TEST(copies_end_with_the_segments),
	};
	return RUN_TESTS(tests, argc, argv);
}
