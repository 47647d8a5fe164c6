/* SPDX-License-Identifier: Apache-2.0 */
/* containerd-shim-sampan-v2: hands containerd's call to the warm server, or starts
 * Python (sampan-shim, beside this program) where there is no such server.
 *
 * The server is optional: without it a call takes longer, by Python's start. */
#include "environment.h"
#include "warm.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_VARIABLE "SAMPAN_STATE_DIR"
#define DEFAULT_STATE_DIR "/run/sampan"
#define WARM_DIR "warm"
#define SHIM "sampan-shim"
#define SERVER "sampan-warm"

struct paths {
	char exe[PATH_MAX];
	char shim[PATH_MAX];
	char server[PATH_MAX];
	char directory[PATH_MAX];
	char socket[PATH_MAX];
	char lock[PATH_MAX];
};

static bool format(char path[PATH_MAX], const char *directory, const char *name)
{
	return snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX;
}

static bool find_programs(struct paths *paths)
{
	ssize_t length = readlink("/proc/self/exe", paths->exe, PATH_MAX - 1);
	char directory[PATH_MAX];
	char *slash;

	if (length < 0)
		return false;
	paths->exe[length] = '\0';
	strcpy(directory, paths->exe);
	slash = strrchr(directory, '/');
	if (slash == NULL)
		return false;
	*slash = '\0';
	return format(paths->shim, directory, SHIM) && format(paths->server, directory, SERVER);
}

static bool find_socket(struct paths *paths)
{
	const char *state = getenv(STATE_VARIABLE);
	char name[32];
	uint64_t digest;

	if (state == NULL || *state == '\0')
		state = DEFAULT_STATE_DIR;
	if (environment_digest(paths->exe, &digest) < 0 ||
	    !format(paths->directory, state, WARM_DIR))
		return false;
	snprintf(name, sizeof(name), "%016" PRIx64 ".sock", digest);
	if (!format(paths->socket, paths->directory, name))
		return false;
	snprintf(name, sizeof(name), "%016" PRIx64 ".lock", digest);
	return format(paths->lock, paths->directory, name);
}

static bool makes_sandbox(int argc, char **argv)
{
	return argc > 1 && strcmp(argv[argc - 1], "start") == 0;
}

/* Makes directories as shim/machine/directory.py does. */
static void make_directory(const char *directory)
{
	char parent[PATH_MAX];
	char *slash;

	strcpy(parent, directory);
	slash = strrchr(parent, '/');
	*slash = '\0';
	mkdir(parent, 0711);
	mkdir(directory, 0700);
}

int main(int argc, char **argv, char **envp)
{
	struct paths paths = {0};
	int status = 1;

	if (!find_programs(&paths)) {
		fprintf(stderr, "/proc/self/exe: %s\n", strerror(errno));
		return 1;
	}
	if (find_socket(&paths)) {
		switch (warm_call(paths.socket, argv, envp, &status)) {
		case WARM_DONE:
			return status;
		case WARM_LOST:
			fprintf(stderr, "the process that did this for us has ended: %s\n",
				paths.socket);
			return 1;
		case WARM_ABSENT:
			break;
		}
		if (makes_sandbox(argc, argv)) {
			make_directory(paths.directory);
			warm_start(paths.server, paths.lock, paths.socket);
		}
	}
	execv(paths.shim, argv);
	fprintf(stderr, "%s: %s\n", paths.shim, strerror(errno));
	return 1;
}
