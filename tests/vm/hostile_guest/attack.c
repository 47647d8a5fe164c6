/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that does its worst: devices that work, then random values in their registers,
 * rings, descriptors and requests, and at other addresses and ports.
 *
 *   fuzz.seed=N   of the random numbers
 *   fuzz.steps=N  of the first processor, before it ends the machine
 *   fuzz.end=N    how: see end_machine
 *
 * Both processors attack; an exception ends the machine with a triple fault. */
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>

#include "requests.h"

#define SERIAL_PORT 0x3f8
#define LIFE_STEPS 500 /* of all devices, about, before a working one is brought up anew */
#define RARELY 20000   /* what may end the machine */

static uint64_t seed;

static struct device *any_device(struct random *r)
{
	struct device *d;

	do
		d = &devices[below(r, SLOTS)];
	while (d->type == 0);
	return d;
}

static uint64_t any_gpa(struct random *r)
{
	switch (below(r, 8)) {
	case 0:
		return number(r);
	case 1:
		return RAM_BYTES - below(r, 8192);
	case 2:
		return RINGS_GPA + below(r, 1 << 20);
	default:
		return POOL_GPA + below(r, POOL_BYTES);
	}
}

/* --- memory that a device reads ------------------------------------------------ */

static void spoil_descriptor(struct queue *q, struct random *r)
{
	volatile struct vring_desc *desc = &q->descriptors[below(r, q->size)];

	desc->addr = any_gpa(r);
	desc->len = (uint32_t)number(r);
	desc->flags = (uint16_t)(one_in(r, 8) ? next(r) : below(r, 8));
	desc->next = (uint16_t)(one_in(r, 8) ? next(r) : below(r, q->size));
}

static void spoil_ring(struct queue *q, struct random *r)
{
	switch (below(r, 6)) {
	case 0:
		q->available->index += (uint16_t)number(r);
		break;
	case 1:
		q->available->flags = (uint16_t)number(r);
		break;
	case 2:
		q->available->heads[below(r, q->size)] = (uint16_t)number(r);
		break;
	case 3:
		q->available->heads[q->size] = (uint16_t)number(r); /* used_event */
		break;
	case 4:
		q->used->index = (uint16_t)number(r);
		break;
	case 5:
		q->used->elements[below(r, q->size)].id = (uint32_t)number(r);
		break;
	}
}

static void spoil_memory(struct device *d, struct random *r)
{
	struct queue *q = &d->queues[below(r, MOST_QUEUES)];

	if (q->size == 0)
		return;
	if (one_in(r, 2))
		spoil_descriptor(q, r);
	if (one_in(r, 8))
		spoil_ring(q, r);
	else if (one_in(r, 2))
		q->available->index++;
	write_at(POOL_GPA + below(r, POOL_BYTES), number(r), any_width(r));
}

/* --- registers ------------------------------------------------------------------- */

static void write_register(struct device *d, struct random *r)
{
	const uint64_t at = d->bar + below(r, 8) * 0x1000;

	if (one_in(r, 8))
		write_at(d->bar + below(r, BAR_BYTES - 8), number(r), any_width(r));
	else if (one_in(r, 4))
		(void)read_at(at + below(r, 64), any_width(r));
	else
		write_at(d->bar + BAR_COMMON + below(r, 32) * 2, number(r), any_width(r));
}

/* A message that starts a processor anew, or is no fixed interrupt, comes rarely. */
static void write_vector(struct device *d, struct random *r)
{
	const uint64_t entry = d->bar + BAR_TABLE + below(r, 16) * PCI_MSIX_ENTRY_SIZE;
	const bool rarely = one_in(r, RARELY);

	switch (below(r, 4)) {
	case 0:
		write_at(entry, rarely ? number(r) : LAPIC_GPA + (below(r, 4) << 12), 4);
		break;
	case 1:
		write_at(entry + PCI_MSIX_ENTRY_UPPER_ADDR, one_in(r, 8) ? number(r) : 0, 4);
		break;
	case 2:
		write_at(entry + PCI_MSIX_ENTRY_DATA, rarely ? number(r) : below(r, 256), 4);
		break;
	case 3:
		write_at(entry + PCI_MSIX_ENTRY_VECTOR_CTRL, number(r), 4);
		break;
	}
}

