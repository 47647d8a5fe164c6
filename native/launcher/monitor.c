/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define NAME "sampan-monitor"
#define LOST_STATUS 255
#define MAX_MESSAGE 32
#define CONNECTION_FD 3
#define TERMINAL_FD 4
#define OUT_OF_THE_WAY 16

/* Not the container's: what concerns this process alone, and a shell's job control. */
static const int OWN_SIGNALS[] = {SIGCHLD, SIGPIPE, SIGURG, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A peer that has ended is found out by the next receive. */
static void tell(int fd, const char *text)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 && errno != EPIPE)
		fprintf(stderr, "sampan: %s\n", strerror(errno));
}

static void tell_size(const struct monitor *monitor)
{
	struct winsize size;
	char text[MAX_MESSAGE];

	if (monitor->terminal < 0 || ioctl(monitor->terminal, TIOCGWINSZ, &size) < 0)
		return;
	snprintf(text, sizeof(text), "w%u %u", size.ws_col, size.ws_row);
	tell(monitor->connection, text);
}

static void pass_signal(const struct monitor *monitor, int signals)
{
	struct signalfd_siginfo info;
	char text[MAX_MESSAGE];

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH) {
		tell_size(monitor);
		return;
	}
	snprintf(text, sizeof(text), "s%u", info.ssi_signo);
	tell(monitor->connection, text);
}

static int take_signals(sigset_t *ret_before)
{
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < COUNT(OWN_SIGNALS); i++)
		sigdelset(&set, OWN_SIGNALS[i]);
	if (sigprocmask(SIG_BLOCK, &set, ret_before) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The status, or -1 at the end of the connection. */
static int receive_status(int fd)
{
	unsigned char status;
	ssize_t n;

	do
		n = recv(fd, &status, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1 ? status : -1;
}

static int wait_for_status(const struct monitor *monitor, int signals)
{
	struct pollfd fds[] = {
		{.fd = monitor->connection, .events = POLLIN},
		{.fd = signals, .events = POLLIN},
	};

	tell_size(monitor);
	tell(monitor->connection, "g");
	for (;;) {
		if (poll(fds, COUNT(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		if (fds[1].revents)
			pass_signal(monitor, signals);
		if (fds[0].revents)
			return receive_status(monitor->connection);
	}
}

/* Nothing of the caller's stays open: a pipe would not end for its reader. */
static bool keep_own(struct monitor *monitor)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int connection = fcntl(monitor->connection, F_DUPFD, OUT_OF_THE_WAY);
	int terminal = monitor->terminal;

	if (terminal >= 0)
		terminal = fcntl(terminal, F_DUPFD, OUT_OF_THE_WAY);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(null, STDERR_FILENO) < 0 || dup2(connection, CONNECTION_FD) < 0)
		return false;
	monitor->connection = CONNECTION_FD;
	if (terminal >= 0) {
		if (dup2(terminal, TERMINAL_FD) < 0)
			return false;
		monitor->terminal = TERMINAL_FD;
	}
	return close_range(terminal >= 0 ? TERMINAL_FD + 1 : CONNECTION_FD + 1, ~0U, 0) == 0;
}

static void become_monitor(struct monitor monitor, int parent)
{
	char byte;
	int signals, status;

	setsid();
	prctl(PR_SET_NAME, NAME);
	if (monitor.network >= 0 && setns(monitor.network, CLONE_NEWNET) < 0)
		fprintf(stderr, "sampan: network namespace: %s\n", strerror(errno));
	/* The session's leader with a controlling terminal is told its size and its end. */
	if (monitor.terminal >= 0)
		ioctl(monitor.terminal, TIOCSCTTY, 0);
	while (read(parent, &byte, 1) < 0 && errno == EINTR)
		continue;
	if (chdir("/") < 0 || !keep_own(&monitor))
		_exit(LOST_STATUS);
	signals = take_signals(NULL);
	status = wait_for_status(&monitor, signals);
	if (status < 0)
		kill(getpid(), SIGKILL);
	_exit(status);
}

bool monitor_start(const struct monitor *monitor)
{
	int alive[2], signals;
	char text[MAX_MESSAGE];
	sigset_t before;
	pid_t child;

	if (pipe2(alive, O_CLOEXEC) < 0)
		return false;
	signals = take_signals(&before); /* none is lost between the fork and its loop */
	child = signals < 0 ? -1 : fork();
	if (child == 0) {
		close(alive[1]);
		become_monitor(*monitor, alive[0]);
	}
	close(alive[0]); /* the other end closes when this process ends */
	if (child < 0)
		return false;
	close(signals);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (monitor->terminal >= 0)
		close(monitor->terminal);
	snprintf(text, sizeof(text), "p%d", (int)child);
	tell(monitor->connection, text);
	return true;
}

int monitor_in_foreground(const struct monitor *monitor)
{
	struct termios before, raw;
	bool is_raw = monitor->terminal >= 0 && tcgetattr(monitor->terminal, &before) == 0;
	int signals = take_signals(NULL);
	int status;

	if (is_raw) {
		raw = before;
		cfmakeraw(&raw);
		tcsetattr(monitor->terminal, TCSANOW, &raw);
	}
	status = wait_for_status(monitor, signals);
	if (is_raw)
		tcsetattr(monitor->terminal, TCSADRAIN, &before);
	if (status < 0) {
		fprintf(stderr, "sampan: the process that serves the container has ended\n");
		return LOST_STATUS;
	}
	return status;
}
