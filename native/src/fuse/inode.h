/* SPDX-License-Identifier: Apache-2.0 */
/* The files that the client knows: node ids, each with an O_PATH descriptor
 * that pins the file, so that its identity (mount, device, inode number) cannot
 * be taken over by another one while the client holds the id.
 *
 * One descriptor for each known file: RLIMIT_NOFILE must be large enough (at most
 * fs.nr_open).  At the limit lookups fail with ENFILE; the client continues, as it
 * forgets unused files under pressure. */
#ifndef SAMPAN_FUSE_INODE_H
#define SAMPAN_FUSE_INODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fuse/data.h"
#include "fuse/table.h"

struct fuse_dir;

struct fuse_identity {
	uint64_t mount_id;
	uint64_t device;
	uint64_t number;
};

struct fuse_inode {
	struct fuse_entry entry;
	int fd;	       /* O_PATH */
	uint32_t type; /* S_IFMT bits: never change for one identity */
	struct fuse_identity identity;
	/* The client's lookups; guarded by the table's lock. */
	uint64_t lookups;
	struct fuse_inode *next; /* in its bucket */

	/* Descriptors for reads and writes without OPEN: see data.h. */
	struct fuse_data read_data, write_data;
	struct fuse_dir *_Atomic dir; /* of a directory that is read without OPENDIR; else NULL */
	/* The ctime of the contents that the client caches, 0: not known.  See
	 * keep.h. */
	_Atomic int64_t settled_ctime_ns;
};

struct fuse_inodes {
	struct fuse_table table;
	struct fuse_inode *root; /* id FUSE_ROOT_ID, never forgotten */

	_Atomic uint32_t open_data; /* descriptors in read_data and write_data of all */
	_Atomic uint32_t data_hand; /* the slot where the search for idle ones continues */

	pthread_mutex_t lock; /* for buckets, and lookups of every inode */
	struct fuse_inode **buckets;
	uint32_t bucket_count; /* a power of two */
	uint32_t count;
};

/* Duplicates `root_fd`. */
int fuse_inodes_init(struct fuse_inodes *inodes, int root_fd);
void fuse_inodes_release(struct fuse_inodes *inodes);

/* Forgets all but the root; nobody else may use the table. */
void fuse_inodes_clear(struct fuse_inodes *inodes);

uint64_t fuse_inode_id(const struct fuse_inode *inode);

/* The inode of a node id, with a reference, or NULL: the id was forgotten or
 * never given. */
struct fuse_inode *fuse_inode_get(struct fuse_inodes *inodes, uint64_t id);
void fuse_inode_put(struct fuse_inodes *inodes, struct fuse_inode *inode);

/* The identity of a file that was seen with STATX_INO | STATX_MNT_ID. */
struct fuse_identity fuse_identity_of(const struct statx *st);

/* A known file by identity: counts one lookup of the client and returns its id;
 * 0: not known. */
uint64_t fuse_inodes_find(struct fuse_inodes *inodes, const struct fuse_identity *identity);

/* As above, and adds it if it is not known: takes `fd` over in any case. */
int fuse_inodes_learn(struct fuse_inodes *inodes, int fd, const struct statx *st, uint64_t *ret_id);

/* A file that the client of an earlier server knew as `id`: takes `fd` over in
 * any case.  Ids in the order of their slots. */
int fuse_inodes_restore(struct fuse_inodes *inodes, uint64_t id, uint64_t lookups, int fd,
			const struct statx *st);

/* The client drops `count` of its lookups. */
void fuse_inodes_forget(struct fuse_inodes *inodes, uint64_t id, uint64_t count);

#endif
