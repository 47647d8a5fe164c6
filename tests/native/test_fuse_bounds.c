/* SPDX-License-Identifier: Apache-2.0 */
/* How much work one request can cause: each has a greatest length, and its work is
 * bounded too, however much room the client gives. */
#include <limits.h>
#include <sys/mman.h>

#include "fuse/proto.h"
#include "fuse_client.h"

#define ROOT FUSE_ROOT_ID
#define SEGMENTS 511
#define ARGUMENTS_MAX (sizeof(struct fuse_in_header) + FUSE_BODY_MAX)
#define FORGETS_MAX ((FUSE_REQUEST_MAX - sizeof(struct batch)) / sizeof(struct fuse_forget_one))

static struct client c;

struct batch {
	struct fuse_in_header header;
	struct fuse_batch_forget_in in;
};

static void *map(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(at != MAP_FAILED);
	return at;
}

static bool is_known(uint64_t node)
{
	const struct fuse_getattr_in in = {0};

	return client_call(&c, FUSE_GETATTR, node, BODY(in), END) == 0;
}

/* A node that is unknown after exactly `count` forgets. */
static uint64_t look_up_often(const char *name, unsigned count)
{
	uint64_t node = 0;

	client_write_host(&c, name, "contents");
	for (unsigned i = 0; i < count; i++)
		node = client_lookup(&c, ROOT, name);
	return node;
}

/* Forgets `node` once for each entry of a list that lies in `segments` iovecs. */
static ptrdiff_t forget(uint64_t node, size_t forgets, unsigned segments)
{
	const size_t list_bytes = forgets * sizeof(struct fuse_forget_one);
	struct fuse_forget_one *list = map(list_bytes);
	const struct batch head = {
		.header = {.len = (uint32_t)(sizeof(head) + list_bytes),
			   .opcode = FUSE_BATCH_FORGET},
		.in = {.count = UINT32_MAX},
	};
	struct iovec iov[SEGMENTS + 1] = {{(void *)&head, sizeof(head)}};
	const size_t step = list_bytes / segments;
	ptrdiff_t r;

	for (size_t i = 0; i < forgets; i++)
		list[i] = (struct fuse_forget_one){node, 1};
	for (unsigned i = 0; i < segments; i++)
		iov[1 + i] = (struct iovec){(uint8_t *)list + i * step, step};
	iov[segments].iov_len += list_bytes - step * segments;
	r = fuse_server_handle(c.server, iov, 1 + segments, NULL, 0);
	munmap(list, list_bytes);
	return r;
}

static void the_longest_list_is_forgotten_entry_by_entry(void)
{
	const unsigned lookups = 3000;
	uint64_t node;

	client_new(&c, SHARED);
	node = look_up_often("file", lookups);
	CHECK_EQUAL(forget(node, lookups - 1, 7), 0);
	CHECK(is_known(node));
	CHECK_EQUAL(forget(node, 1, 1), 0);
	CHECK(!is_known(node));
	node = look_up_often("file", 2);
	CHECK_EQUAL(forget(node, FORGETS_MAX, SEGMENTS), 0);
	CHECK(!is_known(node));
	client_free(&c);
}

static void a_longer_list_is_not_looked_at(void)
{
	uint64_t node;

	client_new(&c, SHARED);
	node = look_up_often("file", 1);
	CHECK_EQUAL(forget(node, FORGETS_MAX + 1, SEGMENTS), 0);
	CHECK(is_known(node));
	client_free(&c);
}

/* 1 GiB in segments that overlap, as a driver can send it. */
static void a_list_in_overlapping_segments_is_not_looked_at(void)
{
	const size_t bytes = 2U << 20;
	struct fuse_forget_one *list = map(bytes);
	struct batch head = {.header.opcode = FUSE_BATCH_FORGET, .in.count = UINT32_MAX};
	struct iovec iov[SEGMENTS + 1] = {{&head, sizeof(head)}};
	uint64_t node;

	client_new(&c, SHARED);
	node = look_up_often("file", 1);
	list[0] = (struct fuse_forget_one){node, 1};
	for (unsigned i = 1; i <= SEGMENTS; i++)
		iov[i] = (struct iovec){list, bytes};
	head.header.len = (uint32_t)(sizeof(head) + SEGMENTS * bytes);
	CHECK_EQUAL(fuse_server_handle(c.server, iov, 1 + SEGMENTS, NULL, 0), 0);
	CHECK(is_known(node));
	munmap(list, bytes);
	client_free(&c);
}

static int send_long(uint32_t opcode, size_t bytes)
{
	struct fuse_in_header *request = map(bytes);
	struct fuse_out_header reply;
	const struct iovec in = {request, bytes}, out = {&reply, sizeof(reply)};

	*request = (struct fuse_in_header){
		.len = (uint32_t)bytes, .opcode = opcode, .nodeid = ROOT, .unique = 1};
	memset(request + 1, 'n', bytes - sizeof(*request) < 100 ? 0 : 100);
	CHECK_EQUAL(fuse_server_handle(c.server, &in, 1, &out, 1), sizeof(reply));
	munmap(request, bytes);
	return reply.error;
}

