/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#define TRAMPOLINE 0x10000UL
#define PAGE_BYTES 4096
#define ENTRIES 512
#define PRESENT_WRITABLE 0x3
#define LARGE 0x80
#define LARGE_BYTES (2ULL << 20)
#define MAPPED_GIB 5 /* the first four, and the first of the 64-bit window */
#define COMMAND_LINE_AT 0x228
#define ICR_LOW 0x300
#define ICR_HIGH 0x310
#define ICR_INIT 0x4500
#define ICR_STARTUP 0x4600
#define SPURIOUS 0xf0
#define S5_SLEEP_ENABLE (0x20 | 5 << 2)

extern const uint8_t trampoline[], trampoline_end[];

struct page_tables {
	uint64_t top[ENTRIES], second[ENTRIES], leaves[MAPPED_GIB][ENTRIES];
};

struct page_tables page_tables __attribute__((aligned(PAGE_BYTES)));

/* gcc calls them even where it has no library. */
void *memset(void *to, int value, size_t count)
{
	uint8_t *at = to;

	while (count-- > 0)
		*(volatile uint8_t *)at++ = (uint8_t)value;
	return to;
}

void *memcpy(void *to, const void *from, size_t count)
{
	uint8_t *at = to;
	const uint8_t *source = from;

	while (count-- > 0)
		*(volatile uint8_t *)at++ = *source++;
	return to;
}

void map_everything(void)
{
	page_tables.top[0] = (uint64_t)page_tables.second | PRESENT_WRITABLE;
	for (uint64_t gib = 0; gib < MAPPED_GIB; gib++) {
		const uint64_t at = gib < 4 ? gib : WINDOW64_GPA / GIB;

		page_tables.second[at] = (uint64_t)page_tables.leaves[gib] | PRESENT_WRITABLE;
		for (uint64_t i = 0; i < ENTRIES; i++)
			page_tables.leaves[gib][i] = (at * GIB + i * LARGE_BYTES) |
						     PRESENT_WRITABLE | LARGE;
	}
	__asm__ volatile("mov %0, %%cr3" : : "r"(&page_tables) : "memory");
}

static void send_ipi(uint32_t command)
{
	write_at(LAPIC_GPA + ICR_HIGH, 1U << 24, 4);
	write_at(LAPIC_GPA + ICR_LOW, command, 4);
	for (unsigned i = 0; i < 2000; i++)
		__asm__ volatile("pause");
}

/* If there is none, nothing happens. */
void start_second_processor(void)
{
	memcpy((void *)TRAMPOLINE, trampoline, (size_t)(trampoline_end - trampoline));
	write_at(LAPIC_GPA + SPURIOUS, 0x1ff, 4);
	send_ipi(ICR_INIT);
	send_ipi(ICR_STARTUP | TRAMPOLINE / PAGE_BYTES);
}

static void triple_fault(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = {0, 0};

	__asm__ volatile("lidt %0; ud2" : : "m"(none));
}

void end_machine(uint64_t way, struct random *r)
{
	for (;;) {
		switch (way) {
		case 0:
			out8(SLEEP_CONTROL_PORT, S5_SLEEP_ENABLE);
			break;
		case 1:
			out8(RESET_PORT, 1);
			break;
		case 2:
			out8(KEYBOARD_PORT, 0xfe);
			break;
		case 3:
			triple_fault();
			break;
		case 4: /* code where no memory is */
			__asm__ volatile("jmp *%0" : : "r"(ECAM_GPA));
			break;
		default:
			out8((uint16_t)(SLEEP_CONTROL_PORT + below(r, 8)), (uint8_t)next(r));
			out8(KEYBOARD_PORT, (uint8_t)next(r));
			break;
		}
	}
}

static const char *find_argument(const char *line, const char *name)
{
	for (; *line; line++) {
		unsigned i = 0;

		while (name[i] && line[i] == name[i])
			i++;
		if (!name[i] && line[i] == '=')
			return line + i + 1;
	}
	return NULL;
}

uint64_t read_argument(const uint8_t *zero_page, const char *name, uint64_t fallback)
{
	const char *at = find_argument(
		(const char *)read_at((uint64_t)zero_page + COMMAND_LINE_AT, 4), name);
	uint64_t value = 0;

	if (!at)
		return fallback;
	while (*at >= '0' && *at <= '9')
		value = value * 10 + (uint64_t)(*at++ - '0');
	return value;
}
