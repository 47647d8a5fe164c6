/* SPDX-License-Identifier: Apache-2.0 */
/* SYNCFS, which looks through the share for what is mounted there. */
#include "fuse_client.h"

#define ROOT FUSE_ROOT_ID

static struct client c;

static int sync_share(void)
{
	const struct fuse_syncfs_in in = {0};

	return client_call(&c, FUSE_SYNCFS, ROOT, BODY(in), END);
}

static void what_a_client_has_left_there_does_not_matter(void)
{
	client_new_in(&c, EXCLUSIVE, "/dev/shm");
	CHECK_EQUAL(mkfifoat(c.share_fd, "fifo", 0600), 0); /* to open it is to wait */
	CHECK_EQUAL(symlinkat("/", c.share_fd, "elsewhere"), 0);
	CHECK_EQUAL(symlinkat("itself", c.share_fd, "itself"), 0);
	CHECK_EQUAL(mkdirat(c.share_fd, "container", 0700), 0);
	client_write_host(&c, "file", "contents");
	CHECK_EQUAL(sync_share(), 0);
	client_free(&c);
}

static void a_file_that_nobody_knows_cannot_be_synced(void)
{
	const struct fuse_syncfs_in in = {0};

	client_new_in(&c, SHARED, "/dev/shm");
	CHECK_EQUAL(client_call(&c, FUSE_SYNCFS, 4711, BODY(in), END), -ESTALE);
	client_free(&c);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(what_a_client_has_left_there_does_not_matter),
		TEST(a_file_that_nobody_knows_cannot_be_synced),
	};
	return RUN_TESTS(tests, argc, argv);
}
