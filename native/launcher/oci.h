/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SAMPAN_LAUNCHER_OCI_H
#define SAMPAN_LAUNCHER_OCI_H

#include "paths.h"

#include <stdbool.h>

/* The OCI command line: a process of the warm server's, or sampan-oci, does what is
 * asked (shim/oci_cli); this one is what the caller waits for, and what stands for a
 * container or an exec.
 *
 * Messages on the connection, after the call of warm.h, one a packet:
 *
 * server   → one byte          the exit status, of this process or of its monitor
 * server   → "M" flags, fds    make a monitor (monitor.h) →  launcher → "p<pid>"
 * server   → "F" flags, fds    be the monitor: the container is in the foreground
 * monitor  → "g"               it is alone on the connection: it may be told the status
 * monitor  → "s<number>"       it has received this signal, which is the container's
 * monitor  → "w<columns> <rows>"
 *
 * Flags: ".", then "n" with a network namespace to enter, then "t" with a terminal; each
 * has a descriptor.  "t" without one, of "F" alone, is the terminal of stdin. */

/* False for the words of sampan-command. */
bool oci_is_call(char **argv);

/* The exit status. */
int oci_call(struct paths *paths, char **argv, char **envp);

#endif
