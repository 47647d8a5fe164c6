/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be sent to the guest: resets of no connection first (a bounded
 * ring), then connections, which take turns. */
#ifndef SAMPAN_VSOCK_OUTBOX_H
#define SAMPAN_VSOCK_OUTBOX_H

#include "vsock/connection.h"
#include "vsock/packet.h"

#define VSOCK_MAX_RESETS 64

struct vsock_outbox {
	struct vsock_connection *first, *last;
	struct vsock_packet resets[VSOCK_MAX_RESETS];
	unsigned resets_start, resets_count;
};

static inline bool vsock_outbox_is_empty(const struct vsock_outbox *o)
{
	return !o->first && o->resets_count == 0;
}

static inline bool vsock_outbox_is_full(const struct vsock_outbox *o)
{
	return o->resets_count == VSOCK_MAX_RESETS;
}

/* Puts a connection at the end of the queue; once, however often called. */
void vsock_outbox_add(struct vsock_outbox *o, struct vsock_connection *c);
void vsock_outbox_remove(struct vsock_outbox *o, struct vsock_connection *c);
/* NULL: no connection waits. */
struct vsock_connection *vsock_outbox_take(struct vsock_outbox *o);

/* An RST for a pair of ports.  Dropped when the ring is full. */
void vsock_outbox_add_reset(struct vsock_outbox *o, uint32_t host_port, uint32_t guest_port,
			    uint16_t type);
bool vsock_outbox_take_reset(struct vsock_outbox *o, struct vsock_packet *ret_packet);

#endif
