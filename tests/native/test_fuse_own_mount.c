/* SPDX-License-Identifier: Apache-2.0 */
/* Files in the mount that a share's root is in are the host's: every change there
 * fails with EROFS, whatever the client sends.  What is mounted below is the
 * client's. */
#include <linux/falloc.h>
#include <sched.h>
#include <sys/mount.h>

#include "fuse_client.h"

#define ROOT FUSE_ROOT_ID

static struct client c;
static bool can_mount;

/* A root with a directory and a file of the host's, and at "mounted" the same file
 * system again, with the same. */
struct tree {
	uint64_t dir, file;
	uint64_t mounted, mounted_dir, mounted_file;
};

static void make_both(const char *place)
{
	char name[64];

	snprintf(name, sizeof(name), "%s/dir", place);
	CHECK_EQUAL(mkdirat(c.share_fd, name, 0755), 0);
	snprintf(name, sizeof(name), "%s/file", place);
	client_write_host(&c, name, "contents");
}

static void enter_mount_namespace(void)
{
	const uid_t uid = getuid();
	char map[32];
	int fd;

	if (unshare(uid == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return;
	if (uid != 0) {
		snprintf(map, sizeof(map), "0 %u 1", uid);
		fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
		CHECK_EQUAL(write(fd, map, strlen(map)), strlen(map));
		close(fd);
	}
	CHECK_EQUAL(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	can_mount = true;
}

static void mount_below(void)
{
	char source[64], target[64];

	snprintf(source, sizeof(source), "%s/volume", c.base);
	snprintf(target, sizeof(target), "%s/mounted", c.share);
	CHECK_EQUAL(mkdir(source, 0755), 0);
	CHECK_EQUAL(mkdir(target, 0755), 0);
	CHECK_EQUAL(mount(source, target, NULL, MS_BIND, NULL), 0);
	make_both("mounted");
}

static void unmount_below(void)
{
	char target[64];

	snprintf(target, sizeof(target), "%s/mounted", c.share);
	CHECK_EQUAL(umount2(target, MNT_DETACH), 0);
}

static void know_tree(struct tree *t)
{
	*t = (struct tree){.dir = client_lookup(&c, ROOT, "dir"),
			   .file = client_lookup(&c, ROOT, "file")};
	if (!can_mount)
		return;
	t->mounted = client_lookup(&c, ROOT, "mounted");
	t->mounted_dir = client_lookup(&c, t->mounted, "dir");
	t->mounted_file = client_lookup(&c, t->mounted, "file");
}

static void begin(enum policy policy, struct tree *t)
{
	client_new(&c, policy);
	make_both(".");
	if (can_mount)
		mount_below();
	know_tree(t);
}

static void end(void)
{
	if (can_mount)
		unmount_below();
	client_free(&c);
}

/* --- requests, each as the driver would send it --------------------------- */

static int do_mknod(uint64_t parent, const char *name, uint32_t mode)
{
	const struct fuse_mknod_in in = {.mode = mode};

	return client_call(&c, FUSE_MKNOD, parent, BODY(in), STRING(name), END);
}

static int do_mkdir(uint64_t parent, const char *name)
{
	const struct fuse_mkdir_in in = {.mode = 0755};

	return client_call(&c, FUSE_MKDIR, parent, BODY(in), STRING(name), END);
}

static int do_symlink(uint64_t parent, const char *name)
{
	return client_call(&c, FUSE_SYMLINK, parent, STRING(name), STRING("/etc"), END);
}

static int do_link(uint64_t parent, const char *name, uint64_t old)
{
	const struct fuse_link_in in = {old};

	return client_call(&c, FUSE_LINK, parent, BODY(in), STRING(name), END);
}

static int do_create(uint64_t parent, const char *name, uint32_t flags)
{
	const struct fuse_create_in in = {.flags = flags, .mode = 0644};

	return client_call(&c, FUSE_CREATE, parent, BODY(in), STRING(name), END);
}

static int do_tmpfile(uint64_t parent)
{
	const struct fuse_create_in in = {.flags = O_RDWR, .mode = 0600};

	return client_call(&c, FUSE_TMPFILE, parent, BODY(in), STRING("#1"), END);
}

static int do_rename(uint64_t from, const char *old, uint64_t to, const char *new)
{
	const struct fuse_rename_in in = {to};

	return client_call(&c, FUSE_RENAME, from, BODY(in), STRING(old), STRING(new), END);
}

static int do_rename2(uint64_t from, const char *old, uint64_t to, const char *new, uint32_t flags)
{
	const struct fuse_rename2_in in = {.newdir = to, .flags = flags};

	return client_call(&c, FUSE_RENAME2, from, BODY(in), STRING(old), STRING(new), END);
}

static int do_setattr(uint64_t node, struct fuse_setattr_in in)
{
	return client_call(&c, FUSE_SETATTR, node, BODY(in), END);
}

static int do_setxattr(uint64_t node)
{
	const struct fuse_setxattr_in in = {.size = 1};

	return client_call(&c, FUSE_SETXATTR, node, BODY(in), STRING("user.n"), "v", (size_t)1,
			   END);
}

static int do_open(uint64_t node, uint32_t flags)
{
	const struct fuse_open_in in = {.flags = flags};

	return client_call(&c, FUSE_OPEN, node, BODY(in), END);
}

static int do_fallocate(uint64_t node, uint64_t fh, uint32_t mode)
{
	const struct fuse_fallocate_in in = {.fh = fh, .length = 4096, .mode = mode};

	return client_call(&c, FUSE_FALLOCATE, node, BODY(in), END);
}

static int do_copy(uint64_t from, uint64_t fh_in, uint64_t to, uint64_t fh_out)
{
	const struct fuse_copy_file_range_in in = {
		.fh_in = fh_in, .nodeid_out = to, .fh_out = fh_out, .len = 4};

	return client_call(&c, FUSE_COPY_FILE_RANGE, from, BODY(in), END);
}

/* --- names ---------------------------------------------------------------- */

static void check_no_name_is_made(uint64_t parent, uint64_t file)
{
	CHECK_EQUAL(do_mknod(parent, "new", S_IFREG | 0644), -EROFS);
	CHECK_EQUAL(do_mknod(parent, "new", S_IFIFO | 0644), -EROFS);
	CHECK_EQUAL(do_mknod(parent, "new", S_IFCHR | 0644), -EROFS);
	CHECK_EQUAL(do_mkdir(parent, "new"), -EROFS);
	CHECK_EQUAL(do_symlink(parent, "new"), -EROFS);
	CHECK_EQUAL(do_link(parent, "new", file), -EROFS);
	CHECK_EQUAL(do_tmpfile(parent), -EROFS);
}

static void check_no_name_goes(uint64_t parent)
{
	CHECK_EQUAL(client_call(&c, FUSE_UNLINK, parent, STRING("file"), END), -EROFS);
	CHECK_EQUAL(client_call(&c, FUSE_RMDIR, parent, STRING("dir"), END), -EROFS);
	CHECK_EQUAL(do_rename(parent, "dir", parent, "new"), -EROFS);
	for (uint32_t flags = 0; flags < 3; flags++)
		CHECK_EQUAL(do_rename2(parent, "dir", parent, "file", flags), -EROFS);
	CHECK_EQUAL(do_rename2(parent, "dir", parent, "new", 4), -EROFS);
}

static void names_are_the_hosts(void)
{
	static const enum policy policies[] = {EXCLUSIVE, SHARED};
	struct tree t;

	for (unsigned i = 0; i < 2; i++) {
		begin(policies[i], &t);
		check_no_name_is_made(ROOT, t.file);
		check_no_name_is_made(t.dir, t.file);
		check_no_name_goes(ROOT);
		if (policies[i] == SHARED) {
			CHECK_EQUAL(do_create(ROOT, "new", O_RDWR), -EROFS);
			CHECK_EQUAL(do_create(t.dir, "new", O_RDWR | O_EXCL), -EROFS);
			CHECK_EQUAL(do_create(ROOT, "file", O_RDONLY), -EROFS);
		}
		CHECK_EQUAL(faccessat(c.share_fd, "new", F_OK, 0), -1);
		CHECK_EQUAL(faccessat(c.share_fd, "dir/new", F_OK, 0), -1);
		client_lookup(&c, ROOT, "dir");
		client_lookup(&c, ROOT, "file");
		end();
	}
}

static void nothing_moves_between_the_hosts_and_the_clients(void)
{
	struct tree t;

	if (!can_mount)
		return;
	begin(SHARED, &t);
	CHECK_EQUAL(do_rename(ROOT, "dir", t.mounted, "new"), -EROFS);
	CHECK_EQUAL(do_rename(t.mounted, "dir", ROOT, "new"), -EROFS);
	CHECK_EQUAL(do_rename2(t.mounted, "dir", ROOT, "dir", 2), -EROFS);
	CHECK_EQUAL(do_rename(ROOT, "mounted", ROOT, "new"), -EROFS);
	CHECK_EQUAL(client_call(&c, FUSE_RMDIR, ROOT, STRING("mounted"), END), -EROFS);
	CHECK_EQUAL(do_link(ROOT, "new", t.mounted_file), -EROFS);
	CHECK_EQUAL(do_link(t.mounted, "new", t.file), -EXDEV);
	end();
}

/* --- files ---------------------------------------------------------------- */

static void attributes_are_the_hosts(void)
{
	static const uint32_t changes[] = {
		FATTR_MODE,  FATTR_UID,	      FATTR_GID,   FATTR_UID | FATTR_GID,
		FATTR_SIZE,  FATTR_ATIME,     FATTR_MTIME, FATTR_ATIME | FATTR_ATIME_NOW,
		FATTR_CTIME, FATTR_LOCKOWNER, 0,
	};
	static const enum policy policies[] = {EXCLUSIVE, SHARED};
	struct tree t;

	for (unsigned i = 0; i < 2; i++) {
		begin(policies[i], &t);
		for (unsigned n = 0; n < sizeof(changes) / sizeof(changes[0]); n++) {
			const struct fuse_setattr_in in = {.valid = changes[n], .mode = 0777};

			CHECK_EQUAL(do_setattr(ROOT, in), -EROFS);
			CHECK_EQUAL(do_setattr(t.dir, in), -EROFS);
			CHECK_EQUAL(do_setattr(t.file, in), -EROFS);
		}
		CHECK_EQUAL(do_setxattr(ROOT), -EROFS);
		CHECK_EQUAL(do_setxattr(t.file), -EROFS);
		CHECK_EQUAL(client_call(&c, FUSE_REMOVEXATTR, t.file, STRING("user.n"), END),
			    -EROFS);
		end();
	}
}

static void check_contents_stay(uint64_t file, uint64_t fh, uint64_t from)
{
	CHECK_EQUAL(client_read(&c, file, fh, 0, 100), 0);
	CHECK(client_replied(&c, "contents"));
	CHECK_EQUAL(client_write(&c, file, fh, 0, "changed"), -EROFS);
	CHECK_EQUAL(do_fallocate(file, fh, 0), -EROFS);
	CHECK_EQUAL(do_fallocate(file, fh, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), -EROFS);
	CHECK_EQUAL(do_copy(file, fh, from, fh), -EROFS);
	CHECK_EQUAL(client_read(&c, file, fh, 0, 100), 0);
	CHECK(client_replied(&c, "contents"));
}

static void contents_are_the_hosts_without_open(void)
{
	struct tree t;

	begin(EXCLUSIVE, &t);
	check_contents_stay(t.file, 0, t.file);
	end();
}

static void contents_are_the_hosts_by_handle(void)
{
	static const uint32_t refused[] = {O_WRONLY,	       O_RDWR,
					   O_ACCMODE,	       O_RDONLY | O_TRUNC,
					   O_WRONLY | O_TRUNC, O_RDWR | O_APPEND};
	struct tree t;
	uint64_t fh;

	begin(SHARED, &t);
	for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		CHECK_EQUAL(do_open(t.file, refused[i]), -EROFS);
	fh = client_open(&c, t.file, O_RDONLY);
	check_contents_stay(t.file, fh, t.file);
	end();
}

/* The client may name any node beside a handle: what counts is what is changed. */
static void a_node_beside_a_handle_does_not_lend_it_its_place(void)
{
	struct fuse_setattr_in size = {.valid = FATTR_SIZE | FATTR_FH};
	uint64_t mounted_fh;
	struct tree t;

	if (!can_mount)
		return;
	begin(SHARED, &t);
	size.fh = client_open(&c, t.file, O_RDONLY);
	mounted_fh = client_open(&c, t.mounted_file, O_RDWR);
	check_contents_stay(t.mounted_file, size.fh, t.mounted_file);
	CHECK_EQUAL(do_setattr(t.mounted_file, size), -EROFS);
	CHECK_EQUAL(do_copy(t.mounted_file, mounted_fh, t.mounted_file, size.fh), -EROFS);
	CHECK_EQUAL(do_copy(t.file, size.fh, t.file, mounted_fh), 0);
	end();
}

/* --- listings ------------------------------------------------------------- */

static uint64_t number_of(const char *name)
{
	struct stat st;

	CHECK_EQUAL(fstatat(c.share_fd, name, &st, 0), 0);
	return st.st_ino;
}

/* As READDIR reports it for "..". */
static uint64_t number_of_parent(uint64_t node)
{
	const struct fuse_open_in open_in = {0};
	struct fuse_read_in in = {.size = 4096};

	CHECK_EQUAL(client_call(&c, FUSE_OPENDIR, node, BODY(open_in), END), 0);
	in.fh = REPLY(&c, struct fuse_open_out)->fh;
	CHECK_EQUAL(client_call(&c, FUSE_READDIR, node, BODY(in), END), 0);
	for (size_t at = 0; at < c.reply_bytes;) {
		const struct fuse_dirent *entry = (const void *)(REPLY(&c, char) + at);

		if (entry->namelen == 2 && memcmp(entry->name, "..", 2) == 0)
			return entry->ino;
		at += FUSE_DIRENT_SIZE(entry);
	}
	return 0;
}

static void no_listing_tells_of_a_directory_outside(void)
{
	struct tree t;

	begin(SHARED, &t);
	CHECK_EQUAL(number_of_parent(ROOT), number_of("."));
	CHECK_EQUAL(number_of_parent(t.dir), number_of("."));
	if (can_mount) {
		CHECK_EQUAL(number_of_parent(t.mounted), number_of("mounted"));
		CHECK_EQUAL(number_of_parent(t.mounted_dir), number_of("mounted"));
	}
	end();
}

/* --- what is mounted below ------------------------------------------------ */

static void check_names_change(uint64_t parent, uint64_t file)
{
	CHECK_EQUAL(do_mknod(parent, "fifo", S_IFIFO | 0644), 0);
	CHECK_EQUAL(do_mkdir(parent, "made"), 0);
	CHECK_EQUAL(do_symlink(parent, "symlink"), 0);
	CHECK_EQUAL(do_link(parent, "link", file), 0);
	CHECK_EQUAL(do_tmpfile(parent), 0);
	CHECK_EQUAL(do_rename(parent, "made", parent, "moved"), 0);
	CHECK_EQUAL(do_rename2(parent, "moved", parent, "link", 2), 0);
	CHECK_EQUAL(client_call(&c, FUSE_RMDIR, parent, STRING("link"), END), 0);
	CHECK_EQUAL(client_call(&c, FUSE_UNLINK, parent, STRING("symlink"), END), 0);
}

static void check_file_changes(uint64_t file, uint64_t fh)
{
	const struct fuse_setattr_in mode = {.valid = FATTR_MODE, .mode = 0600};
	const struct fuse_setattr_in size = {.valid = FATTR_SIZE, .size = 2};
	const int set = do_setxattr(file);

	CHECK(set == 0 || set == -EOPNOTSUPP);
	CHECK_EQUAL(do_setattr(file, mode), 0);
	CHECK_EQUAL(client_write(&c, file, fh, 0, "changed!"), 0);
	CHECK_EQUAL(do_setattr(file, size), 0);
	CHECK_EQUAL(client_read(&c, file, fh, 0, 100), 0);
	CHECK(client_replied(&c, "ch"));
}

static void what_is_mounted_below_is_the_clients(void)
{
	static const enum policy policies[] = {EXCLUSIVE, SHARED};
	struct tree t;

	for (unsigned i = 0; can_mount && i < 2; i++) {
		const bool shared = policies[i] == SHARED;

		begin(policies[i], &t);
		check_names_change(t.mounted, t.mounted_file);
		check_names_change(t.mounted_dir, t.mounted_file);
		if (shared)
			CHECK_EQUAL(do_create(t.mounted, "created", O_RDWR), 0);
		check_file_changes(t.mounted_file,
				   shared ? client_open(&c, t.mounted_file, O_RDWR) : 0);
		end();
	}
}

/* A node stays in the mount in which it was looked up. */
static void a_mount_made_later_does_not_open_what_is_below_it(void)
{
	struct tree t;

	if (!can_mount)
		return;
	begin(SHARED, &t);
	unmount_below();
	t.mounted = client_lookup(&c, ROOT, "mounted");
	CHECK_EQUAL(do_mkdir(t.mounted, "new"), -EROFS);
	CHECK_EQUAL(mount("none", c.share, "tmpfs", 0, NULL), 0);
	CHECK_EQUAL(do_mkdir(ROOT, "new"), -EROFS);
	CHECK_EQUAL(do_mkdir(t.mounted, "new"), -EROFS);
	CHECK_EQUAL(umount2(c.share, MNT_DETACH), 0);
	client_free(&c);
}

static void a_session_that_goes_on_changes_no_more(void)
{
	static uint8_t state[4096];
	ptrdiff_t bytes;
	struct tree t;

	begin(EXCLUSIVE, &t);
	bytes = fuse_server_save(c.server, state, sizeof(state));
	CHECK(bytes > 0 && bytes <= (ptrdiff_t)sizeof(state));
	fuse_server_free(c.server);
	client_new_server(&c, EXCLUSIVE);
	CHECK_EQUAL(fuse_server_restore(c.server, state, (size_t)bytes), 0);
	check_no_name_is_made(ROOT, t.file);
	check_no_name_is_made(t.dir, t.file);
	check_no_name_goes(ROOT);
	check_contents_stay(t.file, 0, t.file);
	if (can_mount) {
		check_names_change(t.mounted, t.mounted_file);
		check_file_changes(t.mounted_file, 0);
	}
	end();
}

static const struct test tests[] = {
	TEST(names_are_the_hosts),
	TEST(nothing_moves_between_the_hosts_and_the_clients),
	TEST(attributes_are_the_hosts),
	TEST(contents_are_the_hosts_without_open),
	TEST(contents_are_the_hosts_by_handle),
	TEST(a_node_beside_a_handle_does_not_lend_it_its_place),
	TEST(no_listing_tells_of_a_directory_outside),
	TEST(what_is_mounted_below_is_the_clients),
	TEST(a_mount_made_later_does_not_open_what_is_below_it),
	TEST(a_session_that_goes_on_changes_no_more),
};

int main(int argc, char **argv)
{
	client_own_mount_writable = false;
	enter_mount_namespace();
	if (!can_mount) {
		CHECK(!getenv("REQUIRE_MOUNTS"));
		fprintf(stderr, "test_fuse_own_mount: no mount namespace: %s\n", strerror(errno));
	}
	return RUN_TESTS(tests, argc, argv);
}
