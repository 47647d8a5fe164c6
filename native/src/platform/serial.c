/* SPDX-License-Identifier: Apache-2.0 */
#include "platform/serial.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define IIR_FIFO_ENABLED 0xc0

struct serial {
	struct console *console;
	int irq_fd;
	pthread_mutex_t lock;
	uint8_t ier, lcr, mcr, scratch, divisor_low, divisor_high;
	bool fifo;
	bool thr_empty; /* that interrupt has not been read from IIR yet */
};

int serial_new(struct console *console, int irq_fd, struct serial **ret_serial)
{
	struct serial *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->console = console;
	s->irq_fd = irq_fd;
	pthread_mutex_init(&s->lock, NULL);
	*ret_serial = s;
	return 0;
}

void serial_free(struct serial *s)
{
	if (!s)
		return;
	pthread_mutex_destroy(&s->lock);
	if (s->irq_fd >= 0)
		close(s->irq_fd);
	free(s);
}

void serial_flush(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	console_flush(s->console);
	pthread_mutex_unlock(&s->lock);
}

void serial_save(struct serial *s, struct serial_state *ret_state)
{
	pthread_mutex_lock(&s->lock);
	*ret_state = (struct serial_state){
		.ier = s->ier,
		.lcr = s->lcr,
		.mcr = s->mcr,
		.scratch = s->scratch,
		.divisor_low = s->divisor_low,
		.divisor_high = s->divisor_high,
		.fifo = s->fifo,
		.thr_empty = s->thr_empty,
	};
	pthread_mutex_unlock(&s->lock);
}

void serial_restore(struct serial *s, const struct serial_state *state)
{
	pthread_mutex_lock(&s->lock);
	s->ier = state->ier & 0x0f;
	s->lcr = state->lcr;
	s->mcr = state->mcr & 0x1f;
	s->scratch = state->scratch;
	s->divisor_low = state->divisor_low;
	s->divisor_high = state->divisor_high;
	s->fifo = state->fifo;
	s->thr_empty = state->thr_empty;
	pthread_mutex_unlock(&s->lock);
}

/* One edge each time the transmitter becomes empty again. */
static void note_thr_empty(struct serial *s)
{
	if (!s->thr_empty && (s->ier & UART_IER_THRI) && s->irq_fd >= 0)
		eventfd_write(s->irq_fd, 1);
	s->thr_empty = true;
}

static bool divisor_selected(const struct serial *s)
{
	return s->lcr & UART_LCR_DLAB;
}

static uint8_t read_iir(struct serial *s)
{
	const uint8_t fifo = s->fifo ? IIR_FIFO_ENABLED : 0;

	if (!(s->ier & UART_IER_THRI) || !s->thr_empty)
		return fifo | UART_IIR_NO_INT;
	s->thr_empty = false;
	return fifo | UART_IIR_THRI;
}

static uint8_t read_msr(const struct serial *s)
{
	uint8_t msr = 0;

	if (!(s->mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	/* Loopback: drivers probe for a port by checking that outputs appear as
	 * inputs. */
	if (s->mcr & UART_MCR_RTS)
		msr |= UART_MSR_CTS;
	if (s->mcr & UART_MCR_DTR)
		msr |= UART_MSR_DSR;
	if (s->mcr & UART_MCR_OUT1)
		msr |= UART_MSR_RI;
	if (s->mcr & UART_MCR_OUT2)
		msr |= UART_MSR_DCD;
	return msr;
}

static uint8_t read_register(struct serial *s, uint64_t offset)
{
	switch (offset) {
	case UART_RX:
		return divisor_selected(s) ? s->divisor_low : 0;
	case UART_IER:
		return divisor_selected(s) ? s->divisor_high : s->ier;
	case UART_IIR:
		return read_iir(s);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		return UART_LSR_THRE | UART_LSR_TEMT;
	case UART_MSR:
		return read_msr(s);
	default:
		return s->scratch;
	}
}

static void write_ier(struct serial *s, uint8_t value)
{
	const bool asked = !(s->ier & UART_IER_THRI) && (value & UART_IER_THRI);

	s->ier = value & 0x0f;
	if (!asked)
		return;
	/* The transmitter is empty: enabling this interrupt again raises it at
	 * once. */
	s->thr_empty = false;
	note_thr_empty(s);
}

static void write_register(struct serial *s, uint64_t offset, uint8_t value)
{
	switch (offset) {
	case UART_TX:
		if (divisor_selected(s)) {
			s->divisor_low = value;
		} else {
			if (!(s->mcr & UART_MCR_LOOP))
				console_put(s->console, value);
			note_thr_empty(s);
		}
		break;
	case UART_IER:
		if (divisor_selected(s))
			s->divisor_high = value;
		else
			write_ier(s, value);
		break;
	case UART_FCR:
		s->fifo = value & UART_FCR_ENABLE_FIFO;
		break;
	case UART_LCR:
		s->lcr = value;
		break;
	case UART_MCR:
		s->mcr = value & 0x1f;
		break;
	case UART_SCR:
		s->scratch = value;
		break;
	default: /* LSR and MSR are read only */
		break;
	}
}

/* Registers are a byte each; wider accesses touch the first and read as zero
 * beyond it. */
static void serial_read(void *context, uint64_t offset, void *data, unsigned len)
{
	struct serial *s = context;

	memset(data, 0, len);
	pthread_mutex_lock(&s->lock);
	*(uint8_t *)data = read_register(s, offset);
	pthread_mutex_unlock(&s->lock);
}

static void serial_write(void *context, uint64_t offset, const void *data, unsigned len)
{
	struct serial *s = context;

	(void)len;
	pthread_mutex_lock(&s->lock);
	write_register(s, offset, *(const uint8_t *)data);
	pthread_mutex_unlock(&s->lock);
}

static const struct bus_ops serial_ops = {.read = serial_read, .write = serial_write};

int serial_attach(struct serial *s, struct bus *bus, uint16_t port)
{
	return bus_add(bus, BUS_PORTS, port, SERIAL_PORT_COUNT, "serial", &serial_ops, s);
}
