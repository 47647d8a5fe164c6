/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/prefault.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Debian 12's headers are those of 6.1. */
#ifndef KVM_PRE_FAULT_MEMORY
struct kvm_pre_fault_memory {
	__u64 gpa;
	__u64 size;
	__u64 flags;
	__u64 padding[5];
};
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static int populate(const struct guest_memory *mem, const struct prefault_range *range)
{
	void *hva = guest_memory_at(mem, range->gpa, range->len);
	int advice = range->written ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	if (!hva)
		return -EFAULT;
	while (madvise(hva, range->len, advice) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return 0;
}

/* After `populate`: private pages are then mapped for writing. */
static int map_for_vcpu(const struct kvm_calls *calls, int vcpu_fd,
			const struct prefault_range *range)
{
	struct kvm_pre_fault_memory rest = {.gpa = range->gpa, .size = range->len};

	/* KVM advances gpa and reduces size by what it has done. */
	while (rest.size > 0) {
		int r = calls->ioctl(calls, vcpu_fd, KVM_PRE_FAULT_MEMORY, &rest);

		if (r < 0 && r != -EAGAIN && r != -EINTR)
			return r;
	}
	return 0;
}

int guest_memory_prefault(const struct kvm_calls *calls, const struct guest_memory *mem,
			  int vcpu_fd, const struct prefault_range *ranges, unsigned count)
{
	bool can_map = true;

	for (unsigned i = 0; i < count; i++) {
		int r = populate(mem, &ranges[i]);

		if (r == -EINVAL)
			return 0;
		if (r < 0)
			return r;
		can_map = can_map && map_for_vcpu(calls, vcpu_fd, &ranges[i]) == 0;
	}
	return 0;
}

/* Nothing is ever write-protected, so no fault has to be handled: the registration
 * alone disables the kernel's fault-around. */
static int watch(int fd, const struct guest_memory *mem)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};

	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return -errno;
	for (unsigned i = 0; i < mem->count; i++) {
		struct uffdio_register registered = {
			.range = {(uintptr_t)mem->regions[i].hva, mem->regions[i].len},
			.mode = UFFDIO_REGISTER_MODE_WP,
		};

		/* Else a file in huge pages would be mapped by huge pages; fails without kernel
		 * support. */
		(void)madvise(mem->regions[i].hva, mem->regions[i].len, MADV_NOHUGEPAGE);
		if (ioctl(fd, UFFDIO_REGISTER, &registered) < 0)
			return -errno;
	}
	return 0;
}

int guest_memory_disable_fault_around(const struct guest_memory *mem)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	int r;

	if (fd < 0)
		return -errno;
	r = watch(fd, mem);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}
