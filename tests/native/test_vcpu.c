/* SPDX-License-Identifier: Apache-2.0 */
/* vCPU threads: exits, ends, pauses (KVM_RUN in Linux Documentation/virt/kvm/api.rst). */
#include "vcpu_driver.h"

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
	/* The field behind the eight bytes of data. */
	CHECK_EQUAL(m.kvm.vcpus[0].run->mmio.len, 9);
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

/* --- threads -------------------------------------------------------------- */

/* The others compute and would never exit by themselves. */
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
