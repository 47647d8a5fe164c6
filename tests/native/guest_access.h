/* SPDX-License-Identifier: Apache-2.0 */
/* Marks a test driver's accesses to fake guest memory. */
#ifndef SAMPAN_TESTS_GUEST_ACCESS_H
#define SAMPAN_TESTS_GUEST_ACCESS_H

/* TSan ignores fences: the rings' ordering is checked by reading the code.  The
 * driver's accesses are hidden from it, so each report is of the device. */
#ifdef __SANITIZE_THREAD__
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define GUEST_BEGIN()                                                                              \
	(AnnotateIgnoreReadsBegin(__FILE__, __LINE__),                                             \
	 AnnotateIgnoreWritesBegin(__FILE__, __LINE__))
#define GUEST_END()                                                                                \
	(AnnotateIgnoreReadsEnd(__FILE__, __LINE__), AnnotateIgnoreWritesEnd(__FILE__, __LINE__))
#else
#define GUEST_BEGIN() ((void)0)
#define GUEST_END() ((void)0)
#endif

#endif