static void a_request_is_no_longer_than_its_arguments(void)
{
	client_new(&c, SHARED);
	CHECK_EQUAL(send_long(FUSE_LOOKUP, ARGUMENTS_MAX), -ENOENT);
	for (uint32_t opcode = 1; opcode < FUSE_OPCODES; opcode++) {
		if (opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET ||
		    opcode == FUSE_INTERRUPT)
			continue;
		CHECK_EQUAL(send_long(opcode, FUSE_REQUEST_MAX + 1), -EINVAL);
		if (opcode != FUSE_WRITE && opcode != FUSE_SETXATTR)
			CHECK_EQUAL(send_long(opcode, ARGUMENTS_MAX + 1), -EINVAL);
	}
	client_free(&c);
}

static ptrdiff_t write_zeros(uint64_t node, uint64_t fh, uint32_t size)
{
	const struct fuse_write_in in = {.fh = fh, .size = size};
	const struct fuse_in_header header = {
		.len = (uint32_t)(sizeof(header) + sizeof(in) + size),
		.opcode = FUSE_WRITE,
		.nodeid = node,
	};
	struct {
		struct fuse_out_header header;
		struct fuse_write_out written;
	} reply;
	void *data = map(size);
	const struct iovec parts[] = {
		{(void *)&header, sizeof(header)}, {(void *)&in, sizeof(in)}, {data, size}};
	const struct iovec out = {&reply, sizeof(reply)};

	CHECK(fuse_server_handle(c.server, parts, 3, &out, 1) > 0);
	munmap(data, size);
	return reply.header.error ? reply.header.error : (ptrdiff_t)reply.written.size;
}

static ptrdiff_t read_all(uint64_t node, uint64_t fh, uint32_t size)
{
	const struct {
		struct fuse_in_header header;
		struct fuse_read_in in;
	} request = {
		.header = {.len = sizeof(request), .opcode = FUSE_READ, .nodeid = node},
		.in = {.fh = fh, .size = size},
	};
	const size_t room = sizeof(struct fuse_out_header) + size;
	struct fuse_out_header *reply = map(room);
	const struct iovec in = {(void *)&request, sizeof(request)}, out = {reply, room};
	ptrdiff_t n = fuse_server_handle(c.server, &in, 1, &out, 1);

	n = reply->error ? reply->error : n - (ptrdiff_t)sizeof(*reply);
	munmap(reply, room);
	return n;
}

static void a_read_or_write_moves_what_was_agreed_on_and_no_more(void)
{
	const struct fuse_init_out *agreed;
	uint64_t node, fh;

	client_new(&c, SHARED);
	client_init(&c, ~0ULL);
	agreed = REPLY(&c, struct fuse_init_out);
	CHECK_EQUAL(agreed->max_write, FUSE_IO_MAX);
	CHECK_EQUAL(agreed->max_pages * (size_t)getpagesize(), FUSE_IO_MAX);
	node = look_up_often("file", 1);
	fh = client_open(&c, node, O_RDWR);
	CHECK_EQUAL(write_zeros(node, fh, FUSE_IO_MAX), FUSE_IO_MAX);
	CHECK_EQUAL(write_zeros(node, fh, FUSE_IO_MAX + 1), -EINVAL);
	CHECK_EQUAL(read_all(node, fh, FUSE_IO_MAX), FUSE_IO_MAX);
	CHECK_EQUAL(read_all(node, fh, FUSE_IO_MAX + 1), -EINVAL);
	client_free(&c);
}

/* Each name that is listed by READDIRPLUS is looked up: as many as are in a reply. */
static void a_listing_has_an_end_whatever_the_room(void)
{
	static uint8_t reply[4U << 20];
	struct {
		struct fuse_in_header header;
		struct fuse_read_in in;
	} request = {
		.header = {.len = sizeof(request), .opcode = FUSE_READDIRPLUS, .nodeid = ROOT},
		.in = {.size = sizeof(reply) - sizeof(struct fuse_out_header)},
	};
	const struct iovec in = {&request, sizeof(request)}, out = {reply, sizeof(reply)};
	char name[200];
	ptrdiff_t n;

	client_new(&c, EXCLUSIVE);
	memset(name, 'n', sizeof(name));
	for (unsigned i = 0; i < 600; i++) {
		snprintf(name + 190, 10, "%u", i);
		client_write_host(&c, name, "");
	}
	n = fuse_server_handle(c.server, &in, 1, &out, 1);
	CHECK(n > 100 << 10);
	CHECK(n <= (128 << 10) + (ptrdiff_t)sizeof(struct fuse_out_header));
	client_free(&c);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(the_longest_list_is_forgotten_entry_by_entry),
		TEST(a_longer_list_is_not_looked_at),
		TEST(a_list_in_overlapping_segments_is_not_looked_at),
		TEST(a_request_is_no_longer_than_its_arguments),
		TEST(a_read_or_write_moves_what_was_agreed_on_and_no_more),
		TEST(a_listing_has_an_end_whatever_the_room),
	};
	return RUN_TESTS(tests, argc, argv);
}
