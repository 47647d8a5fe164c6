/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts a directory through the FUSE server with /dev/fuse instead of virtio-fs, so
 * that this machine's kernel is the client and whole test suites run against the server
 * without a virtual machine.
 *
 *   fuse_mount [-p image|exclusive|shared] [-j THREADS] [-v VALID_MS] [-k KEEP_AFTER_MS]
 *              [-w] [-c] SOURCE TARGET
 *
 * Runs until TARGET is unmounted; prints READY when it is mounted; -w lets SOURCE
 * itself be changed, not only what is mounted in it; -c prints the requests by
 * opcode at the end. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fuse/server.h"

/* The largest write, its header and arguments, in whole pages. */
#define BUFFER_BYTES ((1U << 20) + 8192)
#define MAX_THREADS 32

struct options {
	const char *policy, *source, *target;
	unsigned threads, valid_ms, keep_after_ms;
	bool own_mount_writable, counters;
};

struct reader {
	struct fuse_server *server;
	int fd;
	pthread_t thread;
};

static void die(const char *what)
{
	fprintf(stderr, "fuse_mount: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void parse(int argc, char **argv, struct options *options)
{
	int c;

	*options = (struct options){.policy = "shared", .threads = 2, .valid_ms = 1};
	while ((c = getopt(argc, argv, "p:j:v:k:wc")) != -1) {
		if (c == 'p')
			options->policy = optarg;
		else if (c == 'j')
			options->threads = (unsigned)atoi(optarg);
		else if (c == 'v')
			options->valid_ms = (unsigned)atoi(optarg);
		else if (c == 'k')
			options->keep_after_ms = (unsigned)atoi(optarg);
		else if (c == 'w')
			options->own_mount_writable = true;
		else if (c == 'c')
			options->counters = true;
		else
			exit(2);
	}
	if (argc - optind != 2 || options->threads < 1 || options->threads > MAX_THREADS)
		exit(2);
	options->source = argv[optind];
	options->target = argv[optind + 1];
}

static struct fuse_server *open_server(const struct options *options)
{
	const bool image = strcmp(options->policy, "image") == 0;
	const bool shared = strcmp(options->policy, "shared") == 0;
	const uint64_t valid_ns = shared ? options->valid_ms * 1000000ULL : 86400ULL * 1000000000;
	struct fuse_server_config config = {
		.root_fd = open(options->source, O_PATH | O_DIRECTORY | O_CLOEXEC),
		.read_only = image,
		.exclusive = !shared,
		.keep_after_ns = options->keep_after_ms * 1000000ULL,
		.announce_submounts = !image,
		.own_mount_writable = options->own_mount_writable,
		.privileged_attributes = !image && !shared,
		.entry_valid_ns = valid_ns,
		.attr_valid_ns = valid_ns,
	};
	struct fuse_server *server;
	int r;

	if (config.root_fd < 0)
		die(options->source);
	r = fuse_server_new(&config, &server);
	errno = -r;
	if (r < 0)
		die("fuse_server_new");
	close(config.root_fd);
	return server;
}

static int mount_at(const char *target)
{
	char data[128];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("/dev/fuse");
	snprintf(data, sizeof(data),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", fd);
	if (mount("sampan", target, "fuse", 0, data) < 0)
		die(target);
	return fd;
}

static void *serve(void *context)
{
	struct reader *reader = context;
	void *request = malloc(BUFFER_BYTES), *reply = malloc(BUFFER_BYTES);
	const struct iovec out = {reply, BUFFER_BYTES};

	if (!request || !reply || fuse_server_enter_thread(reader->server) < 0)
		die("thread");
	for (;;) {
		ssize_t n = read(reader->fd, request, BUFFER_BYTES);
		const struct iovec in = {request, n > 0 ? (size_t)n : 0};

		if (n < 0 && errno == ENODEV)
			break;
		/* ENOENT: the request was interrupted before it was read. */
		if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (n < 0)
			die("read");
		n = fuse_server_handle(reader->server, &in, 1, &out, 1);
		if (n > 0 && write(reader->fd, reply, (size_t)n) < 0 && errno != ENOENT)
			die("write");
	}
	free(request);
	free(reply);
	return NULL;
}

static void print_counters(const struct fuse_server *server)
{
	uint64_t counts[FUSE_OPCODES];

	fuse_server_counters(server, counts);
	for (unsigned i = 0; i < FUSE_OPCODES; i++)
		if (counts[i])
			printf("opcode %u: %lu\n", i, (unsigned long)counts[i]);
}

int main(int argc, char **argv)
{
	struct reader readers[MAX_THREADS];
	struct rlimit limit;
	struct options options;
	struct fuse_server *server;
	int fd;

	parse(argc, argv, &options);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("RLIMIT_NOFILE");
	server = open_server(&options);
	fd = mount_at(options.target);
	for (unsigned i = 0; i < options.threads; i++) {
		readers[i] = (struct reader){.server = server, .fd = fd};
		errno = pthread_create(&readers[i].thread, NULL, serve, &readers[i]);
		if (errno)
			die("pthread_create");
	}
	puts("READY");
	fflush(stdout);
	for (unsigned i = 0; i < options.threads; i++)
		pthread_join(readers[i].thread, NULL);
	if (options.counters)
		print_counters(server);
	fuse_server_free(server);
	close(fd);
	return 0;
}
