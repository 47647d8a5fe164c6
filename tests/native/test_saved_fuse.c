/* SPDX-License-Identifier: Apache-2.0 */
/* A session restored in another server: the client notices nothing, and no state,
 * whatever is in it, leads out of the share. */
#include "fuse_client.h"

#define ROOT FUSE_ROOT_ID
#define STATE_BYTES 4096

static struct client c;
static uint8_t state[STATE_BYTES];

static size_t save(void)
{
	const ptrdiff_t n = fuse_server_save(c.server, state, sizeof(state));

	CHECK(n > 0 && n <= STATE_BYTES);
	return (size_t)n;
}

static int go_on(enum policy policy, size_t bytes)
{
	fuse_server_free(c.server);
	client_new_server(&c, policy);
	return fuse_server_restore(c.server, state, bytes);
}

static uint64_t make_tree(void)
{
	CHECK_EQUAL(mkdirat(c.share_fd, "d", 0755), 0);
	client_write_host(&c, "d/file", "contents");
	return client_lookup(&c, client_lookup(&c, ROOT, "d"), "file");
}

static void known_files_are_known_by_their_ids(void)
{
	uint64_t file, dir;

	client_new(&c, IMAGE);
	file = make_tree();
	dir = client_lookup(&c, ROOT, "d");
	CHECK_EQUAL(go_on(IMAGE, save()), 0);
	CHECK_EQUAL(client_read(&c, file, 0, 0, 100), 0);
	CHECK(client_replied(&c, "contents"));
	CHECK_EQUAL(client_lookup(&c, dir, "file"), file);
	CHECK_EQUAL(client_lookup(&c, ROOT, "d"), dir);
	client_free(&c);
}

/* Twice looked up before, once after: the third FORGET is the last. */
static void lookups_are_counted_on(void)
{
	const struct fuse_getattr_in in = {0};
	uint64_t file;

	client_new(&c, IMAGE);
	client_write_host(&c, "f", "x");
	file = client_lookup(&c, ROOT, "f");
	CHECK_EQUAL(client_lookup(&c, ROOT, "f"), file);
	CHECK_EQUAL(go_on(IMAGE, save()), 0);
	CHECK_EQUAL(client_lookup(&c, ROOT, "f"), file);
	client_forget(&c, file, 2);
	CHECK_EQUAL(client_call(&c, FUSE_GETATTR, file, BODY(in), END), 0);
	client_forget(&c, file, 1);
	CHECK_EQUAL(client_call(&c, FUSE_GETATTR, file, BODY(in), END), -ESTALE);
	client_free(&c);
}

static void ids_that_were_free_are_free_and_new_ones_are_new(void)
{
	const struct fuse_getattr_in in = {0};
	uint64_t forgotten, kept, fresh;

	client_new(&c, IMAGE);
	client_write_host(&c, "a", "a");
	client_write_host(&c, "b", "b");
	client_write_host(&c, "n", "n");
	forgotten = client_lookup(&c, ROOT, "a");
	kept = client_lookup(&c, ROOT, "b");
	client_forget(&c, forgotten, 1);
	CHECK_EQUAL(go_on(IMAGE, save()), 0);
	CHECK_EQUAL(client_call(&c, FUSE_GETATTR, forgotten, BODY(in), END), -ESTALE);
	fresh = client_lookup(&c, ROOT, "n");
	CHECK(fresh != kept && fresh != forgotten);
	client_free(&c);
}

static void what_was_agreed_on_stays(void)
{
	const struct fuse_getattr_in in = {0};

	client_new(&c, SHARED);
	CHECK_EQUAL(go_on(SHARED, save()), 0);
	CHECK_EQUAL(client_call(&c, FUSE_GETATTR, ROOT, BODY(in), END), 0);
	client_free(&c);
}

static void an_open_file_cannot_be_saved(void)
{
	uint64_t file;

	client_new(&c, SHARED);
	client_write_host(&c, "f", "x");
	file = client_lookup(&c, ROOT, "f");
	client_open(&c, file, O_RDONLY);
	CHECK_EQUAL(fuse_server_save(c.server, state, sizeof(state)), -EBUSY);
	client_free(&c);
}

