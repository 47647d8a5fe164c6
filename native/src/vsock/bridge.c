/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock/bridge.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "vsock/outbox.h"
#include "vsock/packet.h"
#include "vsock/table.h"

/* Chains per turn, so that a busy queue does not starve the other sources. */
#define TX_BUDGET 64
#define RX_BUDGET 256

struct vsock_bridge {
	struct vsock_bridge_config config;
	struct worker_source rx_kick, tx_kick;
	bool broken;
	bool tx_waits; /* for room in the outbox */
	struct vsock_table table;
	struct vsock_outbox outbox;
	struct virtqueue_chain chain;
	struct iovec data[VIRTQUEUE_MAX_SEGMENTS]; /* the chain's payload part */
};

static void rekick(const struct virtqueue *vq)
{
	eventfd_write(vq->kick_fd, 1);
}

static void report_violation(struct vsock_bridge *b)
{
	if (b->broken)
		return;
	b->broken = true;
	b->config.violation(b->config.owner);
}

/* --- connections --------------------------------------------------------- */

static void report_end(struct vsock_bridge *b, struct vsock_connection *c)
{
	struct vsock_stream_end *stream_end = c->stream_end;

	if (!c->ended || !stream_end)
		return;
	c->stream_end = NULL;
	stream_end->event.bytes = c->moved;
	stream_end->event.error = c->error;
	b->config.stream_ended(b->config.owner, stream_end);
}

static void forget(struct vsock_bridge *b, struct vsock_connection *c)
{
	vsock_outbox_remove(&b->outbox, c);
	vsock_table_remove(&b->table, c);
	free(c);
	b->config.connection_gone(b->config.owner);
}

/* Called after anything that may have changed a connection, which it may free. */
static void update(struct vsock_bridge *b, struct vsock_connection *c)
{
	report_end(b, c);
	if (vsock_connection_finished(c))
		forget(b, c);
	else if (vsock_connection_wants_to_send(c))
		vsock_outbox_add(&b->outbox, c);
}

/* A guest that never closes its side must not fill the table. */
static void reclaim(struct vsock_bridge *b)
{
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTIONS; i++) {
		struct vsock_connection *c = b->table.slots[i];

		if (c && c->ended) {
			vsock_outbox_add_reset(&b->outbox, c->host_port, c->guest_port,
					       VIRTIO_VSOCK_TYPE_STREAM);
			forget(b, c);
			return;
		}
	}
}

/* --- host to guest: the rx queue ----------------------------------------- */

/* The next packet for the guest; payload goes into `buffers` behind the header. */
static bool next_packet(struct vsock_bridge *b, struct iovec *buffers, unsigned count,
			struct vsock_packet *ret_packet)
{
	struct vsock_connection *c;
	bool made;

	if (vsock_outbox_take_reset(&b->outbox, ret_packet))
		return true;
	c = vsock_outbox_take(&b->outbox);
	if (!c)
		return false;
	made = vsock_connection_next_packet(c, buffers, count, ret_packet);
	/* A connection that wants to send, has room and still makes no packet
	 * must not spin. */
	if (made || !vsock_connection_wants_to_send(c))
		update(b, c);
	return made;
}

/* Fills the popped chain. false: there was nothing to send. */
static bool fill_chain(struct vsock_bridge *b)
{
	const struct iovec *writable = virtqueue_chain_writable(&b->chain);
	struct vsock_packet packet;
	unsigned count;

	count = vsock_iov_slice(writable, b->chain.writable_count, VSOCK_HEADER_BYTES, SIZE_MAX,
				b->data);
	if (!next_packet(b, b->data, count, &packet))
		return false;
	vsock_packet_write(&packet, b->config.guest_cid, writable, b->chain.writable_count);
	virtqueue_push(b->config.rx, b->chain.head, (uint32_t)VSOCK_HEADER_BYTES + packet.len);
	return true;
}

/* Takes a chain of the rx queue; false when the queue is broken or empty (a kick
 * will follow; for a chain that came meanwhile it is our own). */
static bool take_rx_chain(struct vsock_bridge *b)
{
	const int r = virtqueue_pop(b->config.rx, &b->chain);

	if (r == 0 && virtqueue_enable_kicks(b->config.rx))
		rekick(b->config.rx);
	if (r == 1 && b->chain.writable_bytes >= VSOCK_HEADER_BYTES)
		return true;
	if (r != 0)
		report_violation(b);
	return false;
}

static void serve_rx(struct vsock_bridge *b)
{
	unsigned budget = RX_BUDGET;
	bool pushed = false;

	while (!b->broken && !vsock_outbox_is_empty(&b->outbox)) {
		if (budget-- == 0) {
			rekick(b->config.rx);
			break;
		}
		if (!take_rx_chain(b))
			break;
		if (fill_chain(b))
			pushed = true;
		else
			virtqueue_unpop(b->config.rx);
	}
	if (vsock_outbox_is_empty(&b->outbox))
		virtqueue_disable_kicks(b->config.rx);
	if (b->tx_waits && !vsock_outbox_is_full(&b->outbox)) {
		b->tx_waits = false;
		rekick(b->config.tx);
	}
	if (pushed)
		virtqueue_signal(b->config.rx);
}

