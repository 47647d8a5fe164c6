/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/credentials.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuse/proto.h"

struct capabilities {
	struct __user_cap_data_struct words[_LINUX_CAPABILITY_U32S_3];
};

/* libcap and glibc would do this for every thread of the process, or refuse. */
static void get_capabilities(struct capabilities *caps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

	syscall(SYS_capget, &header, caps->words);
}

static void set_capabilities(struct capabilities *caps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

	syscall(SYS_capset, &header, caps->words);
}

int fuse_credentials_separate(void)
{
	return unshare(CLONE_FS) < 0 ? -errno : 0;
}

void fuse_create_begin(const struct fuse_call *call, uint32_t mask)
{
	struct capabilities caps;

	umask(mask & 0777);
	if (call->header.uid == 0 && call->header.gid == 0)
		return;
	setfsgid(call->header.gid);
	if (call->header.uid == 0)
		return;
	/* setfsuid drops the capabilities over files; without them the host would
	 * refuse what the client's groups, unknown here, allow. */
	get_capabilities(&caps);
	setfsuid(call->header.uid);
	set_capabilities(&caps);
}

void fuse_create_end(const struct fuse_call *call)
{
	const int error = errno;

	if (call->header.uid != 0)
		setfsuid(0);
	if (call->header.gid != 0)
		setfsgid(0);
	errno = error;
}

static void set_fsetid(bool on)
{
	const uint32_t bit = CAP_TO_MASK(CAP_FSETID);
	struct capabilities caps;

	get_capabilities(&caps);
	if (on)
		caps.words[CAP_TO_INDEX(CAP_FSETID)].effective |= bit;
	else
		caps.words[CAP_TO_INDEX(CAP_FSETID)].effective &= ~bit;
	set_capabilities(&caps);
}

void fuse_no_fsetid_begin(void)
{
	set_fsetid(false);
}

void fuse_no_fsetid_end(void)
{
	const int error = errno;

	set_fsetid(true);
	errno = error;
}
