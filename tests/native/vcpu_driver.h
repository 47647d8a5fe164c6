/* SPDX-License-Identifier: Apache-2.0 */
/* vCPUs on a fake KVM_RUN: a script of exits for each, then a guest that computes
 * for ever and exits only at a kick. */
#ifndef SAMPAN_TESTS_VCPU_DRIVER_H
#define SAMPAN_TESTS_VCPU_DRIVER_H

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "check.h"
#include "kvm/vcpu.h"
#include "platform/power.h"

#define RUN_BYTES 0x3000
#define MAX_VCPUS 4
#define MAX_STEPS 16
#define MMIO_GPA 0xd0000000u
#define PORT 0x500

struct step {
	void (*fill)(struct kvm_run *run);
	int result; /* of KVM_RUN */
};

struct fake_vcpu {
	int fd;
	struct kvm_run *run; /* KVM's own view of the run area */
	const struct step *steps;
	unsigned count, next;
	atomic_uint entries;	/* into the guest that computes */
	atomic_bool unfinished; /* an access was answered and not completed yet */
};

struct fake_kvm {
	struct kvm_calls calls; /* first */
	struct fake_vcpu vcpus[MAX_VCPUS];
	unsigned count;
};

/* KVM_RUN without immediate_exit: a guest that computes until a signal comes. */
static inline int compute(struct fake_vcpu *v)
{
	atomic_fetch_add(&v->entries, 1);
	for (;;) {
		if (__atomic_load_n(&v->run->immediate_exit, __ATOMIC_SEQ_CST))
			return -EINTR;
		/* A signal between the check and the sleep would be lost here, but not
		 * in KVM; so the sleep is short.  nanosleep ends with it otherwise. */
		if (nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL) < 0)
			return -EINTR;
	}
}

static inline int run_vcpu(struct fake_vcpu *v)
{
	/* KVM completes an access first, and only then looks at immediate_exit. */
	atomic_store(&v->unfinished, false);
	v->run->exit_reason = KVM_EXIT_INTR;
	if (__atomic_load_n(&v->run->immediate_exit, __ATOMIC_SEQ_CST))
		return -EINTR;
	if (v->next < v->count) {
		const struct step *step = &v->steps[v->next++];

		if (step->fill)
			step->fill(v->run);
		atomic_store(&v->unfinished, step->result == 0);
		return step->result;
	}
	return compute(v);
}

static inline int fake_ioctl(const struct kvm_calls *calls, int fd, unsigned long request,
			     void *arg)
{
	struct fake_kvm *kvm = (struct fake_kvm *)calls;

	if (request == KVM_GET_REGS) {
		((struct kvm_regs *)arg)->rip = 0xffffffff81000000;
		return 0;
	}
	CHECK_EQUAL(request, KVM_RUN);
	for (unsigned i = 0; i < kvm->count; i++)
		if (kvm->vcpus[i].fd == fd)
			return run_vcpu(&kvm->vcpus[i]);
	CHECK(!"a vCPU of ours");
	return -EBADF;
}

struct machine {
	struct fake_kvm kvm;
	struct machine_events *events;
	struct bus *bus;
	struct vcpu_set *set;
	/* what the device on the bus saw */
	atomic_uint writes;
	_Atomic uint64_t last, last_offset;
};

static inline void device_read(void *context, uint64_t offset, void *data, unsigned len)
{
	(void)context;
	memset(data, (int)(0xa0 + offset), len);
}

static inline void device_write(void *context, uint64_t offset, const void *data, unsigned len)
{
	struct machine *m = context;
	uint64_t value = 0;

	memcpy(&value, data, len);
	atomic_store(&m->last, value);
	atomic_store(&m->last_offset, offset);
	atomic_fetch_add(&m->writes, 1);
}

static const struct bus_ops device_ops = {.read = device_read, .write = device_write};

