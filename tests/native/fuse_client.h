/* SPDX-License-Identifier: Apache-2.0 */
/* A FUSE client for tests of the server: a shared directory of its own, and
 * requests built as the kernel would, or as it never would. */
#ifndef SAMPAN_TESTS_FUSE_CLIENT_H
#define SAMPAN_TESTS_FUSE_CLIENT_H

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "check.h"
#include "fuse/server.h"

#define CLIENT_ROOM 0x20000
#define CLIENT_GUARD 64 /* bytes after the reply's room that must not change */

struct client {
	struct fuse_server *server;
	char base[32]; /* holds share/ and what is outside of it */
	char share[40];
	int share_fd;
	uint64_t unique;
	uint8_t request[CLIENT_ROOM], reply[CLIENT_ROOM + CLIENT_GUARD];
	size_t request_bytes;
	size_t room;	    /* for replies; reset to CLIENT_ROOM after each call */
	size_t reply_bytes; /* after the header */
};

/* Applies to the servers made from now on. */
static uint64_t client_keep_after_ns;
static bool client_own_mount_writable = true;

#define REPLY(client, type) ((const type *)((client)->reply + sizeof(struct fuse_out_header)))
#define BODY(value) &(value), sizeof(value)
#define STRING(text) (text), strlen(text) + 1
#define END NULL, (size_t)0

enum policy { IMAGE, EXCLUSIVE, SHARED };

static inline void client_new_server(struct client *c, enum policy policy)
{
	const uint64_t valid_ns = policy == SHARED ? 0 : 3600 * 1000000000ULL;
	const struct fuse_server_config config = {
		.root_fd = c->share_fd,
		.read_only = policy == IMAGE,
		.exclusive = policy != SHARED,
		.keep_after_ns = client_keep_after_ns,
		.announce_submounts = policy != IMAGE,
		.own_mount_writable = client_own_mount_writable,
		.privileged_attributes = policy == EXCLUSIVE,
		.entry_valid_ns = valid_ns,
		.attr_valid_ns = valid_ns,
	};

	CHECK_EQUAL(fuse_server_new(&config, &c->server), 0);
	CHECK_EQUAL(fuse_server_enter_thread(c->server), 0);
}

static inline void client_put(struct client *c, const void *data, size_t len)
{
	CHECK(c->request_bytes + len <= sizeof(c->request));
	if (len > 0)
		memcpy(c->request + c->request_bytes, data, len);
	c->request_bytes += len;
}

static inline struct fuse_in_header *client_header(struct client *c)
{
	return (struct fuse_in_header *)c->request;
}

/* Sends the request as it is; returns what the server returned. */
static inline ptrdiff_t client_send_raw(struct client *c)
{
	const struct iovec in = {c->request, c->request_bytes}, out = {c->reply, c->room};
	ptrdiff_t n;

	memset(c->reply + c->room, 0xa5, CLIENT_GUARD);
	n = fuse_server_handle(c->server, &in, 1, &out, 1);
	for (size_t i = 0; i < CLIENT_GUARD; i++)
		CHECK_EQUAL(c->reply[c->room + i], 0xa5);
	c->room = CLIENT_ROOM;
	return n;
}

static inline int client_send(struct client *c)
{
	const struct fuse_out_header *reply = (const struct fuse_out_header *)c->reply;
	ptrdiff_t n;

	client_header(c)->len = (uint32_t)c->request_bytes;
	n = client_send_raw(c);
	CHECK(n >= (ptrdiff_t)sizeof(*reply));
	CHECK_EQUAL(reply->len, n);
	CHECK_EQUAL(reply->unique, c->unique);
	CHECK(reply->error <= 0 && reply->error > -4096);
	if (reply->error)
		CHECK_EQUAL(n, sizeof(*reply));
	c->reply_bytes = (size_t)n - sizeof(*reply);
	return reply->error;
}

static inline void client_begin(struct client *c, uint32_t opcode, uint64_t nodeid)
{
	const struct fuse_in_header header = {
		.opcode = opcode,
		.nodeid = nodeid,
		.unique = ++c->unique,
		.uid = getuid(),
		.gid = getgid(),
	};

	c->request_bytes = 0;
	client_put(c, &header, sizeof(header));
}

