/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile client: well-formed requests with some bytes changed, for a fixed
 * number of rounds from a fixed seed.  Whatever it sends, every reply is well
 * formed and within its room, nothing outside the share changes, nothing stays
 * open when the client is gone, and the server continues. */
#include <linux/falloc.h>
#include <signal.h>
#include <sys/resource.h>

#include "fuse_client.h"

#define ROUNDS 40000
#define REMEMBERED 32
#define LARGEST_FILE (1U << 20)

static struct client c;
static uint64_t state = 0x9e3779b97f4a7c15;
static uint64_t nodes[REMEMBERED], handles[REMEMBERED];

static uint32_t any(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state >> 11) % below);
}

static uint64_t any_node(void)
{
	switch (any(16)) {
	case 0:
		return state;
	case 1:
		return any(64);
	case 2:
	case 3:
		return FUSE_ROOT_ID;
	default:
		return nodes[any(REMEMBERED)];
	}
}

static uint64_t any_handle(void)
{
	return any(8) ? handles[any(REMEMBERED)] : any(4) ? 0 : state;
}

static const char *any_name(void)
{
	static const char *const names[] = {
		"a",	  "b", "c", "d",   "e",	 "f", "g",    "h",
		"..",	  ".", "",  "a/b", "/a", "i", "../x", "../../etc/passwd",
		"user.x", "#"};

	return names[any(sizeof(names) / sizeof(names[0]))];
}

static void put_name(void)
{
	const char *name = any_name();

	client_put(&c, STRING(name));
}

/* Numbers that are likely to matter: small, or at a limit. */
static uint64_t any_number(void)
{
	static const uint64_t edges[] = {0,	    1,		4095,	   4096,      65536,
					 INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};

	return any(4) ? any(20000) : edges[any(sizeof(edges) / sizeof(edges[0]))];
}

static void put_zeros_and_handle(size_t bytes)
{
	uint64_t words[16] = {any_handle()};

	for (unsigned i = 1; i < 16; i++)
		words[i] = any(3) ? 0 : any_number();
	client_put(&c, words, bytes);
}

static void put_body(uint32_t opcode)
{
	const uint64_t node = any_node();
	uint32_t words[4] = {any(0100000) | (any(2) ? S_IFREG : S_IFIFO), any(2), any(01000), 0};

	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_REMOVEXATTR:
		put_name();
		break;
	case FUSE_SYMLINK:
		put_name();
		put_name();
		break;
	case FUSE_MKNOD:
		client_put(&c, words, sizeof(struct fuse_mknod_in));
		put_name();
		break;
	case FUSE_MKDIR:
		client_put(&c, words, sizeof(struct fuse_mkdir_in));
		put_name();
		break;
	case FUSE_LINK:
	case FUSE_RENAME:
		client_put(&c, BODY(node));
		put_name();
		put_name();
		break;
	case FUSE_RENAME2:
		client_put(&c, BODY(node));
		words[0] = any(9);
		client_put(&c, words, sizeof(uint64_t));
		put_name();
		put_name();
		break;
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		words[1] = any(4) | O_RDWR;
		client_put(&c, (uint32_t[]){any(2) ? O_RDWR : O_RDONLY, 0644, any(01000), 0},
			   sizeof(struct fuse_create_in));
		put_name();
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		client_put(&c, (uint32_t[]){any(4096), any(2)}, sizeof(struct fuse_open_in));
		break;
	case FUSE_WRITE: {
		const struct fuse_write_in in = {.fh = any_handle(),
						 .offset = any_number(),
						 .size = any(3000),
						 .write_flags = any(8)};

		client_put(&c, &in, sizeof(in));
		client_put(&c, c.reply, in.size);
		break;
	}
	case FUSE_SETXATTR: {
		const struct fuse_setxattr_in in = {.size = any(300), .flags = any(3)};

		client_put(&c, &in, sizeof(in));
		client_put(&c, STRING("user.x"));
		client_put(&c, c.reply, in.size);
		break;
	}
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		client_put(&c, (uint32_t[]){any(300), 0}, sizeof(struct fuse_getxattr_in));
		put_name();
		break;
	case FUSE_SETATTR: {
		const struct fuse_setattr_in in = {.valid = any(1 << 12),
						   .fh = any_handle(),
						   .size = any_number(),
						   .mode = any(010000) | 0700,
						   .uid = getuid(),
						   .gid = getgid()};

		client_put(&c, &in, sizeof(in));
		break;
	}
	case FUSE_BATCH_FORGET:
		client_put(&c, (uint32_t[]){any(4), 0}, sizeof(struct fuse_batch_forget_in));
		client_put(&c, BODY(node));
		client_put(&c, (uint64_t[]){any(2)}, sizeof(uint64_t));
		break;
	case FUSE_FORGET:
		client_put(&c, (uint64_t[]){any(4) == 0}, sizeof(uint64_t));
		break;
	default:
		put_zeros_and_handle(any(2) ? sizeof(struct fuse_read_in)
					    : sizeof(struct fuse_copy_file_range_in));
	}
}

