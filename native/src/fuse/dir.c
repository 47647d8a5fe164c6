/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/dir.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUFFER_BYTES 32768

struct fuse_dir {
	pthread_mutex_t lock;
	uint8_t *buffer; /* only while the stream is neither at its start nor at its end */
	size_t filled, taken;
	int64_t position; /* of buffer + taken */
};

struct fuse_dir *fuse_dir_new(void)
{
	struct fuse_dir *dir = calloc(1, sizeof(*dir));

	if (dir)
		pthread_mutex_init(&dir->lock, NULL);
	return dir;
}

void fuse_dir_free(struct fuse_dir *dir)
{
	if (!dir)
		return;
	pthread_mutex_destroy(&dir->lock);
	free(dir->buffer);
	free(dir);
}

void fuse_dir_begin(struct fuse_dir *dir)
{
	pthread_mutex_lock(&dir->lock);
}

void fuse_dir_end(struct fuse_dir *dir)
{
	pthread_mutex_unlock(&dir->lock);
}

static void forget(struct fuse_dir *dir)
{
	free(dir->buffer);
	dir->buffer = NULL;
	dir->filled = dir->taken = 0;
}

static int fill(struct fuse_dir *dir, int fd, int64_t position)
{
	long n;

	if (!dir->buffer)
		dir->buffer = malloc(BUFFER_BYTES);
	if (!dir->buffer)
		return -ENOMEM;
	dir->filled = dir->taken = 0;
	if (lseek(fd, position, SEEK_SET) < 0)
		return -errno;
	n = syscall(SYS_getdents64, fd, dir->buffer, BUFFER_BYTES);
	if (n < 0)
		return -errno;
	dir->filled = (size_t)n;
	dir->position = position;
	return 0;
}

int fuse_dir_entry(struct fuse_dir *dir, int fd, int64_t position,
		   const struct fuse_dir_entry **ret_entry)
{
	/* Position 0 is a new reader or rewinddir(3): both must see the directory
	 * as it is now. */
	if (position == 0 || position != dir->position || dir->taken == dir->filled) {
		const int r = fill(dir, fd, position);

		if (r < 0)
			return r;
	}
	if (dir->taken == dir->filled) {
		forget(dir);
		*ret_entry = NULL;
		return 0;
	}
	*ret_entry = (const struct fuse_dir_entry *)(dir->buffer + dir->taken);
	return 0;
}

void fuse_dir_advance(struct fuse_dir *dir)
{
	const struct fuse_dir_entry *entry =
		(const struct fuse_dir_entry *)(dir->buffer + dir->taken);

	dir->taken += entry->bytes;
	dir->position = entry->position;
}
