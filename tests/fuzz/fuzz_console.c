/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's serial port and the log of bounded size behind it; its registers come from
 * any saved state. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "check.h"
#include "input.h"
#include "platform/bus.h"
#include "platform/console.h"
#include "platform/serial.h"

#define COM1 0x3f8
#define LOG_BYTES (CONSOLE_MIN_BYTES + 100)

static int log_fd = -1, irq_fd;

static void write_text(struct bus *bus, uint8_t byte, unsigned count)
{
	while (count-- > 0) {
		bus_write(bus, BUS_PORTS, COM1, &byte, 1);
		if (byte >= 'a')
			byte = (uint8_t)(byte + count % 3);
	}
}

static void step(struct bus *bus, struct serial *serial, struct input *in)
{
	const uint8_t what = take_u8(in);
	const uint64_t port = COM1 + what / 8 % 8;
	const unsigned len = 1u << (what >> 6);
	struct serial_state state;
	uint64_t value;

	switch (what % 8) {
	case 0:
	case 1:
		value = take_u8(in);
		bus_write(bus, BUS_PORTS, port, &value, 1);
		break;
	case 2:
		bus_read(bus, BUS_PORTS, port, &value, len);
		break;
	case 3:
		value = take_u64(in);
		bus_write(bus, BUS_PORTS, port, &value, len);
		break;
	case 4:
		write_text(bus, take_u8(in), what + 8u * take_u8(in));
		break;
	case 5:
		serial_flush(serial);
		break;
	case 6:
		serial_save(serial, &state);
		break;
	case 7:
		take_bytes(in, &state, sizeof(state));
		serial_restore(serial, &state);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct console *console;
	struct serial *serial;
	struct bus *bus;
	struct stat st;

	if (log_fd < 0) {
		log_fd = memfd_create("console", MFD_CLOEXEC);
		irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	CHECK_EQUAL(ftruncate(log_fd, 0), 0);
	CHECK_EQUAL(lseek(log_fd, 0, SEEK_SET), 0);
	CHECK_EQUAL(bus_new(&bus), 0);
	CHECK_EQUAL(console_new(dup(log_fd), LOG_BYTES, &console), 0);
	CHECK_EQUAL(serial_new(console, dup(irq_fd), &serial), 0);
	CHECK_EQUAL(serial_attach(serial, bus, COM1), 0);
	while (more(&in))
		step(bus, serial, &in);
	serial_free(serial);
	console_free(console);
	bus_free(bus);
	CHECK_EQUAL(fstat(log_fd, &st), 0);
	CHECK(st.st_size <= LOG_BYTES);
	return 0;
}
