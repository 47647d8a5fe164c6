/* SPDX-License-Identifier: Apache-2.0 */
/* The FUSE server: what a hostile client cannot do, and what an honest one can
 * rely on.  How the kernel's client uses it is tested on mounts
 * (tests/integration). */
#include <linux/falloc.h>
#include <sys/resource.h>

#include "fuse_client.h"

#define ROOT FUSE_ROOT_ID

static struct client c;

static unsigned open_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 8192; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static uint64_t make_file(const char *name)
{
	client_write_host(&c, name, "contents");
	return client_lookup(&c, ROOT, name);
}

static int get_attr(uint64_t node)
{
	const struct fuse_getattr_in in = {0};

	return client_call(&c, FUSE_GETATTR, node, BODY(in), END);
}

/* --- requests that are not well formed ---------------------------------------- */

static void a_request_must_be_as_long_as_it_says(void)
{
	const struct fuse_getattr_in in = {0};

	client_new(&c, SHARED);
	client_begin(&c, FUSE_GETATTR, ROOT);
	client_put(&c, &in, sizeof(in));
	client_header(&c)->len = (uint32_t)c.request_bytes + 1;
	CHECK_EQUAL(client_send_raw(&c), sizeof(struct fuse_out_header));
	CHECK_EQUAL(((struct fuse_out_header *)c.reply)->error, -EINVAL);
	client_header(&c)->len = (uint32_t)c.request_bytes - 1;
	CHECK_EQUAL(client_send_raw(&c), sizeof(struct fuse_out_header));
	CHECK_EQUAL(((struct fuse_out_header *)c.reply)->error, -EINVAL);
	c.request_bytes = sizeof(struct fuse_in_header) - 1;
	CHECK_EQUAL(client_send_raw(&c), -EPROTO);
	client_free(&c);
}

static void a_reply_without_room_for_its_header_is_no_reply(void)
{
	client_new(&c, SHARED);
	client_begin(&c, FUSE_STATFS, ROOT);
	client_header(&c)->len = (uint32_t)c.request_bytes;
	c.room = sizeof(struct fuse_out_header) - 1;
	CHECK_EQUAL(client_send_raw(&c), -EPROTO);
	c.room = 0;
	CHECK_EQUAL(client_send_raw(&c), -EPROTO);
	client_free(&c);
}

static void arguments_that_are_cut_short_are_refused(void)
{
	client_new(&c, SHARED);
	for (uint32_t opcode = 0; opcode < FUSE_OPCODES + 2; opcode++) {
		const bool takes_none = opcode == FUSE_STATFS || opcode == FUSE_READLINK ||
					opcode == FUSE_OPENDIR || opcode == FUSE_DESTROY ||
					opcode == FUSE_SYNCFS;

		if (opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET ||
		    opcode == FUSE_INTERRUPT || takes_none)
			continue;
		CHECK(client_call(&c, opcode, ROOT, "", (size_t)1, END) < 0);
	}
	/* A name without its NUL. */
	CHECK_EQUAL(client_call(&c, FUSE_LOOKUP, ROOT, "name", (size_t)4, END), -EINVAL);
	client_free(&c);
}

static void nothing_is_served_before_init(void)
{
	client_new(&c, SHARED);
	fuse_server_reset(c.server);
	CHECK_EQUAL(get_attr(ROOT), -EIO);
	client_init(&c, 0);
	CHECK_EQUAL(get_attr(ROOT), 0);
	client_free(&c);
}

static void a_client_that_is_too_old_is_refused(void)
{
	struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION, .minor = 26};

	client_new(&c, SHARED);
	CHECK_EQUAL(client_call(&c, FUSE_INIT, 0, BODY(in), END), -EPROTO);
	in.major = FUSE_KERNEL_VERSION + 1;
	CHECK_EQUAL(client_call(&c, FUSE_INIT, 0, BODY(in), END), 0);
	CHECK_EQUAL(REPLY(&c, struct fuse_init_out)->major, FUSE_KERNEL_VERSION);
	client_free(&c);
}

static void a_reply_never_exceeds_its_room(void)
{
	const struct fuse_read_in in = {.size = 4096};
	uint64_t node;

	client_new(&c, EXCLUSIVE);
	node = make_file("file");
	c.room = sizeof(struct fuse_out_header) + 4095;
	CHECK_EQUAL(client_call(&c, FUSE_READ, node, BODY(in), END), -EINVAL);
	c.room = sizeof(struct fuse_out_header) + sizeof(struct fuse_attr_out) - 1;
	CHECK_EQUAL(get_attr(node), -ERANGE);
	client_free(&c);
}

