/* SPDX-License-Identifier: Apache-2.0 */
/* The ports that end the machine, and the event that the host gets. */
#include "check.h"
#include "platform/bus.h"
#include "platform/events.h"
#include "platform/power.h"

static uint64_t bus_get(struct bus *bus, enum bus_space space, uint64_t address, unsigned len)
{
	uint64_t value = 0;

	bus_read(bus, space, address, &value, len);
	return value;
}

static const struct power_ports ports = {
	.reset_port = 0x604,
	.reset_value = 1,
	.sleep_control_port = 0x600,
	.sleep_status_port = 0x601,
	.sleep_type_off = 5,
};

struct supply {
	struct bus *bus;
	struct machine_events *events;
	struct power *power;
};

static void supply_setup(struct supply *s)
{
	CHECK_EQUAL(bus_new(&s->bus), 0);
	CHECK_EQUAL(machine_events_new(&s->events), 0);
	CHECK_EQUAL(power_new(&ports, s->events, &s->power), 0);
	CHECK_EQUAL(power_attach(s->power, s->bus), 0);
}

static void supply_teardown(struct supply *s)
{
	power_free(s->power);
	machine_events_free(s->events);
	bus_free(s->bus);
}

static int end_of(uint16_t port, uint8_t value)
{
	struct machine_event event = {0};
	struct supply s;

	supply_setup(&s);
	bus_write(s.bus, BUS_PORTS, port, &value, 1);
	CHECK_EQUAL(machine_events_ended(s.events), is_readable(machine_events_fd(s.events)));
	machine_events_next(s.events, &event);
	supply_teardown(&s);
	return event.kind;
}

static void only_the_value_that_acpi_names_ends_the_machine(void)
{
	for (unsigned value = 0; value < 256; value++) {
		const bool off = (value & 0x20) && (value >> 2 & 7) == 5;

		CHECK_EQUAL(end_of(0x600, (uint8_t)value), off ? MACHINE_POWEROFF : 0);
		CHECK_EQUAL(end_of(0x601, (uint8_t)value), 0);
		CHECK_EQUAL(end_of(0x604, (uint8_t)value), value == 1 ? MACHINE_RESET : 0);
		CHECK_EQUAL(end_of(0x64, (uint8_t)value), value == 0xfe ? MACHINE_RESET : 0);
	}
}

static void power_registers_read_as_nothing(void)
{
	struct supply s;

	supply_setup(&s);
	CHECK_EQUAL(bus_get(s.bus, BUS_PORTS, 0x600, 1), 0);
	CHECK_EQUAL(bus_get(s.bus, BUS_PORTS, 0x601, 1), 0);
	CHECK_EQUAL(bus_get(s.bus, BUS_PORTS, 0x604, 1), 0);
	CHECK_EQUAL(bus_get(s.bus, BUS_PORTS, 0x64, 1), 0xff);
	supply_teardown(&s);
}

static void the_first_end_counts(void)
{
	struct machine_events *events;
	struct machine_event event;

	CHECK_EQUAL(machine_events_new(&events), 0);
	CHECK_EQUAL(machine_events_next(events, &event), 0);
	machine_events_end(events, MACHINE_KVM_ERROR, 2, "first %d", 7);
	machine_events_end(events, MACHINE_POWEROFF, 0, "second");
	CHECK_EQUAL(machine_events_next(events, &event), 1);
	CHECK_EQUAL(event.kind, MACHINE_KVM_ERROR);
	CHECK_EQUAL(event.vcpu, 2);
	CHECK(strcmp(event.text, "first 7") == 0);
	CHECK_EQUAL(machine_events_next(events, &event), 0);
	CHECK(!is_readable(machine_events_fd(events)));
	CHECK(machine_events_ended(events));
	machine_events_free(events);
}

/* A guest that breaks its devices for ever: the end is still reported. */
static void a_flood_of_faults_leaves_room_for_the_end(void)
{
	struct machine_events *events;
	struct machine_event event;
	unsigned faults = 0;

	CHECK_EQUAL(machine_events_new(&events), 0);
	for (unsigned i = 0; i < 1000; i++)
		machine_events_report_fault(events, "fault %u", i);
	machine_events_end(events, MACHINE_RESET, -1, "the end");
	while (machine_events_next(events, &event) == 1 && event.kind == MACHINE_DEVICE_FAULT)
		faults++;
	CHECK(faults > 0 && faults < 1000);
	CHECK_EQUAL(event.kind, MACHINE_RESET);
	machine_events_free(events);
}

static void a_long_text_is_cut(void)
{
	struct machine_events *events;
	struct machine_event event;

	CHECK_EQUAL(machine_events_new(&events), 0);
	machine_events_end(events, MACHINE_RESET, -1, "%0500d", 0);
	CHECK_EQUAL(machine_events_next(events, &event), 1);
	CHECK_EQUAL(strlen(event.text), MACHINE_EVENT_TEXT_BYTES - 1);
	machine_events_free(events);
}

static const struct test tests[] = {
	TEST(only_the_value_that_acpi_names_ends_the_machine),
	TEST(power_registers_read_as_nothing),
	TEST(the_first_end_counts),
	TEST(a_flood_of_faults_leaves_room_for_the_end),
	TEST(a_long_text_is_cut),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
