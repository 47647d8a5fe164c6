/* SPDX-License-Identifier: Apache-2.0 */
/* A program that replaces the vmm: enters the jail, restricts it, and tries one forbidden thing on
 * a thread of one kind.
 *
 *   hostile_vmm TREE_FD IMAGE PLACE RULES KIND before|after ATTEMPT
 *
 * RULES: a file with, for each kind, 8 bytes of capabilities, 8 of the number of instructions, and
 * these; without any there is no Landlock either.  `before`, `after`: whether the thread begins
 * before or after `jail_restrict`.  Writes to stdout: "out" when the attempt succeeded, "held
 * ERRNO" when it failed; nothing when the kernel killed the process for it.  ATTEMPT -1 counts
 * them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "jail/jail.h"

#define P(x) ((long)(x))
#define CONTAINERD "/run/containerd/containerd.sock"

struct attempt {
	const char *name;
	long call, a[6];
};

static char page[4096] __attribute__((aligned(4096)));
static char *const words[] = {"/bin/sh", NULL};
static struct sockaddr_un containerd = {AF_UNIX, CONTAINERD};
static struct iovec local = {page, 16};
static unsigned long long clone3_arguments[11];
static struct {
	unsigned bytes;
	int type;
	unsigned char handle[64];
} handle = {.bytes = 8, .type = 1};
static struct {
	unsigned version;
	int pid;
} capabilities = {0x20080522, 0};
static unsigned everything[6] = {~0U, ~0U, 0, ~0U, ~0U, 0};

static const struct attempt attempts[] = {
	/* files of the host, by paths and around them */
	{"open /etc/shadow", SYS_openat, {AT_FDCWD, P("/etc/shadow"), O_RDONLY}},
	{"open /etc/passwd upwards", SYS_openat, {AT_FDCWD, P("../../../../etc/passwd"), O_RDONLY}},
	{"open(2)", SYS_open, {P("/etc/hostname"), O_RDONLY}},
	{"open /proc/1/root", SYS_openat, {AT_FDCWD, P("/proc/1/root/etc"), O_RDONLY}},
	{"open /proc/self/root", SYS_openat, {AT_FDCWD, P("/proc/self/root/etc/passwd"), O_RDONLY}},
	{"open /proc/self/exe", SYS_openat, {AT_FDCWD, P("/proc/self/exe"), O_RDONLY}},
	{"open /proc/self/mem", SYS_openat, {AT_FDCWD, P("/proc/self/mem"), O_RDWR}},
	{"open /proc/self/environ", SYS_openat, {AT_FDCWD, P("/proc/self/environ"), O_RDONLY}},
	{"open core_pattern", SYS_openat, {AT_FDCWD, P("/proc/sys/kernel/core_pattern"), O_WRONLY}},
	{"open sysrq-trigger", SYS_openat, {AT_FDCWD, P("/proc/sysrq-trigger"), O_WRONLY}},
	{"open /sys", SYS_openat, {AT_FDCWD, P("/sys/kernel"), O_RDONLY}},
	{"open /dev/kvm", SYS_openat, {AT_FDCWD, P("/dev/kvm"), O_RDWR}},
	{"open /dev/mem", SYS_openat, {AT_FDCWD, P("/dev/mem"), O_RDWR}},
	{"open a template", SYS_openat, {AT_FDCWD, P("/var/lib/sampan/templates"), O_RDONLY}},
	{"open other sandboxes", SYS_openat, {AT_FDCWD, P("/run/sampan"), O_RDONLY}},
	{"open by handle", SYS_open_by_handle_at, {AT_FDCWD, P(&handle), O_RDONLY}},
	{"make a handle", SYS_name_to_handle_at, {AT_FDCWD, P("/"), P(&handle), P(page), 0}},
	{"write the image", SYS_openat, {AT_FDCWD, P("/image/evil"), O_CREAT | O_WRONLY, 0600}},
	{"create in the root", SYS_openat, {AT_FDCWD, P("/evil"), O_CREAT | O_WRONLY, 0600}},
	{"mkdir in the roots' share", SYS_mkdirat, {AT_FDCWD, P("/rootfs/evil"), 0700}},
	{"mkdir in the volumes' share", SYS_mkdirat, {AT_FDCWD, P("/volumes/evil"), 0700}},
	{"symlink in a share", SYS_symlinkat, {P("/root"), AT_FDCWD, P("/rootfs/evil")}},
	{"rename a place", SYS_renameat2, {AT_FDCWD, P("/rootfs"), AT_FDCWD, P("/evil"), 0}},
	{"mknod of the disk", SYS_mknodat, {AT_FDCWD, P("/rootfs/sda"), 060600, 0x800}},
	{"chmod of the root", SYS_fchmodat, {AT_FDCWD, P("/"), 0777}},
	{"chmod(2)", SYS_chmod, {P("/"), 0777}},
	{"truncate(2)", SYS_truncate, {P("/proc/self/comm"), 0}},
	{"inotify", SYS_inotify_init1, {0}},
	{"fanotify", SYS_fanotify_init, {0, 0}},
	{"swapon", SYS_swapon, {P("/rootfs/swap"), 0}},
	{"quotactl", SYS_quotactl, {0, 0, 0, 0}},
	{"acct", SYS_acct, {P("/rootfs/log")}},
	/* mounts and namespaces */
	{"mount", SYS_mount, {P("none"), P("/proc"), P("tmpfs"), 0, 0}},
	{"remount of the root", SYS_mount, {P(""), P("/"), P(""), MS_REMOUNT | MS_BIND, 0}},
	{"umount", SYS_umount2, {P("/image"), MNT_DETACH}},
	{"open_tree", SYS_open_tree, {AT_FDCWD, P("/image"), 1}},
	{"move_mount", SYS_move_mount, {AT_FDCWD, P("/image"), AT_FDCWD, P("/proc"), 0}},
	{"fsopen", SYS_fsopen, {P("tmpfs"), 0}},
	{"mount_setattr", SYS_mount_setattr, {AT_FDCWD, P("/"), 0, P(page), 32}},
	{"pivot_root", SYS_pivot_root, {P("/image"), P("/image")}},
	{"chroot", SYS_chroot, {P("/image")}},
	{"unshare user", SYS_unshare, {CLONE_NEWUSER}},
	{"unshare mounts", SYS_unshare, {CLONE_NEWNS}},
	{"unshare network", SYS_unshare, {CLONE_NEWNET}},
	{"setns", SYS_setns, {0, 0}},
	/* other processes, and new ones */
	{"ptrace", SYS_ptrace, {PTRACE_ATTACH, 1, 0, 0}},
	{"ptrace of the parent", SYS_ptrace, {PTRACE_SEIZE, 2, 0, 0}},
	{"read memory of others", SYS_process_vm_readv, {1, P(&local), 1, P(&local), 1, 0}},
	{"write memory of others", SYS_process_vm_writev, {1, P(&local), 1, P(&local), 1, 0}},
	{"kill everybody", SYS_kill, {-1, SIGKILL}},
	{"kill the parent", SYS_kill, {2, SIGTERM}},
	{"pidfd_open", SYS_pidfd_open, {1, 0}},
	{"pidfd_getfd", SYS_pidfd_getfd, {0, 0, 0}},
	{"pidfd_send_signal", SYS_pidfd_send_signal, {0, SIGKILL, 0, 0}},
	{"kcmp", SYS_kcmp, {1, 2, 0, 0, 0}},
	{"fork", SYS_fork, {0}},
	{"vfork", SYS_vfork, {0}},
	{"clone of a process", SYS_clone, {SIGCHLD, 0, 0, 0, 0}},
	{"clone into a user namespace", SYS_clone, {CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0}},
	{"clone3", SYS_clone3, {P(clone3_arguments), sizeof(clone3_arguments)}},
	{"execve", SYS_execve, {P("/bin/sh"), P(words), 0}},
	{"execve of the image's", SYS_execve, {P("/image/program"), P(words), 0}},
	{"execveat", SYS_execveat, {0, P(""), P(words), 0, AT_EMPTY_PATH}},
	/* code */
	{"executable memory",
	 SYS_mmap,
	 {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
	{"a page made executable", SYS_mprotect, {P(page), 4096, PROT_READ | PROT_EXEC}},
	{"pkey_mprotect", SYS_pkey_mprotect, {P(page), 4096, PROT_READ | PROT_EXEC, -1}},
	{"memfd_create", SYS_memfd_create, {P("x"), 0}},
	{"shmget", SYS_shmget, {0, 4096, 01600}},
	{"personality", SYS_personality, {0x0400000}},
	{"modify_ldt", SYS_modify_ldt, {0, P(page), 16}},
	/* large attack surfaces of the kernel */
	{"bpf", SYS_bpf, {0, P(page), 128}},
	{"perf_event_open", SYS_perf_event_open, {P(page), 0, -1, -1, 0}},
	{"userfaultfd", SYS_userfaultfd, {0}},
	{"io_uring_setup", SYS_io_uring_setup, {8, P(page)}},
	{"keyctl", SYS_keyctl, {0, -3, 1}},
	{"add_key", SYS_add_key, {P("user"), P("x"), P("y"), 1, -3}},
	{"request_key", SYS_request_key, {P("user"), P("x"), 0, -3}},
	{"init_module", SYS_init_module, {P(page), 0, P("")}},
	{"finit_module", SYS_finit_module, {0, P(""), 0}},
	{"kexec_load", SYS_kexec_load, {0, 0, 0, 0}},
	{"reboot", SYS_reboot, {0xfee1dead, 672274793, 0x89abcdef, 0}},
	{"iopl", SYS_iopl, {3}},
	{"ioperm", SYS_ioperm, {0x3f8, 8, 1}},
	{"clock_settime", SYS_clock_settime, {0, P(page)}},
	{"settimeofday", SYS_settimeofday, {P(page), 0}},
	{"adjtimex", SYS_adjtimex, {P(page)}},
	{"sethostname", SYS_sethostname, {P("evil"), 4}},
	{"syslog", SYS_syslog, {3, P(page), 4096}},
	/* privileges */
	{"all capabilities again", SYS_capset, {P(&capabilities), P(everything)}},
	{"setuid", SYS_setuid, {0}},
	{"setresuid", SYS_setresuid, {0, 0, 0}},
	{"setgroups", SYS_setgroups, {0, 0}},
	{"more descriptors", SYS_prlimit64, {0, 7, P(page), 0}},
	{"another filter", SYS_seccomp, {0, 0, 0}},
	{"dumpable", SYS_prctl, {4, 1, 0, 0, 0}},
	{"ambient capabilities", SYS_prctl, {47, 2, 0, 0, 0}},
	{"real-time priority", SYS_sched_setscheduler, {0, 1, P(page)}},
	{"other processors", SYS_sched_setaffinity, {0, 8, P(page)}},
	/* networks and sockets */
	{"TCP", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
	{"raw IP", SYS_socket, {AF_INET, SOCK_RAW, 1}},
	{"packets", SYS_socket, {AF_PACKET, SOCK_RAW, 0}},
	{"netlink", SYS_socket, {AF_NETLINK, SOCK_RAW, 0}},
	{"AF_ALG", SYS_socket, {38, SOCK_SEQPACKET, 0}},
	{"vsock of the host", SYS_socket, {40, SOCK_STREAM, 0}},
	{"a unix socket", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}},
	{"a pair of sockets", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, P(page)}},
	{"connect to containerd", SYS_connect, {0, P(&containerd), sizeof(containerd)}},
	{"bind", SYS_bind, {0, P(&containerd), sizeof(containerd)}},
	/* ioctls that are not on the list */
	{"type into a terminal", SYS_ioctl, {0, 0x5412, P("x")}},
	{"another VM", SYS_ioctl, {0, 0xae01, 0}},
	{"another tap", SYS_ioctl, {0, 0x400454ca, P(page)}},
	{"file attributes", SYS_ioctl, {0, 0x40086602, P(page)}},
};
#define ATTEMPTS ((int)(sizeof(attempts) / sizeof(attempts[0])))

