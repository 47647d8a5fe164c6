/* SPDX-License-Identifier: Apache-2.0 */
/* Directories: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "fuse/dir.h"
#include "fuse/state.h"

/* The limit of one reply, even with more room: READDIRPLUS looks up each name. */
#define MAX_LISTING ((size_t)128 << 10)

struct reading {
	struct fuse_call *call;
	struct fuse_inode *inode; /* READDIRPLUS only */
	int fd;
	size_t space;
};

static size_t smallest(size_t a, size_t b, size_t c)
{
	const size_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

int fuse_do_opendir(struct fuse_call *call)
{
	struct fuse_server *server = call->server;
	struct fuse_open_out open = {0};
	struct fuse_inode *inode;
	int fd, r;

	if (fuse_is_without_open(server))
		return -ENOSYS;
	inode = fuse_inode_get(&server->inodes, call->header.nodeid);
	if (!inode)
		return -ESTALE;
	fd = inode->type == S_IFDIR ? fuse_reopen(server, inode, O_RDONLY | O_DIRECTORY) : -ENOTDIR;
	fuse_inode_put(&server->inodes, inode);
	if (fd < 0)
		return fd;
	r = fuse_handle_new(&server->handles, fd, S_IFDIR, &open.fh);
	if (r < 0)
		return r;
	r = fuse_reply(call, &open, sizeof(open));
	if (r < 0)
		fuse_handle_close(&server->handles, open.fh);
	return r;
}

int fuse_do_releasedir(struct fuse_call *call)
{
	return fuse_do_release(call);
}

static void reply_record(struct reading *reading, const void *head, size_t head_bytes,
			 const char *name, size_t name_bytes)
{
	static const uint8_t zeros[8];
	const size_t used = head_bytes + name_bytes, padding = FUSE_REC_ALIGN(used) - used;

	fuse_reply(reading->call, head, head_bytes);
	fuse_reply(reading->call, name, name_bytes);
	fuse_reply(reading->call, zeros, padding);
	reading->space -= used + padding;
}

/* At the root of the share or of a mount in it, the client must not see the parent. */
static uint64_t number_of(const struct reading *reading, const struct fuse_dir_entry *entry)
{
	const struct fuse_identity *root = &reading->call->server->inodes.root->identity;
	struct fuse_identity here;
	struct statx st;

	if (strcmp(entry->name, "..") != 0)
		return entry->ino;
	if (statx(reading->fd, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &st) < 0)
		return 0;
	here = fuse_identity_of(&st);
	if (st.stx_attributes & STATX_ATTR_MOUNT_ROOT ||
	    (here.number == root->number && here.device == root->device))
		return here.number;
	return entry->ino;
}

static void fill_head(const struct reading *reading, const struct fuse_dir_entry *entry,
		      size_t name_bytes, struct fuse_dirent *head)
{
	head->ino = number_of(reading, entry);
	head->off = (uint64_t)entry->position;
	head->namelen = (uint32_t)name_bytes;
	head->type = entry->type;
}

/* 1: added; 0: no room. */
static int add_plain(struct reading *reading, const struct fuse_dir_entry *entry)
{
	const size_t name_bytes = strlen(entry->name);
	struct fuse_dirent head;

	fill_head(reading, entry, name_bytes, &head);
	if (FUSE_REC_ALIGN(FUSE_NAME_OFFSET + name_bytes) > reading->space)
		return 0;
	reply_record(reading, &head, FUSE_NAME_OFFSET, entry->name, name_bytes);
	return 1;
}

/* An entry that cannot be looked up (gone since, or no descriptor left) is listed
 * nevertheless, as READDIR would: node 0. */
static int add_plus(struct reading *reading, const struct fuse_dir_entry *entry)
{
	const size_t name_bytes = strlen(entry->name);
	struct fuse_direntplus record = {0};

	if (FUSE_REC_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + name_bytes) > reading->space)
		return 0;
	fill_head(reading, entry, name_bytes, &record.dirent);
	if (!fuse_is_name(entry->name) || fuse_node_lookup(reading->call->server, reading->inode,
							   entry->name, &record.entry_out) < 0)
		record.entry_out = (struct fuse_entry_out){0};
	reply_record(reading, &record, FUSE_NAME_OFFSET_DIRENTPLUS, entry->name, name_bytes);
	return 1;
}

static int read_entries(struct reading *reading, struct fuse_file *file, int64_t position)
{
	const struct fuse_dir_entry *entry;
	int r;

	for (;;) {
		r = fuse_dir_entry(file->dir, file->fd, position, &entry);
		if (r < 0 || !entry)
			break;
		position = entry->position;
		r = reading->inode ? add_plus(reading, entry) : add_plain(reading, entry);
		if (r <= 0)
			break;
		fuse_dir_advance(file->dir);
	}
	/* Entries read before an error are returned; the next call meets the error
	 * again.  An empty reply would mean the end. */
	if (reading->call->reply_bytes > 0)
		return 0;
	return r == 0 && entry ? -EINVAL : r;
}

static int read_directory(struct fuse_call *call, bool plus)
{
	const struct fuse_read_in *in = fuse_take(call, sizeof(*in));
	struct fuse_server *server = call->server;
	struct reading reading = {.call = call};
	struct fuse_file file;
	int r;

	if (!in)
		return -EINVAL;
	reading.space = smallest(in->size, fuse_reply_space(call), MAX_LISTING);
	if (plus) {
		reading.inode = fuse_inode_get(&server->inodes, call->header.nodeid);
		if (!reading.inode)
			return -ESTALE;
	}
	r = fuse_file_use(server, in->fh, call->header.nodeid, S_IFDIR, false, &file);
	if (r == 0) {
		reading.fd = file.fd;
		fuse_dir_begin(file.dir);
		r = read_entries(&reading, &file, (int64_t)in->offset);
		fuse_dir_end(file.dir);
		fuse_file_unuse(server, &file);
	}
	if (reading.inode)
		fuse_inode_put(&server->inodes, reading.inode);
	return r;
}

int fuse_do_readdir(struct fuse_call *call)
{
	return read_directory(call, false);
}

int fuse_do_readdirplus(struct fuse_call *call)
{
	return read_directory(call, true);
}
