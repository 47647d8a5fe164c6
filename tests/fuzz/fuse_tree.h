/* SPDX-License-Identifier: Apache-2.0 */
/* The directory that a server of files shares: in memory where this process may mount,
 * with another mount below it.  Emptied and filled again before each input. */
#ifndef SAMPAN_FUZZ_FUSE_TREE_H
#define SAMPAN_FUZZ_FUSE_TREE_H

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/xattr.h>

#include "fuse_client.h"

#define MEMORY_OPTIONS "size=8m,nr_inodes=4096"
#define LARGEST_FILE (1U << 20)
#define MOST_DESCRIPTORS 1024
#define MOUNTED "m" /* below the share */

struct tree {
	char base[32]; /* holds share/ and x, which is outside of it */
	int base_fd, share_fd;
	bool mounts; /* nobody's disk is behind it */
};

static struct tree tree;

static inline void empty(int dir_fd)
{
	DIR *dir = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const struct dirent *entry;

	CHECK(dir);
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (unlinkat(dir_fd, entry->d_name, 0) < 0) {
			const int fd = openat(dir_fd, entry->d_name,
					      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (fd >= 0) {
				empty(fd);
				close(fd);
			}
			(void)unlinkat(dir_fd, entry->d_name, AT_REMOVEDIR);
		}
	}
	closedir(dir);
}

static inline void remove_base(void)
{
	empty(tree.base_fd);
	(void)umount2(tree.base, MNT_DETACH);
	(void)rmdir(tree.base);
}

/* Without the right to mount: a directory below /tmp. */
static inline bool mount_memory(const char *place)
{
	return mount("fuzz", place, "tmpfs", MS_NOSUID | MS_NODEV, MEMORY_OPTIONS) == 0;
}

static inline void tree_new(void)
{
	const struct rlimit limit = {LARGEST_FILE, LARGEST_FILE};
	const struct rlimit descriptors = {MOST_DESCRIPTORS, MOST_DESCRIPTORS};
	char path[48];

	signal(SIGXFSZ, SIG_IGN);
	CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
	CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
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
	tree.mounts = tree.mounts && mount_memory(path);
}

static inline void put_file(int dir_fd, const char *name, const char *text)
{
	const int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQUAL(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static inline void fill(int dir_fd)
{
	put_file(dir_fd, "a", "contents");
	CHECK_EQUAL(symlinkat("../../x", dir_fd, "l"), 0);
	CHECK_EQUAL(mkdirat(dir_fd, "d", 0700), 0);
	put_file(dir_fd, "d/b", "b");
}

static inline void tree_renew(void)
{
	const int mounted_fd = openat(tree.share_fd, MOUNTED, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	umask(0);
	CHECK(mounted_fd >= 0 || !tree.mounts);
	if (tree.mounts)
		empty(mounted_fd);
	empty(tree.share_fd);
	if (!tree.mounts)
		(void)mkdirat(tree.share_fd, MOUNTED, 0755);
	(void)fchmod(tree.share_fd, 0755);
	fill(tree.share_fd);
	if (tree.mounts)
		fill(mounted_fd);
	put_file(tree.base_fd, "x", "canary");
	if (mounted_fd >= 0)
		close(mounted_fd);
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
	CHECK_EQUAL(st.st_nlink, 3);
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
