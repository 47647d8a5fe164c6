/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct worker {
	struct sources sources;
	struct worker_source stop; /* an eventfd */
	bool running;
	pthread_t thread;
	char name[16];
	enum jail_kind kind;
};

int worker_new(const char *name, enum jail_kind kind, struct worker **ret_worker)
{
	struct worker *w = calloc(1, sizeof(*w));
	int r;

	if (w == NULL)
		return -ENOMEM;
	strncpy(w->name, name, sizeof(w->name) - 1);
	w->kind = kind;
	w->stop.fd = -1;
	r = sources_open(&w->sources);
	if (r < 0)
		goto fail;
	w->stop.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = w->stop.fd < 0 ? -errno : sources_add(&w->sources, &w->stop, EPOLLIN);
	if (r < 0)
		goto fail;
	*ret_worker = w;
	return 0;
fail:
	worker_free(w);
	return r;
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

static void *run(void *context)
{
	struct worker *w = context;

	while (sources_serve(&w->sources, -1))
		;
	return NULL;
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
	(void)!write(w->stop.fd, &n, sizeof(n));
	pthread_join(w->thread, NULL);
	w->running = false;
	(void)!read(w->stop.fd, &n, sizeof(n));
}

void worker_free(struct worker *w)
{
	if (w == NULL)
		return;
	worker_stop(w);
	if (w->stop.fd >= 0)
		close(w->stop.fd);
	sources_close(&w->sources);
	free(w);
}
