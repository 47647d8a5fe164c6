/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fuse/dir.h"

#define FIRST_BUCKETS 256U

static uint64_t hash(const struct fuse_identity *identity)
{
	uint64_t h = identity->number * 0x9e3779b97f4a7c15ULL;

	h ^= (identity->device + (identity->mount_id << 20)) * 0xc2b2ae3d27d4eb4fULL;
	return h ^ h >> 32;
}

static bool is_same(const struct fuse_identity *a, const struct fuse_identity *b)
{
	return a->number == b->number && a->device == b->device && a->mount_id == b->mount_id;
}

static struct fuse_inode **bucket_of(struct fuse_inodes *inodes,
				     const struct fuse_identity *identity)
{
	return &inodes->buckets[hash(identity) & (inodes->bucket_count - 1)];
}

static struct fuse_inode *find(struct fuse_inodes *inodes, const struct fuse_identity *identity)
{
	struct fuse_inode *inode = *bucket_of(inodes, identity);

	while (inode && !is_same(&inode->identity, identity))
		inode = inode->next;
	return inode;
}

/* Keeps chains short; without memory the table stays as it is. */
static void grow(struct fuse_inodes *inodes)
{
	struct fuse_inode **old = inodes->buckets;
	const uint32_t old_count = inodes->bucket_count;
	struct fuse_inode **buckets = calloc(old_count * 2UL, sizeof(*buckets));

	if (!buckets)
		return;
	inodes->buckets = buckets;
	inodes->bucket_count = old_count * 2;
	for (uint32_t i = 0; i < old_count; i++) {
		struct fuse_inode *inode = old[i], *next;

		for (; inode; inode = next) {
			struct fuse_inode **bucket = bucket_of(inodes, &inode->identity);

			next = inode->next;
			inode->next = *bucket;
			*bucket = inode;
		}
	}
	free(old);
}

static void insert(struct fuse_inodes *inodes, struct fuse_inode *inode)
{
	struct fuse_inode **bucket;

	if (inodes->count++ >= inodes->bucket_count)
		grow(inodes);
	bucket = bucket_of(inodes, &inode->identity);
	inode->next = *bucket;
	*bucket = inode;
}

static void unlink_from_bucket(struct fuse_inodes *inodes, struct fuse_inode *inode)
{
	struct fuse_inode **at = bucket_of(inodes, &inode->identity);

	while (*at != inode)
		at = &(*at)->next;
	*at = inode->next;
	inodes->count--;
}

static void describe(struct fuse_inode *inode, int fd, const struct statx *st)
{
	inode->fd = fd;
	inode->type = st->stx_mode & S_IFMT;
	inode->identity = fuse_identity_of(st);
}

static struct fuse_inode *new_inode(struct fuse_inodes *inodes, int fd, const struct statx *st)
{
	struct fuse_inode *inode = fuse_table_add(&inodes->table);

	if (inode)
		describe(inode, fd, st);
	return inode;
}

static int add_root(struct fuse_inodes *inodes, int root_fd)
{
	struct statx st;
	int fd = openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_MNT_ID, &st) < 0) {
		const int r = -errno;

		close(fd);
		return r;
	}
	inodes->root = new_inode(inodes, fd, &st);
	if (!inodes->root) {
		close(fd);
		return -ENOMEM;
	}
	insert(inodes, inodes->root);
	return 0;
}

int fuse_inodes_init(struct fuse_inodes *inodes, int root_fd)
{
	int r;

	memset(inodes, 0, sizeof(*inodes));
	inodes->buckets = calloc(FIRST_BUCKETS, sizeof(struct fuse_inode *));
	if (!inodes->buckets)
		return -ENOMEM;
	inodes->bucket_count = FIRST_BUCKETS;
	pthread_mutex_init(&inodes->lock, NULL);
	fuse_table_init(&inodes->table, sizeof(struct fuse_inode));
	r = add_root(inodes, root_fd);
	if (r < 0)
		fuse_inodes_release(inodes);
	return r;
}

static void drop_data(struct fuse_inodes *inodes, struct fuse_inode *inode)
{
	inodes->open_data -= fuse_data_drop(&inode->read_data);
	inodes->open_data -= fuse_data_drop(&inode->write_data);
	fuse_dir_free(atomic_exchange(&inode->dir, NULL));
}

