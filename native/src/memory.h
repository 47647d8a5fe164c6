/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: a few regions of guest-physical addresses and where they are
 * mapped here.  Filled before the first vCPU runs, read only afterwards, so
 * readers take no lock.  The mappings belong to the caller. */
#ifndef SAMPAN_MEMORY_H
#define SAMPAN_MEMORY_H

#include <stdint.h>

#define GUEST_MEMORY_MAX_REGIONS 8

struct guest_region {
	uint64_t gpa;
	uint64_t len;
	uint8_t *hva;
};

struct guest_memory {
	unsigned count;
	struct guest_region regions[GUEST_MEMORY_MAX_REGIONS];
};

/* 0, -ENOSPC, or -EINVAL for an empty, wrapping or overlapping region. */
int guest_memory_add(struct guest_memory *mem, uint64_t gpa, uint64_t len, void *hva);

/* Bounds: [gpa, gpa+len) must lie inside one region; NULL otherwise, and for
 * len 0 or a sum that wraps. */
void *guest_memory_at(const struct guest_memory *mem, uint64_t gpa, uint64_t len);

#endif
