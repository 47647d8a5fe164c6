/* SPDX-License-Identifier: Apache-2.0 */
/* A saved session of a FUSE client, damaged: whatever is in it, no file is known that is
 * not below the share, and the client that comes then is served. */
#include "fuse_tree.h"
#include "input.h"

#define STATE_BYTES 4096

/* A server of its own for each input: one with large numbers of files is slow later. */
static struct client c;
static uint8_t valid[STATE_BYTES], state[STATE_BYTES];
static size_t valid_bytes;

static void make_valid(void)
{
	ptrdiff_t n;
	uint64_t dir;

	tree_new();
	tree_renew();
	client_own_mount_writable = false;
	c.room = CLIENT_ROOM;
	c.share_fd = tree.share_fd;
	client_new_server(&c, IMAGE);
	client_init(&c, ~0ULL);
	client_lookup(&c, FUSE_ROOT_ID, "a");
	client_lookup(&c, FUSE_ROOT_ID, "l");
	dir = client_lookup(&c, FUSE_ROOT_ID, "d");
	client_lookup(&c, dir, "b");
	if (tree.mounts)
		client_lookup(&c, client_lookup(&c, FUSE_ROOT_ID, MOUNTED), "a");
	n = fuse_server_save(c.server, valid, sizeof(valid));
	CHECK(n > 0 && n <= STATE_BYTES);
	valid_bytes = (size_t)n;
	fuse_server_free(c.server);
}

static size_t damage(struct input *in)
{
	uint8_t changes = take_u8(in) % 16;
	size_t bytes = valid_bytes;

	memcpy(state, valid, valid_bytes);
	while (changes-- > 0) {
		const uint8_t kind = take_u8(in);
		const size_t at = take_u16(in) % STATE_BYTES, len = kind % 24;

		if (kind >= 224)
			bytes = at;
		else if (kind >= 192)
			memmove(state + at / 2, state + at % valid_bytes, valid_bytes / 2);
		else if (at + len < STATE_BYTES)
			take_bytes(in, state + at % (valid_bytes + 64), len);
	}
	return bytes;
}

static void use(struct input *in)
{
	const struct fuse_getattr_in getattr = {0};

	while (more(in)) {
		const uint8_t what = take_u8(in);
		const uint64_t node = take_number(in);

		if (what % 4 == 0)
			client_forget(&c, node, take_u8(in));
		else if (what % 4 == 1)
			(void)client_call(&c, FUSE_GETATTR, node, BODY(getattr), END);
		else if (what % 4 == 2)
			(void)client_call(&c, FUSE_LOOKUP, node, STRING(what & 8 ? "b" : "a"), END);
		else
			(void)client_read(&c, node, 0, 0, 64);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	size_t bytes;
	int before, r;

	if (valid_bytes == 0)
		make_valid();
	before = lowest_free_fd();
	client_new_server(&c, IMAGE);
	bytes = damage(&in);
	r = fuse_server_restore(c.server, state, bytes);
	CHECK(r <= 0 && r > -4096);
	if (r < 0)
		client_init(&c, ~0ULL);
	use(&in);
	(void)fuse_server_save(c.server, state, sizeof(state));
	fuse_server_free(c.server);
	CHECK_EQUAL(lowest_free_fd(), before);
	tree_check_outside();
	return 0;
}
