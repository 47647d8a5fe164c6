/* SPDX-License-Identifier: Apache-2.0 */
#include "requests.h"

#include <linux/fuse.h>
#include <linux/virtio_net.h>
#include <linux/virtio_vsock.h>

#define HIPRIO 0
#define REQUESTS 1
#define VSOCK_RX 0
#define VSOCK_TX 1
#define BUFFER_BYTES 0x10000
#define HOST_CID 2
#define GUEST_CID 3
#define AGENT_PORT 1024
#define BUFFERS_OF_ROOM 4

static const char names[][8] = {"c1", "a", "d",	   "l",	     "new", "new2",
				"..", "",  "sbin", "user.x", ".",   "f/g"};

/* A piece of memory that other requests may use too. */
static uint64_t take_buffer(struct random *r)
{
	return POOL_GPA + (uint64_t)below(r, POOL_BYTES / BUFFER_BYTES) * BUFFER_BYTES;
}

static uint32_t sometimes(struct random *r, uint32_t usual)
{
	return one_in(r, 16) ? (uint32_t)number(r) : usual;
}

/* --- files ------------------------------------------------------------------ */

static uint64_t any_node(const struct device *d, struct random *r)
{
	if (one_in(r, 32))
		return number(r);
	return one_in(r, 4) ? FUSE_ROOT_ID : d->nodes[below(r, 8)];
}

/* `words` of a structure, most of them small, and names; returns the bytes. */
static uint32_t put_body(struct device *d, uint64_t at, uint32_t opcode, struct random *r)
{
	static const uint8_t words_of[64] = {
		[FUSE_FORGET] = 1,	[FUSE_GETATTR] = 2,
		[FUSE_SETATTR] = 11,	[FUSE_MKNOD] = 2,
		[FUSE_MKDIR] = 1,	[FUSE_RENAME] = 1,
		[FUSE_LINK] = 1,	[FUSE_OPEN] = 1,
		[FUSE_READ] = 5,	[FUSE_WRITE] = 5,
		[FUSE_RELEASE] = 3,	[FUSE_FSYNC] = 2,
		[FUSE_SETXATTR] = 1,	[FUSE_GETXATTR] = 1,
		[FUSE_LISTXATTR] = 1,	[FUSE_FLUSH] = 3,
		[FUSE_INIT] = 8,	[FUSE_OPENDIR] = 1,
		[FUSE_READDIR] = 5,	[FUSE_CREATE] = 2,
		[FUSE_RELEASEDIR] = 3,	[FUSE_FALLOCATE] = 4,
		[FUSE_RENAME2] = 2,	[FUSE_LSEEK] = 3,
		[FUSE_READDIRPLUS] = 5, [FUSE_COPY_FILE_RANGE] = 7,
		[FUSE_TMPFILE] = 2,
	};
	uint64_t end = at;

	for (unsigned i = 0; i < words_of[opcode]; i++, end += 8)
		write_at(end, one_in(r, 3) ? number(r) : 0, 8);
	if (words_of[opcode] >= 3)
		write_at(at, d->handles[below(r, 8)], 8);
	for (unsigned i = below(r, 3); i > 0; i--) {
		memcpy((void *)end, names[below(r, sizeof(names) / sizeof(names[0]))], 8);
		end += 1 + below(r, 8);
	}
	return (uint32_t)(end - at);
}

/* The reply's place, or 0 if there was none in time. */
static uint64_t call(struct device *d, uint32_t opcode, uint64_t node, uint32_t body,
		     uint64_t buffer, struct random *r)
{
	struct fuse_in_header *header = (struct fuse_in_header *)buffer;
	struct queue *queue = &d->queues[REQUESTS];
	const uint64_t reply = buffer + BUFFER_BYTES / 2;
	const uint32_t bytes = (uint32_t)sizeof(*header) + body;
	const struct part parts[] = {
		{buffer, sizeof(*header), false},
		{buffer + sizeof(*header), body, false},
		{reply, sizeof(struct fuse_out_header), true},
		{reply + sizeof(struct fuse_out_header), sometimes(r, 4096 * (1 + below(r, 4))),
		 true},
	};

	header->len = sometimes(r, bytes);
	header->opcode = opcode;
	header->unique = next(r);
	header->nodeid = node;
	header->uid = header->gid = one_in(r, 4) ? 1000 : 0;
	header->total_extlen = 0;
	queue->seen = queue->used->index;
	offer(queue, parts, 4, one_in(r, 3));
	notify(d, REQUESTS, 2);
	return one_in(r, 4) || !wait_used(queue) ? 0 : reply;
}

