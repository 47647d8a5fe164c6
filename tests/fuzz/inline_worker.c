/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h without a thread: handlers run when the harness says so, on its thread.
 * One input then always does the same, and a turn costs no switch of threads. */
#include <stdbool.h>
#include <stdlib.h>

#include "settle.h"
#include "virtio/worker.h"

#define MOST_WORKERS 8
/* A device that always gives itself more to do must not keep the harness. */
#define MOST_ROUNDS 64

struct worker {
	struct sources sources;
	bool running;
};

static struct worker *workers[MOST_WORKERS];

static struct worker **slot_of(const struct worker *w)
{
	for (unsigned i = 0; i < MOST_WORKERS; i++)
		if (workers[i] == w)
			return &workers[i];
	abort();
}

int worker_new(const char *name, enum jail_kind kind, struct worker **ret_worker)
{
	struct worker *w = calloc(1, sizeof(*w));

	(void)name;
	(void)kind;
	if (sources_open(&w->sources) < 0)
		abort();
	*slot_of(NULL) = w;
	*ret_worker = w;
	return 0;
}

int worker_add(struct worker *w, struct worker_source *source, uint32_t events)
{
	return sources_add(&w->sources, source, events);
}

int worker_modify(struct worker *w, struct worker_source *source, uint32_t events)
{
	return sources_modify(&w->sources, source, events);
}

void worker_remove(struct worker *w, struct worker_source *source)
{
	sources_remove(&w->sources, source);
}

int worker_start(struct worker *w)
{
	w->running = true;
	return 0;
}

void worker_stop(struct worker *w)
{
	w->running = false;
}

void worker_free(struct worker *w)
{
	if (w == NULL)
		return;
	*slot_of(w) = NULL;
	sources_close(&w->sources);
	free(w);
}

static bool run_once(struct worker *w)
{
	(void)sources_serve(&w->sources, 0);
	return w->sources.ready_count > 0;
}

void settle(int call_fd)
{
	bool busy = true;

	(void)call_fd;
	for (unsigned round = 0; busy && round < MOST_ROUNDS; round++) {
		busy = false;
		for (unsigned i = 0; i < MOST_WORKERS; i++)
			if (workers[i] && workers[i]->running)
				busy |= run_once(workers[i]);
	}
}
