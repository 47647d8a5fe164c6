/* SPDX-License-Identifier: Apache-2.0 */
/* The file descriptors that a worker serves: an epoll set, and the events of the current
 * round.  Owns the epoll set; the sources belong to the devices.  One thread at a time. */
#ifndef SAMPAN_VIRTIO_SOURCES_H
#define SAMPAN_VIRTIO_SOURCES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define EVENTS_A_ROUND 32

/* Runs on the thread that calls sources_serve.  `events` as of epoll(7). */
typedef void (*source_handler)(void *context, uint32_t events);

struct worker_source {
	int fd; /* not owned */
	source_handler handle;
	void *context;
};

struct sources {
	int epoll_fd;
	/* A source that a handler removed must not be served from an event that was
	 * reported earlier. */
	struct epoll_event ready[EVENTS_A_ROUND];
	int ready_count;
};

/* 0 or -errno. */
int sources_open(struct sources *s);
void sources_close(struct sources *s);

/* 0 or -errno.  The source must outlive its registration.  A source without a handler
 * ends sources_serve. */
int sources_add(struct sources *s, struct worker_source *source, uint32_t events);
int sources_modify(struct sources *s, struct worker_source *source, uint32_t events);
void sources_remove(struct sources *s, struct worker_source *source);

/* One round: waits as epoll_wait(2) does and calls the handlers.  False when a source
 * without a handler has an event; `ready_count` is the number of events. */
bool sources_serve(struct sources *s, int timeout_ms);

#endif
