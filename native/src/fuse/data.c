/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/data.h"

#include <unistd.h>

#define RECENT ((uint64_t)1 << 31)
#define USERS (RECENT - 1)

static int descriptor_of(uint64_t word)
{
	return (int)(word >> 32) - 1;
}

int fuse_data_use(struct fuse_data *data)
{
	uint64_t word = atomic_load_explicit(&data->word, memory_order_relaxed);

	do {
		if (descriptor_of(word) < 0)
			return -1;
	} while (!atomic_compare_exchange_weak(&data->word, &word, (word | RECENT) + 1));
	return descriptor_of(word);
}

void fuse_data_unuse(struct fuse_data *data)
{
	atomic_fetch_sub(&data->word, 1);
}

int fuse_data_publish(struct fuse_data *data, int fd)
{
	const uint64_t opened = (uint64_t)(uint32_t)(fd + 1) << 32 | RECENT | 1;

	for (;;) {
		uint64_t none = 0;
		int other;

		if (atomic_compare_exchange_strong(&data->word, &none, opened))
			return fd;
		other = fuse_data_use(data);
		if (other >= 0) {
			close(fd);
			return other;
		}
	}
}

bool fuse_data_close(struct fuse_data *data, bool spare_recent)
{
	uint64_t word = atomic_load_explicit(&data->word, memory_order_relaxed);

	if (spare_recent && (word & RECENT)) {
		atomic_fetch_and(&data->word, ~RECENT);
		return false;
	}
	if (descriptor_of(word) < 0 || (word & USERS) ||
	    !atomic_compare_exchange_strong(&data->word, &word, 0))
		return false;
	close(descriptor_of(word));
	return true;
}

bool fuse_data_drop(struct fuse_data *data)
{
	const uint64_t word = atomic_exchange(&data->word, 0);

	if (descriptor_of(word) < 0)
		return false;
	close(descriptor_of(word));
	return true;
}