/* The lookup of such a reply is undone: the client could never forget it. */
static void an_entry_that_could_not_be_told_is_not_kept(void)
{
	unsigned before;

	client_new(&c, SHARED);
	client_write_host(&c, "file", "");
	before = open_descriptors();
	c.room = sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out) - 1;
	CHECK_EQUAL(client_call(&c, FUSE_LOOKUP, ROOT, STRING("file"), END), -ERANGE);
	CHECK_EQUAL(open_descriptors(), before);
	client_free(&c);
}

static void a_write_carries_what_it_says(void)
{
	struct fuse_write_in in = {.size = 9};
	uint64_t node;

	client_new(&c, EXCLUSIVE);
	node = make_file("file");
	CHECK_EQUAL(client_call(&c, FUSE_WRITE, node, BODY(in), "12345678", (size_t)8, END),
		    -EINVAL);
	in.size = 7;
	CHECK_EQUAL(client_call(&c, FUSE_WRITE, node, BODY(in), "12345678", (size_t)8, END),
		    -EINVAL);
	in.size = UINT32_MAX;
	CHECK_EQUAL(client_call(&c, FUSE_WRITE, node, BODY(in), "12345678", (size_t)8, END),
		    -EINVAL);
	client_free(&c);
}

/* --- confinement ---------------------------------------------------------- */

static void names_that_lead_elsewhere_are_refused(void)
{
	static const char *const names[] = {"", ".", "..", "/", "a/b", "/etc", "../outside"};
	const struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	const struct fuse_rename2_in rename_in = {.newdir = ROOT};
	const struct fuse_link_in link_in = {.oldnodeid = 0};

	client_new(&c, SHARED);
	make_file("file");
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *name = names[i];

		CHECK_EQUAL(client_call(&c, FUSE_MKDIR, ROOT, BODY(mkdir_in), STRING(name), END),
			    -EINVAL);
		CHECK_EQUAL(client_call(&c, FUSE_UNLINK, ROOT, STRING(name), END), -EINVAL);
		CHECK_EQUAL(client_call(&c, FUSE_RMDIR, ROOT, STRING(name), END), -EINVAL);
		CHECK_EQUAL(client_call(&c, FUSE_SYMLINK, ROOT, STRING(name), STRING("t"), END),
			    -EINVAL);
		CHECK_EQUAL(client_call(&c, FUSE_LINK, ROOT, BODY(link_in), STRING(name), END),
			    -EINVAL);
		CHECK_EQUAL(client_call(&c, FUSE_RENAME2, ROOT, BODY(rename_in), STRING("file"),
					STRING(name), END),
			    -EINVAL);
		CHECK_EQUAL(client_call(&c, FUSE_RENAME2, ROOT, BODY(rename_in), STRING(name),
					STRING("new"), END),
			    -EINVAL);
		if (name[0] != '.' || strchr(name, '/'))
			CHECK_EQUAL(client_call(&c, FUSE_LOOKUP, ROOT, STRING(name), END), -EINVAL);
	}
	client_free(&c);
}

static void a_name_of_255_bytes_is_one_and_a_longer_one_is_too_long(void)
{
	const struct fuse_mkdir_in in = {.mode = 0755};
	char name[257];

	client_new(&c, SHARED);
	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	CHECK_EQUAL(client_call(&c, FUSE_MKDIR, ROOT, BODY(in), STRING(name), END), 0);
	client_lookup(&c, ROOT, name);
	name[255] = 'n';
	name[256] = '\0';
	CHECK_EQUAL(client_call(&c, FUSE_MKDIR, ROOT, BODY(in), STRING(name), END), -ENAMETOOLONG);
	CHECK_EQUAL(client_call(&c, FUSE_LOOKUP, ROOT, STRING(name), END), -ENAMETOOLONG);
	client_free(&c);
}

static void dot_dot_of_the_root_is_the_root(void)
{
	uint64_t dir;

	client_new(&c, SHARED);
	CHECK_EQUAL(mkdirat(c.share_fd, "dir", 0755), 0);
	dir = client_lookup(&c, ROOT, "dir");
	CHECK_EQUAL(client_lookup(&c, ROOT, ".."), ROOT);
	CHECK_EQUAL(client_lookup(&c, dir, ".."), ROOT);
	CHECK_EQUAL(client_lookup(&c, dir, "."), dir);
	client_free(&c);
}

