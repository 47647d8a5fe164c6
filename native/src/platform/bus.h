/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the device for a guest's access to an I/O port or to memory that is not
 * RAM.  Filled before the first vCPU runs, read only afterwards; accesses come
 * from every vCPU thread at once.  What nobody claims reads as all ones. */
#ifndef SAMPAN_PLATFORM_BUS_H
#define SAMPAN_PLATFORM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#define BUS_MAX_REGIONS 16
#define BUS_NAME_BYTES 16
#define BUS_MAX_ACCESS_BYTES 8

enum bus_space {
	BUS_PORTS = 0,
	BUS_MEMORY = 1,
};

struct bus_ops {
	/* Bounds: offset + len ≤ the region's length; 1 ≤ len ≤ 8. */
	void (*read)(void *context, uint64_t offset, void *data, unsigned len);
	void (*write)(void *context, uint64_t offset, const void *data, unsigned len);
};

struct bus;

/* Accesses by region; by address, without a name, where no region claims it;
 * "unclaimed-rest" for the addresses that found no slot of their own. */
struct bus_counter {
	int space;
	uint64_t address;
	uint64_t reads, writes;
	char name[BUS_NAME_BYTES];
};

int bus_new(struct bus **ret_bus);
void bus_free(struct bus *bus);

/* 0, -ENOSPC, or -EINVAL for an empty, wrapping or overlapping region.  `ops`
 * and `context` outlive the bus. */
int bus_add(struct bus *bus, enum bus_space space, uint64_t address, uint64_t len, const char *name,
	    const struct bus_ops *ops, void *context);

/* Bounds: any address; an access that no region holds whole is unclaimed. */
void bus_read(struct bus *bus, enum bus_space space, uint64_t address, void *data, unsigned len);
void bus_write(struct bus *bus, enum bus_space space, uint64_t address, const void *data,
	       unsigned len);

/* The index-th counter: 1, or 0 when there are no more.  Any thread. */
int bus_read_counter(struct bus *bus, unsigned index, struct bus_counter *ret_counter);

#endif
