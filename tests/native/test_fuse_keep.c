/* SPDX-License-Identifier: Apache-2.0 */
/* What the client may keep of a file's contents when it opens it again. */
#include <linux/magic.h>
#include <sys/vfs.h>
#include <time.h>

#include "fuse_client.h"

#define ROOT FUSE_ROOT_ID
#define SOON_NS 10000000 /* two ticks and more */
#define AN_HOUR_NS (3600 * 1000000000ULL)

static struct client c;

/* Longer than the clock of the file system takes to tick. */
static void let_time_pass(void)
{
	const struct timespec tick = {.tv_nsec = 30000000};

	nanosleep(&tick, NULL);
}

static uint64_t make_old_file(enum policy policy, const char *place, uint64_t keep_after_ns)
{
	client_keep_after_ns = keep_after_ns;
	client_new_in(&c, policy, place);
	client_write_host(&c, "file", "contents");
	let_time_pass();
	return client_lookup(&c, ROOT, "file");
}

static bool keeps(uint64_t node)
{
	const uint64_t fh = client_open(&c, node, O_RDONLY);
	const uint32_t flags = REPLY(&c, struct fuse_open_out)->open_flags;
	const struct fuse_release_in in = {.fh = fh};

	CHECK_EQUAL(client_call(&c, FUSE_RELEASE, node, BODY(in), END), 0);
	return flags & FOPEN_KEEP_CACHE;
}

/* Where a file's ctime does not show every change, nothing is kept. */
static bool ctime_tells(void)
{
	struct statfs fs;

	CHECK_EQUAL(fstatfs(c.share_fd, &fs), 0);
	return fs.f_type != TMPFS_MAGIC && fs.f_type != OVERLAYFS_SUPER_MAGIC;
}

static void what_has_not_changed_is_kept(void)
{
	const uint64_t node = make_old_file(SHARED, "/tmp", SOON_NS);

	CHECK(!keeps(node)); /* the client may have kept it from before */
	CHECK_EQUAL(keeps(node), ctime_tells());
	CHECK_EQUAL(keeps(node), ctime_tells());
	client_free(&c);
}

static void what_the_host_changes_is_not(void)
{
	const uint64_t node = make_old_file(SHARED, "/tmp", SOON_NS);

	CHECK(!keeps(node));
	client_write_host(&c, "file", "CONTENTS"); /* of the same size */
	CHECK(!keeps(node));
	let_time_pass();
	(void)keeps(node); /* the open before may have found it too new to be sure of */
	CHECK_EQUAL(keeps(node), ctime_tells());
	client_free(&c);
}

static void what_was_changed_and_set_back_is_not(void)
{
	const uint64_t node = make_old_file(SHARED, "/tmp", SOON_NS);
	struct timespec times[2];
	struct stat st;

	CHECK(!keeps(node));
	CHECK_EQUAL(fstatat(c.share_fd, "file", &st, 0), 0);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	client_write_host(&c, "file", "CONTENTS");
	CHECK_EQUAL(utimensat(c.share_fd, "file", times, 0), 0);
	CHECK(!keeps(node));
	client_free(&c);
}

static void what_the_client_writes_is_read_again(void)
{
	const uint64_t node = make_old_file(SHARED, "/tmp", SOON_NS);

	CHECK(!keeps(node));
	CHECK_EQUAL(client_write(&c, node, client_open(&c, node, O_WRONLY), 0, "CONTENTS"), 0);
	CHECK(!keeps(node));
	client_free(&c);
}

static void check_never_kept(const char *place, uint64_t keep_after_ns)
{
	const uint64_t node = make_old_file(SHARED, place, keep_after_ns);

	for (int i = 0; i < 3; i++)
		CHECK(!keeps(node));
	client_free(&c);
}

static void what_is_new_is_not(void)
{
	check_never_kept("/tmp", AN_HOUR_NS);
}

static void nothing_is_where_a_server_does_not_want_it(void)
{
	check_never_kept("/tmp", 0);
}

/* A write through a mapping leaves no trace there. */
static void nothing_is_of_files_in_memory(void)
{
	check_never_kept("/dev/shm", SOON_NS);
}

/* A client that forgets a file has dropped its contents; when the file is known
 * again, its contents may be others. */
static void a_file_that_was_forgotten_starts_anew(void)
{
	uint64_t node = make_old_file(SHARED, "/tmp", SOON_NS);

	CHECK(!keeps(node));
	client_forget(&c, node, 1);
	node = client_lookup(&c, ROOT, "file");
	CHECK(!keeps(node));
	client_free(&c);
}

static void closing_a_local_file_tells_nothing(void)
{
	const uint64_t node = make_old_file(SHARED, "/tmp", 0);

	client_open(&c, node, O_WRONLY);
	CHECK(REPLY(&c, struct fuse_open_out)->open_flags & FOPEN_NOFLUSH);
	client_free(&c);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(what_has_not_changed_is_kept),
		TEST(what_the_host_changes_is_not),
		TEST(what_was_changed_and_set_back_is_not),
		TEST(what_the_client_writes_is_read_again),
		TEST(what_is_new_is_not),
		TEST(nothing_is_where_a_server_does_not_want_it),
		TEST(nothing_is_of_files_in_memory),
		TEST(a_file_that_was_forgotten_starts_anew),
		TEST(closing_a_local_file_tells_nothing),
	};
	return RUN_TESTS(tests, argc, argv);
}
