/* SPDX-License-Identifier: Apache-2.0 */
/* Events of a machine that Python must learn of: its end, of which only the first
 * cause counts, and faults of its devices.  Written by any thread; read by one,
 * which polls the eventfd. */
#ifndef SAMPAN_PLATFORM_EVENTS_H
#define SAMPAN_PLATFORM_EVENTS_H

#include <stdbool.h>

enum machine_event_kind {
	/* ends */
	MACHINE_POWEROFF = 1,
	MACHINE_RESET = 2,
	MACHINE_TRIPLE_FAULT = 3,
	MACHINE_KVM_ERROR = 4,
	/* the machine goes on */
	MACHINE_DEVICE_FAULT = 5,
};

#define MACHINE_EVENT_TEXT_BYTES 200

struct machine_event {
	int kind;
	int vcpu; /* -1: none */
	char text[MACHINE_EVENT_TEXT_BYTES];
};

struct machine_events;

int machine_events_new(struct machine_events **ret_events);
void machine_events_free(struct machine_events *events);

/* The machine is over: `kind` is one of the ends.  Later causes are dropped. */
void machine_events_end(struct machine_events *events, int kind, int vcpu, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
bool machine_events_ended(const struct machine_events *events);

void machine_events_report_fault(struct machine_events *events, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Polls readable while there is an event to take; owned by `events`. */
int machine_events_fd(const struct machine_events *events);
/* 1: taken; 0: none. */
int machine_events_next(struct machine_events *events, struct machine_event *ret_event);

#endif
