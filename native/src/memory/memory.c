/* SPDX-License-Identifier: Apache-2.0 */
#include "memory/memory.h"

#include <errno.h>
#include <linux/prctl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

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

int guest_memory_map(uint64_t len, void **ret_hva)
{
	void *hva = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (hva == MAP_FAILED)
		return -errno;
	/* A name for readers of /proc/PID/smaps; kernels before 5.17 refuse it. */
	(void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, hva, len, GUEST_MEMORY_NAME);
	*ret_hva = hva;
	return 0;
}

int guest_memory_unmap(void *hva, uint64_t len)
{
	return munmap(hva, len) < 0 ? -errno : 0;
}

int guest_memory_write(const struct guest_memory *mem, uint64_t gpa, const void *data, uint64_t len)
{
	void *hva = guest_memory_at(mem, gpa, len);

	if (!hva)
		return -EFAULT;
	memcpy(hva, data, len);
	return 0;
}

int guest_memory_load(const struct guest_memory *mem, uint64_t gpa, int fd, uint64_t offset,
		      uint64_t len)
{
	uint8_t *hva = guest_memory_at(mem, gpa, len);
	uint64_t done = 0;

	if (!hva)
		return -EFAULT;
	while (done < len) {
		ssize_t n = pread(fd, hva + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		done += (uint64_t)n;
	}
	return 0;
}

int guest_memory_map_file(const struct guest_memory *mem, uint64_t gpa, int fd, uint64_t offset,
			  uint64_t len)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	void *hva = guest_memory_at(mem, gpa, len);

	if (!hva)
		return -EFAULT;
	if (((uintptr_t)hva | offset | len) % page != 0)
		return -EINVAL;
	/* MAP_FIXED replaces RAM that is ours: the range was checked above. */
	if (mmap(hva, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, (off_t)offset) ==
	    MAP_FAILED)
		return -errno;
	return 0;
}