static void init_files(struct device *d, struct random *r)
{
	const uint64_t buffer = take_buffer(r);
	struct fuse_init_in *init = (struct fuse_init_in *)(buffer + sizeof(struct fuse_in_header));

	*init = (struct fuse_init_in){
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = 1 << 20,
		.flags = FUSE_INIT_EXT | (uint32_t)next(r),
		.flags2 = (uint32_t)next(r),
	};
	(void)call(d, FUSE_INIT, 0, sizeof(*init), buffer, r);
	for (unsigned i = 0; i < 8; i++)
		d->nodes[i] = FUSE_ROOT_ID;
}

static void remember(struct device *d, uint32_t opcode, uint64_t reply, struct random *r)
{
	const uint64_t told = read_at(reply + sizeof(struct fuse_out_header), 8);

	if (((const struct fuse_out_header *)reply)->error != 0)
		return;
	if (opcode == FUSE_OPEN || opcode == FUSE_OPENDIR)
		d->handles[below(r, 8)] = told;
	if (opcode == FUSE_CREATE || opcode == FUSE_TMPFILE)
		d->handles[below(r, 8)] = read_at(
			reply + sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out), 8);
	if (opcode == FUSE_LOOKUP || opcode == FUSE_MKDIR || opcode == FUSE_CREATE ||
	    opcode == FUSE_MKNOD || opcode == FUSE_LINK || opcode == FUSE_SYMLINK)
		d->nodes[below(r, 8)] = told;
}

static void request_file(struct device *d, struct random *r)
{
	const uint64_t buffer = take_buffer(r), body = buffer + sizeof(struct fuse_in_header);
	const uint32_t opcode = one_in(r, 3) ? FUSE_LOOKUP : below(r, 53);
	const uint64_t reply = call(d, opcode, any_node(d, r), put_body(d, body, opcode, r), buffer,
				    r);

	if (reply)
		remember(d, opcode, reply, r);
	if (one_in(r, 8)) {
		const struct part forget = {buffer, (uint32_t)sizeof(struct fuse_in_header) + 8,
					    false};

		((struct fuse_in_header *)buffer)->opcode = FUSE_FORGET;
		offer(&d->queues[HIPRIO], &forget, 1, false);
		notify(d, HIPRIO, 2);
	}
}

/* --- streams ------------------------------------------------------------------ */

static void send_packet(struct device *d, const struct virtio_vsock_hdr *header, struct random *r)
{
	const uint64_t buffer = take_buffer(r);
	const struct part parts[] = {
		{buffer, sizeof(*header), false},
		{buffer + sizeof(*header), sometimes(r, header->len), false},
	};

	memcpy((void *)buffer, header, sizeof(*header));
	offer(&d->queues[VSOCK_TX], parts, header->len ? 2 : 1, one_in(r, 3));
	notify(d, VSOCK_TX, 2);
}

static void post_room(struct device *d, unsigned queue, struct random *r)
{
	for (unsigned i = 0; i < BUFFERS_OF_ROOM; i++) {
		const struct part room = {take_buffer(r), sometimes(r, 4096 + 44), true};

		offer(&d->queues[queue], &room, 1, one_in(r, 8));
	}
	notify(d, queue, 2);
}

static uint16_t answer_to(uint16_t op, struct random *r)
{
	if (op == VIRTIO_VSOCK_OP_REQUEST)
		return VIRTIO_VSOCK_OP_RESPONSE;
	return one_in(r, 8) ? (uint16_t)below(r, 8) : VIRTIO_VSOCK_OP_RW;
}

