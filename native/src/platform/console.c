/* SPDX-License-Identifier: Apache-2.0 */
#include "platform/console.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 256
#define GAP_FORMAT "\n[%20llu bytes left out here]\n"
#define GAP_BYTES 44
#define BLOCK_BYTES 4096

struct console {
	int fd;
	uint64_t limit;
	uint64_t size;	  /* of the file */
	uint64_t dropped; /* bytes of output between head and tail */
	unsigned held;
	uint8_t line[LINE_BYTES];
};

int console_new(int fd, uint64_t limit_bytes, struct console **ret_console)
{
	struct console *c;

	if (limit_bytes < CONSOLE_MIN_BYTES)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = fd;
	c->limit = limit_bytes;
	*ret_console = c;
	return 0;
}

void console_free(struct console *c)
{
	if (!c)
		return;
	console_flush(c);
	close(c->fd);
	free(c);
}

/* A file that cannot be written loses console text and nothing else. */
static uint64_t write_at(const struct console *c, const void *data, uint64_t len, uint64_t at)
{
	uint64_t done = 0;

	while (done < len) {
		ssize_t n = pwrite(c->fd, (const uint8_t *)data + done, len - done,
				   (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	return done;
}

static void move_down(const struct console *c, uint64_t from, uint64_t len, uint64_t to)
{
	uint8_t block[BLOCK_BYTES];

	while (len > 0) {
		size_t want = len < sizeof(block) ? (size_t)len : sizeof(block);
		ssize_t n = pread(c->fd, block, want, (off_t)from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || write_at(c, block, (uint64_t)n, to) != (uint64_t)n)
			return;
		from += (uint64_t)n;
		to += (uint64_t)n;
		len -= (uint64_t)n;
	}
}

/* Head and tail keep a quarter of the limit each: half of the file is moved
 * at most once for every half of the limit that the guest writes. */
static void drop_middle(struct console *c)
{
	const uint64_t quarter = c->limit / 4;
	const uint64_t head_end = quarter + GAP_BYTES;
	const uint64_t tail_at = c->size - quarter;
	char gap[GAP_BYTES + 1];

	/* The first time, the line that marks the gap also replaces output. */
	c->dropped += tail_at - (c->dropped == 0 ? quarter : head_end);
	(void)snprintf(gap, sizeof(gap), GAP_FORMAT, (unsigned long long)c->dropped);
	(void)write_at(c, gap, strlen(gap), quarter);
	move_down(c, tail_at, quarter, head_end);
	c->size = head_end + quarter;
	(void)!ftruncate(c->fd, (off_t)c->size);
}

void console_flush(struct console *c)
{
	if (c->held == 0)
		return;
	if (c->size + c->held > c->limit)
		drop_middle(c);
	c->size += write_at(c, c->line, c->held, c->size);
	c->held = 0;
}

void console_put(struct console *c, uint8_t byte)
{
	c->line[c->held++] = byte;
	if (byte == '\n' || c->held == LINE_BYTES)
		console_flush(c);
}
