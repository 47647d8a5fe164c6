/* SPDX-License-Identifier: Apache-2.0 */
/* The FUSE server at its limit of descriptors, seen from the client. */
#include <pthread.h>
#include <sys/resource.h>

#include "fuse_client.h"

#define ROOT FUSE_ROOT_ID
#define LIMIT 400

static struct client c;
static uint64_t nodes[LIMIT];

/* Makes files, which stay known, until one is refused; returns how many there are. */
static unsigned make_all(void)
{
	const struct fuse_mknod_in in = {.mode = S_IFREG | 0600};
	char name[16];
	unsigned count = 0;
	int r;

	for (;;) {
		snprintf(name, sizeof(name), "%u", count);
		r = client_call(&c, FUSE_MKNOD, ROOT, BODY(in), STRING(name), END);
		if (r < 0)
			break;
		CHECK(count < LIMIT);
		nodes[count++] = REPLY(&c, struct fuse_entry_out)->nodeid;
	}
	CHECK_EQUAL(r, -ENFILE);
	return count;
}

static void what_could_be_made_can_be_written_and_read(void)
{
	unsigned count;

	client_new(&c, EXCLUSIVE);
	count = make_all();
	CHECK(count > LIMIT / 2);
	for (unsigned i = 0; i < count; i++)
		CHECK_EQUAL(client_write(&c, nodes[i], 0, 0, "text"), 0);
	for (unsigned i = 0; i < count; i++) {
		CHECK_EQUAL(client_read(&c, nodes[i], 0, 0, 100), 0);
		CHECK(client_replied(&c, "text"));
	}
	client_free(&c);
}

/* Descriptors of files used long ago are closed for a new file. */
static void what_is_forgotten_makes_room(void)
{
	const struct fuse_mknod_in in = {.mode = S_IFREG | 0600};
	unsigned count;

	client_new(&c, EXCLUSIVE);
	count = make_all();
	for (unsigned i = 0; i < count; i++)
		CHECK_EQUAL(client_write(&c, nodes[i], 0, 0, "text"), 0);
	client_forget(&c, nodes[0], 1);
	CHECK_EQUAL(client_call(&c, FUSE_MKNOD, ROOT, BODY(in), STRING("new"), END), 0);
	CHECK_EQUAL(client_write(&c, REPLY(&c, struct fuse_entry_out)->nodeid, 0, 0, "text"), 0);
	client_free(&c);
}

#define LIVES 4000

/* Another thread of the guest's; what the limit refuses is made the next time. */
static void *make_and_forget(void *context)
{
	const struct fuse_mknod_in in = {.mode = S_IFREG | 0600};
	static struct client other;

	other.server = ((struct client *)context)->server;
	other.room = CLIENT_ROOM;
	CHECK_EQUAL(fuse_server_enter_thread(other.server), 0);
	for (unsigned i = 0; i < LIVES; i++) {
		if (client_call(&other, FUSE_MKNOD, ROOT, BODY(in), STRING("other"), END) < 0)
			continue;
		client_forget(&other, REPLY(&other, struct fuse_entry_out)->nodeid, 1);
		CHECK_EQUAL(client_call(&other, FUSE_UNLINK, ROOT, STRING("other"), END), 0);
	}
	return NULL;
}

/* The search for a descriptor to close looks at places that are just being given to other
 * files: TSan sees whether it may. */
static void room_is_made_while_files_come_and_go(void)
{
	pthread_t thread;
	unsigned count;

	client_new(&c, EXCLUSIVE);
	count = make_all() - 8;
	for (unsigned i = count; i < count + 8; i++)
		client_forget(&c, nodes[i], 1);
	CHECK_EQUAL(pthread_create(&thread, NULL, make_and_forget, &c), 0);
	for (unsigned i = 0; i < LIVES; i++)
		(void)client_write(&c, nodes[i * 7 % count], 0, 0, "text");
	CHECK_EQUAL(pthread_join(thread, NULL), 0);
	client_free(&c);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(what_could_be_made_can_be_written_and_read),
		TEST(what_is_forgotten_makes_room),
		TEST(room_is_made_while_files_come_and_go),
	};
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = LIMIT;
	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return RUN_TESTS(tests, argc, argv);
}
