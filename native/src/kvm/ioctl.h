/* SPDX-License-Identifier: Apache-2.0 */
/* ioctls on KVM's descriptors, with errors as -errno.  Devices call them through
 * a table, so that unit tests need no KVM. */
#ifndef SAMPAN_KVM_IOCTL_H
#define SAMPAN_KVM_IOCTL_H

struct kvm_calls {
	/* Returns ≥ 0, or -errno.  Any thread. */
	int (*ioctl)(const struct kvm_calls *calls, int fd, unsigned long request, void *arg);
};

extern const struct kvm_calls kvm_calls;

int kvm_ioctl(int fd, unsigned long request, void *arg);

#endif
