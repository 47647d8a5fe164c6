/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "jail/jail.h"
#include "kvm/vcpu_exit.h"

enum request {
	RUN,
	PAUSE,
	STOP,
};

struct vcpu {
	struct vcpu_set *set;
	struct vcpu_context context;
	pthread_t thread;
	bool started;
	_Atomic uint64_t exits[VCPU_MAX_EXIT_REASONS];
};

struct vcpu_set {
	const struct kvm_calls *calls;
	struct bus *bus;
	struct machine_events *events;
	unsigned count;
	struct vcpu **vcpus;
	_Atomic int request;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* `request` or `running` has changed */
	unsigned running;	/* threads that are in, or may enter, the guest */
};

/* A real-time signal that nothing else in the process uses. */
static int kick_signal(void)
{
	return SIGRTMIN;
}

static void on_kick(int signal)
{
	(void)signal; /* only to end KVM_RUN with EINTR */
}

int vcpu_set_new(const struct kvm_calls *calls, struct bus *bus, struct machine_events *events,
		 struct vcpu_set **ret_set)
{
	const struct sigaction action = {.sa_handler = on_kick};
	struct vcpu_set *set;

	if (sigaction(kick_signal(), &action, NULL) < 0)
		return -errno;
	set = calloc(1, sizeof(*set));
	if (!set)
		return -ENOMEM;
	set->calls = calls;
	set->bus = bus;
	set->events = events;
	pthread_mutex_init(&set->lock, NULL);
	pthread_cond_init(&set->changed, NULL);
	*ret_set = set;
	return 0;
}

int vcpu_set_add(struct vcpu_set *set, int vcpu_fd, size_t run_bytes)
{
	struct vcpu **vcpus;
	struct vcpu *vcpu;

	if (run_bytes < sizeof(struct kvm_run))
		return -EINVAL;
	vcpus = realloc(set->vcpus, (set->count + 1) * sizeof(*vcpus));
	if (!vcpus)
		return -ENOMEM;
	set->vcpus = vcpus;
	vcpu = calloc(1, sizeof(*vcpu));
	if (!vcpu)
		return -ENOMEM;
	vcpu->set = set;
	vcpu->context = (struct vcpu_context){
		.calls = set->calls,
		.bus = set->bus,
		.events = set->events,
		.index = (int)set->count,
		.fd = vcpu_fd,
		.run_bytes = run_bytes,
		.run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0),
	};
	if (vcpu->context.run == MAP_FAILED) {
		int r = -errno;

		free(vcpu);
		return r;
	}
	set->vcpus[set->count++] = vcpu;
	return 0;
}

