/* SPDX-License-Identifier: Apache-2.0 */
/* The bus: which device handles an access, and what is counted. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "platform/bus.h"

struct echo {
	atomic_uint reads, writes;
	uint64_t offset;
	unsigned len;
};

static void echo_read(void *context, uint64_t offset, void *data, unsigned len)
{
	struct echo *e = context;

	atomic_fetch_add(&e->reads, 1);
	memset(data, (int)offset, len);
}

static void echo_write(void *context, uint64_t offset, const void *data, unsigned len)
{
	struct echo *e = context;

	(void)data;
	atomic_fetch_add(&e->writes, 1);
	e->offset = offset;
	e->len = len;
}

static const struct bus_ops echo_ops = {.read = echo_read, .write = echo_write};

static uint64_t bus_get(struct bus *bus, enum bus_space space, uint64_t address, unsigned len)
{
	uint64_t value = 0;

	bus_read(bus, space, address, &value, len);
	return value;
}

static void an_access_reaches_the_region_that_holds_it(void)
{
	struct echo low = {0}, high = {0};
	struct bus *bus;

	CHECK_EQUAL(bus_new(&bus), 0);
	CHECK_EQUAL(bus_add(bus, BUS_MEMORY, 0x1000, 0x100, "low", &echo_ops, &low), 0);
	CHECK_EQUAL(bus_add(bus, BUS_MEMORY, UINT64_MAX - 0xff, 0xff, "high", &echo_ops, &high), 0);
	CHECK_EQUAL(bus_get(bus, BUS_MEMORY, 0x1010, 1), 0x10);
	bus_write(bus, BUS_MEMORY, 0x10f8, "12345678", 8);
	CHECK_EQUAL(low.offset, 0xf8);
	CHECK_EQUAL(low.len, 8);
	bus_write(bus, BUS_MEMORY, UINT64_MAX - 0xff, "1", 1);
	CHECK_EQUAL(high.offset, 0);
	CHECK_EQUAL(low.reads + low.writes, 2);
	bus_free(bus);
}

static void what_no_region_holds_whole_reads_as_ones(void)
{
	struct echo e = {0};
	struct bus *bus;

	CHECK_EQUAL(bus_new(&bus), 0);
	CHECK_EQUAL(bus_add(bus, BUS_MEMORY, 0x1000, 0x100, "e", &echo_ops, &e), 0);
	CHECK_EQUAL(bus_get(bus, BUS_MEMORY, 0xfff, 1), 0xff);
	CHECK_EQUAL(bus_get(bus, BUS_MEMORY, 0xffe, 4), 0xffffffff);
	CHECK_EQUAL(bus_get(bus, BUS_MEMORY, 0x10fd, 4), 0xffffffff);
	CHECK_EQUAL(bus_get(bus, BUS_MEMORY, 0x1100, 8), UINT64_MAX);
	CHECK_EQUAL(bus_get(bus, BUS_MEMORY, UINT64_MAX, 8), UINT64_MAX);
	CHECK_EQUAL(bus_get(bus, BUS_PORTS, 0x1000, 2), 0xffff);
	bus_write(bus, BUS_MEMORY, 0x10fd, "1234", 4);
	bus_write(bus, BUS_MEMORY, UINT64_MAX, "12", 2);
	CHECK_EQUAL(e.reads + e.writes, 0);
	bus_free(bus);
}

static void regions_do_not_overlap(void)
{
	struct echo e = {0};
	struct bus *bus;

	CHECK_EQUAL(bus_new(&bus), 0);
	CHECK_EQUAL(bus_add(bus, BUS_PORTS, 0x100, 0x10, "a", &echo_ops, &e), 0);
	CHECK_EQUAL(bus_add(bus, BUS_PORTS, 0x10f, 1, "b", &echo_ops, &e), -EINVAL);
	CHECK_EQUAL(bus_add(bus, BUS_PORTS, 0, 0x101, "b", &echo_ops, &e), -EINVAL);
	CHECK_EQUAL(bus_add(bus, BUS_PORTS, 0x200, 0, "b", &echo_ops, &e), -EINVAL);
	CHECK_EQUAL(bus_add(bus, BUS_MEMORY, UINT64_MAX, 2, "b", &echo_ops, &e), -EINVAL);
	CHECK_EQUAL(bus_add(bus, BUS_MEMORY, 0x100, 0x10, "other space", &echo_ops, &e), 0);
	for (unsigned i = 2; i < BUS_MAX_REGIONS; i++)
		CHECK_EQUAL(bus_add(bus, BUS_PORTS, 0x100 * i, 1, "c", &echo_ops, &e), 0);
	CHECK_EQUAL(bus_add(bus, BUS_PORTS, 0x8000, 1, "d", &echo_ops, &e), -ENOSPC);
	bus_free(bus);
}

static void accesses_are_counted_by_region_and_by_unclaimed_address(void)
{
	struct bus_counter counter;
	struct echo e = {0};
	struct bus *bus;
	unsigned index;

	CHECK_EQUAL(bus_new(&bus), 0);
	CHECK_EQUAL(bus_add(bus, BUS_PORTS, 0x100, 0x10, "echo", &echo_ops, &e), 0);
	bus_get(bus, BUS_PORTS, 0x101, 1);
	bus_get(bus, BUS_PORTS, 0x102, 1);
	bus_write(bus, BUS_PORTS, 0x102, "1", 1);
	for (unsigned i = 0; i < 100; i++) {
		bus_get(bus, BUS_MEMORY, 0x1000 * i, 4);
		bus_write(bus, BUS_PORTS, 0x1000 + i, "1", 1);
	}
	CHECK_EQUAL(bus_read_counter(bus, 0, &counter), 1);
	CHECK(strcmp(counter.name, "echo") == 0);
	CHECK_EQUAL(counter.reads, 2);
	CHECK_EQUAL(counter.writes, 1);
	CHECK_EQUAL(bus_read_counter(bus, 3, &counter), 1);
	CHECK_EQUAL(counter.name[0], 0);
	CHECK_EQUAL(counter.space, BUS_MEMORY);
	CHECK_EQUAL(counter.address, 0x1000);
	CHECK_EQUAL(counter.reads, 1);
	/* A guest that touches every address does not use up our memory. */
	for (index = 0; bus_read_counter(bus, index, &counter) == 1; index++)
		;
	CHECK(index < 100);
	CHECK(strcmp(counter.name, "unclaimed-rest") == 0);
	CHECK_EQUAL(counter.reads + counter.writes, 200 - (index - 2));
	bus_free(bus);
}

