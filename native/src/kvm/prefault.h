/* SPDX-License-Identifier: Apache-2.0 */
/* Maps guest memory that will be touched soon, all at once: otherwise each page
 * costs a clone an exit (an EPT or NPT violation) and a page fault of the host. */
#ifndef SAMPAN_KVM_PREFAULT_H
#define SAMPAN_KVM_PREFAULT_H

#include "kvm/ioctl.h"
#include "memory/memory.h"

struct prefault_range {
	uint64_t gpa;
	uint64_t len; /* whole pages */
	/* 1: private copies are made; 0: the file's pages are mapped */
	uint64_t written;
};

/* Before the vCPU runs.  What the host's kernel lacks (populating: before 5.14,
 * KVM_PRE_FAULT_MEMORY: before 6.11) is skipped, and the guest faults.
 * 0; -EFAULT for a range outside of memory; -ENOMEM and others of madvise(2). */
int guest_memory_prefault(const struct kvm_calls *calls, const struct guest_memory *mem,
			  int vcpu_fd, const struct prefault_range *ranges, unsigned count);

/* Disables fault-around: a page of a file is mapped only when it is touched itself, not
 * when a page near it is.  Lasts until the returned descriptor is closed.  -errno where
 * the kernel cannot do it (before 6.7). */
int guest_memory_disable_fault_around(const struct guest_memory *mem);

#endif
