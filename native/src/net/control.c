/* SPDX-License-Identifier: Apache-2.0 */
#include "net/control.h"

#include <endian.h>
#include <linux/virtio_net.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "memory/iovec.h"

/* §5.1.6.5: what the driver has written, and one byte for the device's ack. */
struct command {
	struct virtio_net_ctrl_hdr head;
	uint8_t pairs[sizeof(uint16_t)]; /* little endian, unaligned */
};

/* Bounds: a truncated command is refused, and so is a number of pairs that the
 * device does not have. */
static uint8_t execute(struct net_control *control)
{
	const struct virtqueue_chain *chain = &control->chain;
	struct command command;
	unsigned pairs;

	if (iov_to_buf(chain->iov, chain->readable_count, 0, &command, sizeof(command)) <
		    sizeof(command) ||
	    command.head.class != VIRTIO_NET_CTRL_MQ ||
	    command.head.cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET)
		return VIRTIO_NET_ERR;
	pairs = command.pairs[0] | (unsigned)command.pairs[1] << 8;
	if (pairs < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN || pairs > control->max_pairs)
		return VIRTIO_NET_ERR;
	control->use_pairs(control->virtio, pairs);
	return VIRTIO_NET_OK;
}

/* 1: a command was answered; 0: there is none; -1: the guest broke the rules. */
static int answer_one(struct net_control *control)
{
	struct virtqueue_chain *chain = &control->chain;
	const int r = virtqueue_pop(control->queue, chain);
	uint8_t answer;

	if (r <= 0)
		return r < 0 ? -1 : 0;
	if (chain->writable_bytes < sizeof(answer))
		return -1;
	answer = execute(control);
	buf_to_iov(virtqueue_chain_writable(chain), chain->writable_count, 0, &answer,
		   sizeof(answer));
	virtqueue_push(control->queue, chain->head, sizeof(answer));
	return 1;
}

/* One round is no longer than the queue: a driver that never stops must not keep the
 * worker from ending. */
static void on_kick(void *context, uint32_t events)
{
	struct net_control *control = context;
	struct virtqueue *queue = control->queue;
	unsigned answered = 0;
	eventfd_t count;
	int r;

	(void)events;
	eventfd_read(queue->kick_fd, &count);
	do
		r = answer_one(control);
	while (r > 0 && ++answered < queue->size);
	virtqueue_signal(queue);
	if (r < 0 && control->virtio->needs_reset)
		control->virtio->needs_reset(control->virtio->transport);
	else if (r > 0 || (r == 0 && virtqueue_enable_kicks(queue)))
		eventfd_write(queue->kick_fd, 1);
}

int net_control_start(struct net_control *control, struct virtqueue *queue)
{
	int r = worker_new("net-control", JAIL_NETWORK, &control->worker);

	if (r < 0)
		return r;
	control->queue = queue;
	control->source = (struct worker_source){queue->kick_fd, on_kick, control};
	r = worker_add(control->worker, &control->source, EPOLLIN);
	if (r == 0)
		r = worker_start(control->worker);
	if (r < 0)
		net_control_stop(control);
	return r;
}

void net_control_stop(struct net_control *control)
{
	worker_free(control->worker);
	control->worker = NULL;
}
