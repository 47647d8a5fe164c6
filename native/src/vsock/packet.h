/* SPDX-License-Identifier: Apache-2.0 */
/* The header of a vsock packet (virtio 1.2 §5.10.6), in host byte order and
 * named from the host's side.  No state, no queues. */
#ifndef SAMPAN_VSOCK_PACKET_H
#define SAMPAN_VSOCK_PACKET_H

#include <linux/virtio_vsock.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/virtqueue.h"

#define VSOCK_HOST_CID 2
#define VSOCK_HEADER_BYTES sizeof(struct virtio_vsock_hdr)

struct vsock_packet {
	uint32_t host_port, guest_port;
	uint32_t len;	   /* payload after the header */
	uint16_t type, op; /* enum virtio_vsock_type, virtio_vsock_op */
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt; /* credit of the packet's sender */
};

/* Reads the header of a packet that the guest sent.
 * 0; -EPROTO: no whole header or less payload than `len` says;
 * -EADDRNOTAVAIL: not from this guest or not for the host. */
int vsock_packet_parse(const struct virtqueue_chain *chain, uint64_t guest_cid,
		       struct vsock_packet *ret_packet);

/* Writes the header to the front of `buffers`, which holds VSOCK_HEADER_BYTES. */
void vsock_packet_write(const struct vsock_packet *packet, uint64_t guest_cid,
			const struct iovec *buffers, unsigned count);

/* The part of an iovec array that starts `skip` bytes in and is at most `limit`
 * long, written to `out` (`count` entries; may be `iov` itself).  Returns its
 * number of iovecs. */
unsigned vsock_iov_slice(const struct iovec *iov, unsigned count, size_t skip, size_t limit,
			 struct iovec *out);

#endif