static void write_config(struct device *d, struct random *r)
{
	const uint64_t at = d->config + below(r, one_in(r, 8) ? 0x8000 : CONFIG_BYTES);

	if (one_in(r, 4))
		(void)read_at(at, any_width(r));
	else
		write_at(at, number(r), any_width(r));
	if (one_in(r, 2)) /* or most of what follows would find no BAR */
		write_at(d->config + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
}

/* Accesses by the window in configuration space (virtio 1.2 §4.1.4.9). */
static void use_window(struct device *d, struct random *r)
{
	uint64_t at = read_at(d->config + PCI_CAPABILITY_LIST, 1);

	while (at && read_at(d->config + at + 3, 1) != VIRTIO_PCI_CAP_PCI_CFG)
		at = read_at(d->config + at + PCI_CAP_LIST_NEXT, 1);
	if (at == 0)
		return;
	write_at(d->config + at + 4, 0, 1);
	write_at(d->config + at + 8, one_in(r, 8) ? number(r) : below(r, BAR_BYTES), 4);
	write_at(d->config + at + 12, one_in(r, 8) ? number(r) : 1U << below(r, 3), 4);
	if (one_in(r, 2))
		(void)read_at(d->config + at + 16, 4);
	else
		write_at(d->config + at + 16, number(r), 4);
}

/* --- everywhere else -------------------------------------------------------------- */

static bool may_end(uint16_t port)
{
	return port == KEYBOARD_PORT || (port >= SLEEP_CONTROL_PORT && port <= RESET_PORT);
}

static void use_port(struct random *r)
{
	const uint16_t port = (uint16_t)(one_in(r, 2) ? SERIAL_PORT + below(r, 8) : next(r));

	if (may_end(port) && !one_in(r, 100))
		return;
	switch (below(r, 5)) {
	case 0:
		in_any(port, 1U << below(r, 3));
		break;
	case 1:
		out8(port, (uint8_t)number(r));
		break;
	case 2:
		out16(port, (uint16_t)number(r));
		break;
	case 3:
		out32(port, (uint32_t)number(r));
		break;
	case 4:
		out_string(port, (const void *)POOL_GPA, below(r, 300));
		break;
	}
}

/* Where nothing is, or a part of KVM's. */
static void use_hole(struct random *r)
{
	static const uint64_t places[] = {PCI_WINDOW_GPA, ECAM_GPA, IOAPIC_GPA, WINDOW64_GPA,
					  RAM_BYTES};
	const uint64_t at = places[below(r, 5)] + below(r, 1 << below(r, 20));

	if (one_in(r, 2))
		(void)read_at(at, any_width(r));
	else
		write_at(at, number(r), any_width(r));
}

static void step(struct random *r)
{
	struct device *d = any_device(r);
	const uint32_t what = below(r, 32);

	if (one_in(r, LIFE_STEPS) || (one_in(r, 8) && is_broken(d))) {
		bring_up(d, r);
		greet(d, r);
	} else if (what < 18) {
		request_something(d, r);
	} else if (what < 21) {
		spoil_memory(d, r);
		notify(d, below(r, 8), one_in(r, 8) ? any_width(r) : 2);
	} else if (what < 23) {
		write_register(d, r);
	} else if (what < 25) {
		write_vector(d, r);
	} else if (what < 27) {
		write_config(d, r);
	} else if (what < 28) {
		use_window(d, r);
	} else if (what < 30) {
		use_port(r);
	} else {
		use_hole(r);
	}
}

/* --- both processors ---------------------------------------------------------------- */

void second_main(void)
{
	struct random r = {seed * 3 + 1};

	for (;;)
		step(&r);
}

void guest_main(const uint8_t *zero_page)
{
	const uint64_t steps = read_argument(zero_page, "fuzz.steps", 1000);
	struct random r;

	seed = read_argument(zero_page, "fuzz.seed", 1) * 2 + 1;
	r.state = seed * 0x9e3779b97f4a7c15ULL;
	map_everything();
	if (find_devices() == 0)
		end_machine(0, &r);
	for (unsigned slot = 0; slot < SLOTS; slot++)
		if (devices[slot].type) {
			bring_up(&devices[slot], &r);
			greet(&devices[slot], &r);
		}
	start_second_processor();
	for (uint64_t i = 0; i < steps; i++)
		step(&r);
	end_machine(read_argument(zero_page, "fuzz.end", 0), &r);
}
