/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/sources.h"

#include <errno.h>
#include <unistd.h>

int sources_open(struct sources *s)
{
	s->ready_count = 0;
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return s->epoll_fd < 0 ? -errno : 0;
}

void sources_close(struct sources *s)
{
	if (s->epoll_fd >= 0)
		close(s->epoll_fd);
	s->epoll_fd = -1;
}

static int control(struct sources *s, int operation, struct worker_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	return epoll_ctl(s->epoll_fd, operation, source->fd, &event) < 0 ? -errno : 0;
}

int sources_add(struct sources *s, struct worker_source *source, uint32_t events)
{
	return control(s, EPOLL_CTL_ADD, source, events);
}

int sources_modify(struct sources *s, struct worker_source *source, uint32_t events)
{
	return control(s, EPOLL_CTL_MOD, source, events);
}

void sources_remove(struct sources *s, struct worker_source *source)
{
	(void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	for (int i = 0; i < s->ready_count; i++)
		if (s->ready[i].data.ptr == source)
			s->ready[i].events = 0;
}

bool sources_serve(struct sources *s, int timeout_ms)
{
	s->ready_count = epoll_wait(s->epoll_fd, s->ready, EVENTS_A_ROUND, timeout_ms);
	for (int i = 0; i < s->ready_count; i++) {
		const struct worker_source *source = s->ready[i].data.ptr;

		if (s->ready[i].events == 0)
			continue;
		if (source->handle == NULL)
			return false;
		source->handle(source->context, s->ready[i].events);
	}
	return true;
}
