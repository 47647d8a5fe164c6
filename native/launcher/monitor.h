/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SAMPAN_LAUNCHER_MONITOR_H
#define SAMPAN_LAUNCHER_MONITOR_H

#include <stdbool.h>

/* A process that stands for a container or an exec on the host: a descendant of who
 * called the runtime.  It ends with the status of the container's process; signals
 * that it receives are passed on; when it is killed, its connection ends, and the
 * container with that. */
struct monitor {
	int connection; /* oci.h has the messages */
	int network;	/* a namespace to enter, or -1 */
	int terminal;	/* whose size is the container's, or -1 */
};

/* Forks it, and tells the server its pid.  It serves when this process has ended. */
bool monitor_start(const struct monitor *monitor);

/* This process is it.  The exit status. */
int monitor_in_foreground(const struct monitor *monitor);

#endif
