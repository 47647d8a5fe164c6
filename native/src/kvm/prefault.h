/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory that will be touched soon, made ready in one go: a clone would
 * otherwise leave the guest for each page (KVM's violation, the host's fault). */
#ifndef SAMPAN_KVM_PREFAULT_H
#define SAMPAN_KVM_PREFAULT_H

#include "kvm/ioctl.h"
#include "memory/memory.h"

struct prefault_range {
	uint64_t gpa;
	uint64_t len; /* whole pages */
	/* 1: private copies are made; 0: what the file has is mapped */
	uint64_t written;
};

/* Before the vCPU runs.  What the host's kernel cannot do (populating: before 5.14,
 * KVM_PRE_FAULT_MEMORY: before 6.11) is left to the guest's own faults.
 * 0; -EFAULT for a range outside of memory; -ENOMEM and others of madvise(2). */
int guest_memory_prefault(const struct kvm_calls *calls, const struct guest_memory *mem,
			  int vcpu_fd, const struct prefault_range *ranges, unsigned count);

/* From now on a page of memory is there only when it was itself touched: the host's
 * kernel maps no pages of a file around it ("fault-around").  Until the descriptor that
 * is returned is closed.  -errno where the kernel cannot do it (before 6.7). */
int guest_memory_fault_singly(const struct guest_memory *mem);

#endif
