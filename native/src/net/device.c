/* SPDX-License-Identifier: Apache-2.0 */
/* The device as the transport and Python see it: which queues there are, and how many
 * pairs of them are used.  net_pair and net_control serve them. */
#include "net/device.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <stdlib.h>

#include "net/control.h"
#include "net/pair.h"

#define PAIR_QUEUES 2

struct net_device {
	struct virtio_device virtio; /* first */
	struct net_control control;
	unsigned started; /* pairs that have a thread */

	pthread_mutex_t lock; /* for: */
	unsigned used;	      /* pairs that the driver uses */

	unsigned pair_count;
	struct net_pair pairs[];
};

uint64_t net_device_features(unsigned pairs)
{
	const uint64_t several = 1ULL << VIRTIO_NET_F_CTRL_VQ | 1ULL << VIRTIO_NET_F_MQ;

	return 1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM |
	       1ULL << VIRTIO_NET_F_MAC | 1ULL << VIRTIO_NET_F_STATUS |
	       1ULL << VIRTIO_NET_F_HOST_TSO4 | 1ULL << VIRTIO_NET_F_HOST_TSO6 |
	       1ULL << VIRTIO_NET_F_HOST_ECN | 1ULL << VIRTIO_NET_F_GUEST_TSO4 |
	       1ULL << VIRTIO_NET_F_GUEST_TSO6 | 1ULL << VIRTIO_NET_F_GUEST_ECN |
	       1ULL << VIRTIO_NET_F_MRG_RXBUF | (pairs > 1 ? several : 0);
}

unsigned net_device_queues(unsigned pairs)
{
	return pairs > 1 ? pairs * PAIR_QUEUES + 1 : PAIR_QUEUES;
}

/* --- pairs -------------------------------------------------------------------- */

/* A tap spreads its packets over all of its queues: those of pairs that the driver
 * does not use are disabled.  Under the lock. */
static void enable_used(struct net_device *dev)
{
	if (dev->pair_count == 1)
		return;
	for (unsigned i = 0; i < dev->pair_count; i++)
		net_pair_enable(&dev->pairs[i], i < dev->used);
}

static void use_pairs(struct virtio_device *virtio, unsigned pairs)
{
	struct net_device *dev = (struct net_device *)virtio;

	pthread_mutex_lock(&dev->lock);
	dev->used = pairs;
	enable_used(dev);
	pthread_mutex_unlock(&dev->lock);
}

static int start_pairs(struct net_device *dev, struct virtqueue *queues, unsigned count,
		       uint64_t features)
{
	for (dev->started = 0; dev->started < count; dev->started++) {
		struct virtqueue *pair = queues + dev->started * PAIR_QUEUES;
		int r = -EINVAL;

		if (pair[0].enabled && pair[1].enabled)
			r = net_pair_start(&dev->pairs[dev->started], pair, features);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- life cycle --------------------------------------------------------------- */

static void reset(struct virtio_device *virtio)
{
	struct net_device *dev = (struct net_device *)virtio;

	net_control_stop(&dev->control);
	while (dev->started > 0)
		net_pair_stop(&dev->pairs[--dev->started]);
}

/* §5.1.2: without VIRTIO_NET_F_MQ there is one pair, and the control queue, if any, is
 * the next. */
static int start_queues(struct net_device *dev, struct virtqueue *queues, uint64_t features)
{
	const unsigned pairs = features & 1ULL << VIRTIO_NET_F_MQ ? dev->pair_count : 1;
	struct virtqueue *control = queues + pairs * PAIR_QUEUES;
	int r = start_pairs(dev, queues, pairs, features);

	if (r == 0 && features & 1ULL << VIRTIO_NET_F_CTRL_VQ && control->enabled)
		r = net_control_start(&dev->control, control);
	return r;
}

static int activate(struct virtio_device *virtio, struct virtqueue *queues, unsigned count,
		    uint64_t features)
{
	struct net_device *dev = (struct net_device *)virtio;
	int r;

	/* Bounds: what was not offered cannot have been negotiated. */
	if (count != net_device_queues(dev->pair_count))
		return -EINVAL;
	use_pairs(virtio, 1); /* §5.1.6.5.5: until the driver sets another number */
	r = start_queues(dev, queues, features);
	if (r < 0)
		reset(virtio);
	return r;
}

static void destroy(struct virtio_device *virtio)
{
	struct net_device *dev = (struct net_device *)virtio;

	reset(virtio);
	while (dev->pair_count > 0)
		net_pair_destroy(&dev->pairs[--dev->pair_count]);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

static const struct virtio_device_ops ops = {
	.activate = activate,
	.reset = reset,
	.destroy = destroy,
};

int net_device_new(unsigned pairs, struct net_device **ret_device)
{
	struct net_device *dev;

	if (pairs < 1 || pairs > NET_MAX_PAIRS)
		return -EINVAL;
	dev = calloc(1, sizeof(*dev) + pairs * sizeof(dev->pairs[0]));
	if (!dev)
		return -ENOMEM;
	dev->virtio.ops = &ops;
	dev->control = (struct net_control){
		.virtio = &dev->virtio, .max_pairs = pairs, .use_pairs = use_pairs};
	pthread_mutex_init(&dev->lock, NULL);
	for (; dev->pair_count < pairs; dev->pair_count++) {
		int r = net_pair_init(&dev->pairs[dev->pair_count], &dev->virtio);

		if (r < 0) {
			destroy(&dev->virtio);
			return r;
		}
	}
	*ret_device = dev;
	return 0;
}

struct virtio_device *net_device_virtio(struct net_device *dev)
{
	return &dev->virtio;
}

int net_device_attach(struct net_device *dev, const int *tap_fds, const int *vhost_fds,
		      unsigned count)
{
	if (count != dev->pair_count)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++)
		if (net_pair_has_tap(&dev->pairs[i]))
			return -EBUSY;
	pthread_mutex_lock(&dev->lock);
	for (unsigned i = 0; i < count; i++)
		net_pair_attach(&dev->pairs[i], tap_fds[i], vhost_fds ? vhost_fds[i] : -1);
	enable_used(dev);
	pthread_mutex_unlock(&dev->lock);
	return 0;
}
