/* SPDX-License-Identifier: Apache-2.0 */
/* INIT: a client may send another one at any time, while requests are handled. */
#include <pthread.h>

#include "fuse_client.h"

#define ROOT FUSE_ROOT_ID
#define ROUNDS 2000

static struct client c, other;

/* Sessions that need OPEN and sessions that do not, in turn. */
static void *begin_sessions(void *context)
{
	(void)context;
	CHECK_EQUAL(fuse_server_enter_thread(other.server), 0);
	for (unsigned i = 0; i < ROUNDS; i++)
		client_init(&other, i % 2 ? ~0ULL : FUSE_NO_OPEN_SUPPORT);
	return NULL;
}

static int open_root(void)
{
	const struct fuse_open_in in = {0};
	const int r = client_call(&c, FUSE_OPENDIR, ROOT, BODY(in), END);
	struct fuse_release_in release = {0};

	if (r == 0) {
		release.fh = REPLY(&c, struct fuse_open_out)->fh;
		CHECK_EQUAL(client_call(&c, FUSE_RELEASEDIR, ROOT, BODY(release), END), 0);
	}
	return r;
}

static void another_init_while_requests_are_handled_does_no_harm(void)
{
	pthread_t thread;
	uint64_t file;

	client_new(&c, EXCLUSIVE);
	client_write_host(&c, "file", "contents");
	file = client_lookup(&c, ROOT, "file");
	other = (struct client){.server = c.server, .room = CLIENT_ROOM};
	CHECK_EQUAL(pthread_create(&thread, NULL, begin_sessions, NULL), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		const int opened = open_root(), read = client_read(&c, file, 0, 0, 8);

		CHECK(opened == 0 || opened == -ENOSYS);
		CHECK(read == 0 || read == -EBADF);
	}
	pthread_join(thread, NULL);
	client_free(&c);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(another_init_while_requests_are_handled_does_no_harm),
	};
	return RUN_TESTS(tests, argc, argv);
}
