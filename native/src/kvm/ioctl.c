/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/ioctl.h"

#include <errno.h>
#include <sys/ioctl.h>

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int r = ioctl(fd, request, arg);

	return r < 0 ? -errno : r;
}

static int call(const struct kvm_calls *calls, int fd, unsigned long request, void *arg)
{
	(void)calls;
	return kvm_ioctl(fd, request, arg);
}

const struct kvm_calls kvm_calls = {.ioctl = call};
