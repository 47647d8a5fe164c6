/* SPDX-License-Identifier: Apache-2.0 */
/* A 16550A serial port that only sends: what the guest writes goes to the
 * console log, nothing ever arrives.
 * Spec: National Semiconductor PC16550D. */
#ifndef SAMPAN_PLATFORM_SERIAL_H
#define SAMPAN_PLATFORM_SERIAL_H

#include <stdint.h>

#include "platform/bus.h"
#include "platform/console.h"

#define SERIAL_PORT_COUNT 8

struct serial;

/* `irq_fd`: an eventfd that raises the port's interrupt (edge-triggered), taken
 * over; -1: no interrupt.  `console` outlives the port. */
int serial_new(struct console *console, int irq_fd, struct serial **ret_serial);
void serial_free(struct serial *serial);

/* SERIAL_PORT_COUNT ports from `port` on. */
int serial_attach(struct serial *serial, struct bus *bus, uint16_t port);

/* The port's registers, while no vCPU runs. */
struct serial_state {
	uint8_t ier, lcr, mcr, scratch, divisor_low, divisor_high, fifo, thr_empty;
};

void serial_save(struct serial *serial, struct serial_state *ret_state);
void serial_restore(struct serial *serial, const struct serial_state *state);

/* Writes what waits for its line end.  Any thread. */
void serial_flush(struct serial *serial);

#endif
