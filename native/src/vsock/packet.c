/* SPDX-License-Identifier: Apache-2.0 */
#include "vsock/packet.h"

#include <endian.h>
#include <errno.h>

#include "memory/iovec.h"

/* Bounds: the header is copied once, so later changes by the guest do not matter;
 * `len` is checked against the bytes that the chain really has. */
int vsock_packet_parse(const struct virtqueue_chain *chain, uint64_t guest_cid,
		       struct vsock_packet *ret_packet)
{
	struct virtio_vsock_hdr header;

	if (iov_to_buf(chain->iov, chain->readable_count, 0, &header, sizeof(header)) !=
	    sizeof(header))
		return -EPROTO;
	if (le32toh(header.len) > chain->readable_bytes - sizeof(header))
		return -EPROTO;
	if (le64toh(header.src_cid) != guest_cid || le64toh(header.dst_cid) != VSOCK_HOST_CID)
		return -EADDRNOTAVAIL;

	*ret_packet = (struct vsock_packet){
		.host_port = le32toh(header.dst_port),
		.guest_port = le32toh(header.src_port),
		.len = le32toh(header.len),
		.type = le16toh(header.type),
		.op = le16toh(header.op),
		.flags = le32toh(header.flags),
		.buf_alloc = le32toh(header.buf_alloc),
		.fwd_cnt = le32toh(header.fwd_cnt),
	};
	return 0;
}

void vsock_packet_write(const struct vsock_packet *packet, uint64_t guest_cid,
			const struct iovec *buffers, unsigned count)
{
	const struct virtio_vsock_hdr header = {
		.src_cid = htole64(VSOCK_HOST_CID),
		.dst_cid = htole64(guest_cid),
		.src_port = htole32(packet->host_port),
		.dst_port = htole32(packet->guest_port),
		.len = htole32(packet->len),
		.type = htole16(packet->type),
		.op = htole16(packet->op),
		.flags = htole32(packet->flags),
		.buf_alloc = htole32(packet->buf_alloc),
		.fwd_cnt = htole32(packet->fwd_cnt),
	};

	buf_to_iov(buffers, count, 0, &header, sizeof(header));
}

unsigned vsock_iov_slice(const struct iovec *iov, unsigned count, size_t skip, size_t limit,
			 struct iovec *out)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < count && limit > 0; i++) {
		size_t cut = skip < iov[i].iov_len ? skip : iov[i].iov_len;
		size_t len = iov[i].iov_len - cut < limit ? iov[i].iov_len - cut : limit;
		uint8_t *start = iov[i].iov_base;

		skip -= cut;
		limit -= len;
		if (len > 0)
			out[kept++] = (struct iovec){start + cut, len};
	}
	return kept;
}
