/* SPDX-License-Identifier: Apache-2.0 */
/* The ports by which a guest ends its machine: ACPI's reset register, the sleep
 * control and status registers of hardware-reduced ACPI, and the keyboard
 * controller's reset line.
 * Spec: ACPI 6.5 §4.8.3.6 (reset), §4.8.3.7 (sleep control and status). */
#ifndef SAMPAN_PLATFORM_POWER_H
#define SAMPAN_PLATFORM_POWER_H

#include <stdint.h>

#include "platform/bus.h"
#include "platform/events.h"

struct power_ports {
	uint16_t reset_port;
	uint8_t reset_value;
	uint16_t sleep_control_port;
	uint16_t sleep_status_port;
	uint8_t sleep_type_off; /* SLP_TYP of S5 */
};

struct power;

int power_new(const struct power_ports *ports, struct machine_events *events,
	      struct power **ret_power);
void power_free(struct power *power);
int power_attach(struct power *power, struct bus *bus);

#endif
