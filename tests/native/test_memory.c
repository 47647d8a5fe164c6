/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: no address of the guest leads outside what was added. */
#include <errno.h>
#include <sys/mman.h>

#include "check.h"
#include "memory/memory.h"

#define LOW_BYTES 0x10000u
#define HIGH_GPA 0x100000000u
#define HIGH_BYTES 0x8000u

struct fixture {
	struct guest_memory mem;
	void *low, *high;
};

static void setup(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	CHECK_EQUAL(guest_memory_map(LOW_BYTES, &f->low), 0);
	CHECK_EQUAL(guest_memory_map(HIGH_BYTES, &f->high), 0);
	CHECK_EQUAL(guest_memory_add(&f->mem, 0, LOW_BYTES, f->low), 0);
	CHECK_EQUAL(guest_memory_add(&f->mem, HIGH_GPA, HIGH_BYTES, f->high), 0);
}

static void teardown(struct fixture *f)
{
	CHECK_EQUAL(guest_memory_unmap(f->low, LOW_BYTES), 0);
	CHECK_EQUAL(guest_memory_unmap(f->high, HIGH_BYTES), 0);
}

static void a_range_inside_a_region_is_translated(void)
{
	struct fixture f;

	setup(&f);
	CHECK(guest_memory_at(&f.mem, 0, 1) == f.low);
	CHECK(guest_memory_at(&f.mem, 0, LOW_BYTES) == f.low);
	CHECK(guest_memory_at(&f.mem, LOW_BYTES - 1, 1) == (uint8_t *)f.low + LOW_BYTES - 1);
	CHECK(guest_memory_at(&f.mem, HIGH_GPA + 8, 16) == (uint8_t *)f.high + 8);
	teardown(&f);
}

static void a_range_that_leaves_its_region_is_refused(void)
{
	struct fixture f;

	setup(&f);
	CHECK(guest_memory_at(&f.mem, 0, 0) == NULL);
	CHECK(guest_memory_at(&f.mem, LOW_BYTES - 1, 2) == NULL);
	CHECK(guest_memory_at(&f.mem, LOW_BYTES, 1) == NULL);
	CHECK(guest_memory_at(&f.mem, HIGH_GPA - 1, 2) == NULL);
	CHECK(guest_memory_at(&f.mem, 0, UINT64_MAX) == NULL);
	CHECK(guest_memory_at(&f.mem, UINT64_MAX, 1) == NULL);
	CHECK(guest_memory_at(&f.mem, UINT64_MAX, UINT64_MAX) == NULL);
	CHECK(guest_memory_at(&f.mem, HIGH_GPA + 1, UINT64_MAX - HIGH_GPA) == NULL);
	teardown(&f);
}

static void regions_neither_overlap_nor_wrap(void)
{
	struct guest_memory mem = {0};
	uint8_t place;

	CHECK_EQUAL(guest_memory_add(&mem, 0x1000, 0, &place), -EINVAL);
	CHECK_EQUAL(guest_memory_add(&mem, UINT64_MAX, 2, &place), -EINVAL);
	CHECK_EQUAL(guest_memory_add(&mem, 0x1000, 0x1000, &place), 0);
	CHECK_EQUAL(guest_memory_add(&mem, 0x1fff, 1, &place), -EINVAL);
	CHECK_EQUAL(guest_memory_add(&mem, 0, 0x1001, &place), -EINVAL);
	CHECK_EQUAL(guest_memory_add(&mem, 0, 0x10000, &place), -EINVAL);
	for (unsigned i = 1; i < GUEST_MEMORY_MAX_REGIONS; i++)
		CHECK_EQUAL(guest_memory_add(&mem, 0x1000 * (i + 1), 0x1000, &place), 0);
	CHECK_EQUAL(guest_memory_add(&mem, 0, 0x1000, &place), -ENOSPC);
}

static void copies_stay_inside(void)
{
	struct fixture f;

	setup(&f);
	CHECK_EQUAL(guest_memory_write(&f.mem, 0x100, "sampan", 7), 0);
	CHECK(strcmp(guest_memory_at(&f.mem, 0x100, 7), "sampan") == 0);
	CHECK_EQUAL(guest_memory_write(&f.mem, LOW_BYTES - 3, "sampan", 7), -EFAULT);
	CHECK(guest_memory_at(&f.mem, LOW_BYTES - 3, 7) == NULL);
	teardown(&f);
}

static int open_file(size_t bytes)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	CHECK(fd >= 0);
	for (size_t i = 0; i < bytes; i++) {
		const uint8_t byte = (uint8_t)(i / 4096 + 1);

		CHECK_EQUAL(write(fd, &byte, 1), 1);
	}
	return fd;
}

static void a_file_is_loaded_or_told_to_be_short(void)
{
	struct fixture f;
	int fd = open_file(3 * 4096);

	setup(&f);
	CHECK_EQUAL(guest_memory_load(&f.mem, 0x200, fd, 4096, 8192), 0);
	CHECK_EQUAL(((uint8_t *)f.low)[0x1ff], 0);
	CHECK_EQUAL(((uint8_t *)f.low)[0x200], 2);
	CHECK_EQUAL(((uint8_t *)f.low)[0x200 + 8191], 3);
	CHECK_EQUAL(((uint8_t *)f.low)[0x200 + 8192], 0);
	CHECK_EQUAL(guest_memory_load(&f.mem, 0, fd, 8192, 4097), -ENODATA);
	CHECK_EQUAL(guest_memory_load(&f.mem, LOW_BYTES - 4096, fd, 0, 4097), -EFAULT);
	CHECK_EQUAL(guest_memory_load(&f.mem, 0, -1, 0, 1), -EBADF);
	close(fd);
	teardown(&f);
}

static void a_mapped_file_is_private_to_the_machine(void)
{
	struct fixture f;
	int fd = open_file(2 * 4096);
	uint8_t byte;

	setup(&f);
	CHECK_EQUAL(guest_memory_map_file(&f.mem, 0x4000, fd, 4096, 4096), 0);
	CHECK_EQUAL(((uint8_t *)f.low)[0x4000], 2);
	((uint8_t *)f.low)[0x4000] = 99;
	CHECK_EQUAL(pread(fd, &byte, 1, 4096), 1);
	CHECK_EQUAL(byte, 2);
	CHECK_EQUAL(guest_memory_map_file(&f.mem, 0x4001, fd, 4096, 4096), -EINVAL);
	CHECK_EQUAL(guest_memory_map_file(&f.mem, 0x4000, fd, 1, 4096), -EINVAL);
	CHECK_EQUAL(guest_memory_map_file(&f.mem, 0x4000, fd, 0, 4095), -EINVAL);
	CHECK_EQUAL(guest_memory_map_file(&f.mem, LOW_BYTES, fd, 0, 4096), -EFAULT);
	CHECK_EQUAL(guest_memory_map_file(&f.mem, 0x4000, -1, 0, 4096), -EBADF);
	close(fd);
	teardown(&f);
}

static const struct test tests[] = {
	TEST(a_range_inside_a_region_is_translated),
	TEST(a_range_that_leaves_its_region_is_refused),
	TEST(regions_neither_overlap_nor_wrap),
	TEST(copies_stay_inside),
	TEST(a_file_is_loaded_or_told_to_be_short),
	TEST(a_mapped_file_is_private_to_the_machine),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
