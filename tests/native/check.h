/* SPDX-License-Identifier: Apache-2.0 */
/* What most C tests need: assertions, a table of named tests, and the check that
 * none of them leaves a file descriptor open. */
#ifndef SAMPAN_TESTS_CHECK_H
#define SAMPAN_TESTS_CHECK_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "assertions.h"

struct test {
	const char *name;
	void (*run)(void);
};

#define TEST(name) {#name, name}

static inline int lowest_free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static inline bool is_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static inline void wait_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	CHECK_EQUAL(poll(&p, 1, DEADLINE_MS), 1);
}

/* Takes what was written to an eventfd; 0 when nothing was. */
static inline uint64_t take(int fd)
{
	eventfd_t n = 0;

	return eventfd_read(fd, &n) == 0 ? n : 0;
}

/* All of them, or the one named on the command line. */
static inline int run_tests(const struct test *tests, unsigned count, int argc, char **argv)
{
	for (unsigned i = 0; i < count; i++) {
		const int before = lowest_free_fd();

		if (argc > 1 && strcmp(argv[1], tests[i].name) != 0)
			continue;
		tests[i].run();
		if (lowest_free_fd() != before) {
			fprintf(stderr, "%s leaves a file descriptor\n", tests[i].name);
			return 1;
		}
	}
	return 0;
}

#define RUN_TESTS(tests, argc, argv)                                                               \
	run_tests(tests, sizeof(tests) / sizeof((tests)[0]), argc, argv)

#endif
