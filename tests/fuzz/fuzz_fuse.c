/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of a hostile client of the FUSE server, put together from the input: over a
 * share of files in memory with a mount below it, at the limit of descriptors, with the
 * session saved and restored.  With FUZZ_THREADS from two threads at once. */
#include <pthread.h>

#include "fuse_tree.h"
#include "input.h"

#define REMEMBERED 16
#define STATE_BYTES 16384
#define SAVE 60
#define RESET 61
#define FEW_DESCRIPTORS 62
#define AGAIN 63

#ifdef FUZZ_THREADS
#define THREADS 2
#else
#define THREADS 1
#endif

struct guest {
	struct client c;
	struct input in;
	uint64_t nodes[REMEMBERED], handles[REMEMBERED];
	uint8_t next_node, next_handle;
	pthread_t thread;
};

static struct guest guests[THREADS];
static uint8_t choice;

/* What follows a request's header: so many bytes of a structure, in which a node or a
 * handle may be, then names. */
static const struct shape {
	uint8_t bytes, names;
	int8_t node_at, handle_at;
} shapes[FUSE_OPCODES] = {
	[FUSE_LOOKUP] = {0, 1, -1, -1},
	[FUSE_FORGET] = {8, 0, -1, -1},
	[FUSE_GETATTR] = {sizeof(struct fuse_getattr_in), 0, -1, 8},
	[FUSE_SETATTR] = {sizeof(struct fuse_setattr_in), 0, -1, 8},
	[FUSE_SYMLINK] = {0, 2, -1, -1},
	[FUSE_MKNOD] = {sizeof(struct fuse_mknod_in), 1, -1, -1},
	[FUSE_MKDIR] = {sizeof(struct fuse_mkdir_in), 1, -1, -1},
	[FUSE_UNLINK] = {0, 1, -1, -1},
	[FUSE_RMDIR] = {0, 1, -1, -1},
	[FUSE_RENAME] = {sizeof(struct fuse_rename_in), 2, 0, -1},
	[FUSE_RENAME2] = {sizeof(struct fuse_rename2_in), 2, 0, -1},
	[FUSE_LINK] = {sizeof(struct fuse_link_in), 1, 0, -1},
	[FUSE_OPEN] = {sizeof(struct fuse_open_in), 0, -1, -1},
	[FUSE_OPENDIR] = {sizeof(struct fuse_open_in), 0, -1, -1},
	[FUSE_READ] = {sizeof(struct fuse_read_in), 0, -1, 0},
	[FUSE_READDIR] = {sizeof(struct fuse_read_in), 0, -1, 0},
	[FUSE_READDIRPLUS] = {sizeof(struct fuse_read_in), 0, -1, 0},
	[FUSE_WRITE] = {sizeof(struct fuse_write_in), 0, -1, 0},
	[FUSE_RELEASE] = {sizeof(struct fuse_release_in), 0, -1, 0},
	[FUSE_RELEASEDIR] = {sizeof(struct fuse_release_in), 0, -1, 0},
	[FUSE_FLUSH] = {sizeof(struct fuse_flush_in), 0, -1, 0},
	[FUSE_FSYNC] = {sizeof(struct fuse_fsync_in), 0, -1, 0},
	[FUSE_FSYNCDIR] = {sizeof(struct fuse_fsync_in), 0, -1, 0},
	[FUSE_SETXATTR] = {sizeof(struct fuse_setxattr_in), 1, -1, -1},
	[FUSE_GETXATTR] = {sizeof(struct fuse_getxattr_in), 1, -1, -1},
	[FUSE_LISTXATTR] = {sizeof(struct fuse_getxattr_in), 0, -1, -1},
	[FUSE_REMOVEXATTR] = {0, 1, -1, -1},
	[FUSE_CREATE] = {sizeof(struct fuse_create_in), 1, -1, -1},
	[FUSE_TMPFILE] = {sizeof(struct fuse_create_in), 1, -1, -1},
	[FUSE_INIT] = {sizeof(struct fuse_init_in), 0, -1, -1},
	[FUSE_BATCH_FORGET] = {24, 0, 8, -1},
	[FUSE_FALLOCATE] = {sizeof(struct fuse_fallocate_in), 0, -1, 0},
	[FUSE_LSEEK] = {sizeof(struct fuse_lseek_in), 0, -1, 0},
	[FUSE_COPY_FILE_RANGE] = {sizeof(struct fuse_copy_file_range_in), 0, 16, 0},
	[FUSE_SYNCFS] = {8, 0, -1, -1},
};

