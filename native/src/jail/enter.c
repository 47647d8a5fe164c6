/* SPDX-License-Identifier: Apache-2.0 */
/* The root directory of the process in its jail, and Landlock rules for it. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail/jail.h"

/* From linux/mount.h and linux/landlock.h: older systems lack parts of them, and
 * the first conflicts with sys/mount.h. */
#define TREE_CLONE 1U
#define MOVE_BY_DESCRIPTORS 0x44U /* MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH */
#define ATTR_RDONLY 0x1U
#define ATTR_NOSUID 0x2U
#define ATTR_NODEV 0x4U
#define ATTR_NOEXEC 0x8U
#define CONTEXT_CLOEXEC 1U
#define CONFIG_SET_STRING 1U
#define CONFIG_CREATE 6U

#define LANDLOCK_VERSION 1U
#define LANDLOCK_BELOW_PATH 1
#define ACCESS_EXECUTE (1ULL << 0)
#define ACCESS_READ (1ULL << 2 | 1ULL << 3)
#define ACCESS_REFER (1ULL << 13)
#define ACCESS_TRUNCATE (1ULL << 14)
#define ACCESS_IOCTL_DEVICE (1ULL << 15)
#define FIRST_WITH_REFER 2
#define FIRST_WITH_TRUNCATE 3
#define FIRST_WITH_NETWORK 4
#define FIRST_WITH_IOCTL 5
#define FIRST_WITH_SCOPES 6
#define ALL_NETWORK 3ULL /* bind and connect of TCP */
#define ALL_SCOPES 3ULL	 /* abstract sockets and signals of others */

struct mount_attributes {
	uint64_t set, clear, propagation, user_namespace;
};

struct landlock_ruleset {
	uint64_t files, network, scopes;
};

struct landlock_below {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

static int fd_or_error(long r)
{
	return r < 0 ? -errno : (int)r;
}

static int open_directory(const char *path)
{
	return fd_or_error(open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

/* Takes both descriptors over. */
static int mount_on(int tree_fd, int place_fd)
{
	int r = place_fd;

	if (tree_fd >= 0 && place_fd >= 0)
		r = syscall(SYS_move_mount, tree_fd, "", place_fd, "", MOVE_BY_DESCRIPTORS) < 0
			    ? -errno
			    : 0;
	else if (tree_fd < 0)
		r = tree_fd;
	if (tree_fd >= 0)
		close(tree_fd);
	if (place_fd >= 0)
		close(place_fd);
	return r;
}

static int clone_image(const char *path)
{
	const struct mount_attributes attributes = {
		.set = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC,
		.propagation = MS_PRIVATE,
	};
	const int fd = fd_or_error(
		syscall(SYS_open_tree, AT_FDCWD, path, TREE_CLONE | (unsigned)O_CLOEXEC));

	if (fd < 0)
		return fd;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) <
	    0) {
		const int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* A proc of the caller's pid namespace that shows processes only. */
static int make_proc(void)
{
	const int context = fd_or_error(syscall(SYS_fsopen, "proc", CONTEXT_CLOEXEC));
	int fd;

	if (context < 0)
		return context;
	if (syscall(SYS_fsconfig, context, CONFIG_SET_STRING, "subset", "pid", 0) < 0 ||
	    syscall(SYS_fsconfig, context, CONFIG_CREATE, NULL, NULL, 0) < 0)
		fd = -errno;
	else
		fd = fd_or_error(syscall(SYS_fsmount, context, CONTEXT_CLOEXEC,
					 ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC));
	close(context);
	return fd;
}

/* The old root is released with the last descriptor of it. */
static int change_root(int tree_fd, const char *root_path)
{
	int r = mount_on(fcntl(tree_fd, F_DUPFD_CLOEXEC, 0), open_directory(root_path));

	if (r < 0)
		return r;
	if (fchdir(tree_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

static int leave_host(int tree_fd, int image_fd, int proc_fd, const char *root_path)
{
	int r;

	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0 ||
	    mount("", "/", "", MS_REC | MS_SLAVE, "") < 0)
		r = -errno;
	else
		r = change_root(tree_fd, root_path);
	if (r < 0) {
		close(image_fd);
		close(proc_fd);
		return r;
	}
	r = mount_on(image_fd, open_directory("/image"));
	if (r < 0) {
		close(proc_fd);
		return r;
	}
	return mount_on(proc_fd, open_directory("/proc"));
}

int jail_enter(int tree_fd, const char *image_path, const char *root_path)
{
	const int image_fd = clone_image(image_path);
	int proc_fd;

	if (image_fd < 0)
		return image_fd;
	proc_fd = make_proc();
	if (proc_fd < 0) {
		close(image_fd);
		return proc_fd;
	}
	return leave_host(tree_fd, image_fd, proc_fd, root_path);
}

/* --- Landlock ------------------------------------------------------------- */

static struct landlock_ruleset everything_of(int version)
{
	struct landlock_ruleset rules = {.files = ACCESS_REFER | (ACCESS_REFER - 1)};

	if (version >= FIRST_WITH_TRUNCATE)
		rules.files |= ACCESS_TRUNCATE;
	if (version >= FIRST_WITH_IOCTL)
		rules.files |= ACCESS_IOCTL_DEVICE;
	if (version >= FIRST_WITH_NETWORK)
		rules.network = ALL_NETWORK;
	if (version >= FIRST_WITH_SCOPES)
		rules.scopes = ALL_SCOPES;
	return rules;
}

static int allow_below(int ruleset_fd, const char *path, uint64_t allowed)
{
	struct landlock_below rule = {.allowed = allowed, .parent_fd = open_directory(path)};
	int r;

	if (rule.parent_fd < 0)
		return rule.parent_fd;
	r = syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_BELOW_PATH, &rule, 0) < 0 ? -errno
											  : 0;
	close(rule.parent_fd);
	return r;
}

int jail_landlock(void)
{
	const long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);
	struct landlock_ruleset rules;
	uint64_t changes;
	int fd, r;

	if (version < FIRST_WITH_REFER)
		return -EOPNOTSUPP;
	rules = everything_of((int)version);
	changes = rules.files & ~(ACCESS_EXECUTE | ACCESS_IOCTL_DEVICE);
	fd = fd_or_error(syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0));
	if (fd < 0)
		return fd;
	r = allow_below(fd, "/rootfs", changes);
	if (r == 0)
		r = allow_below(fd, "/volumes", changes);
	if (r == 0)
		r = allow_below(fd, "/image", ACCESS_READ);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}
