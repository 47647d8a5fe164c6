/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock/outbox.h"

void vsock_outbox_add(struct vsock_outbox *o, struct vsock_connection *c)
{
	if (c->queued)
		return;
	c->queued = true;
	c->next = NULL;
	c->prev = o->last;
	if (o->last)
		o->last->next = c;
	else
		o->first = c;
	o->last = c;
}

void vsock_outbox_remove(struct vsock_outbox *o, struct vsock_connection *c)
{
	if (!c->queued)
		return;
	c->queued = false;
	if (c->prev)
		c->prev->next = c->next;
	else
		o->first = c->next;
	if (c->next)
		c->next->prev = c->prev;
	else
		o->last = c->prev;
}

struct vsock_connection *vsock_outbox_take(struct vsock_outbox *o)
{
	struct vsock_connection *c = o->first;

	if (c)
		vsock_outbox_remove(o, c);
	return c;
}

void vsock_outbox_add_reset(struct vsock_outbox *o, uint32_t host_port, uint32_t guest_port,
			    uint16_t type)
{
	if (vsock_outbox_is_full(o))
		return;
	o->resets[(o->resets_start + o->resets_count++) % VSOCK_MAX_RESETS] = (struct vsock_packet){
		.host_port = host_port,
		.guest_port = guest_port,
		.type = type,
		.op = VIRTIO_VSOCK_OP_RST,
	};
}

bool vsock_outbox_take_reset(struct vsock_outbox *o, struct vsock_packet *ret_packet)
{
	if (o->resets_count == 0)
		return false;
	*ret_packet = o->resets[o->resets_start];
	o->resets_start = (o->resets_start + 1) % VSOCK_MAX_RESETS;
	o->resets_count--;
	return true;
}
