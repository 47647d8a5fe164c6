/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and their rules. */
#include "jail/jail.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_restrict_self
#define SYS_landlock_restrict_self 446
#endif

#define MAX_ARENAS 8

enum jail_state {
	UNRESTRICTED,
	PENDING,
	RESTRICTED,
};

struct thread_start {
	enum jail_kind kind;
	char name[16];
	sigset_t blocked;
	void *(*run)(void *);
	void *context;
	/* For a thread that starts after `jail_restrict`: its maker waits for `started`. */
	bool awaited, started;
	int result;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a member below has changed */
	enum jail_state state;
	struct jail_rules rules[JAIL_KINDS];
	int landlock_fd, network_fd;
	unsigned waiting; /* threads that have not yet taken their rules on */
	int failure;	  /* the error of a thread that could not */
	/* Requests to the thread that makes threads. */
	struct thread_start *wanted;
	pthread_t *wanted_thread;
	int made;
} jail = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
	.landlock_fd = -1,
	.network_fd = -1,
};

static int keep_capabilities(uint64_t kept)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct words[_LINUX_CAPABILITY_U32S_3] = {
		{.effective = (uint32_t)kept, .permitted = (uint32_t)kept},
		{.effective = (uint32_t)(kept >> 32), .permitted = (uint32_t)(kept >> 32)},
	};

	if (kept == UINT64_MAX)
		return 0;
	return syscall(SYS_capset, &header, words) < 0 ? -errno : 0;
}

static int filter_calls(const struct jail_rules *rules)
{
	const struct sock_fprog program = {
		.len = rules->instructions,
		.filter = (struct sock_filter *)rules->filter,
	};

	if (!rules->filter)
		return 0;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}

/* Rules of the calling thread; the filter last, as it forbids the other steps. */
static int take_rules_on(enum jail_kind kind)
{
	const struct jail_rules *rules = &jail.rules[kind];
	int r;

	if (jail.network_fd >= 0 && setns(jail.network_fd, CLONE_NEWNET) < 0)
		return -errno;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	if (jail.landlock_fd >= 0 && syscall(SYS_landlock_restrict_self, jail.landlock_fd, 0) < 0)
		return -errno;
	r = keep_capabilities(rules->capabilities);
	return r < 0 ? r : filter_calls(rules);
}

/* Returns whether the thread may go on. */
static bool wait_for_rules(struct thread_start *start)
{
	bool restricted;
	int r = 0;

	pthread_mutex_lock(&jail.lock);
	while (jail.state == PENDING)
		pthread_cond_wait(&jail.changed, &jail.lock);
	restricted = jail.state == RESTRICTED;
	pthread_mutex_unlock(&jail.lock);
	if (restricted)
		r = take_rules_on(start->kind);
	pthread_mutex_lock(&jail.lock);
	if (start->awaited) {
		start->result = r;
		start->started = true;
	} else {
		jail.waiting--;
		jail.failure = r < 0 ? r : jail.failure;
	}
	pthread_cond_broadcast(&jail.changed);
	pthread_mutex_unlock(&jail.lock);
	return r == 0;
}

static void *run_with_rules(void *context)
{
	struct thread_start *start = context;
	void *(*run)(void *) = start->run;
	void *const run_context = start->context;
	const bool awaited = start->awaited;
	bool go_on;

	pthread_setname_np(pthread_self(), start->name);
	/* Lifetime: an awaited `start` belongs to its maker, and may be on its
	 * stack. */
	go_on = wait_for_rules(start);
	if (!awaited)
		free(start);
	return go_on ? run(run_context) : NULL;
}

static int make_thread(struct thread_start *start, pthread_t *ret_thread)
{
	pthread_attr_t attributes;
	int r = -pthread_attr_init(&attributes);

	if (r < 0)
		return r;
	r = -pthread_attr_setsigmask_np(&attributes, &start->blocked);
	if (r == 0)
		r = -pthread_create(ret_thread, &attributes, run_with_rules, start);
	pthread_attr_destroy(&attributes);
	return r;
}

/* --- the thread that makes threads ------------------------------------------- */

static void *make_threads(void *context)
{
	(void)context;
	pthread_mutex_lock(&jail.lock);
	for (;;) {
		while (!jail.wanted || jail.made <= 0)
			pthread_cond_wait(&jail.changed, &jail.lock);
		jail.made = make_thread(jail.wanted, jail.wanted_thread);
		pthread_cond_broadcast(&jail.changed);
	}
	return NULL;
}

