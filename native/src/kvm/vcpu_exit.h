/* SPDX-License-Identifier: Apache-2.0 */
/* What to do about one exit to user space.  Runs on the vCPU's thread. */
#ifndef SAMPAN_KVM_VCPU_EXIT_H
#define SAMPAN_KVM_VCPU_EXIT_H

#include <linux/kvm.h>
#include <stddef.h>

#include "kvm/ioctl.h"
#include "platform/bus.h"
#include "platform/events.h"

struct vcpu_context {
	const struct kvm_calls *calls;
	struct bus *bus;
	struct machine_events *events;
	int index;
	int fd;
	struct kvm_run *run;
	size_t run_bytes;
};

/* Answers the access, or ends the machine and says why.
 * Bounds: the data of a port access must lie in the run area. */
void vcpu_handle_exit(const struct vcpu_context *vcpu);

/* KVM_RUN itself failed: `error` is -errno.  Ends the machine. */
void vcpu_handle_error(const struct vcpu_context *vcpu, int error);

#endif
