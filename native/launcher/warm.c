/* SPDX-License-Identifier: Apache-2.0 */
#include "warm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A message of a unix socket is bounded by net.core.wmem_default, 208 KiB;
 * containerd sends no environment that long. */
#define MAX_REQUEST_BYTES (192 * 1024)
#define PASSED_FDS 4
/* A fork takes milliseconds; a server that does not run on must not delay a container. */
#define READY_TIMEOUT_S 5
#define RETRY_S 10
#define LOCK_FD 3

struct request {
	char *data;
	size_t length;
};

static bool append(struct request *request, const char *text)
{
	size_t length = strlen(text) + 1;

	if (length > MAX_REQUEST_BYTES - request->length)
		return false;
	memcpy(request->data + request->length, text, length);
	request->length += length;
	return true;
}

static bool append_number(struct request *request, long number)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld", number);
	return append(request, text);
}

static bool describe(struct request *request, char **argv, char **envp)
{
	long argc = 0;

	while (argv[argc] != NULL)
		argc++;
	if (!append_number(request, argc) || !append_number(request, getppid()))
		return false;
	for (; *argv != NULL; argv++) {
		if (!append(request, *argv))
			return false;
	}
	for (; *envp != NULL; envp++) {
		if (!append(request, *envp))
			return false;
	}
	return true;
}

static bool set_timeout(int fd, time_t seconds)
{
	struct timeval timeout = {.tv_sec = seconds};

	return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0 &&
	       setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (!set_timeout(fd, READY_TIMEOUT_S) ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool send_request(int fd, const struct request *request, int cwd)
{
	int fds[PASSED_FDS] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, cwd};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(fds))];
	} control = {0};
	struct iovec data = {.iov_base = request->data, .iov_len = request->length};
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(header), fds, sizeof(fds));
	return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)request->length;
}

static bool receive_byte(int fd, unsigned char *byte)
{
	ssize_t n;

	do
		n = recv(fd, byte, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

static bool is_ready(int fd)
{
	unsigned char answer;

	return receive_byte(fd, &answer) && answer == WARM_READY && set_timeout(fd, 0);
}

bool warm_send(int fd, char **argv, char **envp)
{
	struct request request = {.data = malloc(MAX_REQUEST_BYTES)};
	int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool sent = request.data != NULL && cwd >= 0 && describe(&request, argv, envp) &&
		    is_ready(fd) && send_request(fd, &request, cwd);

	if (cwd >= 0)
		close(cwd);
	free(request.data);
	return sent;
}

int warm_open(const char *socket_path, char **argv, char **envp)
{
	int fd = connect_to(socket_path);

	if (fd >= 0 && !warm_send(fd, argv, envp)) {
		close(fd);
		return -1;
	}
	return fd;
}

enum warm_outcome warm_call(const char *socket_path, char **argv, char **envp, int *ret_status)
{
	int fd = warm_open(socket_path, argv, envp);
	unsigned char status;
	bool answered;

	if (fd < 0)
		return WARM_ABSENT;
	answered = receive_byte(fd, &status);
	close(fd);
	if (!answered)
		return WARM_LOST;
	*ret_status = status;
	return WARM_DONE;
}

static bool was_tried(int lock)
{
	struct stat st;

	/* A new file is empty; one byte in it records a try, its mtime when that was. */
	if (fstat(lock, &st) < 0)
		return true;
	return st.st_size > 0 && time(NULL) - st.st_mtime < RETRY_S && st.st_mtime <= time(NULL);
}

/* Hazard: a cgroup with a process in it cannot be removed by those who made it.  Where this
 * fails, in a container, the server stays. */
static void leave_cgroup(void)
{
	int fd = open("/sys/fs/cgroup/cgroup.procs", O_WRONLY | O_CLOEXEC);
	ssize_t moved;

	if (fd < 0)
		return;
	moved = write(fd, "0", 1);
	(void)moved;
	close(fd);
}

static void become_server(const char *program, int lock, const char *socket_path)
{
	char number[4];
	int null = open("/dev/null", O_RDWR);

	if (setsid() < 0 || chdir("/") < 0 || null < 0)
		return;
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(null, STDERR_FILENO) < 0)
		return;
	/* Hazard: the lock may already have the number LOCK_FD. */
	lock = fcntl(lock, F_DUPFD, LOCK_FD + 1);
	if (lock < 0 || dup2(lock, LOCK_FD) < 0 || close_range(LOCK_FD + 1, ~0U, 0) < 0)
		return;
	snprintf(number, sizeof(number), "%d", LOCK_FD);
	execl(program, program, number, socket_path, (char *)NULL);
}

void warm_start(const char *program, const char *lock_path, const char *socket_path,
		bool own_cgroup)
{
	int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (lock < 0)
		return;
	if (flock(lock, LOCK_EX | LOCK_NB) == 0 && !was_tried(lock) &&
	    pwrite(lock, "1", 1, 0) == 1 && fork() == 0) {
		if (own_cgroup)
			leave_cgroup();
		become_server(program, lock, socket_path);
		_exit(1);
	}
	/* The child's copy keeps the lock. */
	close(lock);
}
