/* SPDX-License-Identifier: Apache-2.0 */
/* The serial port and the log of bounded size behind it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "check.h"
#include "platform/bus.h"
#include "platform/console.h"
#include "platform/serial.h"

#define COM1 0x3f8

static uint64_t bus_get(struct bus *bus, enum bus_space space, uint64_t address, unsigned len)
{
	uint64_t value = 0;

	bus_read(bus, space, address, &value, len);
	return value;
}

/* --- console -------------------------------------------------------------- */

static int open_log(void)
{
	int fd = memfd_create("console", MFD_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static void put_text(struct console *c, const char *text)
{
	while (*text)
		console_put(c, (uint8_t)*text++);
}

static size_t read_log(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);

	CHECK(n >= 0);
	text[n] = 0;
	return (size_t)n;
}

static void a_line_is_in_the_file_when_it_ends(void)
{
	struct console *c;
	int fd = open_log(), view = dup(fd);
	char text[64];

	CHECK_EQUAL(console_new(fd, CONSOLE_MIN_BYTES, &c), 0);
	put_text(c, "hello\npar");
	read_log(view, text, sizeof(text));
	CHECK(strcmp(text, "hello\n") == 0);
	put_text(c, "tial");
	console_flush(c);
	read_log(view, text, sizeof(text));
	CHECK(strcmp(text, "hello\npartial") == 0);
	put_text(c, " and last");
	console_free(c);
	read_log(view, text, sizeof(text));
	CHECK(strcmp(text, "hello\npartial and last") == 0);
	close(view);
}

/* The limit holds at every moment; the beginning and the end are kept. */
static void the_log_keeps_head_and_tail_within_its_limit(void)
{
	const uint64_t limits[] = {CONSOLE_MIN_BYTES, 1500, 20000};
	static char text[32768];

	for (unsigned l = 0; l < 3; l++) {
		struct console *c;
		int fd = open_log(), view = dup(fd);
		struct stat st;
		uint64_t total = 0, dropped;
		char *gap, *tail;

		CHECK_EQUAL(console_new(fd, limits[l], &c), 0);
		for (unsigned i = 0; i < 3000; i++) {
			char line[32];

			total += (uint64_t)snprintf(line, sizeof(line), "line %u\n", i);
			put_text(c, line);
			CHECK_EQUAL(fstat(view, &st), 0);
			CHECK((uint64_t)st.st_size <= limits[l]);
		}
		console_free(c);
		read_log(view, text, sizeof(text));
		CHECK(strncmp(text, "line 0\nline 1\n", 14) == 0);
		CHECK(strcmp(text + strlen(text) - 10, "line 2999\n") == 0);
		gap = strstr(text, "\n[");
		CHECK(gap != NULL);
		CHECK_EQUAL(sscanf(gap, "\n[%llu bytes left out here]\n",
				   (unsigned long long *)&dropped),
			    1);
		tail = strchr(gap + 1, '\n') + 1;
		/* No byte is counted twice and none is missed. */
		CHECK_EQUAL((uint64_t)(gap - text) + dropped + strlen(tail), total);
		CHECK(strstr(tail, "\n[") == NULL);
		close(view);
	}
}

static void long_output_without_line_ends_is_bounded_too(void)
{
	struct console *c;
	int fd = open_log(), view = dup(fd);
	struct stat st;

	CHECK_EQUAL(console_new(fd, 2000, &c), 0);
	for (unsigned i = 0; i < 100000; i++)
		console_put(c, 'x');
	console_free(c);
	CHECK_EQUAL(fstat(view, &st), 0);
	CHECK(st.st_size <= 2000 && st.st_size > 900);
	close(view);
}

static void a_limit_that_is_too_small_is_refused(void)
{
	struct console *c;

	CHECK_EQUAL(console_new(-1, CONSOLE_MIN_BYTES - 1, &c), -EINVAL);
}

static void a_full_disk_loses_text_and_nothing_else(void)
{
	struct console *c;
	int fd = open("/dev/full", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQUAL(console_new(fd, CONSOLE_MIN_BYTES, &c), 0);
	for (unsigned i = 0; i < 10000; i++)
		console_put(c, i % 80 ? 'x' : '\n');
	console_free(c);
}

/* --- serial --------------------------------------------------------------- */

struct port {
	struct bus *bus;
	struct console *console;
	struct serial *serial;
	int view, irq; /* duplicates of what the port owns */
};

static void port_setup(struct port *p)
{
	int log = open_log(), irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	p->view = dup(log);
	p->irq = dup(irq);
	CHECK_EQUAL(bus_new(&p->bus), 0);
	CHECK_EQUAL(console_new(log, CONSOLE_MIN_BYTES, &p->console), 0);
	CHECK_EQUAL(serial_new(p->console, irq, &p->serial), 0);
	CHECK_EQUAL(serial_attach(p->serial, p->bus, COM1), 0);
}

static void port_teardown(struct port *p)
{
	serial_free(p->serial);
	console_free(p->console);
	bus_free(p->bus);
	close(p->view);
	close(p->irq);
}

static uint8_t in(struct port *p, unsigned reg)
{
	return (uint8_t)bus_get(p->bus, BUS_PORTS, COM1 + reg, 1);
}

static void out(struct port *p, unsigned reg, uint8_t value)
{
	bus_write(p->bus, BUS_PORTS, COM1 + reg, &value, 1);
}

static void what_is_sent_is_in_the_log(void)
{
	struct port p;
	char text[16];

	port_setup(&p);
	CHECK_EQUAL(in(&p, UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	out(&p, UART_TX, 'o');
	out(&p, UART_TX, 'k');
	serial_flush(p.serial);
	read_log(p.view, text, sizeof(text));
	CHECK(strcmp(text, "ok") == 0);
	CHECK_EQUAL(in(&p, UART_RX), 0);
	port_teardown(&p);
}

static void the_divisor_is_apart_from_data(void)
{
	struct port p;
	char text[16];

	port_setup(&p);
	out(&p, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	out(&p, UART_DLL, 'x');
	out(&p, UART_DLM, 'y');
	CHECK_EQUAL(in(&p, UART_DLL), 'x');
	CHECK_EQUAL(in(&p, UART_DLM), 'y');
	out(&p, UART_LCR, UART_LCR_WLEN8);
	CHECK_EQUAL(in(&p, UART_IER), 0);
	serial_flush(p.serial);
	CHECK_EQUAL(read_log(p.view, text, sizeof(text)), 0);
	port_teardown(&p);
}

/* Linux' autoconfig() and size_fifo(). */
static void a_probe_finds_a_16550a(void)
{
	struct port p;

	port_setup(&p);
	out(&p, UART_IER, 0x0f);
	CHECK_EQUAL(in(&p, UART_IER), 0x0f);
	out(&p, UART_IER, 0);
	CHECK_EQUAL(in(&p, UART_IER), 0);
	out(&p, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	CHECK_EQUAL(in(&p, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	out(&p, UART_MCR, UART_MCR_LOOP | UART_MCR_DTR | UART_MCR_OUT1);
	CHECK_EQUAL(in(&p, UART_MSR) & 0xf0, UART_MSR_DSR | UART_MSR_RI);
	out(&p, UART_MCR, 0);
	out(&p, UART_FCR, UART_FCR_ENABLE_FIFO);
	CHECK_EQUAL(in(&p, UART_IIR) >> 6, 3);
	out(&p, UART_FCR, 0);
	CHECK_EQUAL(in(&p, UART_IIR) >> 6, 0);
	out(&p, UART_SCR, 0x5a);
	CHECK_EQUAL(in(&p, UART_SCR), 0x5a);
	port_teardown(&p);
}

static void an_empty_transmitter_interrupts_once(void)
{
	struct port p;

	port_setup(&p);
	out(&p, UART_TX, 'a');
	CHECK_EQUAL(take(p.irq), 0);
	out(&p, UART_IER, UART_IER_THRI);
	CHECK_EQUAL(take(p.irq), 1);
	CHECK_EQUAL(in(&p, UART_IIR) & 0x0f, UART_IIR_THRI);
	CHECK_EQUAL(in(&p, UART_IIR) & 0x0f, UART_IIR_NO_INT);
	CHECK_EQUAL(take(p.irq), 0);
	for (unsigned i = 0; i < 16; i++)
		out(&p, UART_TX, 'b');
	CHECK_EQUAL(take(p.irq), 1);
	CHECK_EQUAL(in(&p, UART_IIR) & 0x0f, UART_IIR_THRI);
	/* Linux' test for UART_BUG_THRE: enabled again, the interrupt comes
	 * again. */
	out(&p, UART_IER, 0);
	out(&p, UART_IER, UART_IER_THRI);
	CHECK_EQUAL(take(p.irq), 1);
	CHECK_EQUAL(in(&p, UART_IIR) & 0x0f, UART_IIR_THRI);
	port_teardown(&p);
}

static void loopback_does_not_reach_the_log(void)
{
	struct port p;
	char text[16];

	port_setup(&p);
	out(&p, UART_MCR, UART_MCR_LOOP);
	out(&p, UART_TX, 'x');
	serial_flush(p.serial);
	CHECK_EQUAL(read_log(p.view, text, sizeof(text)), 0);
	port_teardown(&p);
}

static void every_register_takes_every_width(void)
{
	struct port p;

	port_setup(&p);
	for (unsigned reg = 0; reg < 10; reg++)
		for (unsigned len = 1; len <= 4; len *= 2) {
			uint64_t value = UINT64_MAX;

			bus_get(p.bus, BUS_PORTS, COM1 + reg, len);
			bus_write(p.bus, BUS_PORTS, COM1 + reg, &value, len);
		}
	port_teardown(&p);
}

static void a_port_without_an_interrupt_works(void)
{
	struct console *console;
	struct serial *serial;
	struct bus *bus;
	const uint8_t thri = UART_IER_THRI;

	CHECK_EQUAL(bus_new(&bus), 0);
	CHECK_EQUAL(console_new(open_log(), CONSOLE_MIN_BYTES, &console), 0);
	CHECK_EQUAL(serial_new(console, -1, &serial), 0);
	CHECK_EQUAL(serial_attach(serial, bus, COM1), 0);
	bus_write(bus, BUS_PORTS, COM1 + UART_IER, &thri, 1);
	bus_write(bus, BUS_PORTS, COM1 + UART_TX, "x", 1);
	serial_free(serial);
	console_free(console);
	bus_free(bus);
}

static const struct test tests[] = {
	TEST(a_line_is_in_the_file_when_it_ends),
	TEST(the_log_keeps_head_and_tail_within_its_limit),
	TEST(long_output_without_line_ends_is_bounded_too),
	TEST(a_limit_that_is_too_small_is_refused),
	TEST(a_full_disk_loses_text_and_nothing_else),
	TEST(what_is_sent_is_in_the_log),
	TEST(the_divisor_is_apart_from_data),
	TEST(a_probe_finds_a_16550a),
	TEST(an_empty_transmitter_interrupts_once),
	TEST(loopback_does_not_reach_the_log),
	TEST(every_register_takes_every_width),
	TEST(a_port_without_an_interrupt_works),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
