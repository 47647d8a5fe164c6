/* SPDX-License-Identifier: Apache-2.0 */
/* A log file of bounded size for the guest's console: its beginning and its end
 * are kept, and a line between them says how many bytes are missing.  One thread
 * at a time (the serial port's lock). */
#ifndef SAMPAN_PLATFORM_CONSOLE_H
#define SAMPAN_PLATFORM_CONSOLE_H

#include <stdint.h>

#define CONSOLE_MIN_BYTES 1024

struct console;

/* Takes over `fd`, an empty regular file open for reading and writing.
 * -EINVAL: limit_bytes below CONSOLE_MIN_BYTES. */
int console_new(int fd, uint64_t limit_bytes, struct console **ret_console);
void console_free(struct console *console); /* flushes */

/* Reaches the file with the next line end, or when 256 bytes are gathered. */
void console_put(struct console *console, uint8_t byte);
void console_flush(struct console *console);

#endif
