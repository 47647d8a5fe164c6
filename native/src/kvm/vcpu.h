/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPUs of one machine, a thread each.  Every exit is handled in C; when the
 * machine ends (platform/events.h) they all stop by themselves.
 *
 * Life: new, add…, start, (pause, resume)…, stop, free.  One caller at a time.
 * Spec: KVM_RUN and immediate_exit in Linux Documentation/virt/kvm/api.rst §5. */
#ifndef SAMPAN_KVM_VCPU_H
#define SAMPAN_KVM_VCPU_H

#include <stddef.h>
#include <stdint.h>

#include "kvm/ioctl.h"
#include "platform/bus.h"
#include "platform/events.h"

#define VCPU_MAX_EXIT_REASONS 64

struct vcpu_set;

/* `bus` and `events` outlive the set. */
int vcpu_set_new(const struct kvm_calls *calls, struct bus *bus, struct machine_events *events,
		 struct vcpu_set **ret_set);

/* `vcpu_fd` is used, not taken over; `run_bytes` of KVM_GET_VCPU_MMAP_SIZE. */
int vcpu_set_add(struct vcpu_set *set, int vcpu_fd, size_t run_bytes);

int vcpu_set_start(struct vcpu_set *set);
/* Returns when no vCPU runs guest code and no exit is half handled. */
void vcpu_set_pause(struct vcpu_set *set);
void vcpu_set_resume(struct vcpu_set *set);
/* Ends and joins the threads.  Idempotent. */
void vcpu_set_stop(struct vcpu_set *set);
void vcpu_set_free(struct vcpu_set *set); /* stops */

/* Exits to user space so far by KVM_EXIT_*, all vCPUs together.  Any thread. */
uint64_t vcpu_set_exits(const struct vcpu_set *set, unsigned reason);
/* "io", "mmio", …; NULL for a number without a name. */
const char *vcpu_exit_name(unsigned reason);

#endif
