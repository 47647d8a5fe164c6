/* SPDX-License-Identifier: Apache-2.0 */
/* The file system that is mounted below a share: memory, ext4 on a loop device, or an
 * overlay whose lower layer has files. */
#ifndef SAMPAN_FUZZ_FUSE_BELOW_H
#define SAMPAN_FUZZ_FUSE_BELOW_H

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "check.h"

#define MEMORY_OPTIONS "size=8m,nr_inodes=4096"
#define DISK_OPTIONS "size=24m"
#define DISK_BYTES "16M"

struct below {
	char place[48], layers[48];
	bool is_overlay;
};

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

static inline bool mount_memory(const char *place)
{
	return mount("fuzz", place, "tmpfs", MS_NOSUID | MS_NODEV, MEMORY_OPTIONS) == 0;
}

static inline void run_command(const char *format, const char *a, const char *b)
{
	char command[256];

	CHECK(snprintf(command, sizeof(command), format, a, b) < (int)sizeof(command));
	CHECK_EQUAL(system(command), 0);
}

/* The loop device keeps the file, and ends with the mount. */
static inline void mount_ext4(const char *base, const char *place)
{
	char disk[48];

	snprintf(disk, sizeof(disk), "%s/disk", base);
	CHECK_EQUAL(mkdir(disk, 0700), 0);
	CHECK_EQUAL(mount("fuzz", disk, "tmpfs", 0, DISK_OPTIONS), 0);
	run_command("truncate -s " DISK_BYTES " %s/image; mkfs.ext4 -q -F %s/image", disk, disk);
	run_command("mount -t ext4 -o loop,nosuid,nodev %s/image %s", disk, place);
	CHECK_EQUAL(umount2(disk, MNT_DETACH), 0);
	CHECK_EQUAL(rmdir(disk), 0);
}

static inline void make_layers(struct below *below, const char *base)
{
	static const char *const names[] = {"lower", "upper", "work"};
	char path[64];
	int fd;

	snprintf(below->layers, sizeof(below->layers), "%s/layers", base);
	CHECK_EQUAL(mkdir(below->layers, 0700), 0);
	CHECK(mount_memory(below->layers));
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", below->layers, names[i]);
		CHECK_EQUAL(mkdir(path, 0755), 0);
	}
	snprintf(path, sizeof(path), "%s/lower", below->layers);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fill(fd);
	close(fd);
}

static inline void empty_layer(const struct below *below, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", below->layers, name);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	empty(fd);
	close(fd);
}

/* Anew each time: what was copied up is in the lower layer only again. */
static inline void mount_overlay(const struct below *below)
{
	char options[256];

	(void)umount2(below->place, MNT_DETACH);
	empty_layer(below, "upper");
	empty_layer(below, "work");
	snprintf(options, sizeof(options), "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work",
		 below->layers, below->layers, below->layers);
	CHECK_EQUAL(mount("fuzz", below->place, "overlay", MS_NOSUID | MS_NODEV, options), 0);
}

/* `kind`: of FUZZ_BELOW; NULL is memory.  `base` is a directory for what is needed. */
static inline void below_mount(struct below *below, const char *kind, const char *base,
			       const char *place)
{
	snprintf(below->place, sizeof(below->place), "%s", place);
	if (!kind) {
		CHECK(mount_memory(place));
	} else if (strcmp(kind, "ext4") == 0) {
		mount_ext4(base, place);
	} else {
		CHECK(strcmp(kind, "overlay") == 0);
		below->is_overlay = true;
		make_layers(below, base);
		mount_overlay(below);
	}
}

/* Fills what was emptied. */
static inline void below_renew(const struct below *below)
{
	int fd;

	if (below->is_overlay) {
		mount_overlay(below);
		return;
	}
	fd = open(below->place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	fill(fd);
	close(fd);
}

#endif
