/* SPDX-License-Identifier: Apache-2.0 */
/* vCPU threads on a KVM_RUN of ours: a script of exits for each vCPU, then a
 * guest that computes for ever and is left only by a kick. */
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "check.h"
#include "power.h"
#include "vcpu.h"

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
static int compute(struct fake_vcpu *v)
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

static int run_vcpu(struct fake_vcpu *v)
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

static int fake_ioctl(const struct kvm_calls *calls, int fd, unsigned long request, void *arg)
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

static void device_read(void *context, uint64_t offset, void *data, unsigned len)
{
	(void)context;
	memset(data, (int)(0xa0 + offset), len);
}

static void device_write(void *context, uint64_t offset, const void *data, unsigned len)
{
	struct machine *m = context;
	uint64_t value = 0;

	memcpy(&value, data, len);
	atomic_store(&m->last, value);
	atomic_store(&m->last_offset, offset);
	atomic_fetch_add(&m->writes, 1);
}

static const struct bus_ops device_ops = {.read = device_read, .write = device_write};

static void setup(struct machine *m, unsigned vcpus)
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

static void teardown(struct machine *m)
{
	vcpu_set_free(m->set);
	for (unsigned i = 0; i < m->kvm.count; i++) {
		munmap(m->kvm.vcpus[i].run, RUN_BYTES);
		close(m->kvm.vcpus[i].fd);
	}
	bus_free(m->bus);
	machine_events_free(m->events);
}

static void script(struct machine *m, unsigned vcpu, const struct step *steps, unsigned count)
{
	m->kvm.vcpus[vcpu].steps = steps;
	m->kvm.vcpus[vcpu].count = count;
}

#define SCRIPT(m, vcpu, steps) script(m, vcpu, steps, sizeof(steps) / sizeof((steps)[0]))

static struct machine_event wait_event(struct machine *m)
{
	struct machine_event event;

	wait_readable(machine_events_fd(m->events));
	CHECK_EQUAL(machine_events_next(m->events, &event), 1);
	return event;
}