/* A directory that the host moved out of the share has a parent outside. */
static void dot_dot_never_leaves_the_share(void)
{
	char moved[64];
	uint64_t dir;

	client_new(&c, SHARED);
	CHECK_EQUAL(mkdirat(c.share_fd, "dir", 0755), 0);
	dir = client_lookup(&c, ROOT, "dir");
	snprintf(moved, sizeof(moved), "%s/moved", c.base);
	CHECK_EQUAL(renameat(c.share_fd, "dir", AT_FDCWD, moved), 0);
	CHECK_EQUAL(client_call(&c, FUSE_LOOKUP, dir, STRING(".."), END), -ESTALE);
	client_free(&c);
}

static void a_symlink_is_never_followed(void)
{
	const struct fuse_setattr_in chmod_in = {.valid = FATTR_MODE, .mode = 0777};
	const struct fuse_setattr_in size_in = {.valid = FATTR_SIZE};
	const struct fuse_read_in read_in = {.size = 16};
	const struct fuse_open_in open_in = {0};
	char outside[64];
	struct stat st;
	uint64_t link;

	client_new(&c, SHARED);
	snprintf(outside, sizeof(outside), "%s/outside", c.base);
	close(open(outside, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	CHECK_EQUAL(truncate(outside, 5), 0);
	CHECK_EQUAL(symlinkat(outside, c.share_fd, "link"), 0);
	link = client_lookup(&c, ROOT, "link");
	CHECK(S_ISLNK(REPLY(&c, struct fuse_entry_out)->attr.mode));
	CHECK(client_call(&c, FUSE_OPEN, link, BODY(open_in), END) < 0);
	CHECK(client_call(&c, FUSE_OPENDIR, link, BODY(open_in), END) < 0);
	CHECK(client_call(&c, FUSE_READ, link, BODY(read_in), END) < 0);
	CHECK(client_call(&c, FUSE_SETATTR, link, BODY(chmod_in), END) < 0);
	CHECK(client_call(&c, FUSE_SETATTR, link, BODY(size_in), END) < 0);
	CHECK(client_call(&c, FUSE_LOOKUP, link, STRING("x"), END) < 0);
	CHECK_EQUAL(client_call(&c, FUSE_READLINK, link, END), 0);
	CHECK(client_replied(&c, outside));
	CHECK_EQUAL(stat(outside, &st), 0);
	CHECK_EQUAL(st.st_mode, S_IFREG | 0600);
	CHECK_EQUAL(st.st_size, 5);
	client_free(&c);
}

/* An open would wait for a writer, or reach a device of the host. */
static void what_is_no_file_is_never_opened(void)
{
	const struct fuse_mknod_in fifo = {.mode = S_IFIFO | 0666};
	const struct fuse_mknod_in device = {.mode = S_IFCHR | 0666, .rdev = 0x103};
	static const enum policy policies[] = {EXCLUSIVE, SHARED};
	const struct fuse_setattr_in size_in = {.valid = FATTR_SIZE};
	const struct fuse_read_in read_in = {.size = 16};
	const struct fuse_open_in open_in = {0};

	for (unsigned i = 0; i < 2; i++) {
		uint64_t node;

		client_new(&c, policies[i]);
		CHECK_EQUAL(client_call(&c, FUSE_MKNOD, ROOT, BODY(fifo), STRING("fifo"), END), 0);
		node = REPLY(&c, struct fuse_entry_out)->nodeid;
		CHECK(client_call(&c, FUSE_OPEN, node, BODY(open_in), END) < 0);
		CHECK(client_call(&c, FUSE_READ, node, BODY(read_in), END) < 0);
		CHECK(client_call(&c, FUSE_SETATTR, node, BODY(size_in), END) < 0);
		if (client_call(&c, FUSE_MKNOD, ROOT, BODY(device), STRING("dev"), END) == 0) {
			node = REPLY(&c, struct fuse_entry_out)->nodeid;
			CHECK_EQUAL(REPLY(&c, struct fuse_entry_out)->attr.rdev, 0x103);
			CHECK(client_call(&c, FUSE_OPEN, node, BODY(open_in), END) < 0);
			CHECK(client_call(&c, FUSE_READ, node, BODY(read_in), END) < 0);
		}
		client_free(&c);
	}
}

static void a_file_open_as_one_kind_is_not_used_as_another(void)
{
	const struct fuse_open_in open_in = {0};
	uint64_t dir_handle, node;
	struct fuse_read_in in = {.size = 4096};

	client_new(&c, SHARED);
	node = make_file("file");
	CHECK_EQUAL(client_call(&c, FUSE_OPENDIR, ROOT, BODY(open_in), END), 0);
	dir_handle = REPLY(&c, struct fuse_open_out)->fh;
	CHECK_EQUAL(client_read(&c, node, dir_handle, 0, 16), -EBADF);
	in.fh = client_open(&c, node, O_RDONLY);
	CHECK_EQUAL(client_call(&c, FUSE_READDIR, ROOT, BODY(in), END), -EBADF);
	CHECK_EQUAL(client_call(&c, FUSE_READDIRPLUS, node, BODY(in), END), -EBADF);
	client_free(&c);
}

static void a_read_only_share_refuses_every_change(void)
{
	static const uint32_t opcodes[] = {
		FUSE_SETATTR,  FUSE_SYMLINK,	 FUSE_MKNOD,	 FUSE_MKDIR,
		FUSE_UNLINK,   FUSE_RMDIR,	 FUSE_RENAME,	 FUSE_RENAME2,
		FUSE_LINK,     FUSE_WRITE,	 FUSE_CREATE,	 FUSE_TMPFILE,
		FUSE_SETXATTR, FUSE_REMOVEXATTR, FUSE_FALLOCATE, FUSE_COPY_FILE_RANGE,
	};

	client_new(&c, IMAGE);
	for (unsigned i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++)
		CHECK_EQUAL(client_call(&c, opcodes[i], ROOT, c.base, (size_t)8, END), -EROFS);
	client_free(&c);
}

/* --- nodes ---------------------------------------------------------------- */

static void unknown_nodes_and_handles_are_stale(void)
{
	static const uint64_t ids[] = {0, 2, 77, 1ULL << 32 | 1, 1ULL << 63, UINT64_MAX};

	client_new(&c, SHARED);
	for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		CHECK_EQUAL(get_attr(ids[i]), -ESTALE);
		CHECK_EQUAL(client_call(&c, FUSE_LOOKUP, ids[i], STRING("x"), END), -ESTALE);
		CHECK_EQUAL(client_read(&c, ROOT, ids[i], 0, 16), -EBADF);
		client_forget(&c, ids[i], 1);
	}
	client_free(&c);
}

static void a_node_lives_until_all_its_lookups_are_forgotten(void)
{
	uint64_t node;
	unsigned before;

	client_new(&c, SHARED);
	before = open_descriptors();
	node = make_file("file");
	CHECK_EQUAL(client_lookup(&c, ROOT, "file"), node);
	client_forget(&c, node, 1);
	CHECK_EQUAL(get_attr(node), 0);
	client_forget(&c, node, 1);
	CHECK_EQUAL(get_attr(node), -ESTALE);
	client_forget(&c, node, 1);
	CHECK_EQUAL(open_descriptors(), before);
	/* More lookups at once than were taken; and the root always stays. */
	node = client_lookup(&c, ROOT, "file");
	client_forget(&c, node, UINT64_MAX);
	client_forget(&c, ROOT, UINT64_MAX);
	CHECK_EQUAL(get_attr(node), -ESTALE);
	CHECK_EQUAL(get_attr(ROOT), 0);
	CHECK_EQUAL(open_descriptors(), before);
	client_free(&c);
}

static void a_batch_of_forgets_ends_with_the_request(void)
{
	const struct fuse_batch_forget_in in = {.count = UINT32_MAX};
	struct fuse_forget_one one = {.nlookup = 1};

	client_new(&c, SHARED);
	one.nodeid = make_file("file");
	client_begin(&c, FUSE_BATCH_FORGET, 0);
	client_put(&c, &in, sizeof(in));
	client_put(&c, &one, sizeof(one));
	client_put(&c, &one, sizeof(one) - 1);
	client_header(&c)->len = (uint32_t)c.request_bytes;
	CHECK_EQUAL(client_send_raw(&c), 0);
	CHECK_EQUAL(get_attr(one.nodeid), -ESTALE);
	client_free(&c);
}

static void hard_links_are_one_node(void)
{
	struct fuse_link_in in;
	uint64_t node;

	client_new(&c, SHARED);
	node = make_file("file");
	in.oldnodeid = node;
	CHECK_EQUAL(client_call(&c, FUSE_LINK, ROOT, BODY(in), STRING("link"), END), 0);
	CHECK_EQUAL(REPLY(&c, struct fuse_entry_out)->nodeid, node);
	CHECK_EQUAL(REPLY(&c, struct fuse_entry_out)->attr.nlink, 2);
	client_free(&c);
}

/* The inode number is free for reuse once the node is forgotten, not before. */
static void a_deleted_file_stays_itself_while_it_is_known(void)
{
	uint64_t node, other, fh;

	client_new(&c, SHARED);
	node = make_file("file");
	fh = client_open(&c, node, O_RDWR);
	CHECK_EQUAL(client_call(&c, FUSE_UNLINK, ROOT, STRING("file"), END), 0);
	other = make_file("file");
	CHECK(other != node);
	CHECK_EQUAL(client_write(&c, node, fh, 0, "deleted!"), 0);
	CHECK_EQUAL(client_read(&c, node, fh, 0, 100), 0);
	CHECK(client_replied(&c, "deleted!"));
	CHECK_EQUAL(get_attr(node), 0);
	CHECK_EQUAL(REPLY(&c, struct fuse_attr_out)->attr.nlink, 0);
	fh = client_open(&c, other, O_RDONLY);
	CHECK_EQUAL(client_read(&c, other, fh, 0, 100), 0);
	CHECK(client_replied(&c, "contents"));
	client_free(&c);
}

static void missing_names_are_kept_only_by_those_that_see_every_change(void)
{
	uint64_t dir;

	client_new(&c, SHARED);
	CHECK_EQUAL(client_call(&c, FUSE_LOOKUP, ROOT, STRING("none"), END), -ENOENT);
	client_free(&c);
	client_new(&c, EXCLUSIVE);
	CHECK_EQUAL(mkdirat(c.share_fd, "dir", 0755), 0);
	dir = client_lookup(&c, ROOT, "dir");
	CHECK_EQUAL(client_lookup(&c, dir, "none"), 0);
	CHECK(REPLY(&c, struct fuse_entry_out)->entry_valid > 0);
	/* The host mounts file systems right below the root. */
	CHECK_EQUAL(client_call(&c, FUSE_LOOKUP, ROOT, STRING("none"), END), -ENOENT);
	client_lookup(&c, ROOT, "dir");
	CHECK_EQUAL(REPLY(&c, struct fuse_entry_out)->entry_valid, 0);
	client_free(&c);
}

/* --- files that are read and written without OPEN ------------------------- */

static void an_exclusive_share_needs_no_open(void)
{
	const struct fuse_open_in open_in = {0};
	const struct fuse_mknod_in in = {.mode = S_IFREG | 0640};
	uint64_t node;

	client_new(&c, EXCLUSIVE);
	CHECK_EQUAL(client_call(&c, FUSE_OPEN, ROOT, BODY(open_in), END), -ENOSYS);
	CHECK_EQUAL(client_call(&c, FUSE_OPENDIR, ROOT, BODY(open_in), END), -ENOSYS);
	CHECK_EQUAL(client_call(&c, FUSE_MKNOD, ROOT, BODY(in), STRING("file"), END), 0);
	node = REPLY(&c, struct fuse_entry_out)->nodeid;
	CHECK_EQUAL(client_read(&c, node, 0, 0, 10), 0);
	CHECK_EQUAL(c.reply_bytes, 0);
	CHECK_EQUAL(client_write(&c, node, 0, 3, "text"), 0);
	CHECK_EQUAL(client_read(&c, node, 0, 3, 10), 0);
	CHECK(client_replied(&c, "text"));
	client_free(&c);
}

static void a_client_that_must_open_is_served_by_handles(void)
{
	uint64_t node, fh;

	client_new(&c, EXCLUSIVE);
	client_init(&c, FUSE_WRITEBACK_CACHE);
	node = make_file("file");
	CHECK_EQUAL(client_read(&c, node, 0, 0, 10), -EBADF);
	fh = client_open(&c, node, O_WRONLY);
	/* For the rest of a page that the client's write-back cache fills. */
	CHECK_EQUAL(client_read(&c, node, fh, 0, 10), 0);
	CHECK(client_replied(&c, "contents"));
	client_free(&c);
}

/* Descriptors of files in use are bounded by what is known (one each) and a
 * constant, not by two a file. */
static void files_used_long_ago_give_their_descriptors_back(void)
{
	/* A few more are open until the search for idle ones has seen all once. */
	const unsigned files = 1300, limit = 1024 + 16;
	unsigned before;
	char name[16];

	client_new(&c, EXCLUSIVE);
	before = open_descriptors();
	for (unsigned i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "%u", i);
		CHECK_EQUAL(client_read(&c, make_file(name), 0, 0, 100), 0);
		CHECK(client_replied(&c, "contents"));
	}
	CHECK(open_descriptors() <= before + files + limit);
	for (unsigned i = 0; i < files; i += 100) {
		snprintf(name, sizeof(name), "%u", i);
		CHECK_EQUAL(client_read(&c, client_lookup(&c, ROOT, name), 0, 0, 100), 0);
		CHECK(client_replied(&c, "contents"));
	}
	fuse_server_reset(c.server);
	CHECK_EQUAL(open_descriptors(), before);
	client_free(&c);
}

