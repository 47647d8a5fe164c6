/* SPDX-License-Identifier: Apache-2.0 */
/* The device as the transport and Python see it: life cycle, events, the tap's
 * hand-over between threads.  Packets are net_path's. */
#include "net_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "net_path.h"
#include "worker.h"

#define QUEUE_COUNT 2
#define RX_QUEUE 0
#define TX_QUEUE 1

struct net_device {
	struct virtio_device virtio; /* first */
	struct worker *worker;	     /* between reset and activate NULL */
	struct worker_source rx_source, tx_source, again_source, tap_source;
	uint64_t features; /* as negotiated */
	bool polling_tap;  /* the worker listens to the tap */
	struct net_path path;

	int again_fd;	      /* eventfd: a round is to follow, or a tap has come */
	pthread_mutex_t lock; /* for the tap's descriptor */
	int tap_fd;	      /* -1: none yet */
};

uint64_t net_device_features(void)
{
	return 1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM |
	       1ULL << VIRTIO_NET_F_MAC | 1ULL << VIRTIO_NET_F_STATUS |
	       1ULL << VIRTIO_NET_F_HOST_TSO4 | 1ULL << VIRTIO_NET_F_HOST_TSO6 |
	       1ULL << VIRTIO_NET_F_HOST_ECN | 1ULL << VIRTIO_NET_F_GUEST_TSO4 |
	       1ULL << VIRTIO_NET_F_GUEST_TSO6 | 1ULL << VIRTIO_NET_F_GUEST_ECN |
	       1ULL << VIRTIO_NET_F_MRG_RXBUF;
}

/* --- on the worker's thread ------------------------------------------------- */

static void report_violation(struct net_device *dev)
{
	if (dev->virtio.needs_reset)
		dev->virtio.needs_reset(dev->virtio.transport);
}

static void run_again(struct net_device *dev)
{
	eventfd_write(dev->again_fd, 1);
}

/* What the guest can take is what the tap may leave undone.  A tap that refuses
 * does it itself, and so does no harm. */
static void set_offloads(const struct net_device *dev)
{
	unsigned flags = 0;

	if (dev->features & 1ULL << VIRTIO_NET_F_GUEST_CSUM)
		flags |= TUN_F_CSUM;
	if (dev->features & 1ULL << VIRTIO_NET_F_GUEST_TSO4)
		flags |= TUN_F_TSO4;
	if (dev->features & 1ULL << VIRTIO_NET_F_GUEST_TSO6)
		flags |= TUN_F_TSO6;
	if (dev->features & 1ULL << VIRTIO_NET_F_GUEST_ECN)
		flags |= TUN_F_TSO_ECN;
	(void)ioctl(dev->tap_fd, TUNSETOFFLOAD, flags);
}

static void poll_tap(struct net_device *dev, bool wanted)
{
	if (dev->path.tap_fd < 0 || dev->polling_tap == wanted)
		return;
	dev->polling_tap = wanted;
	(void)worker_modify(dev->worker, &dev->tap_source, wanted ? EPOLLIN : 0);
}

/* Its link was deleted, or the namespace that it was in. */
static void lose_tap(struct net_device *dev)
{
	worker_remove(dev->worker, &dev->tap_source);
	dev->path.tap_fd = -1;
	pthread_mutex_lock(&dev->lock);
	close(dev->tap_fd);
	dev->tap_fd = -1;
	pthread_mutex_unlock(&dev->lock);
}

static void on_receive(void *context, uint32_t events)
{
	struct net_device *dev = context;

	(void)events;
	virtqueue_disable_kicks(dev->path.rx);
	switch (net_path_receive(&dev->path)) {
	case NET_MORE:
		run_again(dev);
		break;
	case NET_NO_ROOM:
		if (virtqueue_enable_kicks(dev->path.rx))
			run_again(dev);
		else
			poll_tap(dev, false); /* until the guest gives buffers */
		return;
	case NET_GONE:
		lose_tap(dev);
		break;
	case NET_VIOLATION:
		poll_tap(dev, false);
		report_violation(dev);
		return;
	case NET_IDLE:
		break;
	}
	poll_tap(dev, true);
}

static void on_tap(void *context, uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP))
		lose_tap(context);
	else
		on_receive(context, events);
}