static void *try(void *context)
{
	const struct attempt *attempt = context;
	char text[32];
	long r;
	int n;

	if (!attempt) { /* calls that must still work */
		(void)!write(1, "well", 4);
		return NULL;
	}
	r = syscall(attempt->call, attempt->a[0], attempt->a[1], attempt->a[2], attempt->a[3],
		    attempt->a[4], attempt->a[5]);
	n = r < 0 ? snprintf(text, sizeof(text), "held %d", errno) : snprintf(text, 4, "out");
	(void)!write(1, text, (size_t)n);
	return NULL;
}

static void die(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(2);
}

static void read_rules(const char *path, struct jail_rules rules[JAIL_KINDS])
{
	FILE *file = fopen(path, "re");

	if (!file)
		die(path, errno);
	for (int kind = 0; kind < JAIL_KINDS; kind++) {
		uint64_t head[2];
		void *program;

		if (fread(head, sizeof(head), 1, file) != 1)
			die(path, EINVAL);
		program = malloc(head[1] * sizeof(struct sock_filter));
		if (!program ||
		    fread(program, sizeof(struct sock_filter), head[1], file) != head[1])
			die(path, EINVAL);
		rules[kind].capabilities = head[0];
		rules[kind].instructions = (uint16_t)head[1];
		rules[kind].filter = head[1] > 0 ? program : NULL;
	}
	fclose(file);
}

