/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SAMPAN_LAUNCHER_WORLD_H
#define SAMPAN_LAUNCHER_WORLD_H

#include <stdint.h>

/* A number for everything that a process inherits and a shim must have from its
 * containerd: namespaces, root, control group, security label, credentials, limits,
 * processors; and for the program at `exe` as it is installed.  Processes whose
 * numbers are equal may stand in for each other's parents.
 * 0, or -errno when something of it cannot be read. */
int world_digest(const char *exe, uint64_t *ret_digest);

#endif
