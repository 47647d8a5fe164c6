/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's half of test_vsock.py: servers on three vsock ports.
 *
 *   1024  echoes until the end of the input
 *   1025  a stream; the token's first byte says what it does:
 *         'o' sends as many bytes as its last eight say, 'w' sends until an
 *         error, 'i' receives to the end.  Data are 8-byte words that count up.
 *   1026  answers with what the last stream found, as a line of text
 */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS 8192

struct result {
	uint64_t bytes, wrong;
	int error;
};

static struct result *last;
static uint64_t words[WORDS];

static int listen_at(unsigned port)
{
	struct sockaddr_vm address = {
	    .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 64) < 0) {
		perror("vsock_guest: listen");
		exit(1);
	}
	return fd;
}

static void echo(int fd)
{
	static char buf[65536];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0, w; at < n; at += w)
			if ((w = write(fd, buf + at, (size_t)(n - at))) < 0)
				return;
}

static void send_words(int fd, uint64_t bytes)
{
	char byte;

	for (uint64_t at = 0; at < bytes;) {
		uint64_t block = at / sizeof(words), skip = at % sizeof(words);
		size_t len = sizeof(words) - skip < bytes - at ? sizeof(words) - skip : bytes - at;
		ssize_t n;

		for (uint64_t i = 0; i < WORDS; i++)
			words[i] = block * WORDS + i;
		n = write(fd, (char *)words + skip, len);
		if (n < 0) {
			last->error = errno;
			return;
		}
		last->bytes += (uint64_t)n;
		at += (uint64_t)n;
	}
	shutdown(fd, SHUT_WR);
	last->wrong = read(fd, &byte, 1) != 0; /* the host closes when all is written */
}

static void receive_words(int fd)
{
	uint64_t at = 0, word;
	ssize_t n;

	while ((n = read(fd, words, sizeof(words))) > 0) {
		for (ssize_t i = 0; i < n; i++, at++) {
			word = at / 8;
			last->wrong += ((uint8_t *)words)[i] != ((uint8_t *)&word)[at % 8];
		}
	}
	last->bytes = at;
	last->error = n < 0 ? errno : 0;
}

static void stream(int fd)
{
	char token[16];
	uint64_t bytes;

	if (recv(fd, token, sizeof(token), MSG_WAITALL) != sizeof(token))
		return;
	*last = (struct result){0};
	memcpy(&bytes, token + 8, sizeof(bytes));
	if (token[0] == 'i')
		receive_words(fd);
	else
		send_words(fd, token[0] == 'o' ? bytes : UINT64_MAX);
}

static void report(int fd)
{
	dprintf(fd, "%llu %llu %d\n", (unsigned long long)last->bytes,
		(unsigned long long)last->wrong, last->error);
}

static void serve(unsigned port, void (*handle)(int fd))
{
	int listen_fd = listen_at(port), fd;

	if (fork() != 0)
		return;
	while ((fd = accept(listen_fd, NULL, NULL)) >= 0) {
		if (fork() == 0) {
			close(listen_fd);
			handle(fd);
			exit(0);
		}
		close(fd);
	}
	exit(1);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	last = mmap(NULL, sizeof(*last), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	serve(1024, echo);
	serve(1025, stream);
	serve(1026, report);
	puts("vsock-guest ready");
	for (;;)
		pause();
}
