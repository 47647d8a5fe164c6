/* SPDX-License-Identifier: Apache-2.0 */
/* The directory that a server of files shares: in memory where this process may mount,
 * with another mount below it.  Emptied and filled again before each input.
 *
 * FUZZ_BELOW=ext4|overlay (root) says what is mounted below, instead of memory. */
#ifndef SAMPAN_FUZZ_FUSE_TREE_H
#define SAMPAN_FUZZ_FUSE_TREE_H

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/xattr.h>

#include "fuse_below.h"
#include "fuse_client.h"

#define LARGEST_FILE (1U << 20)
#define MOST_DESCRIPTORS 1024
#define MOUNTED "m" /* below the share */

struct tree {
	char base[32]; /* holds share/ and x, which is outside of it */
	int base_fd, share_fd;
	nlink_t base_links;
	bool mounts; /* nobody's disk is behind it */
	struct below below;
};

static struct tree tree;

static inline void remove_base(void)
{
	empty(tree.base_fd);
	(void)umount2(tree.base, MNT_DETACH);
	(void)rmdir(tree.base);
}

static inline void limit_files(void)
{
	const struct rlimit limit = {LARGEST_FILE, LARGEST_FILE};
	const struct rlimit descriptors = {MOST_DESCRIPTORS, MOST_DESCRIPTORS};

	signal(SIGXFSZ, SIG_IGN);
	CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
}

/* Without the right to mount: a directory below /tmp. */
static inline void tree_new(void)
{
	const char *kind = getenv("FUZZ_BELOW");
	char path[48];
	struct stat st;

	strcpy(tree.base, "/tmp/fuzz-XXXXXX");
	CHECK(mkdtemp(tree.base));
	atexit(remove_base);
	tree.mounts = unshare(CLONE_NEWNS) == 0 &&
		      mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		      mount_memory(tree.base);
	tree.base_fd = open(tree.base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(tree.base_fd >= 0);
	CHECK_EQUAL(mkdirat(tree.base_fd, "share", 0755), 0);
	tree.share_fd = openat(tree.base_fd, "share", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(tree.share_fd >= 0);
	CHECK_EQUAL(mkdirat(tree.share_fd, MOUNTED, 0755), 0);
	snprintf(path, sizeof(path), "%s/share/" MOUNTED, tree.base);
	if (kind)
		CHECK(tree.mounts);
	if (tree.mounts)
		below_mount(&tree.below, kind, tree.base, path);
	CHECK_EQUAL(fstat(tree.base_fd, &st), 0);
	tree.base_links = st.st_nlink;
	limit_files();
}

static inline void tree_renew(void)
{
	umask(0);
	empty(tree.share_fd); /* and what is mounted below */
	if (!tree.mounts)
		(void)mkdirat(tree.share_fd, MOUNTED, 0755);
	(void)fchmod(tree.share_fd, 0755);
	fill(tree.share_fd);
	if (tree.mounts)
		below_renew(&tree.below);
	put_file(tree.base_fd, "x", "canary");
}

/* Nothing beside the share has changed. */
static inline void tree_check_outside(void)
{
	char text[16] = "";
	const int fd = openat(tree.base_fd, "x", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	CHECK_EQUAL(st.st_mode, S_IFREG | 0600);
	CHECK_EQUAL(st.st_nlink, 1);
	CHECK_EQUAL(read(fd, text, sizeof(text)), 6);
	CHECK(strcmp(text, "canary") == 0);
	close(fd);
	CHECK_EQUAL(fstat(tree.base_fd, &st), 0);
	CHECK_EQUAL(st.st_nlink, tree.base_links);
}

/* Servers are used again: to make one costs more than most inputs. */
#define CHOICES 16

static struct fuse_server *servers[CHOICES][2];

/* `choice`: of IMAGE, EXCLUSIVE, SHARED, and who may change the share's own mount; of
 * each there are two servers. */
static inline void tree_serve(struct client *c, uint8_t choice, unsigned which)
{
	choice %= CHOICES;
	for (unsigned i = 0; i < 2; i++) {
		if (servers[choice][i])
			continue;
		client_own_mount_writable = choice & 4;
		client_keep_after_ns = choice & 8 ? 1 : 0;
		c->share_fd = tree.share_fd;
		client_new_server(c, choice % 4 % 3);
		servers[choice][i] = c->server;
	}
	c->server = servers[choice][which];
}

#endif