/* Answers a packet that has come as a listener would, for the most part. */
static bool answer_packet(struct device *d, struct random *r)
{
	struct queue *rx = &d->queues[VSOCK_RX];
	const uint16_t last = rx->size ? rx->seen % rx->size : 0;
	const uint32_t head = rx->used->elements[last].id % LONGEST_QUEUE;
	struct virtio_vsock_hdr came, answer;

	if (!wait_used(rx))
		return false;
	memcpy(&came, (void *)(rx->descriptors[head].addr % RAM_BYTES / 64 * 64), sizeof(came));
	answer = came;
	answer.src_port = came.dst_port;
	answer.dst_port = came.src_port;
	answer.src_cid = GUEST_CID;
	answer.dst_cid = HOST_CID;
	answer.op = answer_to(came.op, r);
	answer.len = answer.op == VIRTIO_VSOCK_OP_RW ? below(r, 8192) : 0;
	answer.buf_alloc = sometimes(r, 1 << 18);
	answer.fwd_cnt = sometimes(r, 0);
	send_packet(d, &answer, r);
	return true;
}

static void request_stream(struct device *d, struct random *r)
{
	const struct virtio_vsock_hdr header = {
		.src_cid = one_in(r, 32) ? number(r) : GUEST_CID,
		.dst_cid = one_in(r, 32) ? number(r) : HOST_CID,
		.src_port = AGENT_PORT + below(r, 4),
		.dst_port = sometimes(r, AGENT_PORT + below(r, 8)),
		.len = one_in(r, 3) ? below(r, 4096) : 0,
		.type = one_in(r, 32) ? (uint16_t)number(r) : VIRTIO_VSOCK_TYPE_STREAM,
		.op = one_in(r, 16) ? (uint16_t)number(r) : (uint16_t)below(r, 8),
		.flags = below(r, 4),
		.buf_alloc = sometimes(r, 1 << 18),
		.fwd_cnt = sometimes(r, 0),
	};

	if (one_in(r, 3))
		post_room(d, VSOCK_RX, r);
	for (unsigned i = below(r, 8); i > 0 && answer_packet(d, r); i--)
		post_room(d, VSOCK_RX, r);
	if (one_in(r, 4))
		send_packet(d, &header, r);
}

/* --- packets and pages --------------------------------------------------------- */

static void request_packet(struct device *d, struct random *r)
{
	const unsigned queue = below(r, d->queue_count);
	const uint64_t buffer = take_buffer(r);
	struct virtio_net_hdr_v1 *header = (struct virtio_net_hdr_v1 *)buffer;
	const struct part parts[] = {
		{buffer, sizeof(*header), false},
		{buffer + sizeof(*header), sometimes(r, 14 + below(r, 9000)), false},
		{buffer + 4096, 1, true},
	};

	*header = (struct virtio_net_hdr_v1){0};
	if (one_in(r, 2))
		for (unsigned i = 0; i < sizeof(*header); i++)
			write_at(buffer + i, number(r), 1);
	if (queue % 2 == 0 && queue + 1 < d->queue_count) {
		post_room(d, queue, r);
		return;
	}
	offer(&d->queues[queue], parts, queue % 2 ? 2 : 3, one_in(r, 3));
	notify(d, queue, 2);
}

static void report_pages(struct device *d, struct random *r)
{
	const struct part free_pages = {take_buffer(r), sometimes(r, BUFFER_BYTES), true};

	for (unsigned queue = 0; queue < d->queue_count; queue++) {
		offer(&d->queues[queue], &free_pages, 1, one_in(r, 2));
		notify(d, queue, 2);
	}
}

void greet(struct device *d, struct random *r)
{
	if (d->type == VIRTIO_ID_FS && d->queue_count > REQUESTS)
		init_files(d, r);
	else if (d->type == VIRTIO_ID_VSOCK)
		post_room(d, VSOCK_RX, r);
}

void request_something(struct device *d, struct random *r)
{
	if (d->queue_count < 2 && d->type != VIRTIO_ID_BALLOON)
		return;
	switch (d->type) {
	case VIRTIO_ID_FS:
		request_file(d, r);
		break;
	case VIRTIO_ID_VSOCK:
		request_stream(d, r);
		break;
	case VIRTIO_ID_NET:
		request_packet(d, r);
		break;
	case VIRTIO_ID_BALLOON:
		report_pages(d, r);
		break;
	}
}
