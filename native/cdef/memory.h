/* SPDX-License-Identifier: Apache-2.0 */
/* For cffi: guest memory; see native/src/memory. */
#include <memory/memory.h>

struct guest_memory {
	unsigned count;
	...;
};

int guest_memory_add(struct guest_memory *mem, uint64_t gpa, uint64_t len, void *hva);
int guest_memory_map(uint64_t len, void **ret_hva);
int guest_memory_unmap(void *hva, uint64_t len);
int guest_memory_write(const struct guest_memory *mem, uint64_t gpa, const void *data,
		       uint64_t len);
int guest_memory_load(const struct guest_memory *mem, uint64_t gpa, int fd, uint64_t offset,
		      uint64_t len);
int guest_memory_map_file(const struct guest_memory *mem, uint64_t gpa, int fd, uint64_t offset,
			  uint64_t len);
