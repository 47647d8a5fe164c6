/* SPDX-License-Identifier: Apache-2.0 */
#include "platform/bus.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define UNCLAIMED_SLOTS 64

struct region {
	enum bus_space space;
	uint64_t address, len;
	char name[BUS_NAME_BYTES];
	const struct bus_ops *ops;
	void *context;
	_Atomic uint64_t reads, writes;
};

/* Accesses to one address that nobody claims.  The guest chooses the addresses:
 * those that find no free slot are counted in `others`. */
struct unclaimed {
	_Atomic uint64_t key; /* address << 2 | space << 1 | 1; 0: free */
	_Atomic uint64_t reads, writes;
};

struct bus {
	unsigned count;
	struct region regions[BUS_MAX_REGIONS];
	struct unclaimed unclaimed[UNCLAIMED_SLOTS];
	struct unclaimed others;
};

int bus_new(struct bus **ret_bus)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return -ENOMEM;
	*ret_bus = bus;
	return 0;
}

void bus_free(struct bus *bus)
{
	free(bus);
}

int bus_add(struct bus *bus, enum bus_space space, uint64_t address, uint64_t len, const char *name,
	    const struct bus_ops *ops, void *context)
{
	struct region *region;

	if (len == 0 || address + len < address)
		return -EINVAL;
	for (unsigned i = 0; i < bus->count; i++) {
		region = &bus->regions[i];
		if (region->space == space && address < region->address + region->len &&
		    region->address < address + len)
			return -EINVAL;
	}
	if (bus->count == BUS_MAX_REGIONS)
		return -ENOSPC;
	region = &bus->regions[bus->count++];
	region->space = space;
	region->address = address;
	region->len = len;
	region->ops = ops;
	region->context = context;
	strncpy(region->name, name, sizeof(region->name) - 1);
	return 0;
}

static struct region *find(struct bus *bus, enum bus_space space, uint64_t address, unsigned len)
{
	for (unsigned i = 0; i < bus->count; i++) {
		struct region *region = &bus->regions[i];

		/* Subtractions only: address + len may wrap. */
		if (region->space == space && address >= region->address &&
		    address - region->address < region->len &&
		    len <= region->len - (address - region->address))
			return region;
	}
	return NULL;
}

static struct unclaimed *unclaimed_at(struct bus *bus, enum bus_space space, uint64_t address)
{
	const uint64_t key = address << 2 | (uint64_t)space << 1 | 1;

	for (unsigned i = 0; i < UNCLAIMED_SLOTS; i++) {
		struct unclaimed *u = &bus->unclaimed[i];
		uint64_t found = 0;

		if (atomic_compare_exchange_strong(&u->key, &found, key) || found == key)
			return u;
	}
	return &bus->others;
}

void bus_read(struct bus *bus, enum bus_space space, uint64_t address, void *data, unsigned len)
{
	struct region *region = find(bus, space, address, len);

	if (!region) {
		memset(data, 0xff, len);
		atomic_fetch_add(&unclaimed_at(bus, space, address)->reads, 1);
		return;
	}
	atomic_fetch_add(&region->reads, 1);
	region->ops->read(region->context, address - region->address, data, len);
}

void bus_write(struct bus *bus, enum bus_space space, uint64_t address, const void *data,
	       unsigned len)
{
	struct region *region = find(bus, space, address, len);

	if (!region) {
		atomic_fetch_add(&unclaimed_at(bus, space, address)->writes, 1);
		return;
	}
	atomic_fetch_add(&region->writes, 1);
	region->ops->write(region->context, address - region->address, data, len);
}

static void copy_region(struct region *region, struct bus_counter *counter)
{
	*counter = (struct bus_counter){
		.space = region->space,
		.address = region->address,
		.reads = atomic_load(&region->reads),
		.writes = atomic_load(&region->writes),
	};
	memcpy(counter->name, region->name, sizeof(counter->name));
}

static void copy_unclaimed(struct unclaimed *u, const char *name, struct bus_counter *counter)
{
	const uint64_t key = atomic_load(&u->key);

	*counter = (struct bus_counter){
		.space = key >> 1 & 1,
		.address = key >> 2,
		.reads = atomic_load(&u->reads),
		.writes = atomic_load(&u->writes),
	};
	strncpy(counter->name, name, sizeof(counter->name) - 1);
}

int bus_read_counter(struct bus *bus, unsigned index, struct bus_counter *ret_counter)
{
	if (index < bus->count) {
		copy_region(&bus->regions[index], ret_counter);
		return 1;
	}
	index -= bus->count;
	/* Slots are taken from the first on. */
	if (index < UNCLAIMED_SLOTS && atomic_load(&bus->unclaimed[index].key) != 0) {
		copy_unclaimed(&bus->unclaimed[index], "", ret_counter);
		return 1;
	}
	if (index == UNCLAIMED_SLOTS) {
		copy_unclaimed(&bus->others, "unclaimed-rest", ret_counter);
		return 1;
	}
	return 0;
}
