/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: a few regions of guest-physical addresses and where they are
 * mapped here.  Filled before the first vCPU runs, read only afterwards, so
 * readers take no lock.  The mappings belong to the caller. */
#ifndef SAMPAN_MEMORY_MEMORY_H
#define SAMPAN_MEMORY_MEMORY_H

#include <stdint.h>

#define GUEST_MEMORY_MAX_REGIONS 8
#define GUEST_MEMORY_NAME "guest-memory"

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

/* --- for the loader ------------------------------------------------------ */

/* Private anonymous memory, allocated by the host page by page as it is touched. */
int guest_memory_map(uint64_t len, void **ret_hva);
int guest_memory_unmap(void *hva, uint64_t len);

/* -EFAULT outside guest memory, everywhere below. */
int guest_memory_write(const struct guest_memory *mem, uint64_t gpa, const void *data,
		       uint64_t len);

/* Copies `len` bytes of a file; -ENODATA when it ends before. */
int guest_memory_load(const struct guest_memory *mem, uint64_t gpa, int fd, uint64_t offset,
		      uint64_t len);

/* Maps a file privately over guest memory: pages that the guest does not write
 * stay in the host's page cache, once for all machines.  All three numbers are
 * multiples of the page size.  Hazard: a file that is cut short later makes every
 * access beyond its end a SIGBUS. */
int guest_memory_map_file(const struct guest_memory *mem, uint64_t gpa, int fd, uint64_t offset,
			  uint64_t len);

#endif
