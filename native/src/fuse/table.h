/* SPDX-License-Identifier: Apache-2.0 */
/* A table of entries that the client names by 64-bit ids: a slot and the slot's
 * generation.  An id that was never given out, or whose entry is gone, gives
 * NULL; it can never be taken for another entry's.
 *
 * Lookups take no lock: they are on the path of every read and write. */
#ifndef SAMPAN_FUSE_TABLE_H
#define SAMPAN_FUSE_TABLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUSE_TABLE_CHUNK 512U
#define FUSE_TABLE_MAX_CHUNKS 4096U /* 2 Mi entries: more than a process can have fds */

/* First member of every entry. */
struct fuse_entry {
	/* generation << 32 | ALIVE | references */
	_Atomic uint64_t state;
	uint32_t slot;
	uint32_t next_free; /* slot + 1; 0: none */
};

struct fuse_table {
	size_t entry_bytes;
	_Atomic(uint8_t *) chunks[FUSE_TABLE_MAX_CHUNKS];
	pthread_mutex_t lock;  /* for the members below */
	_Atomic uint32_t used; /* slots ever taken; written with the lock held */
	uint32_t first_free;   /* slot + 1 */
	uint32_t next_generation;
};

void fuse_table_init(struct fuse_table *table, size_t entry_bytes);
/* No entry may be alive or referenced. */
void fuse_table_release(struct fuse_table *table);

/* An entry that is zero but for its header, alive, with one reference. NULL: no
 * memory, or full. */
void *fuse_table_add(struct fuse_table *table);

/* The same under an id of an earlier table; ids come in the order of their slots,
 * into a table that has given out no higher one.  NULL: not so. */
void *fuse_table_add_as(struct fuse_table *table, uint64_t id);

uint64_t fuse_table_id(const struct fuse_entry *entry);

/* Takes a reference; NULL for an id that names no living entry. */
void *fuse_table_get(struct fuse_table *table, uint64_t id);

bool fuse_table_is_alive(const struct fuse_entry *entry);

/* From now on the id finds nothing.  False: it already found nothing. */
bool fuse_table_kill(struct fuse_entry *entry);

/* Drops a reference.  True: it was the last one of a dead entry; the caller
 * destroys what it holds and then recycles it. */
bool fuse_table_put(struct fuse_entry *entry);
void fuse_table_recycle(struct fuse_table *table, struct fuse_entry *entry);

/* The entry in a slot, dead or alive, or NULL beyond the last; for a walk
 * while nobody else uses the table. */
void *fuse_table_at(struct fuse_table *table, uint32_t slot);

#endif
