/* SPDX-License-Identifier: Apache-2.0 */
/* The machine that this guest runs in: its memory, ports, and random numbers. */
#ifndef SAMPAN_HOSTILE_MACHINE_H
#define SAMPAN_HOSTILE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GIB (1ULL << 30)
#define RAM_BYTES (128ULL << 20)
#define RINGS_GPA (16ULL << 20)
#define POOL_GPA (64ULL << 20)
#define POOL_BYTES (32ULL << 20)
#define PCI_WINDOW_GPA (3 * GIB)
#define ECAM_GPA 0xe0000000ULL
#define IOAPIC_GPA 0xfec00000ULL
#define LAPIC_GPA 0xfee00000ULL
#define WINDOW64_GPA (64 * GIB)

#define SLEEP_CONTROL_PORT 0x600
#define RESET_PORT 0x604
#define KEYBOARD_PORT 0x64

struct random {
	uint64_t state;
};

static inline uint64_t next(struct random *r)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return r->state * 0x2545f4914f6cdd1dULL;
}

/* 0 for a limit of 0: the other processor may be writing it. */
static inline uint32_t below(struct random *r, uint32_t limit)
{
	return limit ? (uint32_t)(next(r) >> 33) % limit : 0;
}

static inline bool one_in(struct random *r, uint32_t count)
{
	return below(r, count) == 0;
}

/* Numbers as they matter to most fields: small, at an edge, or anything. */
static inline uint64_t number(struct random *r)
{
	static const uint64_t edges[] = {0,	    4095,	   4096,      65535,
					 INT32_MAX, UINT32_MAX,	   INT64_MAX, UINT64_MAX,
					 RAM_BYTES, RAM_BYTES - 1, LAPIC_GPA, PCI_WINDOW_GPA};

	switch (below(r, 4)) {
	case 0:
		return edges[below(r, sizeof(edges) / sizeof(edges[0]))];
	case 1:
		return next(r) >> below(r, 64);
	default:
		return below(r, 256);
	}
}

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline void in_any(uint16_t port, unsigned width)
{
	uint32_t value = 0;

	if (width == 1)
		__asm__ volatile("inb %1, %b0" : "+a"(value) : "Nd"(port));
	else if (width == 2)
		__asm__ volatile("inw %1, %w0" : "+a"(value) : "Nd"(port));
	else
		__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
}

static inline void out_string(uint16_t port, const void *data, uint64_t count)
{
	__asm__ volatile("rep outsb" : "+S"(data), "+c"(count) : "d"(port) : "memory");
}

/* One access of 1, 2, 4 or 8 bytes. */
static inline void write_at(uint64_t gpa, uint64_t value, unsigned width)
{
	if (width == 1)
		*(volatile uint8_t *)gpa = (uint8_t)value;
	else if (width == 2)
		*(volatile uint16_t *)gpa = (uint16_t)value;
	else if (width == 4)
		*(volatile uint32_t *)gpa = (uint32_t)value;
	else
		*(volatile uint64_t *)gpa = value;
}

static inline uint64_t read_at(uint64_t gpa, unsigned width)
{
	if (width == 1)
		return *(volatile uint8_t *)gpa;
	if (width == 2)
		return *(volatile uint16_t *)gpa;
	if (width == 4)
		return *(volatile uint32_t *)gpa;
	return *(volatile uint64_t *)gpa;
}

static inline unsigned any_width(struct random *r)
{
	return 1U << below(r, 4);
}

void *memset(void *to, int value, size_t count);
void *memcpy(void *to, const void *from, size_t count);

void map_everything(void);
void start_second_processor(void);
/* `way`: 0 power-off, 1 reset register, 2 keyboard controller, 3 triple fault, 4 code where no
 * memory is; else random values to the ports of the first three. */
__attribute__((noreturn)) void end_machine(uint64_t way, struct random *r);

/* `name=NUMBER` of the kernel's command line, or `fallback`. */
uint64_t read_argument(const uint8_t *zero_page, const char *name, uint64_t fallback);

#endif
