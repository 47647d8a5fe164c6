/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SAMPAN_LAUNCHER_ENVIRONMENT_H
#define SAMPAN_LAUNCHER_ENVIRONMENT_H

#include <stdbool.h>
#include <stdint.h>

/* A hash of everything that a shim must inherit from its containerd: namespaces,
 * root, control group, security label, credentials, limits, processors; and for the
 * program at `exe` as it is installed.  A process may be the parent of a shim in
 * place of any other with an equal hash.  Without `with_cgroup` the control group is
 * left out: the process must then enter one itself.
 * 0, or -errno when a part of it cannot be read. */
int environment_digest(const char *exe, bool with_cgroup, uint64_t *ret_digest);

#endif
