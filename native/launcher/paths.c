/* SPDX-License-Identifier: Apache-2.0 */
#include "paths.h"

#include "environment.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_VARIABLE "SAMPAN_STATE_DIR"
#define DEFAULT_STATE_DIR "/run/sampan"
#define WARM_DIR "warm"
#define LAUNCHER "containerd-shim-sampan-v2"
#define SHIM "sampan-shim"
#define COMMAND "sampan-command"
#define CALL "sampan-oci"
#define SERVER "sampan-warm"

static bool format(char path[PATH_MAX], const char *directory, const char *name)
{
	return snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX;
}

bool paths_find_programs(struct paths *paths)
{
	char directory[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", directory, PATH_MAX - 1);
	char *slash;

	if (length < 0)
		return false;
	directory[length] = '\0';
	slash = strrchr(directory, '/');
	if (slash == NULL)
		return false;
	*slash = '\0';
	return format(paths->exe, directory, LAUNCHER) && format(paths->shim, directory, SHIM) &&
	       format(paths->command, directory, COMMAND) && format(paths->call, directory, CALL) &&
	       format(paths->server, directory, SERVER);
}

bool paths_find_socket(struct paths *paths, bool with_cgroup)
{
	const char *state = getenv(STATE_VARIABLE);
	char name[32];
	uint64_t digest;

	if (state == NULL || *state == '\0')
		state = DEFAULT_STATE_DIR;
	if (environment_digest(paths->exe, with_cgroup, &digest) < 0 ||
	    !format(paths->directory, state, WARM_DIR))
		return false;
	snprintf(name, sizeof(name), "%016" PRIx64 ".sock", digest);
	if (!format(paths->socket, paths->directory, name))
		return false;
	snprintf(name, sizeof(name), "%016" PRIx64 ".lock", digest);
	return format(paths->lock, paths->directory, name);
}

/* As shim/machine/directory.py does. */
void paths_make_directory(const struct paths *paths)
{
	char parent[PATH_MAX];
	char *slash;

	strcpy(parent, paths->directory);
	slash = strrchr(parent, '/');
	*slash = '\0';
	mkdir(parent, 0711);
	mkdir(paths->directory, 0700);
}