static void an_unnamed_file_gets_a_name_by_link(void)
{
	const struct fuse_create_in in = {.flags = O_RDWR, .mode = 0600};
	static const enum policy policies[] = {EXCLUSIVE, SHARED};

	for (unsigned i = 0; i < 2; i++) {
		struct fuse_link_in link_in;
		uint64_t node, fh;

		client_new(&c, policies[i]);
		CHECK_EQUAL(client_call(&c, FUSE_TMPFILE, ROOT, BODY(in), STRING("#1"), END), 0);
		node = REPLY(&c, struct fuse_entry_out)->nodeid;
		fh = ((const struct fuse_open_out *)(REPLY(&c, struct fuse_entry_out) + 1))->fh;
		CHECK_EQUAL(client_write(&c, node, fh, 0, "unnamed"), 0);
		link_in.oldnodeid = node;
		CHECK_EQUAL(client_call(&c, FUSE_LINK, ROOT, BODY(link_in), STRING("named"), END),
			    0);
		CHECK_EQUAL(client_lookup(&c, ROOT, "named"), node);
		CHECK_EQUAL(REPLY(&c, struct fuse_entry_out)->attr.size, strlen("unnamed"));
		client_free(&c);
	}
}

/* --- writes at the end ---------------------------------------------------- */

