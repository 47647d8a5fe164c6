/* SPDX-License-Identifier: Apache-2.0 */
/* The open descriptor of a file that the client reads and writes by its node id
 * alone (FUSE_NO_OPEN_SUPPORT): opened at the first use, closed when it has not
 * been used for long and others need its place.
 *
 * One word holds descriptor and users, so that a descriptor is closed only
 * while nobody uses it and is never used after that. */
#ifndef SAMPAN_FUSE_DATA_H
#define SAMPAN_FUSE_DATA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fuse_data {
	/* (descriptor + 1) << 32 | RECENT | users; 0: not open. */
	_Atomic uint64_t word;
};

/* Adds one use and returns the descriptor; -1: not open. */
int fuse_data_use(struct fuse_data *data);
void fuse_data_unuse(struct fuse_data *data);

/* Stores an open descriptor, with one use.  Returns the descriptor to use: when
 * another thread was faster it is that one's, and `fd` has been closed. */
int fuse_data_publish(struct fuse_data *data, int fd);

/* Closes it if nobody uses it; with `spare_recent` only if nobody used it since
 * the last call.  True: closed. */
bool fuse_data_close(struct fuse_data *data, bool spare_recent);

/* Closes it; no other thread may use it.  True: it was open. */
bool fuse_data_drop(struct fuse_data *data);

#endif
