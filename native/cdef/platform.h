/* SPDX-License-Identifier: Apache-2.0 */
/* For cffi: events, the bus and the platform's devices; see native/src/platform. */
#include <platform/bus.h>
#include <platform/console.h>
#include <platform/events.h>
#include <platform/power.h>
#include <platform/serial.h>

#define MACHINE_POWEROFF ...
#define MACHINE_RESET ...
#define MACHINE_TRIPLE_FAULT ...
#define MACHINE_KVM_ERROR ...

struct machine_event {
	int kind;
	int vcpu;
	char text[...];
	...;
};

struct machine_events;

int machine_events_new(struct machine_events **ret_events);
void machine_events_free(struct machine_events *events);
int machine_events_fd(const struct machine_events *events);
int machine_events_next(struct machine_events *events, struct machine_event *ret_event);

#define BUS_PORTS ...

struct bus_counter {
	int space;
	uint64_t address;
	uint64_t reads, writes;
	char name[...];
	...;
};

struct bus;

int bus_new(struct bus **ret_bus);
void bus_free(struct bus *bus);
int bus_read_counter(struct bus *bus, unsigned index, struct bus_counter *ret_counter);

#define CONSOLE_MIN_BYTES ...

struct console;
struct serial;

int console_new(int fd, uint64_t limit_bytes, struct console **ret_console);
void console_free(struct console *console);
int serial_new(struct console *console, int irq_fd, struct serial **ret_serial);
void serial_free(struct serial *serial);
int serial_attach(struct serial *serial, struct bus *bus, uint16_t port);
struct serial_state {
	...;
};

void serial_save(struct serial *serial, struct serial_state *ret_state);
void serial_restore(struct serial *serial, const struct serial_state *state);
void serial_flush(struct serial *serial);

struct power_ports {
	uint16_t reset_port;
	uint8_t reset_value;
	uint16_t sleep_control_port;
	uint16_t sleep_status_port;
	uint8_t sleep_type_off;
	...;
};

struct power;

int power_new(const struct power_ports *ports, struct machine_events *events,
	      struct power **ret_power);
void power_free(struct power *power);
int power_attach(struct power *power, struct bus *bus);