static void *hammer(void *context)
{
	for (unsigned i = 0; i < 1000; i++) {
		bus_get(context, BUS_PORTS, 0x100, 1);
		bus_get(context, BUS_MEMORY, 0x1000 * (i % 8), 1);
	}
	return NULL;
}

static void counters_hold_under_several_vcpus(void)
{
	struct bus_counter counter;
	struct echo e = {0};
	pthread_t threads[4];
	struct bus *bus;
	uint64_t total = 0;
	unsigned places = 0;

	CHECK_EQUAL(bus_new(&bus), 0);
	CHECK_EQUAL(bus_add(bus, BUS_PORTS, 0x100, 1, "echo", &echo_ops, &e), 0);
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQUAL(pthread_create(&threads[i], NULL, hammer, bus), 0);
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
	for (; bus_read_counter(bus, places, &counter) == 1; places++)
		total += counter.reads;
	CHECK_EQUAL(total, 8000);
	CHECK_EQUAL(places, 1 + 8);
	bus_free(bus);
}

static const struct test tests[] = {
	TEST(an_access_reaches_the_region_that_holds_it),
	TEST(what_no_region_holds_whole_reads_as_ones),
	TEST(regions_do_not_overlap),
	TEST(accesses_are_counted_by_region_and_by_unclaimed_address),
	TEST(counters_hold_under_several_vcpus),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