static void an_append_handle_appends_but_not_what_the_page_cache_writes_back(void)
{
	struct fuse_write_in in = {.size = 1};

	client_new(&c, SHARED);
	in.fh = client_open(&c, make_file("file"), O_WRONLY | O_APPEND);
	CHECK_EQUAL(client_write(&c, ROOT, in.fh, 0, "+"), 0);
	in.write_flags = FUSE_WRITE_CACHE;
	CHECK_EQUAL(client_call(&c, FUSE_WRITE, ROOT, BODY(in), "C", (size_t)1, END), 0);
	in.fh = client_open(&c, client_lookup(&c, ROOT, "file"), O_RDONLY);
	CHECK_EQUAL(client_read(&c, ROOT, in.fh, 0, 100), 0);
	CHECK(client_replied(&c, "Contents+"));
	client_free(&c);
}

/* --- directories ---------------------------------------------------------- */

struct listing {
	unsigned seen, deleted_seen;
	uint64_t position;
};

/* One READDIR: notes names "NNN"; false at the end. */
static bool list_some(uint64_t fh, uint32_t size, struct listing *listing)
{
	const struct fuse_read_in in = {.fh = fh, .offset = listing->position, .size = size};
	size_t at = 0;

	CHECK_EQUAL(client_call(&c, FUSE_READDIR, ROOT, BODY(in), END), 0);
	CHECK(c.reply_bytes <= size);
	while (at < c.reply_bytes) {
		const struct fuse_dirent *entry = (const void *)(REPLY(&c, char) + at);

		listing->seen += entry->name[0] == 'n';
		listing->deleted_seen += entry->name[0] == 'd';
		listing->position = entry->off;
		at += FUSE_DIRENT_SIZE(entry);
	}
	CHECK_EQUAL(at, c.reply_bytes);
	return c.reply_bytes > 0;
}

