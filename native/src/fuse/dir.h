/* SPDX-License-Identifier: Apache-2.0 */
/* A stream of directory entries: the result of getdents64(2), kept until it is
 * sent, as the client's buffers are smaller.  Positions are the host's own
 * (d_off), so a position stays good whatever is created or removed. */
#ifndef SAMPAN_FUSE_DIR_H
#define SAMPAN_FUSE_DIR_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* What getdents64(2) writes. */
struct fuse_dir_entry {
	uint64_t ino;
	int64_t position; /* of the entry after this one */
	uint16_t bytes;
	uint8_t type; /* DT_* */
	char name[];
} __attribute__((packed));

struct fuse_dir;

struct fuse_dir *fuse_dir_new(void);
void fuse_dir_free(struct fuse_dir *dir); /* NULL: nothing */

/* Between the two calls no other reader uses the stream. */
void fuse_dir_begin(struct fuse_dir *dir);
void fuse_dir_end(struct fuse_dir *dir);

/* The entry at `position` (0: the first), or NULL in *ret_entry at the end. */
int fuse_dir_entry(struct fuse_dir *dir, int fd, int64_t position,
		   const struct fuse_dir_entry **ret_entry);
/* Moves past the entry that was just returned. */
void fuse_dir_advance(struct fuse_dir *dir);

#endif
