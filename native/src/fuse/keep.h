/* SPDX-License-Identifier: Apache-2.0 */
/* What an opened file's own file system lets the client do with it. */
#ifndef SAMPAN_FUSE_KEEP_H
#define SAMPAN_FUSE_KEEP_H

#include <stdint.h>

#include "fuse/inode.h"

struct fuse_server_config;

/* FOPEN_KEEP_CACHE and FOPEN_NOFLUSH for a file that `fd` was just opened on.
 *
 * Where the host may change files, the client may keep contents over an open when
 * their ctime is the same as at the open before.  At that open it was older than
 * `keep_after_ns`, so any later change gives another ctime.  `inode` stores it;
 * NULL: a file that was just made. */
uint32_t fuse_keep_on_open(const struct fuse_server_config *config, struct fuse_inode *inode,
			   int fd);

#endif
