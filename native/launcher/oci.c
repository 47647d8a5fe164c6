/* SPDX-License-Identifier: Apache-2.0 */
#include "oci.h"

#include "monitor.h"
#include "warm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CALL_FD 3
#define MAX_FLAGS 8
#define MAX_FDS 2

static const char *const COMMAND_WORDS[] = {"image",	"check",    "console",
					    "counters", "template", "version"};
static const char *const MAKING_WORDS[] = {"create", "run"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool is_one_of(const char *word, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(word, words[i]) == 0)
			return true;
	}
	return false;
}

/* `ps` with a container is runc's; without one it is about the host. */
static bool names_container(char **argv)
{
	for (; *argv != NULL; argv++) {
		if ((*argv)[0] != '-')
			return true;
	}
	return false;
}

bool oci_is_call(char **argv)
{
	if (argv[0] == NULL || argv[1] == NULL)
		return false;
	if (strcmp(argv[1], "ps") == 0)
		return names_container(argv + 2);
	return !is_one_of(argv[1], COMMAND_WORDS, COUNT(COMMAND_WORDS));
}

/* Any word counts: a warm server that was started in vain does no harm. */
static bool makes_container(char **argv)
{
	for (; *argv != NULL; argv++) {
		if (is_one_of(*argv, MAKING_WORDS, COUNT(MAKING_WORDS)))
			return true;
	}
	return false;
}

static void become_python(const char *program, int fd)
{
	char number[4];

	/* Hazard: it may already have the number CALL_FD. */
	fd = fcntl(fd, F_DUPFD, CALL_FD + 1);
	if (fd < 0 || dup2(fd, CALL_FD) < 0 || close_range(CALL_FD + 1, ~0U, 0) < 0)
		return;
	snprintf(number, sizeof(number), "%d", CALL_FD);
	execl(program, program, number, (char *)NULL);
	fprintf(stderr, "%s: %s\n", program, strerror(errno));
}

/* A connection to a Python process of our own, or -1. */
static int start_python(const char *program, char **argv, char **envp)
{
	int pair[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	child = fork();
	if (child == 0) {
		become_python(program, pair[1]);
		_exit(1);
	}
	close(pair[1]);
	if (child < 0 || !warm_send(pair[0], argv, envp)) {
		close(pair[0]);
		return -1;
	}
	return pair[0];
}

struct packet {
	char text[MAX_FLAGS];
	ssize_t length;
	int fds[MAX_FDS];
	size_t fd_count;
};

static void take_fds(struct packet *packet, struct msghdr *message)
{
	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
	     header = CMSG_NXTHDR(message, header)) {
		size_t bytes = header->cmsg_len - CMSG_LEN(0);

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(packet->fds, CMSG_DATA(header), bytes);
		packet->fd_count = bytes / sizeof(int);
	}
}

/* False at the end of the connection. */
static bool receive(int fd, struct packet *packet)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control;
	struct iovec data = {.iov_base = packet->text, .iov_len = sizeof(packet->text)};
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	packet->fd_count = 0;
	do
		packet->length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (packet->length < 0 && errno == EINTR);
	if (packet->length <= 0)
		return false;
	take_fds(packet, &message);
	return true;
}

static bool has_flag(const struct packet *packet, char flag)
{
	return memchr(packet->text + 1, flag, (size_t)packet->length - 1) != NULL;
}

static struct monitor read_monitor(int fd, const struct packet *packet)
{
	struct monitor monitor = {.connection = fd, .network = -1, .terminal = -1};
	size_t taken = 0;

	if (has_flag(packet, 'n') && taken < packet->fd_count)
		monitor.network = packet->fds[taken++];
	if (has_flag(packet, 't'))
		monitor.terminal = taken < packet->fd_count ? packet->fds[taken] : STDIN_FILENO;
	return monitor;
}

static int serve(int fd)
{
	struct packet packet;
	struct monitor monitor;

	while (receive(fd, &packet)) {
		if (packet.length == 1)
			return (unsigned char)packet.text[0];
		monitor = read_monitor(fd, &packet);
		if (packet.text[0] == 'F')
			return monitor_in_foreground(&monitor);
		if (!monitor_start(&monitor)) {
			fprintf(stderr, "sampan: no monitor process: %s\n", strerror(errno));
			return 1;
		}
	}
	fprintf(stderr, "sampan: the process that did this for us has ended\n");
	return 1;
}

int oci_call(struct paths *paths, char **argv, char **envp)
{
	int fd = -1;

	if (paths_find_socket(paths, false)) {
		fd = warm_open(paths->socket, argv, envp);
		if (fd < 0 && makes_container(argv)) {
			paths_make_directory(paths);
			warm_start(paths->server, paths->lock, paths->socket, true);
		}
	}
	if (fd < 0)
		fd = start_python(paths->call, argv, envp);
	if (fd < 0) {
		fprintf(stderr, "sampan: %s does not start\n", paths->call);
		return 1;
	}
	return serve(fd);
}
