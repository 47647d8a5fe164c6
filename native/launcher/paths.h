/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SAMPAN_LAUNCHER_PATHS_H
#define SAMPAN_LAUNCHER_PATHS_H

#include <limits.h>
#include <stdbool.h>

/* The programs that are installed beside this one, and the files of its warm server. */
struct paths {
	char exe[PATH_MAX]; /* the launcher, whichever name this process was called by */
	char shim[PATH_MAX];
	char command[PATH_MAX];
	char call[PATH_MAX];
	char server[PATH_MAX];
	char directory[PATH_MAX];
	char socket[PATH_MAX];
	char lock[PATH_MAX];
};

bool paths_find_programs(struct paths *paths);

/* False when there can be no warm server.  `with_cgroup`: as of environment_digest. */
bool paths_find_socket(struct paths *paths, bool with_cgroup);

/* For the warm server's files; errors are found when it is started. */
void paths_make_directory(const struct paths *paths);

#endif
