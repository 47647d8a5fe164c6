/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/table.h"

#include <stdlib.h>
#include <string.h>

#define ALIVE ((uint64_t)1 << 31)
#define REFERENCES (ALIVE - 1)

static uint32_t generation_of(uint64_t state)
{
	return (uint32_t)(state >> 32);
}

static struct fuse_entry *entry_at(const struct fuse_table *table, uint8_t *chunk, uint32_t slot)
{
	return (struct fuse_entry *)(chunk + (slot % FUSE_TABLE_CHUNK) * table->entry_bytes);
}

void fuse_table_init(struct fuse_table *table, size_t entry_bytes)
{
	memset(table, 0, sizeof(*table));
	table->entry_bytes = entry_bytes;
	pthread_mutex_init(&table->lock, NULL);
}

void fuse_table_release(struct fuse_table *table)
{
	for (unsigned i = 0; i < FUSE_TABLE_MAX_CHUNKS; i++)
		free(atomic_load_explicit(&table->chunks[i], memory_order_relaxed));
	pthread_mutex_destroy(&table->lock);
}

void *fuse_table_at(struct fuse_table *table, uint32_t slot)
{
	uint8_t *chunk;

	/* Bounds: `slot` may come from an id that the client made up. */
	if (slot / FUSE_TABLE_CHUNK >= FUSE_TABLE_MAX_CHUNKS)
		return NULL;
	/* Acquire: the chunk's contents are seen as they were when it was published. */
	chunk = atomic_load_explicit(&table->chunks[slot / FUSE_TABLE_CHUNK], memory_order_acquire);
	return chunk ? entry_at(table, chunk, slot) : NULL;
}

static struct fuse_entry *take_free(struct fuse_table *table)
{
	struct fuse_entry *entry = fuse_table_at(table, table->first_free - 1);

	table->first_free = entry->next_free;
	return entry;
}

static struct fuse_entry *take_new(struct fuse_table *table)
{
	const uint32_t slot = table->used, index = slot / FUSE_TABLE_CHUNK;
	struct fuse_entry *entry;

	if (index >= FUSE_TABLE_MAX_CHUNKS)
		return NULL;
	if (slot % FUSE_TABLE_CHUNK == 0) {
		uint8_t *chunk = calloc(FUSE_TABLE_CHUNK, table->entry_bytes);

		if (!chunk)
			return NULL;
		atomic_store_explicit(&table->chunks[index], chunk, memory_order_release);
	}
	entry = fuse_table_at(table, slot);
	entry->slot = slot;
	table->used++;
	return entry;
}

typedef uint64_t __attribute__((may_alias)) word;

/* Bounds: an entry is a structure of whole words, as its first member has one.  Word by
 * word: the search for idle descriptors looks at entries of any state. */
static void clear(const struct fuse_table *table, struct fuse_entry *entry)
{
	word *words = (word *)(entry + 1);
	const size_t count = (table->entry_bytes - sizeof(*entry)) / sizeof(*words);

	for (size_t i = 0; i < count; i++)
		__atomic_store_n(&words[i], 0, __ATOMIC_RELAXED);
}

void *fuse_table_add(struct fuse_table *table)
{
	struct fuse_entry *entry;
	uint64_t generation = 0;

	pthread_mutex_lock(&table->lock);
	entry = table->first_free ? take_free(table) : take_new(table);
	if (entry)
		generation = table->next_generation++;
	pthread_mutex_unlock(&table->lock);
	if (!entry)
		return NULL;
	clear(table, entry);
	/* Release: a thread that finds the entry by its id sees it cleared. */
	atomic_store_explicit(&entry->state, generation << 32 | ALIVE | 1, memory_order_release);
	return entry;
}

/* Puts the slots between the last one and `slot` on the free list. */
static struct fuse_entry *take_slot(struct fuse_table *table, uint32_t slot)
{
	while (table->used < slot) {
		struct fuse_entry *gap = take_new(table);

		if (!gap)
			return NULL;
		gap->next_free = table->first_free;
		table->first_free = gap->slot + 1;
	}
	return table->used == slot ? take_new(table) : NULL;
}

void *fuse_table_add_as(struct fuse_table *table, uint64_t id)
{
	const uint32_t generation = generation_of(id), slot = (uint32_t)id - 1;
	struct fuse_entry *entry = NULL;

	if (slot / FUSE_TABLE_CHUNK >= FUSE_TABLE_MAX_CHUNKS)
		return NULL;
	pthread_mutex_lock(&table->lock);
	entry = take_slot(table, slot);
	if (entry && table->next_generation <= generation)
		table->next_generation = generation + 1;
	pthread_mutex_unlock(&table->lock);
	if (entry)
		atomic_store_explicit(&entry->state, (uint64_t)generation << 32 | ALIVE | 1,
				      memory_order_release);
	return entry;
}

uint64_t fuse_table_id(const struct fuse_entry *entry)
{
	const uint64_t state = atomic_load_explicit(&entry->state, memory_order_relaxed);

	return (uint64_t)generation_of(state) << 32 | (entry->slot + 1);
}

void *fuse_table_get(struct fuse_table *table, uint64_t id)
{
	struct fuse_entry *entry = fuse_table_at(table, (uint32_t)id - 1);
	uint64_t state;

	if (!entry)
		return NULL;
	state = atomic_load_explicit(&entry->state, memory_order_relaxed);
	do {
		if (!(state & ALIVE) || generation_of(state) != id >> 32)
			return NULL;
		/* Acquire: the entry's contents are read after the reference is taken. */
	} while (!atomic_compare_exchange_weak_explicit(
		&entry->state, &state, state + 1, memory_order_acquire, memory_order_relaxed));
	return entry;
}

bool fuse_table_is_alive(const struct fuse_entry *entry)
{
	return atomic_load_explicit(&entry->state, memory_order_relaxed) & ALIVE;
}

bool fuse_table_kill(struct fuse_entry *entry)
{
	return atomic_fetch_and_explicit(&entry->state, ~ALIVE, memory_order_relaxed) & ALIVE;
}

bool fuse_table_put(struct fuse_entry *entry)
{
	/* Release and acquire: all uses of the entry come before its destruction. */
	const uint64_t before = atomic_fetch_sub_explicit(&entry->state, 1, memory_order_acq_rel);

	return (before & (ALIVE | REFERENCES)) == 1;
}

void fuse_table_recycle(struct fuse_table *table, struct fuse_entry *entry)
{
	pthread_mutex_lock(&table->lock);
	entry->next_free = table->first_free;
	table->first_free = entry->slot + 1;
	pthread_mutex_unlock(&table->lock);
}
