/* SPDX-License-Identifier: Apache-2.0 */
/* Ids from a hostile client: they find their entry or nothing. */
#include <pthread.h>

#include "check.h"
#include "fuse/data.h"
#include "fuse/table.h"

#define ROUNDS 20000

struct thing {
	struct fuse_entry entry;
	_Atomic uint64_t value; /* the thing's own id while it is alive */
};

static struct fuse_table table;

static struct thing *add(void)
{
	struct thing *thing = fuse_table_add(&table);

	CHECK(thing);
	CHECK_EQUAL(thing->value, 0);
	thing->value = fuse_table_id(&thing->entry);
	return thing;
}

static void put(struct thing *thing)
{
	if (!fuse_table_put(&thing->entry))
		return;
	thing->value = 0;
	fuse_table_recycle(&table, &thing->entry);
}

static void drop(struct thing *thing)
{
	CHECK(fuse_table_kill(&thing->entry));
	put(thing);
}

static void an_id_leads_to_its_entry_while_it_lives(void)
{
	struct thing *a, *b;
	uint64_t id;

	fuse_table_init(&table, sizeof(struct thing));
	a = add();
	b = add();
	CHECK_EQUAL(fuse_table_id(&a->entry), 1);
	id = fuse_table_id(&b->entry);
	CHECK(fuse_table_get(&table, id) == b);
	put(b);
	drop(b);
	CHECK(!fuse_table_get(&table, id));
	/* The slot is used again, under another id. */
	b = add();
	CHECK(fuse_table_id(&b->entry) != id);
	CHECK_EQUAL((uint32_t)fuse_table_id(&b->entry), (uint32_t)id);
	CHECK(!fuse_table_get(&table, id));
	drop(a);
	drop(b);
	fuse_table_release(&table);
}

static void made_up_ids_lead_nowhere(void)
{
	static const uint64_t ids[] = {
		0,
		2,
		FUSE_TABLE_CHUNK,
		FUSE_TABLE_CHUNK + 1,
		1ULL << 32 | 1,
		UINT32_MAX,
		1ULL << 63,
		UINT64_MAX,
		(uint64_t)FUSE_TABLE_CHUNK * FUSE_TABLE_MAX_CHUNKS,
		(uint64_t)FUSE_TABLE_CHUNK * FUSE_TABLE_MAX_CHUNKS + 1,
	};
	struct thing *thing;

	fuse_table_init(&table, sizeof(struct thing));
	thing = add();
	for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		CHECK(!fuse_table_get(&table, ids[i]));
	drop(thing);
	fuse_table_release(&table);
}

static void an_entry_in_use_outlives_its_id(void)
{
	struct thing *thing;
	uint64_t id;

	fuse_table_init(&table, sizeof(struct thing));
	thing = add();
	id = fuse_table_id(&thing->entry);
	CHECK(fuse_table_get(&table, id) == thing);
	drop(thing);
	CHECK(!fuse_table_get(&table, id));
	CHECK_EQUAL(thing->value, id);
	CHECK(!fuse_table_kill(&thing->entry));
	put(thing);
	CHECK_EQUAL(thing->value, 0);
	fuse_table_release(&table);
}

/* --- threads ----------------------------------------------------------------- */

static _Atomic uint64_t published;
static _Atomic bool done;

static void *look_up(void *context)
{
	(void)context;
	while (!done) {
		const uint64_t id = published;
		struct thing *thing = fuse_table_get(&table, id);

		if (!thing)
			continue;
		CHECK_EQUAL(thing->value, id);
		put(thing);
	}
	return NULL;
}

static void lookups_race_with_removal_and_never_see_another_entry(void)
{
	pthread_t threads[2];

	fuse_table_init(&table, sizeof(struct thing));
	done = false;
	for (unsigned i = 0; i < 2; i++)
		CHECK_EQUAL(pthread_create(&threads[i], NULL, look_up, NULL), 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct thing *thing = add();

		published = fuse_table_id(&thing->entry);
		drop(thing);
	}
	done = true;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	fuse_table_release(&table);
}

static struct fuse_data data;

static void *use(void *context)
{
	const int *file = context;

	while (!done) {
		int fd = fuse_data_use(&data);
		char byte;

		if (fd < 0)
			fd = fuse_data_publish(&data, dup(*file));
		/* A descriptor that was closed or reused would give EBADF, or
		 * another byte. */
		CHECK_EQUAL(pread(fd, &byte, 1, 0), 1);
		CHECK_EQUAL(byte, 'x');
		fuse_data_unuse(&data);
	}
	return NULL;
}

static void a_descriptor_is_closed_only_while_nobody_uses_it(void)
{
	char path[] = "/tmp/test-fuse-XXXXXX";
	int fd = mkstemp(path);
	pthread_t threads[2];

	CHECK(fd >= 0);
	CHECK_EQUAL(write(fd, "x", 1), 1);
	done = false;
	for (unsigned i = 0; i < 2; i++)
		CHECK_EQUAL(pthread_create(&threads[i], NULL, use, &fd), 0);
	for (unsigned i = 0; i < ROUNDS; i++)
		fuse_data_close(&data, i % 2);
	done = true;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	fuse_data_drop(&data);
	CHECK_EQUAL(fuse_data_use(&data), -1);
	close(fd);
	unlink(path);
}

static void a_descriptor_used_since_the_last_look_is_spared_once(void)
{
	CHECK_EQUAL(fuse_data_use(&data), -1);
	fuse_data_publish(&data, dup(0));
	CHECK(!fuse_data_close(&data, false)); /* in use */
	fuse_data_unuse(&data);
	CHECK(!fuse_data_close(&data, true)); /* used recently */
	CHECK(fuse_data_close(&data, true));
	CHECK(!fuse_data_close(&data, true));
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		TEST(an_id_leads_to_its_entry_while_it_lives),
		TEST(made_up_ids_lead_nowhere),
		TEST(an_entry_in_use_outlives_its_id),
		TEST(lookups_race_with_removal_and_never_see_another_entry),
		TEST(a_descriptor_is_closed_only_while_nobody_uses_it),
		TEST(a_descriptor_used_since_the_last_look_is_spared_once),
	};

	return RUN_TESTS(tests, argc, argv);
}
