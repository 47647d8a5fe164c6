/* SPDX-License-Identifier: Apache-2.0 */
/* Who the calling thread acts as.  Permission checks are the client kernel's; the
 * server keeps the capabilities that make the host's checks pass, and only takes
 * on what is stored in a file: its owner, its group, the umask.
 *
 * All of it is state of the thread, never of the process. */
#ifndef SAMPAN_FUSE_CREDENTIALS_H
#define SAMPAN_FUSE_CREDENTIALS_H

#include <stdint.h>

struct fuse_call;

/* Gives the calling thread a umask and a working directory of its own. */
int fuse_credentials_separate(void);

/* What is created from here on belongs to the request's user and group and is
 * masked by `umask`, unless the directory has a default ACL.  Does not change
 * errno. */
void fuse_create_begin(const struct fuse_call *call, uint32_t umask);
void fuse_create_end(const struct fuse_call *call);

/* Set-id bits are cleared from here on as for an ordinary user. */
void fuse_no_fsetid_begin(void);
void fuse_no_fsetid_end(void);

#endif