static void destroy(struct fuse_inodes *inodes, struct fuse_inode *inode)
{
	drop_data(inodes, inode);
	close(inode->fd);
	fuse_table_recycle(&inodes->table, &inode->entry);
}

void fuse_inodes_clear(struct fuse_inodes *inodes)
{
	for (uint32_t i = 0; i < inodes->bucket_count; i++) {
		struct fuse_inode *inode = inodes->buckets[i], *next;

		inodes->buckets[i] = NULL;
		for (; inode; inode = next) {
			next = inode->next;
			if (inode == inodes->root)
				continue;
			fuse_table_kill(&inode->entry);
			fuse_inode_put(inodes, inode);
		}
	}
	inodes->count = 0;
	if (inodes->root) {
		drop_data(inodes, inodes->root);
		insert(inodes, inodes->root);
	}
}

void fuse_inodes_release(struct fuse_inodes *inodes)
{
	fuse_inodes_clear(inodes);
	if (inodes->root)
		destroy(inodes, inodes->root);
	fuse_table_release(&inodes->table);
	pthread_mutex_destroy(&inodes->lock);
	free(inodes->buckets);
}

uint64_t fuse_inode_id(const struct fuse_inode *inode)
{
	return fuse_table_id(&inode->entry);
}

struct fuse_inode *fuse_inode_get(struct fuse_inodes *inodes, uint64_t id)
{
	return fuse_table_get(&inodes->table, id);
}

void fuse_inode_put(struct fuse_inodes *inodes, struct fuse_inode *inode)
{
	if (fuse_table_put(&inode->entry))
		destroy(inodes, inode);
}

struct fuse_identity fuse_identity_of(const struct statx *st)
{
	return (struct fuse_identity){
		.mount_id = st->stx_mnt_id,
		.device = makedev(st->stx_dev_major, st->stx_dev_minor),
		.number = st->stx_ino,
	};
}

uint64_t fuse_inodes_find(struct fuse_inodes *inodes, const struct fuse_identity *identity)
{
	struct fuse_inode *inode;
	uint64_t id = 0;

	pthread_mutex_lock(&inodes->lock);
	inode = find(inodes, identity);
	if (inode) {
		inode->lookups++;
		id = fuse_inode_id(inode);
	}
	pthread_mutex_unlock(&inodes->lock);
	return id;
}

int fuse_inodes_learn(struct fuse_inodes *inodes, int fd, const struct statx *st, uint64_t *ret_id)
{
	const struct fuse_identity identity = fuse_identity_of(st);
	struct fuse_inode *inode;

	pthread_mutex_lock(&inodes->lock);
	inode = find(inodes, &identity);
	if (!inode) {
		inode = new_inode(inodes, fd, st);
		if (inode) {
			insert(inodes, inode);
			fd = -1;
		}
	}
	if (inode) {
		inode->lookups++;
		*ret_id = fuse_inode_id(inode);
	}
	pthread_mutex_unlock(&inodes->lock);
	if (fd >= 0)
		close(fd);
	return inode ? 0 : -ENOMEM;
}

int fuse_inodes_restore(struct fuse_inodes *inodes, uint64_t id, uint64_t lookups, int fd,
			const struct statx *st)
{
	struct fuse_inode *inode = fuse_table_add_as(&inodes->table, id);

	if (!inode) {
		close(fd);
		return -EINVAL;
	}
	describe(inode, fd, st);
	inode->lookups = lookups;
	insert(inodes, inode);
	return 0;
}

void fuse_inodes_forget(struct fuse_inodes *inodes, uint64_t id, uint64_t count)
{
	struct fuse_inode *inode = fuse_inode_get(inodes, id);
	bool gone;

	if (!inode)
		return;
	pthread_mutex_lock(&inodes->lock);
	/* Bounds: a client that drops more lookups than it has is left with none. */
	inode->lookups -= count < inode->lookups ? count : inode->lookups;
	gone = inode->lookups == 0 && inode != inodes->root && fuse_table_kill(&inode->entry);
	if (gone)
		unlink_from_bucket(inodes, inode);
	pthread_mutex_unlock(&inodes->lock);
	/* First the table's own reference, then ours. */
	if (gone)
		fuse_inode_put(inodes, inode);
	fuse_inode_put(inodes, inode);
}
