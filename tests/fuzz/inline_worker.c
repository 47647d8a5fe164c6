/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h without a thread: handlers run when the harness says so, on its thread.
 * One input then always does the same, and a turn costs no switch of threads. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "settle.h"
#include "virtio/worker.h"

#define EVENTS_A_ROUND 32
#define MOST_WORKERS 8
/* A device that always gives itself more to do must not keep the harness. */
#define MOST_ROUNDS 64

struct worker {
	int epoll_fd;
	bool running;
	struct epoll_event ready[EVENTS_A_ROUND];
	int ready_count;
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
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll_fd < 0)
		abort();
	*slot_of(NULL) = w;
	*ret_worker = w;
	return 0;
}

int worker_add(struct worker *w, struct worker_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

int worker_modify(struct worker *w, struct worker_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	return epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno : 0;
}

void worker_remove(struct worker *w, struct worker_source *source)
{
	(void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	for (int i = 0; i < w->ready_count; i++)
		if (w->ready[i].data.ptr == source)
			w->ready[i].events = 0;
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
	close(w->epoll_fd);
	free(w);
}

static bool run_once(struct worker *w)
{
	w->ready_count = epoll_wait(w->epoll_fd, w->ready, EVENTS_A_ROUND, 0);
	for (int i = 0; i < w->ready_count; i++) {
		const struct worker_source *source = w->ready[i].data.ptr;

		if (w->ready[i].events != 0)
			source->handle(source->context, w->ready[i].events);
	}
	return w->ready_count > 0;
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
