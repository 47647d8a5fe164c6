/* SPDX-License-Identifier: Apache-2.0 */
#include "platform/power.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLEEP_ENABLE 0x20  /* SLP_EN */
#define SLEEP_TYPE_SHIFT 2 /* SLP_TYP is bits 2 to 4 */
#define SLEEP_TYPE_MASK 0x07

#define KEYBOARD_STATUS_PORT 0x64
#define KEYBOARD_PULSE_RESET 0xfe

struct power {
	struct power_ports ports;
	struct machine_events *events;
};

int power_new(const struct power_ports *ports, struct machine_events *events,
	      struct power **ret_power)
{
	struct power *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->ports = *ports;
	p->events = events;
	*ret_power = p;
	return 0;
}

void power_free(struct power *p)
{
	free(p);
}

static void read_zero(void *context, uint64_t offset, void *data, unsigned len)
{
	(void)context;
	(void)offset;
	memset(data, 0, len);
}

static void write_reset(void *context, uint64_t offset, const void *data, unsigned len)
{
	struct power *p = context;

	(void)offset;
	(void)len;
	if (*(const uint8_t *)data == p->ports.reset_value)
		machine_events_end(p->events, MACHINE_RESET, -1, "ACPI reset register");
}

static void write_sleep_control(void *context, uint64_t offset, const void *data, unsigned len)
{
	struct power *p = context;
	const uint8_t value = *(const uint8_t *)data;

	(void)offset;
	(void)len;
	if ((value & SLEEP_ENABLE) &&
	    (value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK) == p->ports.sleep_type_off)
		machine_events_end(p->events, MACHINE_POWEROFF, -1, "ACPI sleep control register");
}

/* A driver clears WAK_STS by writing it; it is never set, as no wake-up exists. */
static void write_nothing(void *context, uint64_t offset, const void *data, unsigned len)
{
	(void)context;
	(void)offset;
	(void)data;
	(void)len;
}

static void read_no_keyboard(void *context, uint64_t offset, void *data, unsigned len)
{
	(void)context;
	(void)offset;
	memset(data, 0xff, len);
}

static void write_keyboard(void *context, uint64_t offset, const void *data, unsigned len)
{
	struct power *p = context;

	(void)offset;
	(void)len;
	if (*(const uint8_t *)data == KEYBOARD_PULSE_RESET)
		machine_events_end(p->events, MACHINE_RESET, -1, "keyboard controller");
}

static const struct bus_ops reset_ops = {.read = read_zero, .write = write_reset};
static const struct bus_ops sleep_control_ops = {.read = read_zero, .write = write_sleep_control};
static const struct bus_ops sleep_status_ops = {.read = read_zero, .write = write_nothing};
static const struct bus_ops keyboard_ops = {.read = read_no_keyboard, .write = write_keyboard};

int power_attach(struct power *p, struct bus *bus)
{
	const struct {
		uint16_t port;
		const char *name;
		const struct bus_ops *ops;
	} regions[] = {
		{p->ports.reset_port, "reset", &reset_ops},
		{p->ports.sleep_control_port, "sleep-control", &sleep_control_ops},
		{p->ports.sleep_status_port, "sleep-status", &sleep_status_ops},
		{KEYBOARD_STATUS_PORT, "keyboard", &keyboard_ops},
	};

	for (unsigned i = 0; i < sizeof(regions) / sizeof(regions[0]); i++) {
		int r = bus_add(bus, BUS_PORTS, regions[i].port, 1, regions[i].name, regions[i].ops,
				p);

		if (r < 0)
			return r;
	}
	return 0;
}
