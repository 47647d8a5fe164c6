/* SPDX-License-Identifier: Apache-2.0 */
#include "net/path.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>

#include "memory/iovec.h"

#define PACKETS_A_ROUND 64
#define MAX_IOV 1024 /* IOV_MAX of Linux */

_Static_assert(sizeof(struct virtio_net_hdr_v1) == NET_HEADER_BYTES, "header");
_Static_assert(VIRTQUEUE_MAX_SEGMENTS <= MAX_IOV, "a chain fits one call");

static void empty(struct net_buffers *buffers)
{
	buffers->first_chain = buffers->chain_count = 0;
	buffers->first_iov = buffers->iov_count = 0;
	buffers->bytes = 0;
}

void net_path_start(struct net_path *path, struct virtqueue *rx, struct virtqueue *tx,
		    uint64_t features)
{
	const uint64_t segmented = 1ULL << VIRTIO_NET_F_GUEST_TSO4 |
				   1ULL << VIRTIO_NET_F_GUEST_TSO6;

	path->rx = rx;
	path->tx = tx;
	path->tap_fd = -1;
	path->mergeable = features & 1ULL << VIRTIO_NET_F_MRG_RXBUF;
	/* Mergeable buffers are small and many: there is room for jumbo frames too. */
	path->packet_max = path->mergeable || features & segmented ? NET_LARGE_PACKET
								   : NET_SMALL_PACKET;
	empty(&path->buffers);
}

void net_path_give_back(struct net_path *path)
{
	/* The chains were taken in order, and none that was taken later has been
	 * used. */
	path->rx->next_avail -= (uint16_t)path->buffers.chain_count;
	empty(&path->buffers);
}

/* --- buffers ------------------------------------------------------------------ */

static void compact(struct net_buffers *buffers)
{
	memmove(buffers->chains, buffers->chains + buffers->first_chain,
		buffers->chain_count * sizeof(buffers->chains[0]));
	memmove(buffers->iov, buffers->iov + buffers->first_iov,
		buffers->iov_count * sizeof(buffers->iov[0]));
	buffers->first_chain = buffers->first_iov = 0;
}

/* False: the array of iovecs is full. */
static bool add_chain(struct net_buffers *buffers, const struct virtqueue_chain *chain)
{
	unsigned at;

	if (buffers->first_iov + buffers->iov_count + chain->writable_count >
		    VIRTQUEUE_MAX_SEGMENTS ||
	    buffers->first_chain + buffers->chain_count == NET_MAX_CHAINS)
		compact(buffers);
	if (buffers->iov_count + chain->writable_count > VIRTQUEUE_MAX_SEGMENTS ||
	    buffers->chain_count == NET_MAX_CHAINS)
		return false;
	at = buffers->first_chain + buffers->chain_count++;
	buffers->chains[at].head = chain->head;
	buffers->chains[at].iov_count = chain->writable_count;
	buffers->chains[at].bytes = chain->writable_bytes;
	memcpy(buffers->iov + buffers->first_iov + buffers->iov_count, chain->iov,
	       chain->writable_count * sizeof(chain->iov[0]));
	buffers->iov_count += chain->writable_count;
	buffers->bytes += chain->writable_bytes;
	return true;
}

static void drop_first(struct net_buffers *buffers)
{
	buffers->bytes -= buffers->chains[buffers->first_chain].bytes;
	buffers->first_iov += buffers->chains[buffers->first_chain].iov_count;
	buffers->iov_count -= buffers->chains[buffers->first_chain].iov_count;
	buffers->first_chain++;
	buffers->chain_count--;
}

/* NET_IDLE: there is room for any packet. */
static enum net_result collect_buffers(struct net_path *path)
{
	struct net_buffers *buffers = &path->buffers;

	while (buffers->bytes < path->packet_max) {
		int r;

		/* Without mergeable buffers a packet has to fit into one (§5.1.6.3.1). */
		if (!path->mergeable && buffers->chain_count > 0)
			return NET_VIOLATION;
		r = virtqueue_pop(path->rx, &path->chain);
		if (r < 0)
			return NET_VIOLATION;
		if (r == 0)
			return NET_NO_BUFFERS;
		if (path->chain.readable_count > 0 || path->chain.writable_bytes < NET_HEADER_BYTES)
			return NET_VIOLATION;
		/* Too many tiny parts: such a driver gets no packets. */
		if (!add_chain(buffers, &path->chain))
			return NET_VIOLATION;
	}
	return NET_IDLE;
}

/* --- packets ---------------------------------------------------------------- */

/* Gives the buffers that a packet of `len` bytes has filled back to the guest. */
static void return_buffers(struct net_path *path, size_t len)
{
	struct net_buffers *buffers = &path->buffers;
	uint16_t used = 0;
	size_t covered = 0;

	for (unsigned i = buffers->first_chain; covered < len; i++, used++)
		covered += buffers->chains[i].bytes;
	/* The tap does not set this field (§5.1.6.3.2). */
	buf_to_iov(buffers->iov + buffers->first_iov, buffers->iov_count,
		   offsetof(struct virtio_net_hdr_v1, num_buffers), &used, sizeof(used));
	while (len > 0) {
		const size_t capacity = buffers->chains[buffers->first_chain].bytes;
		const size_t n = len < capacity ? len : capacity;

		virtqueue_push(path->rx, buffers->chains[buffers->first_chain].head, (uint32_t)n);
		drop_first(buffers);
		len -= n;
	}
}

static enum net_result receive_one(struct net_path *path)
{
	enum net_result r = collect_buffers(path);
	ssize_t n;

	if (r != NET_IDLE)
		return r;
	n = readv(path->tap_fd, path->buffers.iov + path->buffers.first_iov,
		  (int)path->buffers.iov_count);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? NET_IDLE : NET_GONE;
	if (n == 0)
		return NET_GONE;
	if ((size_t)n >= NET_HEADER_BYTES)
		return_buffers(path, (size_t)n);
	return NET_MORE;
}

enum net_result net_path_receive(struct net_path *path)
{
	enum net_result r = NET_MORE;

	if (path->tap_fd < 0)
		return NET_IDLE;
	for (unsigned i = 0; i < PACKETS_A_ROUND && r == NET_MORE; i++)
		r = receive_one(path);
	virtqueue_signal(path->rx);
	return r;
}

static enum net_result transmit_one(struct net_path *path)
{
	struct virtqueue_chain *chain = &path->chain;
	int r = virtqueue_pop(path->tx, chain);

	if (r < 0)
		return NET_VIOLATION;
	if (r == 0)
		return NET_IDLE;
	if (chain->writable_count > 0 || chain->readable_bytes < NET_HEADER_BYTES)
		return NET_VIOLATION;
	/* A packet that the tap refuses is lost, as on a wire: for a bad header, a
	 * link that is down or a full queue. */
	if (path->tap_fd >= 0)
		(void)!writev(path->tap_fd, chain->iov, (int)chain->readable_count);
	virtqueue_push(path->tx, chain->head, 0);
	return NET_MORE;
}

enum net_result net_path_transmit(struct net_path *path)
{
	enum net_result r = NET_MORE;

	for (unsigned i = 0; i < PACKETS_A_ROUND && r == NET_MORE; i++)
		r = transmit_one(path);
	virtqueue_signal(path->tx);
	return r;
}
