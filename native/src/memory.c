/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <errno.h>
#include <stddef.h>

int guest_memory_add(struct guest_memory *mem, uint64_t gpa, uint64_t len, void *hva)
{
	if (len == 0 || gpa + len < gpa)
		return -EINVAL;
	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_region *r = &mem->regions[i];

		if (gpa < r->gpa + r->len && r->gpa < gpa + len)
			return -EINVAL;
	}
	if (mem->count == GUEST_MEMORY_MAX_REGIONS)
		return -ENOSPC;
	mem->regions[mem->count++] = (struct guest_region){.gpa = gpa, .len = len, .hva = hva};
	return 0;
}

void *guest_memory_at(const struct guest_memory *mem, uint64_t gpa, uint64_t len)
{
	if (len == 0)
		return NULL;
	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_region *r = &mem->regions[i];

		/* Subtractions only: gpa + len may wrap. */
		if (gpa >= r->gpa && gpa - r->gpa < r->len && len <= r->len - (gpa - r->gpa))
			return r->hva + (gpa - r->gpa);
	}
	return NULL;
}