static inline void setup(struct machine *m, unsigned vcpus)
{
	memset(m, 0, sizeof(*m));
	m->kvm.calls.ioctl = fake_ioctl;
	m->kvm.count = vcpus;
	CHECK_EQUAL(machine_events_new(&m->events), 0);
	CHECK_EQUAL(bus_new(&m->bus), 0);
	CHECK_EQUAL(bus_add(m->bus, BUS_PORTS, PORT, 8, "device", &device_ops, m), 0);
	CHECK_EQUAL(bus_add(m->bus, BUS_MEMORY, MMIO_GPA, 8, "device", &device_ops, m), 0);
	CHECK_EQUAL(vcpu_set_new(&m->kvm.calls, m->bus, m->events, &m->set), 0);
	for (unsigned i = 0; i < vcpus; i++) {
		struct fake_vcpu *v = &m->kvm.vcpus[i];

		v->fd = memfd_create("vcpu", MFD_CLOEXEC);
		CHECK(v->fd >= 0);
		CHECK_EQUAL(ftruncate(v->fd, RUN_BYTES), 0);
		v->run = mmap(NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
		CHECK(v->run != MAP_FAILED);
		CHECK_EQUAL(vcpu_set_add(m->set, v->fd, RUN_BYTES), 0);
	}
}

static inline void teardown(struct machine *m)
{
	vcpu_set_free(m->set);
	for (unsigned i = 0; i < m->kvm.count; i++) {
		munmap(m->kvm.vcpus[i].run, RUN_BYTES);
		close(m->kvm.vcpus[i].fd);
	}
	bus_free(m->bus);
	machine_events_free(m->events);
}

static inline void script(struct machine *m, unsigned vcpu, const struct step *steps,
			  unsigned count)
{
	m->kvm.vcpus[vcpu].steps = steps;
	m->kvm.vcpus[vcpu].count = count;
}

#define SCRIPT(m, vcpu, steps) script(m, vcpu, steps, sizeof(steps) / sizeof((steps)[0]))

static inline struct machine_event wait_event(struct machine *m)
{
	struct machine_event event;

	wait_readable(machine_events_fd(m->events));
	CHECK_EQUAL(machine_events_next(m->events, &event), 1);
	return event;
}

static inline void wait_entered(struct fake_vcpu *v, unsigned times)
{
	for (unsigned i = 0; atomic_load(&v->entries) < times; i++) {
		CHECK(i < DEADLINE_MS);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

/* --- exits ---------------------------------------------------------------- */

static inline uint8_t *io(struct kvm_run *run, uint8_t direction, uint16_t port, uint8_t size,
			  uint32_t count)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = direction;
	run->io.port = port;
	run->io.size = size;
	run->io.count = count;
	run->io.data_offset = 0x1000;
	return (uint8_t *)run + 0x1000;
}

static inline void port_write(struct kvm_run *run)
{
	memcpy(io(run, KVM_EXIT_IO_OUT, PORT + 2, 2, 1), "\x34\x12", 2);
}

static inline void port_read(struct kvm_run *run)
{
	memset(io(run, KVM_EXIT_IO_IN, PORT + 4, 4, 1), 0, 4);
}

static inline void string_write(struct kvm_run *run)
{
	memcpy(io(run, KVM_EXIT_IO_OUT, PORT, 1, 3), "abc", 3);
}

static inline void port_write_outside(struct kvm_run *run)
{
	io(run, KVM_EXIT_IO_OUT, PORT, 4, 0x1000);
}

static inline void port_write_far_outside(struct kvm_run *run)
{
	io(run, KVM_EXIT_IO_OUT, PORT, 1, 1);
	run->io.data_offset = UINT64_MAX;
}

static inline void memory_write(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = MMIO_GPA + 4;
	run->mmio.is_write = 1;
	run->mmio.len = 4;
	memcpy(run->mmio.data, "\x78\x56\x34\x12", 4);
}

static inline void memory_read(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = MMIO_GPA + 1;
	run->mmio.is_write = 0;
	run->mmio.len = 2;
}

static inline void memory_read_too_long(struct kvm_run *run)
{
	memory_read(run);
	run->mmio.len = 9;
}

static inline void power_off(struct kvm_run *run)
{
	memcpy(io(run, KVM_EXIT_IO_OUT, 0x600, 1, 1), "\x34", 1);
}

static inline void shutdown_exit(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_SHUTDOWN;
}

static inline void reset_event(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = KVM_SYSTEM_EVENT_RESET;
}

static inline void poweroff_event(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = KVM_SYSTEM_EVENT_SHUTDOWN;
}

static inline void unknown_event(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = 99;
}

static inline void emulation_error(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 4;
	run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	run->emulation_failure.insn_size = 200; /* more than the area holds */
	memset(run->emulation_failure.insn_bytes, 0x90, sizeof(run->emulation_failure.insn_bytes));
}

static inline void internal_error(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
	run->internal.ndata = 0;
}

static inline void refused_entry(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = 0x80000021;
}

static inline void halt(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_HLT;
}

static inline void unknown_exit(struct kvm_run *run)
{
	run->exit_reason = 4711;
}

#endif