/* --- guest to host: the tx queue ----------------------------------------- */

/* §5.10.6.4 (device): a packet for no connection, or of an unknown type, is
 * answered by RST, unless it is an RST. */
static void receive_packet(struct vsock_bridge *b, const struct vsock_packet *packet,
			   const struct iovec *payload, unsigned count)
{
	struct vsock_connection *c = vsock_table_find(&b->table, packet->host_port,
						      packet->guest_port);

	/* OP_REQUEST (a connection from the guest) also ends here: nothing listens. */
	if (c && packet->type == VIRTIO_VSOCK_TYPE_STREAM) {
		vsock_connection_receive(c, packet, payload, count);
		update(b, c);
	} else if (packet->op != VIRTIO_VSOCK_OP_RST) {
		vsock_outbox_add_reset(&b->outbox, packet->host_port, packet->guest_port,
				       packet->type);
	}
}

static void receive_chain(struct vsock_bridge *b)
{
	struct vsock_packet packet;
	unsigned count;
	int r = vsock_packet_parse(&b->chain, b->config.guest_cid, &packet);

	if (r == -EPROTO)
		report_violation(b);
	if (r < 0)
		return;
	count = vsock_iov_slice(b->chain.iov, b->chain.readable_count, VSOCK_HEADER_BYTES,
				packet.len, b->data);
	receive_packet(b, &packet, b->data, count);
}

static void serve_tx(struct vsock_bridge *b)
{
	struct virtqueue *tx = b->config.tx;
	unsigned budget = TX_BUDGET;
	bool pushed = false;
	int r;

	virtqueue_disable_kicks(tx);
	while (!b->broken) {
		b->tx_waits = vsock_outbox_is_full(&b->outbox);
		if (b->tx_waits)
			break;
		if (budget-- == 0) {
			rekick(tx);
			break;
		}
		r = virtqueue_pop(tx, &b->chain);
		if (r == 0 && !virtqueue_enable_kicks(tx))
			break;
		if (r < 0)
			report_violation(b);
		if (r != 1)
			continue;
		receive_chain(b);
		virtqueue_push(tx, b->chain.head, 0);
		pushed = true;
	}
	if (pushed)
		virtqueue_signal(tx);
}

/* --- the worker's sources ------------------------------------------------ */

static void on_tx_kick(void *context, uint32_t events)
{
	struct vsock_bridge *b = context;
	eventfd_t kicks;

	(void)events;
	eventfd_read(b->config.tx->kick_fd, &kicks);
	serve_tx(b);
	serve_rx(b);
}

static void on_rx_kick(void *context, uint32_t events)
{
	struct vsock_bridge *b = context;
	eventfd_t kicks;

	(void)events;
	eventfd_read(b->config.rx->kick_fd, &kicks);
	serve_rx(b);
}

static void on_ready(void *context, uint32_t events)
{
	struct vsock_connection *c = context;
	struct vsock_bridge *b = c->bridge;

	vsock_connection_ready(c, events);
	update(b, c);
	serve_rx(b);
}

void vsock_bridge_connect(struct vsock_bridge *b, struct vsock_connection *c)
{
	uint32_t host_port;

	c->bridge = b;
	if (vsock_table_add(&b->table, c, &host_port) < 0) {
		reclaim(b);
		if (vsock_table_add(&b->table, c, &host_port) < 0) {
			vsock_connection_end(c, -ENOSPC);
			report_end(b, c);
			free(c);
			b->config.connection_gone(b->config.owner);
			return;
		}
	}
	vsock_connection_open(c, host_port, b->config.worker, on_ready);
	update(b, c);
	serve_rx(b);
}

/* --- life cycle ---------------------------------------------------------- */

int vsock_bridge_new(const struct vsock_bridge_config *config, struct vsock_bridge **ret_bridge)
{
	struct vsock_bridge *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->config = *config;
	b->rx_kick = (struct worker_source){config->rx->kick_fd, on_rx_kick, b};
	b->tx_kick = (struct worker_source){config->tx->kick_fd, on_tx_kick, b};
	r = worker_add(config->worker, &b->rx_kick, EPOLLIN);
	if (r == 0)
		r = worker_add(config->worker, &b->tx_kick, EPOLLIN);
	if (r < 0) {
		worker_remove(config->worker, &b->rx_kick);
		free(b);
		return r;
	}
	/* Buffers that the driver made available before count too. */
	rekick(config->rx);
	rekick(config->tx);
	*ret_bridge = b;
	return 0;
}

void vsock_bridge_free(struct vsock_bridge *b)
{
	if (!b)
		return;
	for (unsigned i = 0; i < VSOCK_MAX_CONNECTIONS; i++) {
		struct vsock_connection *c = b->table.slots[i];

		if (!c)
			continue;
		vsock_connection_end(c, -ECONNRESET);
		report_end(b, c);
		free(c);
	}
	worker_remove(b->config.worker, &b->tx_kick);
	worker_remove(b->config.worker, &b->rx_kick);
	free(b);
}