static void a_file_without_a_name_cannot_be_saved(void)
{
	client_new(&c, IMAGE);
	client_write_host(&c, "f", "x");
	client_lookup(&c, ROOT, "f");
	CHECK_EQUAL(unlinkat(c.share_fd, "f", 0), 0);
	CHECK_EQUAL(fuse_server_save(c.server, state, sizeof(state)), -ESTALE);
	client_free(&c);
}

static void the_size_is_told_without_room_for_it(void)
{
	size_t bytes;

	client_new(&c, IMAGE);
	make_tree();
	bytes = save();
	memset(state, 0x5a, sizeof(state));
	CHECK_EQUAL(fuse_server_save(c.server, NULL, 0), bytes);
	CHECK_EQUAL(fuse_server_save(c.server, state, 10), bytes);
	CHECK_EQUAL(state[10], 0x5a);
	client_free(&c);
}

static void a_file_that_is_gone_is_an_error_and_leaves_nothing(void)
{
	size_t bytes;
	int fd;

	client_new(&c, IMAGE);
	make_tree();
	bytes = save();
	CHECK_EQUAL(unlinkat(c.share_fd, "d/file", 0), 0);
	fuse_server_free(c.server);
	client_new_server(&c, IMAGE);
	fd = lowest_free_fd();
	CHECK_EQUAL(fuse_server_restore(c.server, state, bytes), -ENOENT);
	CHECK_EQUAL(lowest_free_fd(), fd);
	client_init(&c, ~0ULL);
	client_lookup(&c, ROOT, "d");
	client_free(&c);
}

static void every_shortened_state_is_refused(void)
{
	size_t bytes;

	client_new(&c, IMAGE);
	make_tree();
	bytes = save();
	for (size_t n = 0; n < bytes; n++)
		CHECK_EQUAL(go_on(IMAGE, n), -EINVAL);
	CHECK_EQUAL(go_on(IMAGE, bytes + 1), -EINVAL);
	client_free(&c);
}

/* The last path in the state, replaced by one of the same length. */
static int go_on_with_path(const char *path)
{
	size_t bytes;
	int r;

	client_new(&c, IMAGE);
	make_tree();
	CHECK_EQUAL(symlinkat("../share/d", c.share_fd, "l"), 0);
	client_write_host(&c, "../out", "outside");
	bytes = save();
	CHECK_EQUAL(memcmp(state + bytes - strlen(path), "d/file", strlen(path)), 0);
	memcpy(state + bytes - strlen(path), path, strlen(path));
	r = go_on(IMAGE, bytes);
	client_free(&c);
	return r;
}

static void no_path_leads_out_of_the_share_or_through_a_symlink(void)
{
	CHECK_EQUAL(go_on_with_path("../out"), -EXDEV);
	CHECK_EQUAL(go_on_with_path("/etc/."), -EXDEV);
	CHECK_EQUAL(go_on_with_path("l/file"), -ELOOP);
}

static void a_server_that_is_in_use_is_not_restored(void)
{
	size_t bytes;

	client_new(&c, IMAGE);
	bytes = save();
	CHECK_EQUAL(fuse_server_restore(c.server, state, bytes), -EBUSY);
	client_free(&c);
}

static const struct test tests[] = {
	TEST(known_files_are_known_by_their_ids),
	TEST(lookups_are_counted_on),
	TEST(ids_that_were_free_are_free_and_new_ones_are_new),
	TEST(what_was_agreed_on_stays),
	TEST(an_open_file_cannot_be_saved),
	TEST(a_file_without_a_name_cannot_be_saved),
	TEST(the_size_is_told_without_room_for_it),
	TEST(a_file_that_is_gone_is_an_error_and_leaves_nothing),
	TEST(every_shortened_state_is_refused),
	TEST(no_path_leads_out_of_the_share_or_through_a_symlink),
	TEST(a_server_that_is_in_use_is_not_restored),
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
