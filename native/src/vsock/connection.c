/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock/connection.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "memory/iovec.h"

#define SHUTDOWN_BOTH ((unsigned)(VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND))

void vsock_connection_init(struct vsock_connection *c, int fd, uint32_t guest_port,
			   unsigned directions)
{
	*c = (struct vsock_connection){
		.guest_port = guest_port,
		.directions = directions,
		.open = directions,
		.endpoint.fd = fd,
	};
}

void vsock_connection_end(struct vsock_connection *c, int error)
{
	vsock_endpoint_close(&c->endpoint);
	c->open = 0;
	if (!c->ended) {
		c->ended = true;
		c->error = error;
	}
}

bool vsock_connection_finished(const struct vsock_connection *c)
{
	return c->state == VSOCK_CLOSED && c->ended && !c->pending;
}

/* Closes the endpoint and sends the guest an RST, unless the guest does not know
 * of the connection yet or was sent one already. */
static void abort_with(struct vsock_connection *c, int error)
{
	if (c->state == VSOCK_NEW)
		c->pending = 0;
	else if (c->state != VSOCK_CLOSED)
		c->pending = VSOCK_SEND_RST;
	c->state = VSOCK_CLOSED;
	vsock_connection_end(c, error);
}

void vsock_connection_open(struct vsock_connection *c, uint32_t host_port, struct worker *worker,
			   source_handler handle)
{
	uint32_t events = (c->open & VSOCK_TO_GUEST ? EPOLLIN : 0) |
			  (c->open & VSOCK_FROM_GUEST ? EPOLLOUT : 0);
	int r;

	c->host_port = host_port;
	c->pending = VSOCK_SEND_REQUEST;
	r = vsock_endpoint_open(&c->endpoint, c->endpoint.fd, worker, events, handle, c);
	if (r < 0)
		abort_with(c, r);
}

/* --- half close (§5.10.6.5) ---------------------------------------------- */

/* Closes directions from the host's side. */
static void shut(struct vsock_connection *c, unsigned flags)
{
	if (flags & ~c->own_shutdown)
		c->pending |= VSOCK_SEND_SHUTDOWN;
	c->own_shutdown |= flags;
	if (flags & VIRTIO_VSOCK_SHUTDOWN_SEND)
		c->open &= ~(unsigned)VSOCK_TO_GUEST;
	if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV)
		c->open &= ~(unsigned)VSOCK_FROM_GUEST;
}

/* Closes the directions that the guest has closed, once no data waits for the fd. */
static void update_input(struct vsock_connection *c)
{
	bool is_socket = c->directions == VSOCK_BOTH_WAYS;

	if ((c->open & VSOCK_FROM_GUEST) && (c->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND) &&
	    c->endpoint.backlog_len == 0) {
		if (is_socket)
			shutdown(c->endpoint.fd, SHUT_WR);
		c->open &= ~(unsigned)VSOCK_FROM_GUEST;
	}
	if ((c->open & VSOCK_TO_GUEST) && (c->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)) {
		if (is_socket)
			shutdown(c->endpoint.fd, SHUT_RD);
		c->open &= ~(unsigned)VSOCK_TO_GUEST;
	}
}

/* Ends the endpoint when it is not needed any more; then the connection, but a
 * guest that still reads our last data keeps its own direction. */
static void settle(struct vsock_connection *c)
{
	update_input(c);
	if (c->open)
		return;
	vsock_connection_end(c, 0);
	if (c->state == VSOCK_ESTABLISHED &&
	    ((c->directions & VSOCK_FROM_GUEST) || c->peer_shutdown))
		shut(c, SHUTDOWN_BOTH);
}

/* --- guest to host ------------------------------------------------------- */

/* The fd takes no more.  A unix peer may still have bytes for the guest. */
static void write_failed(struct vsock_connection *c, int error)
{
	if (c->directions == VSOCK_BOTH_WAYS && c->state == VSOCK_ESTABLISHED)
		shut(c, VIRTIO_VSOCK_SHUTDOWN_RCV);
	else
		abort_with(c, error);
}

static void count_forwarded(struct vsock_connection *c, ptrdiff_t n)
{
	if (n < 0) {
		write_failed(c, (int)n);
		return;
	}
	c->forwarded += (uint32_t)n;
	c->moved += (uint64_t)n;
	/* The guest computes its credit from reported_forwarded: update it before the
	 * credit is used up, not for every packet. */
	if (c->forwarded - c->reported_forwarded >= VSOCK_BACKLOG_BYTES / 2)
		c->pending |= VSOCK_SEND_CREDIT_UPDATE;
}