static uint64_t take_node(struct guest *g)
{
	const uint8_t which = take_u8(&g->in);

	if (which < 64)
		return FUSE_ROOT_ID;
	if (which >= 250)
		return take_number(&g->in);
	return g->nodes[which % REMEMBERED];
}

static uint64_t take_handle(struct guest *g)
{
	const uint8_t which = take_u8(&g->in);

	if (which < 64)
		return 0;
	if (which >= 250)
		return take_number(&g->in);
	return g->handles[which % REMEMBERED];
}

static void put_name(struct guest *g)
{
	static const char *const names[] = {
		"a", "d",      "b",	    "l", MOUNTED,      "c",
		"e", "..",     ".",	    "",	 "../x",       "d/b",
		"/", "user.x", "trusted.x", "f", "security.x", "system.posix_acl_access"};
	const uint8_t which = take_u8(&g->in);
	char name[33] = "";

	if (which < 224) {
		client_put(&g->c, STRING(names[which % (sizeof(names) / sizeof(names[0]))]));
		return;
	}
	take_bytes(&g->in, name, which - 224);
	client_put(&g->c, name, which - 223);
}

/* Zeros, in which some words are changed: with 28 and 29 the sizes and offsets of most
 * requests are among them. */
static void put_structure(struct guest *g, const struct shape *shape)
{
	uint64_t words[16] = {0};
	uint8_t changes = take_u8(&g->in) % 8;

	while (changes-- > 0) {
		const unsigned at = take_u8(&g->in) % (shape->bytes / 4u) * 4;
		const uint64_t value = take_number(&g->in);

		memcpy((uint8_t *)words + at, &value, at % 8 ? 4 : 8);
	}
	if (shape->node_at >= 0)
		words[shape->node_at / 8] = take_node(g);
	if (shape->handle_at >= 0)
		words[shape->handle_at / 8] = take_handle(g);
	client_put(&g->c, words, shape->bytes);
}

/* What WRITE and SETXATTR carry is as long as they say, or their first 4 KiB. */
static void put_contents(struct guest *g, uint32_t opcode)
{
	static const uint8_t contents[4096] = {1, 2, 3};
	const uint8_t *body = g->c.request + sizeof(struct fuse_in_header);
	uint32_t size = 0;

	if (opcode == FUSE_WRITE)
		size = ((const struct fuse_write_in *)body)->size;
	else if (opcode == FUSE_SETXATTR)
		size = ((const struct fuse_setxattr_in *)body)->size;
	client_put(&g->c, contents, size < sizeof(contents) ? size : sizeof(contents));
}

static void remember(struct guest *g, uint32_t opcode)
{
	const struct fuse_entry_out *entry = REPLY(&g->c, struct fuse_entry_out);

	switch (opcode) {
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		g->handles[g->next_handle++ % REMEMBERED] =
			((const struct fuse_open_out *)(entry + 1))->fh;
		/* fallthrough */
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
		g->nodes[g->next_node++ % REMEMBERED] = entry->nodeid;
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		g->handles[g->next_handle++ % REMEMBERED] = REPLY(&g->c, struct fuse_open_out)->fh;
		break;
	}
}

/* Those would wait for the whole machine's disks. */
static bool is_left_out(uint32_t opcode)
{
	return !tree.mounts && (opcode == FUSE_SYNCFS || opcode == FUSE_FSYNC ||
				opcode == FUSE_FSYNCDIR || opcode == FUSE_FALLOCATE);
}

/* In one piece or in three, `cut` bytes in the second. */
static ptrdiff_t handle(struct client *c, size_t cut)
{
	const size_t first = c->request_bytes / 3, rest = c->room / 2;
	const size_t second = cut < c->request_bytes - first ? cut : c->request_bytes - first;
	const struct iovec in[] = {
		{c->request, first},
		{c->request + first, second},
		{c->request + first + second, c->request_bytes - first - second},
	};
	const struct iovec out[] = {{c->reply, rest}, {c->reply + rest, c->room - rest}};
	ptrdiff_t n;

	if (cut == 0)
		return client_send_raw(c);
	n = fuse_server_handle(c->server, in, 3, out, 2);
	c->room = CLIENT_ROOM;
	return n;
}