static void set_immediate_exit(struct vcpu *vcpu, uint8_t value)
{
	__atomic_store_n(&vcpu->context.run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

/* With the lock held.  A vCPU that is about to enter KVM_RUN sees
 * immediate_exit, one that is inside gets the signal: none is missed. */
static void announce(struct vcpu_set *set, enum request request)
{
	atomic_store(&set->request, request);
	for (unsigned i = 0; i < set->count; i++) {
		set_immediate_exit(set->vcpus[i], 1);
		if (set->vcpus[i]->started)
			pthread_kill(set->vcpus[i]->thread, kick_signal());
	}
	pthread_cond_broadcast(&set->changed);
}

/* Returns whether to go on.  immediate_exit is cleared under the lock under which
 * it is set, so a later request is not lost. */
static bool wait_for_run(struct vcpu *vcpu)
{
	struct vcpu_set *set = vcpu->set;
	bool go_on;

	pthread_mutex_lock(&set->lock);
	set->running--;
	pthread_cond_broadcast(&set->changed);
	while (atomic_load(&set->request) == PAUSE)
		pthread_cond_wait(&set->changed, &set->lock);
	go_on = atomic_load(&set->request) == RUN;
	if (go_on) {
		set->running++;
		set_immediate_exit(vcpu, 0);
	}
	pthread_mutex_unlock(&set->lock);
	return go_on;
}

static void count_exit(struct vcpu *vcpu)
{
	const uint32_t reason = vcpu->context.run->exit_reason;

	if (reason < VCPU_MAX_EXIT_REASONS)
		atomic_fetch_add_explicit(&vcpu->exits[reason], 1, memory_order_relaxed);
}

static void stop_all(struct vcpu_set *set)
{
	pthread_mutex_lock(&set->lock);
	announce(set, STOP);
	pthread_mutex_unlock(&set->lock);
}

/* One KVM_RUN and the handling of its exit.  A request is checked after EINTR
 * only: the next KVM_RUN first finishes the access that was answered, and
 * immediate_exit then makes it return at once.  So a pause never finds an access
 * half done. */
static bool run_once(struct vcpu *vcpu)
{
	struct vcpu_set *set = vcpu->set;
	int r = set->calls->ioctl(set->calls, vcpu->context.fd, KVM_RUN, NULL);

	if (r == -EINTR) {
		count_exit(vcpu);
		return atomic_load(&set->request) == RUN || wait_for_run(vcpu);
	}
	if (r == -EAGAIN) /* a vCPU that waits for its start-up IPI was woken */
		return true;
	if (r < 0) {
		vcpu_handle_error(&vcpu->context, r);
	} else {
		count_exit(vcpu);
		vcpu_handle_exit(&vcpu->context);
	}
	if (!machine_events_ended(set->events))
		return true;
	stop_all(set);
	return wait_for_run(vcpu);
}

static void *run(void *context)
{
	struct vcpu *vcpu = context;
	bool go_on = wait_for_run(vcpu);

	while (go_on)
		go_on = run_once(vcpu);
	return NULL;
}

static int start_thread(struct vcpu *vcpu)
{
	char name[16];
	sigset_t mask;
	int r;

	sigfillset(&mask);
	sigdelset(&mask, kick_signal());
	(void)snprintf(name, sizeof(name), "vcpu%d", vcpu->context.index);
	r = jail_thread(JAIL_VCPU, name, &mask, run, vcpu, &vcpu->thread);
	if (r < 0)
		return r;
	vcpu->started = true;
	return 0;
}

int vcpu_set_start(struct vcpu_set *set)
{
	int r = 0;

	pthread_mutex_lock(&set->lock);
	/* No thread gets past wait_for_run before the lock is free. */
	for (unsigned i = 0; i < set->count && r == 0; i++) {
		r = start_thread(set->vcpus[i]);
		if (r == 0)
			set->running++;
	}
	if (r < 0)
		announce(set, STOP);
	pthread_mutex_unlock(&set->lock);
	if (r < 0)
		vcpu_set_stop(set);
	return r;
}

void vcpu_set_pause(struct vcpu_set *set)
{
	pthread_mutex_lock(&set->lock);
	if (atomic_load(&set->request) == RUN)
		announce(set, PAUSE);
	while (set->running > 0)
		pthread_cond_wait(&set->changed, &set->lock);
	pthread_mutex_unlock(&set->lock);
}

void vcpu_set_resume(struct vcpu_set *set)
{
	pthread_mutex_lock(&set->lock);
	if (atomic_load(&set->request) == PAUSE) {
		atomic_store(&set->request, RUN);
		pthread_cond_broadcast(&set->changed);
	}
	pthread_mutex_unlock(&set->lock);
}

void vcpu_set_stop(struct vcpu_set *set)
{
	stop_all(set);
	for (unsigned i = 0; i < set->count; i++) {
		struct vcpu *vcpu = set->vcpus[i];

		/* Only this caller changes `started`, and the threads that read it
		 * to kick each other are alive until all are joined. */
		if (vcpu->started)
			pthread_join(vcpu->thread, NULL);
	}
	for (unsigned i = 0; i < set->count; i++)
		set->vcpus[i]->started = false;
}

void vcpu_set_free(struct vcpu_set *set)
{
	if (!set)
		return;
	vcpu_set_stop(set);
	for (unsigned i = 0; i < set->count; i++) {
		munmap(set->vcpus[i]->context.run, set->vcpus[i]->context.run_bytes);
		free(set->vcpus[i]);
	}
	free(set->vcpus);
	pthread_cond_destroy(&set->changed);
	pthread_mutex_destroy(&set->lock);
	free(set);
}

uint64_t vcpu_set_exits(const struct vcpu_set *set, unsigned reason)
{
	uint64_t sum = 0;

	if (reason >= VCPU_MAX_EXIT_REASONS)
		return 0;
	for (unsigned i = 0; i < set->count; i++)
		sum += atomic_load_explicit(&set->vcpus[i]->exits[reason], memory_order_relaxed);
	return sum;
}
