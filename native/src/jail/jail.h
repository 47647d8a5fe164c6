/* SPDX-License-Identifier: Apache-2.0 */
/* The process's jail: what each of its threads may still do once a guest runs.
 *
 * A process has one, so its state is the only one in native/src that belongs to no
 * object.  `jail_enter` comes before the first thread; threads that are made after
 * `jail_prepare` wait until `jail_restrict` has given each its rules, or `jail_release` says
 * that there will be none.  After that no thread can make another: `jail_thread`
 * has one made by a thread that was kept for it.
 *
 * All threads share the memory: an attacker who controls one can run code in each.
 * What is still prevented then is only what no kind of thread may do. */
#ifndef SAMPAN_JAIL_H
#define SAMPAN_JAIL_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum jail_kind {
	JAIL_MAIN,    /* requests of the shim, in Python */
	JAIL_VCPU,    /* the guest, and what it does to registers of devices */
	JAIL_FILES,   /* requests of FUSE */
	JAIL_STREAMS, /* vsock */
	JAIL_NETWORK, /* packets, and the network's control queue */
	JAIL_MEMORY,  /* free page reporting */
	JAIL_THREADS, /* makes threads: may do what any of them may */
	JAIL_KINDS,
};

struct jail_rules {
	/* struct sock_filter[], seccomp(2); NULL: no filter. */
	const void *filter;
	uint16_t instructions;
	/* Capabilities that are kept, bits as in capabilities(7); UINT64_MAX:
	 * all. */
	uint64_t capabilities;
};

/* The caller's root becomes `tree_fd`, a detached mount (open_tree(2)) with directories
 * "proc" and "image", in mount, IPC and UTS namespaces of its own: in it, a proc of the
 * caller's pid namespace, and `image_path`, read only, as "image".  `root_path`: a
 * directory of the old root that the tree is mounted on meanwhile.  Only before the
 * process has a second thread. */
int jail_enter(int tree_fd, const char *image_path, const char *root_path);

/* Landlock rules for the root that `jail_enter` has made, as a descriptor;
 * -EOPNOTSUPP: the kernel has no Landlock, or one that cannot allow renames. */
int jail_landlock(void);

void jail_prepare(void);

/* Applies to each thread the rules of its kind: to those that wait, to later ones, and
 * to the caller as JAIL_MAIN.  `landlock_fd`, `network_fd` (a network namespace that
 * all enter): -1 for none.  -EBUSY: restricted already.  After an error the process must
 * end. */
int jail_restrict(const struct jail_rules rules[JAIL_KINDS], int landlock_fd, int network_fd);

/* Lets threads run without rules; no effect after `jail_restrict`. */
void jail_release(void);

/* As pthread_create(3), with name and signals blocked from the first instruction; -errno. */
int jail_thread(enum jail_kind kind, const char *name, const sigset_t *blocked,
		void *(*run)(void *), void *context, pthread_t *ret_thread);

#endif