static void one_request(struct guest *g, uint32_t opcode)
{
	const struct fuse_out_header *reply = (const struct fuse_out_header *)g->c.reply;
	const struct shape *shape = &shapes[opcode];
	const uint8_t odd = take_u8(&g->in);
	ptrdiff_t n;

	client_begin(&g->c, opcode, take_node(g));
	if (odd & 1)
		client_header(&g->c)->uid = client_header(&g->c)->gid = 1000;
	if (shape->bytes > 0)
		put_structure(g, shape);
	for (unsigned i = 0; i < shape->names; i++)
		put_name(g);
	put_contents(g, opcode);
	if ((odd & 6) == 6)
		g->c.request_bytes -= take_u8(&g->in) % g->c.request_bytes;
	client_header(&g->c)->len = (uint32_t)g->c.request_bytes;
	if ((odd & 0x18) == 0x18)
		client_header(&g->c)->len += take_u8(&g->in) - 8u;
	if ((odd & 0x60) == 0x60)
		g->c.room = take_u8(&g->in) * 2u;
	if (is_left_out(opcode))
		return;
	n = handle(&g->c, odd & 0x80 ? 1 + take_u8(&g->in) : 0);
	if (n <= 0) {
		CHECK(n == 0 || n == -EPROTO);
		return;
	}
	CHECK(n >= (ptrdiff_t)sizeof(*reply) && reply->len == n);
	CHECK(reply->error <= 0 && reply->error > -4096);
	if (n > (ptrdiff_t)sizeof(*reply))
		remember(g, opcode);
}

static void init(struct guest *g)
{
	client_init(&g->c, ~0ULL);
}

#ifndef FUZZ_THREADS
/* A saved session is one that another server goes on with, and saves the same. */
static void save_and_go_on(struct guest *g)
{
	static uint8_t state[STATE_BYTES], again[STATE_BYTES];
	const ptrdiff_t n = fuse_server_save(g->c.server, state, sizeof(state));
	int r;

	if (n < 0 || n > STATE_BYTES)
		return;
	fuse_server_reset(g->c.server);
	tree_serve(&g->c, choice, g->c.server == servers[choice % CHOICES][0]);
	r = fuse_server_restore(g->c.server, state, (size_t)n);
	if (r < 0) {
		init(g);
		return;
	}
	CHECK_EQUAL(fuse_server_save(g->c.server, again, sizeof(again)), n);
	CHECK(memcmp(state, again, (size_t)n) == 0);
}
#endif

static void limit_descriptors(rlim_t count)
{
	const struct rlimit limit = {count, MOST_DESCRIPTORS};

	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void step(struct guest *g)
{
	const uint8_t what = take_u8(&g->in) % FUSE_OPCODES;

	switch (what) {
#ifndef FUZZ_THREADS
	case SAVE:
		save_and_go_on(g);
		break;
	case RESET:
		fuse_server_reset(g->c.server);
		init(g);
		break;
	case FEW_DESCRIPTORS:
		limit_descriptors(MOST_DESCRIPTORS);
		limit_descriptors((rlim_t)lowest_free_fd() + take_u8(&g->in) % 16);
		break;
#endif
	case AGAIN:
		limit_descriptors(MOST_DESCRIPTORS);
		break;
	default:
		one_request(g, what);
	}
}

static void *run(void *context)
{
	struct guest *g = context;

	if (g != guests)
		CHECK_EQUAL(fuse_server_enter_thread(g->c.server), 0);
	while (more(&g->in))
		step(g);
	return NULL;
}

static void start(struct guest *g)
{
	memset(g->nodes, 0, sizeof(g->nodes));
	memset(g->handles, 0, sizeof(g->handles));
	g->next_node = g->next_handle = 0;
	g->c.room = CLIENT_ROOM;
	g->c.unique = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	int before;

	if (tree.base_fd == 0)
		tree_new();
	tree_renew();
	choice = take_u8(&in);
	tree_serve(&guests[0].c, choice, 0);
	before = lowest_free_fd();
	for (unsigned i = 0; i < THREADS; i++) {
		start(&guests[i]);
		guests[i].c.server = guests[0].c.server;
		guests[i].in = take_part(&in, size / THREADS + 1);
	}
	init(&guests[0]);
	for (unsigned i = 1; i < THREADS; i++)
		CHECK_EQUAL(pthread_create(&guests[i].thread, NULL, run, &guests[i]), 0);
	run(&guests[0]);
	for (unsigned i = 1; i < THREADS; i++)
		CHECK_EQUAL(pthread_join(guests[i].thread, NULL), 0);
	limit_descriptors(MOST_DESCRIPTORS);
	fuse_server_reset(guests[0].c.server);
#ifdef FUZZ_THREADS
	(void)before; /* TSan opens some for itself */
#else
	CHECK_EQUAL(lowest_free_fd(), before);
#endif
	tree_check_outside();
	return 0;
}
