/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: one thread that serves the file descriptors of a device (sources.h).  All
 * signals are blocked in it. */
#ifndef SAMPAN_VIRTIO_WORKER_H
#define SAMPAN_VIRTIO_WORKER_H

#include <stdint.h>

#include "jail/jail.h"
#include "virtio/sources.h"

struct worker;

/* Creates the epoll set; no thread yet. */
int worker_new(const char *name, enum jail_kind kind, struct worker **ret_worker);

/* The source must outlive its registration.  Callable before start, and from
 * the worker's own thread afterwards. */
int worker_add(struct worker *w, struct worker_source *source, uint32_t events);
int worker_modify(struct worker *w, struct worker_source *source, uint32_t events);
void worker_remove(struct worker *w, struct worker_source *source);

int worker_start(struct worker *w);

/* Ends the loop after the running handler, joins the thread.  Idempotent; not
 * from the worker's own thread. */
void worker_stop(struct worker *w);
void worker_free(struct worker *w);

#endif
