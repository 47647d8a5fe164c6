/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a harness once for each file that is named, without libFuzzer. */
#include <stdio.h>
#include <stdlib.h>

#include "input.h"

#define LONGEST (64u << 10)

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

/* A copy of its own size: an access beyond its end is seen. */
static int replay(const char *path)
{
	static uint8_t room[LONGEST];
	FILE *file = fopen(path, "rbe");
	uint8_t *data;
	size_t n;

	if (!file) {
		perror(path);
		return 1;
	}
	n = fread(room, 1, sizeof(room), file);
	fclose(file);
	data = malloc(n ? n : 1);
	if (!data)
		return 1;
	memcpy(data, room, n);
	LLVMFuzzerTestOneInput(data, n);
	free(data);
	return 0;
}

int main(int argc, char **argv)
{
	LLVMFuzzerInitialize(&argc, &argv);
	if (argc < 2) {
		fprintf(stderr, "no corpus\n");
		return 1;
	}
	for (int i = 1; i < argc; i++)
		if (replay(argv[i]) != 0)
			return 1;
	return 0;
}
