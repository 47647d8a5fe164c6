/* SPDX-License-Identifier: Apache-2.0 */
#include "platform/events.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RING_SIZE 16

struct machine_events {
	int fd;
	_Atomic bool ended;
	pthread_mutex_t lock;
	unsigned first, count;
	struct machine_event ring[RING_SIZE];
};

int machine_events_new(struct machine_events **ret_events)
{
	struct machine_events *events = calloc(1, sizeof(*events));

	if (!events)
		return -ENOMEM;
	events->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (events->fd < 0) {
		int r = -errno;

		free(events);
		return r;
	}
	pthread_mutex_init(&events->lock, NULL);
	*ret_events = events;
	return 0;
}

void machine_events_free(struct machine_events *events)
{
	if (!events)
		return;
	pthread_mutex_destroy(&events->lock);
	close(events->fd);
	free(events);
}

/* With the lock held.  A full ring drops all events but the end: its last place
 * is kept for that. */
static void append(struct machine_events *events, bool end, int kind, int vcpu, const char *format,
		   va_list arguments)
{
	struct machine_event *event;

	if (events->count == (end ? RING_SIZE : RING_SIZE - 1))
		return;
	event = &events->ring[(events->first + events->count++) % RING_SIZE];
	event->kind = kind;
	event->vcpu = vcpu;
	(void)vsnprintf(event->text, sizeof(event->text), format, arguments);
	eventfd_write(events->fd, 1);
}

void machine_events_end(struct machine_events *events, int kind, int vcpu, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	pthread_mutex_lock(&events->lock);
	if (!atomic_load(&events->ended)) {
		append(events, true, kind, vcpu, format, arguments);
		atomic_store(&events->ended, true);
	}
	pthread_mutex_unlock(&events->lock);
	va_end(arguments);
}

bool machine_events_ended(const struct machine_events *events)
{
	return atomic_load(&events->ended);
}

void machine_events_report_fault(struct machine_events *events, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	pthread_mutex_lock(&events->lock);
	append(events, false, MACHINE_DEVICE_FAULT, -1, format, arguments);
	pthread_mutex_unlock(&events->lock);
	va_end(arguments);
}

int machine_events_fd(const struct machine_events *events)
{
	return events->fd;
}

int machine_events_next(struct machine_events *events, struct machine_event *ret_event)
{
	eventfd_t count;
	int taken = 0;

	pthread_mutex_lock(&events->lock);
	if (events->count > 0) {
		*ret_event = events->ring[events->first];
		events->first = (events->first + 1) % RING_SIZE;
		events->count--;
		taken = 1;
	}
	if (events->count == 0)
		eventfd_read(events->fd, &count);
	pthread_mutex_unlock(&events->lock);
	return taken;
}
