/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes that a fuzzer hands out, taken from the front; zeros when they are used
 * up.  Every harness is one function over them, which libFuzzer calls, or replay.c
 * with the files of a corpus. */
#ifndef SAMPAN_FUZZ_INPUT_H
#define SAMPAN_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at;
	size_t left;
};

static inline bool more(const struct input *in)
{
	return in->left > 0;
}

static inline void take_bytes(struct input *in, void *data, size_t size)
{
	const size_t n = size < in->left ? size : in->left;

	memset(data, 0, size);
	if (n > 0)
		memcpy(data, in->at, n);
	in->at += n;
	in->left -= n;
}

static inline uint8_t take_u8(struct input *in)
{
	uint8_t value;

	take_bytes(in, &value, sizeof(value));
	return value;
}

static inline uint16_t take_u16(struct input *in)
{
	uint16_t value;

	take_bytes(in, &value, sizeof(value));
	return value;
}

static inline uint32_t take_u32(struct input *in)
{
	uint32_t value;

	take_bytes(in, &value, sizeof(value));
	return value;
}

static inline uint64_t take_u64(struct input *in)
{
	uint64_t value;

	take_bytes(in, &value, sizeof(value));
	return value;
}

/* Numbers as they matter to most fields: small, at an edge, or anything. */
static inline uint64_t take_number(struct input *in)
{
	static const uint64_t edges[] = {0,	    4095,	4096,	   65535,     65536,
					 INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
	const uint8_t kind = take_u8(in);

	if (kind >= 240)
		return take_u64(in);
	if (kind >= 220)
		return take_u16(in);
	if (kind >= 200)
		return edges[kind % (sizeof(edges) / sizeof(edges[0]))];
	return kind;
}

/* The first part of the input, `size` of its bytes at most. */
static inline struct input take_part(struct input *in, size_t size)
{
	const struct input part = {in->at, size < in->left ? size : in->left};

	in->at += part.left;
	in->left -= part.left;
	return part;
}

#endif
