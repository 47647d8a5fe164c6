/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_A_ROUND 32

struct worker {
	int epoll_fd;
	int stop_fd;
	bool running;
	pthread_t thread;
	char name[16];
	enum jail_kind kind;
	/* The events of the current round: a source that a handler removed must
	 * not be served from an event reported earlier. */
	struct epoll_event ready[EVENTS_A_ROUND];
	int ready_count;
};

int worker_new(const char *name, enum jail_kind kind, struct worker **ret_worker)
{
	struct worker *w = calloc(1, sizeof(*w));
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
	int r;

	if (w == NULL)
		return -ENOMEM;
	strncpy(w->name, name, sizeof(w->name) - 1);
	w->kind = kind;
	w->stop_fd = -1;
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll_fd < 0)
		goto fail;
	w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->stop_fd < 0 || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->stop_fd, &event) < 0)
		goto fail;
	*ret_worker = w;
	return 0;
fail:
	r = -errno;
	worker_free(w);
	return r;
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

static void *run(void *context)
{
	struct worker *w = context;

	for (;;) {
		w->ready_count = epoll_wait(w->epoll_fd, w->ready, EVENTS_A_ROUND, -1);
		for (int i = 0; i < w->ready_count; i++) {
			const struct worker_source *source = w->ready[i].data.ptr;

			if (source == NULL)
				return NULL;
			if (w->ready[i].events != 0)
				source->handle(source->context, w->ready[i].events);
		}
	}
}

int worker_start(struct worker *w)
{
	sigset_t all;
	int r;

	if (w->running)
		return -EALREADY;
	sigfillset(&all);
	r = jail_thread(w->kind, w->name, &all, run, w, &w->thread);
	if (r < 0)
		return r;
	w->running = true;
	return 0;
}

void worker_stop(struct worker *w)
{
	uint64_t n = 1;

	if (!w->running)
		return;
	(void)!write(w->stop_fd, &n, sizeof(n));
	pthread_join(w->thread, NULL);
	w->running = false;
	(void)!read(w->stop_fd, &n, sizeof(n));
}

void worker_free(struct worker *w)
{
	if (w == NULL)
		return;
	worker_stop(w);
	if (w->stop_fd >= 0)
		close(w->stop_fd);
	if (w->epoll_fd >= 0)
		close(w->epoll_fd);
	free(w);
}