static uint64_t open_root(void)
{
	const struct fuse_open_in in = {0};

	if (client_call(&c, FUSE_OPENDIR, ROOT, BODY(in), END) == -ENOSYS)
		return 0;
	return REPLY(&c, struct fuse_open_out)->fh;
}

static void every_name_is_listed_once_while_others_are_deleted(void)
{
	static const enum policy policies[] = {EXCLUSIVE, SHARED};
	char name[16];

	for (unsigned i = 0; i < 2; i++) {
		struct listing listing = {0};
		unsigned victim = 0;
		uint64_t fh;

		client_new(&c, policies[i]);
		for (unsigned n = 0; n < 600; n++) {
			snprintf(name, sizeof(name), "%c%u", n % 2 ? 'n' : 'd', n);
			client_write_host(&c, name, "");
		}
		fh = open_root();
		while (list_some(fh, 200, &listing)) {
			snprintf(name, sizeof(name), "d%u", victim);
			unlinkat(c.share_fd, name, 0);
			victim += 2;
		}
		CHECK_EQUAL(listing.seen, 300);
		CHECK(listing.deleted_seen <= 300);
		/* From the start again: what was deleted is gone. */
		for (; victim < 600; victim += 2) {
			snprintf(name, sizeof(name), "d%u", victim);
			unlinkat(c.share_fd, name, 0);
		}
		listing = (struct listing){0};
		while (list_some(fh, 4096, &listing))
			continue;
		CHECK_EQUAL(listing.seen, 300);
		CHECK_EQUAL(listing.deleted_seen, 0);
		client_free(&c);
	}
}