static void on_transmit(void *context, uint32_t events)
{
	struct net_device *dev = context;
	enum net_result r;

	(void)events;
	virtqueue_disable_kicks(dev->path.tx);
	r = net_path_transmit(&dev->path);
	if (r == NET_VIOLATION)
		report_violation(dev);
	else if (r == NET_MORE || virtqueue_enable_kicks(dev->path.tx))
		run_again(dev);
}

static void adopt_tap(struct net_device *dev)
{
	pthread_mutex_lock(&dev->lock);
	if (dev->tap_fd >= 0 && dev->path.tap_fd != dev->tap_fd) {
		dev->tap_source = (struct worker_source){dev->tap_fd, on_tap, dev};
		if (worker_add(dev->worker, &dev->tap_source, EPOLLIN) == 0) {
			dev->path.tap_fd = dev->tap_fd;
			dev->polling_tap = true;
			set_offloads(dev);
		}
	}
	pthread_mutex_unlock(&dev->lock);
}

static void on_kick_rx(void *context, uint32_t events)
{
	struct net_device *dev = context;
	eventfd_t count;

	eventfd_read(dev->path.rx->kick_fd, &count);
	on_receive(dev, events);
}

static void on_kick_tx(void *context, uint32_t events)
{
	struct net_device *dev = context;
	eventfd_t count;

	eventfd_read(dev->path.tx->kick_fd, &count);
	on_transmit(dev, events);
}

static void on_again(void *context, uint32_t events)
{
	struct net_device *dev = context;
	eventfd_t count;

	eventfd_read(dev->again_fd, &count);
	adopt_tap(dev);
	on_transmit(dev, events);
	on_receive(dev, events);
}

/* --- life cycle -------------------------------------------------------------- */

static int register_sources(struct net_device *dev)
{
	int r;

	dev->rx_source = (struct worker_source){dev->path.rx->kick_fd, on_kick_rx, dev};
	dev->tx_source = (struct worker_source){dev->path.tx->kick_fd, on_kick_tx, dev};
	dev->again_source = (struct worker_source){dev->again_fd, on_again, dev};
	r = worker_add(dev->worker, &dev->rx_source, EPOLLIN);
	if (r == 0)
		r = worker_add(dev->worker, &dev->tx_source, EPOLLIN);
	if (r == 0)
		r = worker_add(dev->worker, &dev->again_source, EPOLLIN);
	return r;
}

static void reset(struct virtio_device *virtio)
{
	struct net_device *dev = (struct net_device *)virtio;

	worker_free(dev->worker);
	dev->worker = NULL;
}

static int activate(struct virtio_device *virtio, struct virtqueue *queues, unsigned count,
		    uint64_t features)
{
	struct net_device *dev = (struct net_device *)virtio;
	int r;

	if (count != QUEUE_COUNT || !queues[RX_QUEUE].enabled || !queues[TX_QUEUE].enabled)
		return -EINVAL;
	dev->features = features;
	net_path_start(&dev->path, &queues[RX_QUEUE], &queues[TX_QUEUE], features);
	r = worker_new("net", &dev->worker);
	if (r == 0)
		r = register_sources(dev);
	if (r == 0)
		r = worker_start(dev->worker);
	if (r < 0) {
		reset(virtio);
		return r;
	}
	run_again(dev); /* a tap or packets may be there already */
	return 0;
}

static void destroy(struct virtio_device *virtio)
{
	struct net_device *dev = (struct net_device *)virtio;

	reset(virtio);
	if (dev->tap_fd >= 0)
		close(dev->tap_fd);
	close(dev->again_fd);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

static const struct virtio_device_ops ops = {
	.activate = activate,
	.reset = reset,
	.destroy = destroy,
};

int net_device_new(struct net_device **ret_device)
{
	struct net_device *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	dev->virtio.ops = &ops;
	dev->tap_fd = -1;
	dev->again_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->again_fd < 0) {
		free(dev);
		return -errno;
	}
	pthread_mutex_init(&dev->lock, NULL);
	*ret_device = dev;
	return 0;
}

struct virtio_device *net_device_virtio(struct net_device *dev)
{
	return &dev->virtio;
}

int net_device_attach(struct net_device *dev, int tap_fd)
{
	const int flags = fcntl(tap_fd, F_GETFL);
	int r = 0;

	if (flags < 0 || fcntl(tap_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	pthread_mutex_lock(&dev->lock);
	if (dev->tap_fd >= 0)
		r = -EBUSY;
	else
		dev->tap_fd = tap_fd;
	pthread_mutex_unlock(&dev->lock);
	if (r == 0)
		run_again(dev);
	return r;
}