static void begin(int kind, const struct attempt *attempt, pthread_t *ret_thread)
{
	sigset_t all;
	int r;

	sigfillset(&all);
	r = jail_thread((enum jail_kind)kind, "hostile", &all, try, (void *)attempt, ret_thread);
	if (r < 0)
		die("jail_thread", r);
}

int main(int argc, char **argv)
{
	struct jail_rules rules[JAIL_KINDS];
	const struct attempt *attempt;
	pthread_t thread;
	int kind, number, r;
	bool before;

	if (argc == 2 && strcmp(argv[1], "list") == 0) {
		for (int i = 0; i < ATTEMPTS; i++)
			puts(attempts[i].name);
		return 0;
	}
	if (argc != 8)
		die("arguments", EINVAL);
	kind = atoi(argv[5]);
	before = strcmp(argv[6], "before") == 0;
	number = atoi(argv[7]);
	attempt = number < 0 ? NULL : &attempts[number % ATTEMPTS];
	read_rules(argv[4], rules);
	r = jail_enter(atoi(argv[1]), argv[2], argv[3]);
	if (r < 0)
		die("jail_enter", r);
	jail_prepare();
	if (before && kind != JAIL_MAIN)
		begin(kind, attempt, &thread);
	r = jail_restrict(rules, rules[kind].filter ? jail_landlock() : -1, -1);
	if (r < 0)
		die("jail_restrict", r);
	if (kind == JAIL_MAIN) {
		try((void *)attempt);
		_exit(0);
	}
	if (!before)
		begin(kind, attempt, &thread);
	pthread_join(thread, NULL);
	_exit(0);
}