static void wait_entered(struct fake_vcpu *v, unsigned times)
{
	for (unsigned i = 0; atomic_load(&v->entries) < times; i++) {
		CHECK(i < DEADLINE_MS);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

/* --- exits ------------------------------------------------------------------------ */

static uint8_t *io(struct kvm_run *run, uint8_t direction, uint16_t port, uint8_t size,
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

static void port_write(struct kvm_run *run)
{
	memcpy(io(run, KVM_EXIT_IO_OUT, PORT + 2, 2, 1), "\x34\x12", 2);
}

static void port_read(struct kvm_run *run)
{
	memset(io(run, KVM_EXIT_IO_IN, PORT + 4, 4, 1), 0, 4);
}

static void string_write(struct kvm_run *run)
{
	memcpy(io(run, KVM_EXIT_IO_OUT, PORT, 1, 3), "abc", 3);
}

static void port_write_outside(struct kvm_run *run)
{
	io(run, KVM_EXIT_IO_OUT, PORT, 4, 0x1000);
}

static void port_write_far_outside(struct kvm_run *run)
{
	io(run, KVM_EXIT_IO_OUT, PORT, 1, 1);
	run->io.data_offset = UINT64_MAX;
}

static void memory_write(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = MMIO_GPA + 4;
	run->mmio.is_write = 1;
	run->mmio.len = 4;
	memcpy(run->mmio.data, "\x78\x56\x34\x12", 4);
}

static void memory_read(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = MMIO_GPA + 1;
	run->mmio.is_write = 0;
	run->mmio.len = 2;
}

static void memory_read_too_long(struct kvm_run *run)
{
	memory_read(run);
	run->mmio.len = 9;
}

static void power_off(struct kvm_run *run)
{
	memcpy(io(run, KVM_EXIT_IO_OUT, 0x600, 1, 1), "\x34", 1);
}

static void shutdown_exit(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_SHUTDOWN;
}

static void reset_event(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = KVM_SYSTEM_EVENT_RESET;
}

static void poweroff_event(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = KVM_SYSTEM_EVENT_SHUTDOWN;
}

static void unknown_event(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = 99;
}

static void emulation_error(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
	run->emulation_failure.ndata = 4;
	run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
	run->emulation_failure.insn_size = 200; /* more than there is */
	memset(run->emulation_failure.insn_bytes, 0x90, sizeof(run->emulation_failure.insn_bytes));
}

static void internal_error(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
	run->internal.ndata = 0;
}

static void refused_entry(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = 0x80000021;
}

static void halt(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_HLT;
}

static void unknown_exit(struct kvm_run *run)
{
	run->exit_reason = 4711;
}

static void accesses_reach_the_bus_and_are_counted(void)
{
	static const struct step steps[] = {{port_write, 0}, {memory_write, 0}, {shutdown_exit, 0}};
	struct machine m;

	setup(&m, 1);
	SCRIPT(&m, 0, steps);
	CHECK_EQUAL(vcpu_set_start(m.set), 0);
	wait_event(&m);
	CHECK_EQUAL(atomic_load(&m.writes), 2);
	CHECK_EQUAL(atomic_load(&m.last), 0x12345678);
	CHECK_EQUAL(atomic_load(&m.last_offset), 4);
	CHECK_EQUAL(vcpu_set_exits(m.set, KVM_EXIT_IO), 1);
	CHECK_EQUAL(vcpu_set_exits(m.set, KVM_EXIT_MMIO), 1);
	CHECK_EQUAL(vcpu_set_exits(m.set, KVM_EXIT_SHUTDOWN), 1);
	CHECK_EQUAL(vcpu_set_exits(m.set, VCPU_MAX_EXIT_REASONS), 0);
	teardown(&m);
}

static void reads_are_answered_in_the_run_area(void)
{
	static const struct step port[] = {{port_read, 0}};
	static const struct step memory[] = {{memory_read, 0}};
	struct machine m;

	setup(&m, 2);
	SCRIPT(&m, 0, port);
	SCRIPT(&m, 1, memory);
	CHECK_EQUAL(vcpu_set_start(m.set), 0);
	wait_entered(&m.kvm.vcpus[0], 1);
	wait_entered(&m.kvm.vcpus[1], 1);
	vcpu_set_stop(m.set);
	CHECK(memcmp((uint8_t *)m.kvm.vcpus[0].run + 0x1000, "\xa4\xa4\xa4\xa4", 4) == 0);
	CHECK(memcmp(m.kvm.vcpus[1].run->mmio.data, "\xa1\xa1", 2) == 0);
	teardown(&m);
}

static void a_string_write_is_one_access_an_element(void)
{
	static const struct step steps[] = {{string_write, 0}};
	struct machine m;

	setup(&m, 1);
	SCRIPT(&m, 0, steps);
	CHECK_EQUAL(vcpu_set_start(m.set), 0);
	wait_entered(&m.kvm.vcpus[0], 1);
	CHECK_EQUAL(atomic_load(&m.writes), 3);
	CHECK_EQUAL(atomic_load(&m.last), 'c');
	teardown(&m);
}

static void data_outside_the_run_area_is_not_touched(void)
{
	static const struct step steps[] = {
		{port_write_outside, 0},
		{port_write_far_outside, 0},
		{memory_read_too_long, 0},
	};
	struct machine m;

	setup(&m, 1);
	SCRIPT(&m, 0, steps);
	CHECK_EQUAL(vcpu_set_start(m.set), 0);
	wait_entered(&m.kvm.vcpus[0], 1);
	CHECK_EQUAL(atomic_load(&m.writes), 0);
	teardown(&m);
}

static void every_end_has_its_kind_and_its_text(void)
{
	const struct {
		struct step step;
		int kind;
		const char *text;
	} ends[] = {
		{{shutdown_exit, 0}, MACHINE_TRIPLE_FAULT, "rip 0xffffffff81000000"},
		{{reset_event, 0}, MACHINE_RESET, "system event"},
		{{poweroff_event, 0}, MACHINE_POWEROFF, "system event"},
		{{unknown_event, 0}, MACHINE_KVM_ERROR, "unknown system event 99"},
		{{emulation_error, 0},
		 MACHINE_KVM_ERROR,
		 "KVM internal error 1 at rip 0xffffffff81000000, instruction 90 90"},
		{{internal_error, 0}, MACHINE_KVM_ERROR, "KVM internal error 3"},
		{{refused_entry, 0}, MACHINE_KVM_ERROR, "reason 0x80000021"},
		{{halt, 0}, MACHINE_KVM_ERROR, "unexpected exit 5"},
		{{unknown_exit, 0}, MACHINE_KVM_ERROR, "unexpected exit 4711"},
		{{NULL, -EFAULT}, MACHINE_KVM_ERROR, "KVM_RUN: Bad address"},
		{{NULL, -EINVAL}, MACHINE_KVM_ERROR, "KVM_RUN: Invalid argument"},
	};

	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct machine_event event;
		struct machine m;

		setup(&m, 1);
		script(&m, 0, &ends[i].step, 1);
		CHECK_EQUAL(vcpu_set_start(m.set), 0);
		event = wait_event(&m);
		CHECK_EQUAL(event.kind, ends[i].kind);
		CHECK_EQUAL(event.vcpu, 0);
		if (!strstr(event.text, ends[i].text))
			fprintf(stderr, "%s\n", event.text);
		CHECK(strstr(event.text, ends[i].text) != NULL);
		teardown(&m);
	}
}

static void a_woken_vcpu_that_is_not_started_yet_goes_on(void)
{
	static const struct step steps[] = {{NULL, -EAGAIN}, {NULL, -EINTR}, {port_write, 0}};
	struct machine m;

	setup(&m, 1);
	SCRIPT(&m, 0, steps);
	CHECK_EQUAL(vcpu_set_start(m.set), 0);
	wait_entered(&m.kvm.vcpus[0], 1);
	CHECK_EQUAL(atomic_load(&m.writes), 1);
	CHECK(!machine_events_ended(m.events));
	teardown(&m);
}

/* --- threads ----------------------------------------------------------------------- */

/* The others compute and would never leave by themselves. */
static void one_end_stops_every_vcpu(void)
{
	static const struct step steps[] = {{shutdown_exit, 0}};
	struct machine_event event;
	struct machine m;

	setup(&m, 3);
	SCRIPT(&m, 1, steps);
	CHECK_EQUAL(vcpu_set_start(m.set), 0);
	event = wait_event(&m);
	CHECK_EQUAL(event.vcpu, 1);
	vcpu_set_pause(m.set); /* returns once no vCPU runs, also after the end */
	vcpu_set_stop(m.set);
	CHECK_EQUAL(machine_events_next(m.events, &event), 0);
	teardown(&m);
}

/* An access that ends the machine comes from a device, not from KVM. */
static void a_port_that_ends_the_machine_stops_its_vcpu(void)
{
	static const struct step steps[] = {{power_off, 0}, {port_write, 0}};
	const struct power_ports ports = {.reset_port = 0x604,
					  .reset_value = 1,
					  .sleep_control_port = 0x600,
					  .sleep_status_port = 0x601,
					  .sleep_type_off = 5};
	struct power *power;
	struct machine m;

	setup(&m, 2);
	SCRIPT(&m, 0, steps);
	CHECK_EQUAL(power_new(&ports, m.events, &power), 0);
	CHECK_EQUAL(power_attach(power, m.bus), 0);
	CHECK_EQUAL(vcpu_set_start(m.set), 0);
	CHECK_EQUAL(wait_event(&m).kind, MACHINE_POWEROFF);
	vcpu_set_stop(m.set);
	CHECK_EQUAL(atomic_load(&m.writes), 0);
	teardown(&m);
	power_free(power);
}

static void pause_leaves_the_guest_and_resume_enters_it(void)
{
	struct machine m;

	setup(&m, 2);
	CHECK_EQUAL(vcpu_set_start(m.set), 0);
	for (unsigned round = 1; round <= 20; round++) {
		unsigned entries[2];

		wait_entered(&m.kvm.vcpus[0], 1);
		wait_entered(&m.kvm.vcpus[1], 1);
		vcpu_set_pause(m.set);
		for (unsigned i = 0; i < 2; i++)
			entries[i] = atomic_exchange(&m.kvm.vcpus[i].entries, 0);
		CHECK(entries[0] >= 1 && entries[1] >= 1);
		vcpu_set_pause(m.set);
		CHECK_EQUAL(atomic_load(&m.kvm.vcpus[0].entries), 0);
		CHECK_EQUAL(atomic_load(&m.kvm.vcpus[1].entries), 0);
		vcpu_set_resume(m.set);
		vcpu_set_resume(m.set);
	}
	teardown(&m);
}

/* KVM finishes a read at the next entry: a pause must not come between. */
static void pause_finds_no_access_half_done(void)
{
	static struct step steps[MAX_STEPS];

	for (unsigned i = 0; i < MAX_STEPS; i++)
		steps[i] = (struct step){i % 2 ? port_read : memory_read, 0};
	for (unsigned round = 0; round < 50; round++) {
		struct machine m;

		setup(&m, 2);
		SCRIPT(&m, 0, steps);
		SCRIPT(&m, 1, steps);
		CHECK_EQUAL(vcpu_set_start(m.set), 0);
		vcpu_set_pause(m.set);
		CHECK(!atomic_load(&m.kvm.vcpus[0].unfinished));
		CHECK(!atomic_load(&m.kvm.vcpus[1].unfinished));
		vcpu_set_resume(m.set);
		teardown(&m);
	}
}

static void a_machine_paused_before_it_starts_waits(void)
{
	struct machine m;

	setup(&m, 1);
	vcpu_set_pause(m.set);
	CHECK_EQUAL(vcpu_set_start(m.set), 0);
	vcpu_set_pause(m.set);
	CHECK_EQUAL(atomic_load(&m.kvm.vcpus[0].entries), 0);
	vcpu_set_resume(m.set);
	wait_entered(&m.kvm.vcpus[0], 1);
	teardown(&m);
}

static void a_paused_machine_stops(void)
{
	struct machine m;

	setup(&m, 2);
	CHECK_EQUAL(vcpu_set_start(m.set), 0);
	vcpu_set_pause(m.set);
	vcpu_set_stop(m.set);
	vcpu_set_stop(m.set);
	teardown(&m);
}

static void a_machine_that_never_ran_stops(void)
{
	struct machine m;

	setup(&m, 2);
	vcpu_set_stop(m.set);
	teardown(&m);
}

static void a_run_area_that_is_too_small_is_refused(void)
{
	struct machine m;

	setup(&m, 1);
	CHECK_EQUAL(vcpu_set_add(m.set, m.kvm.vcpus[0].fd, 64), -EINVAL);
	CHECK_EQUAL(vcpu_set_add(m.set, -1, RUN_BYTES), -EBADF);
	teardown(&m);
}

static void exits_have_names(void)
{
	CHECK(strcmp(vcpu_exit_name(KVM_EXIT_IO), "io") == 0);
	CHECK(strcmp(vcpu_exit_name(KVM_EXIT_MMIO), "mmio") == 0);
	CHECK(vcpu_exit_name(VCPU_MAX_EXIT_REASONS) == NULL);
	CHECK(vcpu_exit_name(UINT32_MAX) == NULL);
}

static const struct test tests[] = {
	TEST(accesses_reach_the_bus_and_are_counted),
	TEST(reads_are_answered_in_the_run_area),
	TEST(a_string_write_is_one_access_an_element),
	TEST(data_outside_the_run_area_is_not_touched),
	TEST(every_end_has_its_kind_and_its_text),
	TEST(a_woken_vcpu_that_is_not_started_yet_goes_on),
	TEST(one_end_stops_every_vcpu),
	TEST(a_port_that_ends_the_machine_stops_its_vcpu),
	TEST(pause_leaves_the_guest_and_resume_enters_it),
	TEST(pause_finds_no_access_half_done),
	TEST(a_machine_paused_before_it_starts_waits),
	TEST(a_paused_machine_stops),
	TEST(a_machine_that_never_ran_stops),
	TEST(a_run_area_that_is_too_small_is_refused),
	TEST(exits_have_names),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
