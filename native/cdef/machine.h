/* SPDX-License-Identifier: Apache-2.0 */
/* For cffi: memory, vCPUs, bus and platform devices; meanings and lifetimes are
 * in the headers of native/src. */

/* --- memory.h ------------------------------------------------------------- */

struct guest_memory {
	unsigned count;
	...;
};

int guest_memory_add(struct guest_memory *mem, uint64_t gpa, uint64_t len, void *hva);
int guest_memory_map(uint64_t len, void **ret_hva);
int guest_memory_unmap(void *hva, uint64_t len);
int guest_memory_write(const struct guest_memory *mem, uint64_t gpa, const void *data,
		       uint64_t len);
int guest_memory_read(const struct guest_memory *mem, uint64_t gpa, void *data, uint64_t len);
int guest_memory_load(const struct guest_memory *mem, uint64_t gpa, int fd, uint64_t offset,
		      uint64_t len);
int guest_memory_map_file(const struct guest_memory *mem, uint64_t gpa, int fd, uint64_t offset,
			  uint64_t len);

/* --- prefault.h ----------------------------------------------------------- */

struct prefault_range {
	uint64_t gpa;
	uint64_t len;
	uint64_t written;
};

int guest_memory_prefault(const struct kvm_calls *calls, const struct guest_memory *mem,
			  int vcpu_fd, const struct prefault_range *ranges, unsigned count);
int guest_memory_fault_singly(const struct guest_memory *mem);

/* --- events.h ------------------------------------------------------------- */

#define MACHINE_POWEROFF ...
#define MACHINE_RESET ...
#define MACHINE_TRIPLE_FAULT ...
#define MACHINE_KVM_ERROR ...
#define MACHINE_DEVICE_FAULT ...

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

/* --- bus.h ---------------------------------------------------------------- */

#define BUS_PORTS ...
#define BUS_MEMORY ...

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

/* --- console.h, serial.h -------------------------------------------------- */

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

/* --- power.h -------------------------------------------------------------- */

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

/* --- vcpu.h --------------------------------------------------------------- */

#define VCPU_MAX_EXIT_REASONS ...

struct vcpu_set;

int vcpu_set_new(const struct kvm_calls *calls, struct bus *bus, struct machine_events *events,
		 struct vcpu_set **ret_set);
int vcpu_set_add(struct vcpu_set *set, int vcpu_fd, size_t run_bytes);
int vcpu_set_start(struct vcpu_set *set);
void vcpu_set_pause(struct vcpu_set *set);
void vcpu_set_resume(struct vcpu_set *set);
void vcpu_set_stop(struct vcpu_set *set);
void vcpu_set_free(struct vcpu_set *set);
uint64_t vcpu_set_exits(const struct vcpu_set *set, unsigned reason);
const char *vcpu_exit_name(unsigned reason);
