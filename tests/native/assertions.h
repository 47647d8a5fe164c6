/* SPDX-License-Identifier: Apache-2.0 */
/* Conditions of C tests: one that does not hold aborts with its place. */
#ifndef SAMPAN_TESTS_ASSERTIONS_H
#define SAMPAN_TESTS_ASSERTIONS_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, __func__,           \
				#condition);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define CHECK_EQUAL(a, b)                                                                          \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		if (a_ != b_) {                                                                    \
			fprintf(stderr, "%s:%d: %s: %s is %#llx, not %#llx\n", __FILE__, __LINE__, \
				__func__, #a, a_, b_);                                             \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define DEADLINE_MS 30000

#endif