/* Bounds: the waiting data never exceeds the buffer that we announced. */
static void receive_data(struct vsock_connection *c, const struct vsock_packet *packet,
			 const struct iovec *payload, unsigned count)
{
	if (c->own_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV)
		return; /* sent before the guest learned of the shutdown */
	if (!(c->open & VSOCK_FROM_GUEST) || (c->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND) ||
	    packet->len > VSOCK_BACKLOG_BYTES - (c->received - c->forwarded)) {
		abort_with(c, -EPROTO);
		return;
	}
	c->received += packet->len;
	count_forwarded(c, vsock_endpoint_write(&c->endpoint, payload, count, packet->len));
}

/* A guest that closes both directions waits for RST; what it sent before may
 * still be in flight to the fd. */
static void receive_shutdown(struct vsock_connection *c, unsigned flags)
{
	c->peer_shutdown |= flags & SHUTDOWN_BOTH;
	if (c->peer_shutdown == SHUTDOWN_BOTH) {
		c->state = VSOCK_CLOSED;
		c->pending = VSOCK_SEND_RST;
	}
}

static void receive_reset(struct vsock_connection *c)
{
	int error = c->state == VSOCK_CONNECTING ? -ECONNREFUSED : -ECONNRESET;

	c->state = VSOCK_CLOSED;
	c->pending = 0;
	/* All data arrived before this; the rest of it still goes to the fd. */
	if (c->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
		c->open &= ~(unsigned)VSOCK_TO_GUEST;
	else
		vsock_connection_end(c, error);
}

static void receive_established(struct vsock_connection *c, const struct vsock_packet *packet,
				const struct iovec *payload, unsigned count)
{
	switch (packet->op) {
	case VIRTIO_VSOCK_OP_RW:
		receive_data(c, packet, payload, count);
		return;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		return;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		c->pending |= VSOCK_SEND_CREDIT_UPDATE;
		return;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		receive_shutdown(c, packet->flags);
		return;
	default:
		abort_with(c, -EPROTO);
	}
}

/* Bounds: fwd_cnt only moves forward and never past what was sent. */
static int note_credit(struct vsock_connection *c, const struct vsock_packet *packet)
{
	if (packet->fwd_cnt - c->peer_fwd_cnt > c->sent - c->peer_fwd_cnt)
		return -EPROTO;
	c->peer_fwd_cnt = packet->fwd_cnt;
	c->peer_buf_alloc = packet->buf_alloc;
	return 0;
}

static void receive_open(struct vsock_connection *c, const struct vsock_packet *packet,
			 const struct iovec *payload, unsigned count)
{
	if (note_credit(c, packet) < 0)
		abort_with(c, -EPROTO);
	else if (c->state == VSOCK_ESTABLISHED)
		receive_established(c, packet, payload, count);
	else if (packet->op == VIRTIO_VSOCK_OP_RESPONSE)
		c->state = VSOCK_ESTABLISHED;
	else
		abort_with(c, -EPROTO);
}

void vsock_connection_receive(struct vsock_connection *c, const struct vsock_packet *packet,
			      const struct iovec *payload, unsigned count)
{
	if (c->state == VSOCK_NEW)
		return; /* a guessed port: there is no such connection yet */
	if (packet->op == VIRTIO_VSOCK_OP_RST)
		receive_reset(c);
	else if (c->state == VSOCK_CLOSED)
		c->pending = VSOCK_SEND_RST;
	else if (c->state != VSOCK_CLOSING)
		receive_open(c, packet, payload, count);
	else if (packet->op == VIRTIO_VSOCK_OP_SHUTDOWN)
		receive_shutdown(c, packet->flags); /* it crossed ours on the way */
	settle(c);
}

void vsock_connection_ready(struct vsock_connection *c, uint32_t events)
{
	bool is_socket = c->directions == VSOCK_BOTH_WAYS;

	if (c->endpoint.fd < 0)
		return;
	vsock_endpoint_note(&c->endpoint, events);
	if (c->endpoint.backlog_len > 0)
		count_forwarded(c, vsock_endpoint_flush(&c->endpoint));
	/* Nobody reads what the guest will write: it should learn this now, not
	 * at a later write. */
	else if ((c->open & VSOCK_FROM_GUEST) && (events & (is_socket ? EPOLLHUP : EPOLLERR)))
		write_failed(c, -EPIPE);
	settle(c);
}

/* --- host to guest ------------------------------------------------------- */

static uint32_t credit(const struct vsock_connection *c)
{
	uint32_t in_flight = c->sent - c->peer_fwd_cnt;

	return c->peer_buf_alloc > in_flight ? c->peer_buf_alloc - in_flight : 0;
}

static bool has_data(const struct vsock_connection *c)
{
	return c->state == VSOCK_ESTABLISHED &&
	       (c->prefix_sent < c->prefix_len ||
		((c->open & VSOCK_TO_GUEST) && c->endpoint.readable));
}

bool vsock_connection_wants_to_send(const struct vsock_connection *c)
{
	return c->pending || (has_data(c) && (credit(c) > 0 || !c->credit_asked));
}

/* Answers the length of the next data packet, 0 for none. */
static uint32_t read_data(struct vsock_connection *c, struct iovec *buffers, unsigned count)
{
	ptrdiff_t n;

	count = vsock_iov_slice(buffers, count, 0, credit(c), buffers);
	if (count == 0)
		return 0;
	if (c->prefix_sent < c->prefix_len) {
		n = (ptrdiff_t)buf_to_iov(buffers, count, 0, c->prefix + c->prefix_sent,
					  c->prefix_len - c->prefix_sent);
		c->prefix_sent += (uint32_t)n;
	} else {
		n = vsock_endpoint_read(&c->endpoint, buffers, count);
		if (n == 0)
			shut(c, VIRTIO_VSOCK_SHUTDOWN_SEND);
		else if (n < 0 && n != -EAGAIN)
			abort_with(c, (int)n);
		c->moved += n > 0 ? (uint64_t)n : 0;
	}
	if (n <= 0)
		return 0;
	c->sent += (uint32_t)n;
	c->credit_asked = false;
	return (uint32_t)n;
}

/* SHUTDOWN for the sending direction is pending only after the last data. */
static uint16_t take_pending_op(struct vsock_connection *c)
{
	if (c->pending & VSOCK_SEND_RST) {
		c->pending = 0;
		return VIRTIO_VSOCK_OP_RST;
	}
	if (c->pending & VSOCK_SEND_REQUEST) {
		c->pending &= ~(unsigned)VSOCK_SEND_REQUEST;
		c->state = VSOCK_CONNECTING;
		return VIRTIO_VSOCK_OP_REQUEST;
	}
	if (c->pending & VSOCK_SEND_SHUTDOWN) {
		c->pending &= ~(unsigned)VSOCK_SEND_SHUTDOWN;
		if (c->own_shutdown == SHUTDOWN_BOTH)
			c->state = VSOCK_CLOSING;
		return VIRTIO_VSOCK_OP_SHUTDOWN;
	}
	return VIRTIO_VSOCK_OP_INVALID;
}

static uint16_t take_credit_op(struct vsock_connection *c)
{
	if (c->pending & VSOCK_SEND_CREDIT_UPDATE)
		return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	if (has_data(c) && credit(c) == 0 && !c->credit_asked) {
		c->credit_asked = true;
		return VIRTIO_VSOCK_OP_CREDIT_REQUEST;
	}
	return VIRTIO_VSOCK_OP_INVALID;
}

bool vsock_connection_next_packet(struct vsock_connection *c, struct iovec *buffers, unsigned count,
				  struct vsock_packet *ret_packet)
{
	uint16_t op = take_pending_op(c);
	uint32_t len = 0;

	if (op == VIRTIO_VSOCK_OP_INVALID && has_data(c)) {
		len = read_data(c, buffers, count);
		settle(c);
		op = len > 0 ? VIRTIO_VSOCK_OP_RW : take_pending_op(c);
	}
	if (op == VIRTIO_VSOCK_OP_INVALID)
		op = take_credit_op(c);
	if (op == VIRTIO_VSOCK_OP_INVALID)
		return false;

	/* Every packet carries our credit. */
	c->pending &= ~(unsigned)VSOCK_SEND_CREDIT_UPDATE;
	c->reported_forwarded = c->forwarded;
	*ret_packet = (struct vsock_packet){
		.host_port = c->host_port,
		.guest_port = c->guest_port,
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.flags = op == VIRTIO_VSOCK_OP_SHUTDOWN ? c->own_shutdown : 0,
		.buf_alloc = VSOCK_BACKLOG_BYTES,
		.fwd_cnt = c->forwarded,
	};
	return true;
}