/* Changes one request in three; the length is mostly adjusted. */
static void damage(void)
{
	if (any(3))
		return;
	for (unsigned i = any(4); i > 0; i--)
		c.request[sizeof(uint64_t) + any((uint32_t)c.request_bytes - 8)] ^=
			(uint8_t)(1 << any(8));
	if (any(4) == 0)
		c.request_bytes -= any((uint32_t)c.request_bytes);
}

static void remember(uint32_t opcode)
{
	const unsigned at = any(REMEMBERED);

	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		nodes[at] = REPLY(&c, struct fuse_entry_out)->nodeid;
		if (opcode == FUSE_CREATE || opcode == FUSE_TMPFILE)
			handles[at] =
				((const struct fuse_open_out *)(REPLY(&c, struct fuse_entry_out) +
								1))
					->fh;
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		handles[at] = REPLY(&c, struct fuse_open_out)->fh;
		break;
	}
}

/* SYNCFS and fsync would wait for the whole machine's disks. */
static bool is_left_out(uint32_t opcode)
{
	return opcode == FUSE_SYNCFS || opcode == FUSE_FSYNC || opcode == FUSE_FSYNCDIR;
}

static void one_request(void)
{
	const struct fuse_out_header *reply = (const struct fuse_out_header *)c.reply;
	uint32_t opcode = any(FUSE_OPCODES);
	ptrdiff_t n;

	client_begin(&c, opcode, any_node());
	put_body(opcode);
	client_header(&c)->total_extlen = 0;
	damage();
	if (c.request_bytes >= sizeof(uint64_t)) {
		if (any(32))
			client_header(&c)->len = (uint32_t)c.request_bytes;
		opcode = client_header(&c)->opcode;
	}
	if (is_left_out(opcode))
		return;
	if (any(8) == 0)
		c.room = any(300);
	n = client_send_raw(&c);
	if (n <= 0)
		CHECK(n == 0 || n == -EPROTO);
	else
		CHECK(n >= (ptrdiff_t)sizeof(*reply) && reply->len == n && reply->error <= 0);
	if (n > (ptrdiff_t)sizeof(*reply))
		remember(opcode);
}

static unsigned open_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 8192; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void check_outside(void)
{
	char path[64], text[16] = "";
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/x", c.base);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	CHECK_EQUAL(st.st_mode, S_IFREG | 0600);
	CHECK_EQUAL(st.st_nlink, 1);
	CHECK_EQUAL(read(fd, text, sizeof(text)), 6);
	CHECK(strcmp(text, "canary") == 0);
	close(fd);
}

static void fuzz(enum policy policy)
{
	unsigned before;
	char path[64];
	int fd;

	client_new(&c, policy);
	snprintf(path, sizeof(path), "%s/x", c.base);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK_EQUAL(write(fd, "canary", 6), 6);
	CHECK_EQUAL(fchmod(fd, 0600), 0);
	close(fd);
	before = open_descriptors();
	for (unsigned i = 0; i < ROUNDS; i++) {
		one_request();
		if (i % 8192 == 0)
			client_init(&c, any(2) ? ~0ULL : any(UINT32_MAX));
	}
	check_outside();
	fuse_server_reset(c.server);
	CHECK_EQUAL(open_descriptors(), before);
	client_init(&c, ~0ULL);
	CHECK_EQUAL(client_call(&c, FUSE_STATFS, FUSE_ROOT_ID, END), 0);
	CHECK_EQUAL(fchmodat(AT_FDCWD, c.share, 0700, 0), 0);
	client_free(&c);
}

static void shared(void)
{
	fuzz(SHARED);
}

static void exclusive(void)
{
	fuzz(EXCLUSIVE);
}

static void image(void)
{
	fuzz(IMAGE);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {TEST(shared), TEST(exclusive), TEST(image)};
	const struct rlimit limit = {LARGEST_FILE, LARGEST_FILE};

	/* No disk must be filled. */
	signal(SIGXFSZ, SIG_IGN);
	CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
	return RUN_TESTS(tests, argc, argv);
}