static void a_buffer_too_small_for_one_name_is_an_error_not_the_end(void)
{
	struct fuse_read_in in = {.size = 24};

	client_new(&c, SHARED);
	in.fh = open_root();
	CHECK_EQUAL(client_call(&c, FUSE_READDIR, ROOT, BODY(in), END), -EINVAL);
	client_free(&c);
}

static void readdirplus_makes_nodes_known_but_not_dots(void)
{
	struct fuse_read_in in = {.size = 8192};
	unsigned found = 0;
	uint64_t node;

	client_new(&c, SHARED);
	node = make_file("file");
	client_forget(&c, node, 1);
	in.fh = open_root();
	CHECK_EQUAL(client_call(&c, FUSE_READDIRPLUS, ROOT, BODY(in), END), 0);
	node = 0;
	for (size_t at = 0; at < c.reply_bytes;) {
		const struct fuse_direntplus *entry = (const void *)(REPLY(&c, char) + at);

		if (entry->dirent.name[0] == '.')
			CHECK_EQUAL(entry->entry_out.nodeid, 0);
		else
			node = entry->entry_out.nodeid;
		found++;
		at += FUSE_DIRENTPLUS_SIZE(entry);
	}
	CHECK_EQUAL(found, 3);
	CHECK_EQUAL(get_attr(node), 0);
	client_forget(&c, node, 1);
	CHECK_EQUAL(get_attr(node), -ESTALE);
	client_free(&c);
}

/* --- attributes ----------------------------------------------------------- */

static void the_umask_of_the_request_masks_and_leaves_the_process_alone(void)
{
	const struct fuse_mkdir_in in = {.mode = 0777, .umask = 027};

	client_new(&c, SHARED);
	CHECK_EQUAL(client_call(&c, FUSE_MKDIR, ROOT, BODY(in), STRING("dir"), END), 0);
	CHECK_EQUAL(REPLY(&c, struct fuse_entry_out)->attr.mode, S_IFDIR | 0750);
	client_free(&c);
}

static void setattr_changes_what_it_names_only(void)
{
	const struct fuse_setattr_in in = {
		.valid = FATTR_SIZE | FATTR_MTIME,
		.size = 3,
		.mtime = 1234567890,
		.mtimensec = 123456789,
		.mode = 0777,
	};
	const struct fuse_attr *attr;

	client_new(&c, SHARED);
	CHECK_EQUAL(client_call(&c, FUSE_SETATTR, make_file("file"), BODY(in), END), 0);
	attr = &REPLY(&c, struct fuse_attr_out)->attr;
	CHECK_EQUAL(attr->size, 3);
	CHECK_EQUAL(attr->mtime, 1234567890);
	CHECK_EQUAL(attr->mtimensec, 123456789);
	CHECK_EQUAL(attr->mode, S_IFREG | 0644);
	client_free(&c);
}

