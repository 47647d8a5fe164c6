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

static void empty(struct net_room *room)
{
	room->first_chain = room->chain_count = 0;
	room->first_iov = room->iov_count = 0;
	room->bytes = 0;
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
	empty(&path->room);
}

void net_path_give_back(struct net_path *path)
{
	/* The chains were taken in order, and none that was taken later has been
	 * used. */
	path->rx->next_avail -= (uint16_t)path->room.chain_count;
	empty(&path->room);
}

/* --- room ------------------------------------------------------------------ */

static void compact(struct net_room *room)
{
	memmove(room->chains, room->chains + room->first_chain,
		room->chain_count * sizeof(room->chains[0]));
	memmove(room->iov, room->iov + room->first_iov, room->iov_count * sizeof(room->iov[0]));
	room->first_chain = room->first_iov = 0;
}

/* False: the array of iovecs is full. */
static bool add_chain(struct net_room *room, const struct virtqueue_chain *chain)
{
	unsigned at;

	if (room->first_iov + room->iov_count + chain->writable_count > VIRTQUEUE_MAX_SEGMENTS ||
	    room->first_chain + room->chain_count == NET_ROOM_CHAINS)
		compact(room);
	if (room->iov_count + chain->writable_count > VIRTQUEUE_MAX_SEGMENTS ||
	    room->chain_count == NET_ROOM_CHAINS)
		return false;
	at = room->first_chain + room->chain_count++;
	room->chains[at].head = chain->head;
	room->chains[at].iov_count = chain->writable_count;
	room->chains[at].bytes = chain->writable_bytes;
	memcpy(room->iov + room->first_iov + room->iov_count, chain->iov,
	       chain->writable_count * sizeof(chain->iov[0]));
	room->iov_count += chain->writable_count;
	room->bytes += chain->writable_bytes;
	return true;
}

static void drop_first(struct net_room *room)
{
	room->bytes -= room->chains[room->first_chain].bytes;
	room->first_iov += room->chains[room->first_chain].iov_count;
	room->iov_count -= room->chains[room->first_chain].iov_count;
	room->first_chain++;
	room->chain_count--;
}

/* NET_IDLE: there is room for any packet. */
static enum net_result make_room(struct net_path *path)
{
	struct net_room *room = &path->room;

	while (room->bytes < path->packet_max) {
		int r;

		/* Without mergeable buffers a packet has to fit into one (§5.1.6.3.1). */
		if (!path->mergeable && room->chain_count > 0)
			return NET_VIOLATION;
		r = virtqueue_pop(path->rx, &path->chain);
		if (r < 0)
			return NET_VIOLATION;
		if (r == 0)
			return NET_NO_ROOM;
		if (path->chain.readable_count > 0 || path->chain.writable_bytes < NET_HEADER_BYTES)
			return NET_VIOLATION;
		/* Too many tiny parts: such a driver gets no packets. */
		if (!add_chain(room, &path->chain))
			return NET_VIOLATION;
	}
	return NET_IDLE;
}

/* --- packets ---------------------------------------------------------------- */

/* Gives the buffers that a packet of `len` bytes has filled back to the guest. */
static void hand_over(struct net_path *path, size_t len)
{
	struct net_room *room = &path->room;
	uint16_t buffers = 0;
	size_t covered = 0;

	for (unsigned i = room->first_chain; covered < len; i++, buffers++)
		covered += room->chains[i].bytes;
	/* The tap does not set this field (§5.1.6.3.2). */
	buf_to_iov(room->iov + room->first_iov, room->iov_count,
		   offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers, sizeof(buffers));
	while (len > 0) {
		const size_t capacity = room->chains[room->first_chain].bytes;
		const size_t n = len < capacity ? len : capacity;

		virtqueue_push(path->rx, room->chains[room->first_chain].head, (uint32_t)n);
		drop_first(room);
		len -= n;
	}
}

static enum net_result receive_one(struct net_path *path)
{
	enum net_result r = make_room(path);
	ssize_t n;

	if (r != NET_IDLE)
		return r;
	n = readv(path->tap_fd, path->room.iov + path->room.first_iov, (int)path->room.iov_count);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? NET_IDLE : NET_GONE;
	if (n == 0)
		return NET_GONE;
	if ((size_t)n >= NET_HEADER_BYTES)
		hand_over(path, (size_t)n);
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
