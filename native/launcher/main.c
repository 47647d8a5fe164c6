/* SPDX-License-Identifier: Apache-2.0 */
/* One program under two names.
 *
 * containerd-shim-sampan-v2 hands containerd's call to the warm server, or starts
 * Python (sampan-shim, beside this program) where there is no such server.  sampan is
 * the OCI command line (oci.c), and starts Python (sampan-command) for what else a
 * person types.
 *
 * The server is optional: without it a call takes longer, by Python's start. */
#include "oci.h"
#include "paths.h"
#include "warm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OCI_NAME "sampan"

static bool makes_sandbox(int argc, char **argv)
{
	return argc > 1 && strcmp(argv[argc - 1], "start") == 0;
}

static int run(const char *program, char **argv)
{
	execv(program, argv);
	fprintf(stderr, "%s: %s\n", program, strerror(errno));
	return 1;
}

static int call_shim(struct paths *paths, int argc, char **argv, char **envp)
{
	int status = 1;

	if (paths_find_socket(paths, true)) {
		switch (warm_call(paths->socket, argv, envp, &status)) {
		case WARM_DONE:
			return status;
		case WARM_LOST:
			fprintf(stderr,
				"the warm server's process for this call has ended (its reason is "
				"in syslog): %s\n",
				paths->socket);
			return 1;
		case WARM_ABSENT:
			break;
		}
		if (makes_sandbox(argc, argv)) {
			paths_make_directory(paths);
			warm_start(paths->server, paths->lock, paths->socket, false);
		}
	}
	return run(paths->shim, argv);
}

static const char *read_name(char **argv)
{
	const char *slash = argv[0] == NULL ? NULL : strrchr(argv[0], '/');

	if (argv[0] == NULL)
		return "";
	return slash == NULL ? argv[0] : slash + 1;
}

int main(int argc, char **argv, char **envp)
{
	struct paths paths = {0};

	if (!paths_find_programs(&paths)) {
		fprintf(stderr, "/proc/self/exe: %s\n", strerror(errno));
		return 1;
	}
	if (strcmp(read_name(argv), OCI_NAME) != 0)
		return call_shim(&paths, argc, argv, envp);
	if (!oci_is_call(argv))
		return run(paths.command, argv);
	return oci_call(&paths, argv, envp);
}