/* The parts of the arguments: pointer and length in turn, then END. */
static inline int client_call(struct client *c, uint32_t opcode, uint64_t nodeid, ...)
{
	const void *part;
	va_list parts;

	client_begin(c, opcode, nodeid);
	va_start(parts, nodeid);
	while ((part = va_arg(parts, const void *)))
		client_put(c, part, va_arg(parts, size_t));
	va_end(parts);
	return client_send(c);
}

static inline uint64_t client_init(struct client *c, uint64_t features)
{
	const struct fuse_init_in in = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.flags = (uint32_t)features | FUSE_INIT_EXT,
		.flags2 = (uint32_t)(features >> 32),
	};

	CHECK_EQUAL(client_call(c, FUSE_INIT, 0, BODY(in), END), 0);
	return REPLY(c, struct fuse_init_out)->flags;
}

static inline void client_new_in(struct client *c, enum policy policy, const char *place)
{
	memset(c, 0, sizeof(*c));
	c->room = CLIENT_ROOM;
	snprintf(c->base, sizeof(c->base), "%s/test-fuse-XXXXXX", place);
	CHECK(mkdtemp(c->base));
	snprintf(c->share, sizeof(c->share), "%s/share", c->base);
	CHECK_EQUAL(mkdir(c->share, 0755), 0);
	c->share_fd = open(c->share, O_PATH | O_DIRECTORY | O_CLOEXEC);
	client_new_server(c, policy);
	client_init(c, ~0ULL);
}

static inline void client_new(struct client *c, enum policy policy)
{
	client_new_in(c, policy, "/tmp");
}

static inline void client_free(struct client *c)
{
	char command[64];

	fuse_server_free(c->server);
	close(c->share_fd);
	CHECK_EQUAL(chdir("/"), 0);
	snprintf(command, sizeof(command), "rm -rf %s", c->base);
	CHECK_EQUAL(system(command), 0);
}

/* --- common steps of tests ------------------------------------------------ */

static inline void client_write_host(const struct client *c, const char *name, const char *text)
{
	int fd = openat(c->share_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	CHECK_EQUAL(write(fd, text, strlen(text)), strlen(text));
	/* The thread still has the umask of the last request. */
	CHECK_EQUAL(fchmod(fd, 0644), 0);
	close(fd);
}

/* The node of a name, which must be there. */
static inline uint64_t client_lookup(struct client *c, uint64_t parent, const char *name)
{
	CHECK_EQUAL(client_call(c, FUSE_LOOKUP, parent, STRING(name), END), 0);
	CHECK_EQUAL(c->reply_bytes, sizeof(struct fuse_entry_out));
	return REPLY(c, struct fuse_entry_out)->nodeid;
}

/* FORGET has no reply. */
static inline void client_forget(struct client *c, uint64_t node, uint64_t count)
{
	const struct fuse_forget_in in = {count};

	client_begin(c, FUSE_FORGET, node);
	client_put(c, &in, sizeof(in));
	client_header(c)->len = (uint32_t)c->request_bytes;
	CHECK_EQUAL(client_send_raw(c), 0);
}

static inline int client_read(struct client *c, uint64_t node, uint64_t fh, uint64_t offset,
			      uint32_t size)
{
	const struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};

	return client_call(c, FUSE_READ, node, BODY(in), END);
}

static inline int client_write(struct client *c, uint64_t node, uint64_t fh, uint64_t offset,
			       const char *text)
{
	const struct fuse_write_in in = {
		.fh = fh, .offset = offset, .size = (uint32_t)strlen(text)};

	return client_call(c, FUSE_WRITE, node, BODY(in), text, strlen(text), END);
}

static inline uint64_t client_open(struct client *c, uint64_t node, uint32_t flags)
{
	const struct fuse_open_in in = {.flags = flags};

	CHECK_EQUAL(client_call(c, FUSE_OPEN, node, BODY(in), END), 0);
	return REPLY(c, struct fuse_open_out)->fh;
}

static inline bool client_replied(const struct client *c, const char *text)
{
	return c->reply_bytes == strlen(text) && memcmp(REPLY(c, char), text, c->reply_bytes) == 0;
}

#endif
