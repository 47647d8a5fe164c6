/* SPDX-License-Identifier: Apache-2.0 */
/* One stream connection (virtio 1.2 §5.10.6): credit, half close and the order of
 * the packets to the guest.  Packets come in by receive and go out by
 * next_packet; which queue carries them is decided by the bridge.  Used by the
 * device's worker thread alone.
 *
 * Call order: init, then open once the worker runs, then any of receive, ready
 * and next_packet until finished returns true, or end at any time. */
#ifndef SAMPAN_VSOCK_CONNECTION_H
#define SAMPAN_VSOCK_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vsock/device.h"
#include "vsock/endpoint.h"
#include "vsock/packet.h"

enum vsock_state {
	VSOCK_NEW,	  /* REQUEST not sent yet */
	VSOCK_CONNECTING, /* waits for RESPONSE or RST */
	VSOCK_ESTABLISHED,
	VSOCK_CLOSING, /* we said SHUTDOWN for both directions; waits for RST */
	VSOCK_CLOSED,  /* the guest has forgotten it, or will do so at our RST */
};

/* Packets that must be sent to the guest. */
enum vsock_pending {
	VSOCK_SEND_RST = 1,
	VSOCK_SEND_REQUEST = 2,
	VSOCK_SEND_SHUTDOWN = 4,
	VSOCK_SEND_CREDIT_UPDATE = 8,
};

#define VSOCK_BOTH_WAYS (VSOCK_TO_GUEST | VSOCK_FROM_GUEST)

struct vsock_connection {
	uint32_t host_port, guest_port;
	enum vsock_state state;
	unsigned pending; /* enum vsock_pending */

	struct vsock_endpoint endpoint;
	unsigned directions; /* enum vsock_direction: one, or both for a unix socket */
	unsigned open;	     /* directions that the endpoint is still needed for */
	bool ended;	     /* the endpoint is closed; `error` and `moved` are final */
	int error;
	uint64_t moved;
	uint8_t prefix[VSOCK_STREAM_PREFIX_MAX];
	uint32_t prefix_len, prefix_sent;

	/* §5.10.6.3, free-running counters: host to guest … */
	uint32_t sent, peer_fwd_cnt, peer_buf_alloc;
	bool credit_asked;
	/* … and guest to host; the backlog is received - forwarded */
	uint32_t received, forwarded, reported_forwarded;
	/* VIRTIO_VSOCK_SHUTDOWN_RCV | _SEND, by the guest and by us */
	unsigned peer_shutdown, own_shutdown;

	/* Used by the bridge: */
	void *bridge;
	struct vsock_stream_end *stream_end;  /* owned; NULL: nobody wants to know */
	struct vsock_connection *next, *prev; /* in the outbox */
	bool queued;
};

/* `directions`: VSOCK_TO_GUEST, VSOCK_FROM_GUEST or VSOCK_BOTH_WAYS.  Takes
 * `fd` over. */
void vsock_connection_init(struct vsock_connection *c, int fd, uint32_t guest_port,
			   unsigned directions);

/* Starts it under `host_port`.  A failure shows as an ended connection. */
void vsock_connection_open(struct vsock_connection *c, uint32_t host_port, struct worker *worker,
			   source_handler handle);

/* A packet that is addressed to this connection. */
void vsock_connection_receive(struct vsock_connection *c, const struct vsock_packet *packet,
			      const struct iovec *payload, unsigned count);

/* epoll reported an edge of the fd. */
void vsock_connection_ready(struct vsock_connection *c, uint32_t events);

bool vsock_connection_wants_to_send(const struct vsock_connection *c);

/* Makes the next packet, its payload read right into `buffers` (whose iovecs may be
 * changed).  false: there is none now. */
bool vsock_connection_next_packet(struct vsock_connection *c, struct iovec *buffers, unsigned count,
				  struct vsock_packet *ret_packet);

/* true: neither side needs it any more. */
bool vsock_connection_finished(const struct vsock_connection *c);

/* Closes the endpoint; `error` counts if it was still needed.  Idempotent. */
void vsock_connection_end(struct vsock_connection *c, int error);

#endif
