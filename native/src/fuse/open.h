/* SPDX-License-Identifier: Apache-2.0 */
/* OPEN's part in requests that open what they create. */
#ifndef SAMPAN_FUSE_OPEN_H
#define SAMPAN_FUSE_OPEN_H

#include <linux/fuse.h>

#include "fuse/inode.h"
#include "fuse/proto.h"

/* The open(2) flags for the host's file, from the client's. */
int fuse_open_flags(const struct fuse_call *call, uint32_t flags);

/* A handle for a file just opened; takes `fd` over in any case.  `inode`: NULL for one
 * that was just made. */
int fuse_open_new(struct fuse_call *call, struct fuse_inode *inode, int fd, uint32_t flags,
		  struct fuse_open_out *ret_open);

#endif