/* Has a thread made; with the lock held. */
static int request_thread(struct thread_start *start, pthread_t *ret_thread)
{
	int r;

	while (jail.wanted)
		pthread_cond_wait(&jail.changed, &jail.lock);
	jail.wanted = start;
	jail.wanted_thread = ret_thread;
	jail.made = 1; /* not yet */
	pthread_cond_broadcast(&jail.changed);
	while (jail.made > 0)
		pthread_cond_wait(&jail.changed, &jail.lock);
	r = jail.made;
	jail.wanted = NULL;
	pthread_cond_broadcast(&jail.changed);
	while (r == 0 && !start->started)
		pthread_cond_wait(&jail.changed, &jail.lock);
	return r;
}

static int make_restricted_thread(struct thread_start *start, pthread_t *ret_thread)
{
	int r;

	start->awaited = true;
	pthread_mutex_lock(&jail.lock);
	r = request_thread(start, ret_thread);
	pthread_mutex_unlock(&jail.lock);
	if (r == 0 && start->result < 0)
		pthread_join(*ret_thread, NULL);
	return r < 0 ? r : start->result;
}

static int make_waiting_thread(const struct thread_start *described, pthread_t *ret_thread)
{
	struct thread_start *start = malloc(sizeof(*start));
	int r;

	if (!start)
		return -ENOMEM;
	*start = *described;
	pthread_mutex_lock(&jail.lock);
	jail.waiting++;
	pthread_mutex_unlock(&jail.lock);
	r = make_thread(start, ret_thread);
	if (r < 0) {
		pthread_mutex_lock(&jail.lock);
		jail.waiting--;
		pthread_mutex_unlock(&jail.lock);
		free(start);
	}
	return r;
}

int jail_thread(enum jail_kind kind, const char *name, const sigset_t *blocked,
		void *(*run)(void *), void *context, pthread_t *ret_thread)
{
	struct thread_start start = {
		.kind = kind, .blocked = *blocked, .run = run, .context = context};
	bool restricted;

	strncpy(start.name, name, sizeof(start.name) - 1);
	pthread_mutex_lock(&jail.lock);
	restricted = jail.state == RESTRICTED;
	pthread_mutex_unlock(&jail.lock);
	return restricted ? make_restricted_thread(&start, ret_thread)
			  : make_waiting_thread(&start, ret_thread);
}

/* --- restricting ------------------------------------------------------------- */

void jail_prepare(void)
{
	/* glibc would count the processors, in /sys, when a thread allocates for the first time. */
	mallopt(M_ARENA_MAX, MAX_ARENAS);
	pthread_mutex_lock(&jail.lock);
	if (jail.state == UNRESTRICTED)
		jail.state = PENDING;
	pthread_mutex_unlock(&jail.lock);
}

static void change_state(enum jail_state from, enum jail_state to)
{
	pthread_mutex_lock(&jail.lock);
	if (jail.state == from)
		jail.state = to;
	pthread_cond_broadcast(&jail.changed);
	pthread_mutex_unlock(&jail.lock);
}

void jail_release(void)
{
	change_state(PENDING, UNRESTRICTED);
}

static int wait_until_all_have_rules(void)
{
	int r;

	pthread_mutex_lock(&jail.lock);
	while (jail.waiting > 0)
		pthread_cond_wait(&jail.changed, &jail.lock);
	r = jail.failure;
	pthread_mutex_unlock(&jail.lock);
	return r;
}

int jail_restrict(const struct jail_rules rules[JAIL_KINDS], int landlock_fd, int network_fd)
{
	struct thread_start described = {
		.kind = JAIL_THREADS, .name = "threads", .run = make_threads};
	pthread_t thread;
	int r;

	if (jail.state == RESTRICTED)
		return -EBUSY;
	memcpy(jail.rules, rules, sizeof(jail.rules));
	jail.landlock_fd = landlock_fd;
	jail.network_fd = network_fd;
	sigfillset(&described.blocked);
	jail_prepare();
	r = make_waiting_thread(&described, &thread);
	if (r < 0)
		return r;
	pthread_detach(thread);
	change_state(PENDING, RESTRICTED);
	r = wait_until_all_have_rules();
	if (r == 0)
		r = take_rules_on(JAIL_MAIN);
	/* Threads that are made from now on inherit both from the one that makes them. */
	pthread_mutex_lock(&jail.lock);
	jail.landlock_fd = jail.network_fd = -1;
	pthread_mutex_unlock(&jail.lock);
	return r;
}
