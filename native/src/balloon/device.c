/* SPDX-License-Identifier: Apache-2.0 */
#include "balloon/device.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtio/worker.h"

struct balloon_source {
	struct balloon_device *dev;
	struct virtqueue *queue;
	struct worker_source worker;
};

struct balloon_device {
	struct virtio_device virtio; /* first */
	struct worker *worker;	     /* NULL between reset and activate */
	struct balloon_source sources[BALLOON_QUEUES];
	struct virtqueue_chain chain;
	uintptr_t page_bytes;
};

uint64_t balloon_device_features(void)
{
	return 1ULL << VIRTIO_BALLOON_F_REPORTING;
}

/* --- on the worker's thread ------------------------------------------------- */

/* The driver has reported these bytes as free.  Then they read as the mapped
 * file's content, elsewhere as zeros; parts of pages stay. */
static void give_back(const struct balloon_device *dev, const struct iovec *part)
{
	const uintptr_t mask = dev->page_bytes - 1;
	const uintptr_t first = ((uintptr_t)part->iov_base + mask) & ~mask;
	const uintptr_t end = ((uintptr_t)part->iov_base + part->iov_len) & ~mask;

	if (first < end)
		(void)madvise((void *)first, end - first, MADV_DONTNEED);
}

static int serve_chain(struct balloon_device *dev, struct virtqueue *queue)
{
	const int r = virtqueue_pop(queue, &dev->chain);

	if (r != 1)
		return r;
	for (unsigned i = 0; i < dev->chain.writable_count; i++)
		give_back(dev, &virtqueue_chain_writable(&dev->chain)[i]);
	virtqueue_push(queue, dev->chain.head, 0);
	return 1;
}

/* One round is no longer than the queue: a driver that never stops must not keep
 * the worker from ending. */
static void on_kick(void *context, uint32_t events)
{
	struct balloon_source *source = context;
	struct virtqueue *queue = source->queue;
	unsigned served = 0;
	eventfd_t count;
	int r;

	(void)events;
	eventfd_read(queue->kick_fd, &count);
	virtqueue_disable_kicks(queue);
	do
		r = serve_chain(source->dev, queue);
	while (r == 1 && ++served < queue->size);
	if (served > 0)
		virtqueue_signal(queue);
	if (r < 0 && source->dev->virtio.needs_reset)
		source->dev->virtio.needs_reset(source->dev->virtio.transport);
	else if (r == 1 || (r == 0 && virtqueue_enable_kicks(queue)))
		eventfd_write(queue->kick_fd, 1);
}

/* --- life cycle -------------------------------------------------------------- */

static void reset(struct virtio_device *virtio)
{
	struct balloon_device *dev = (struct balloon_device *)virtio;

	worker_free(dev->worker);
	dev->worker = NULL;
}

static int add_source(struct balloon_device *dev, unsigned index, struct virtqueue *queue)
{
	struct balloon_source *source = &dev->sources[index];

	eventfd_write(queue->kick_fd, 1); /* buffers may be available already */
	*source = (struct balloon_source){dev, queue, {queue->kick_fd, on_kick, source}};
	return worker_add(dev->worker, &source->worker, EPOLLIN);
}

static int activate(struct virtio_device *virtio, struct virtqueue *queues, unsigned count,
		    uint64_t features)
{
	struct balloon_device *dev = (struct balloon_device *)virtio;
	int r;

	(void)features;
	if (count != BALLOON_QUEUES)
		return -EINVAL;
	r = worker_new("balloon", JAIL_MEMORY, &dev->worker);
	for (unsigned i = 0; r == 0 && i < count; i++)
		if (queues[i].enabled)
			r = add_source(dev, i, &queues[i]);
	if (r == 0)
		r = worker_start(dev->worker);
	if (r < 0)
		reset(virtio);
	return r;
}

static void destroy(struct virtio_device *virtio)
{
	reset(virtio);
	free(virtio);
}

static const struct virtio_device_ops ops = {
	.activate = activate,
	.reset = reset,
	.destroy = destroy,
};

int balloon_device_new(struct virtio_device **ret_device)
{
	struct balloon_device *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	dev->virtio.ops = &ops;
	dev->page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
	*ret_device = &dev->virtio;
	return 0;
}