static void extended_attributes_pass_through(void)
{
	const struct fuse_setxattr_in in = {.size = 5};
	const struct fuse_getxattr_in size_in = {.size = 0}, small_in = {.size = 4},
				      get_in = {.size = 100};
	uint64_t node;

	client_new(&c, SHARED);
	node = make_file("file");
	if (client_call(&c, FUSE_SETXATTR, node, BODY(in), STRING("user.n"), "value", (size_t)5,
			END) == -EOPNOTSUPP) {
		client_free(&c); /* a /tmp without extended attributes */
		return;
	}
	CHECK_EQUAL(client_call(&c, FUSE_GETXATTR, node, BODY(size_in), STRING("user.n"), END), 0);
	CHECK_EQUAL(REPLY(&c, struct fuse_getxattr_out)->size, 5);
	CHECK_EQUAL(client_call(&c, FUSE_GETXATTR, node, BODY(small_in), STRING("user.n"), END),
		    -ERANGE);
	CHECK_EQUAL(client_call(&c, FUSE_GETXATTR, node, BODY(get_in), STRING("user.n"), END), 0);
	CHECK(client_replied(&c, "value"));
	CHECK_EQUAL(client_call(&c, FUSE_REMOVEXATTR, node, STRING("user.n"), END), 0);
	CHECK_EQUAL(client_call(&c, FUSE_GETXATTR, node, BODY(get_in), STRING("user.n"), END),
		    -ENODATA);
	/* A truncated value. */
	CHECK_EQUAL(client_call(&c, FUSE_SETXATTR, node, BODY(in), STRING("user.n"), "valu",
				(size_t)4, END),
		    -EINVAL);
	client_free(&c);
}

static void holes_are_punched_and_found(void)
{
	struct fuse_fallocate_in punch = {
		.length = 65536,
		.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	};
	struct fuse_lseek_in seek = {.whence = SEEK_DATA};
	uint64_t node;
	int r;

	client_new(&c, EXCLUSIVE);
	CHECK_EQUAL(client_call(&c, FUSE_LSEEK, make_file("file"), BODY(seek), END), -ENOSYS);
	client_free(&c);
	client_new(&c, SHARED);
	node = make_file("file");
	punch.fh = seek.fh = client_open(&c, node, O_RDWR);
	CHECK_EQUAL(client_write(&c, node, seek.fh, 65536, "data"), 0);
	r = client_call(&c, FUSE_FALLOCATE, node, BODY(punch), END);
	CHECK(r == 0 || r == -EOPNOTSUPP);
	if (r == 0) {
		CHECK_EQUAL(client_call(&c, FUSE_LSEEK, node, BODY(seek), END), 0);
		CHECK_EQUAL(REPLY(&c, struct fuse_lseek_out)->offset, 65536);
	}
	client_free(&c);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(a_request_must_be_as_long_as_it_says),
		TEST(a_reply_without_room_for_its_header_is_no_reply),
		TEST(arguments_that_are_cut_short_are_refused),
		TEST(nothing_is_served_before_init),
		TEST(a_client_that_is_too_old_is_refused),
		TEST(a_reply_never_exceeds_its_room),
		TEST(an_entry_that_could_not_be_told_is_not_kept),
		TEST(a_write_carries_what_it_says),
		TEST(names_that_lead_elsewhere_are_refused),
		TEST(a_name_of_255_bytes_is_one_and_a_longer_one_is_too_long),
		TEST(dot_dot_of_the_root_is_the_root),
		TEST(dot_dot_never_leaves_the_share),
		TEST(a_symlink_is_never_followed),
		TEST(what_is_no_file_is_never_opened),
		TEST(a_file_open_as_one_kind_is_not_used_as_another),
		TEST(a_read_only_share_refuses_every_change),
		TEST(unknown_nodes_and_handles_are_stale),
		TEST(a_node_lives_until_all_its_lookups_are_forgotten),
		TEST(a_batch_of_forgets_ends_with_the_request),
		TEST(hard_links_are_one_node),
		TEST(a_deleted_file_stays_itself_while_it_is_known),
		TEST(missing_names_are_kept_only_by_those_that_see_every_change),
		TEST(an_exclusive_share_needs_no_open),
		TEST(a_client_that_must_open_is_served_by_handles),
		TEST(files_used_long_ago_give_their_descriptors_back),
		TEST(an_unnamed_file_gets_a_name_by_link),
		TEST(an_append_handle_appends_but_not_what_the_page_cache_writes_back),
		TEST(every_name_is_listed_once_while_others_are_deleted),
		TEST(a_buffer_too_small_for_one_name_is_an_error_not_the_end),
		TEST(readdirplus_makes_nodes_known_but_not_dots),
		TEST(the_umask_of_the_request_masks_and_leaves_the_process_alone),
		TEST(setattr_changes_what_it_names_only),
		TEST(extended_attributes_pass_through),
		TEST(holes_are_punched_and_found),
	};

	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return RUN_TESTS(tests, argc, argv);
}
