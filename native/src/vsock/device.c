/* SPDX-License-Identifier: Apache-2.0 */
/* The device as the transport and Python see it: life cycle, listeners, the
 * handoff of streams and events between threads.  The bridge does the rest. */
#include "vsock/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio/worker.h"
#include "vsock/bridge.h"
#include "vsock/connection.h"

#define QUEUE_COUNT 3
#define RX_QUEUE 0
#define TX_QUEUE 1
/* 2, event, is unused (§5.10.6.7): a snapshot is taken without connections. */

#define MAX_LISTENERS 16

struct vsock_listener {
	struct vsock_device *dev;
	int fd;
	uint32_t guest_port;
	bool stalled; /* accept failed for lack of a resource */
	struct worker_source source;
};

struct vsock_device {
	struct virtio_device virtio;
	uint64_t guest_cid;
	unsigned listener_count;
	struct vsock_listener listeners[MAX_LISTENERS];

	/* NULL between reset and activate. */
	struct worker *worker;
	struct vsock_bridge *bridge;
	struct worker_source opened_source;

	_Atomic unsigned connections; /* accepted or opened, and not gone */
	int opened_fd;	      /* eventfd: `opened` has grown, or a stalled listener may try again */
	int event_fd;	      /* eventfd: `ended` has grown */
	pthread_mutex_t lock; /* for all below */
	struct vsock_connection *opened, **opened_tail;
	struct vsock_stream_end *ended, **ended_tail;
};

/* --- on the worker's thread ---------------------------------------------- */

static void stream_ended(void *owner, struct vsock_stream_end *stream_end)
{
	struct vsock_device *dev = owner;

	stream_end->next = NULL;
	pthread_mutex_lock(&dev->lock);
	*dev->ended_tail = stream_end;
	dev->ended_tail = &stream_end->next;
	pthread_mutex_unlock(&dev->lock);
	eventfd_write(dev->event_fd, 1);
}

static void violation(void *owner)
{
	struct vsock_device *dev = owner;

	if (dev->virtio.needs_reset)
		dev->virtio.needs_reset(dev->virtio.transport);
}

static int accept_one(struct vsock_listener *listener)
{
	struct vsock_connection *c;
	int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return -errno;
	c = malloc(sizeof(*c));
	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	vsock_connection_init(c, fd, listener->guest_port, VSOCK_BOTH_WAYS);
	listener->dev->connections++;
	vsock_bridge_connect(listener->dev->bridge, c);
	return 0;
}

static void on_listener(void *context, uint32_t events)
{
	struct vsock_listener *listener = context;
	int r;

	(void)events;
	do
		r = accept_one(listener);
	while (r == 0 || r == -EINTR || r == -ECONNABORTED);
	/* The edge has been consumed: try again when a connection has closed its
	 * fd. */
	listener->stalled = r != -EAGAIN;
}

static void on_opened(void *context, uint32_t events)
{
	struct vsock_device *dev = context;
	struct vsock_connection *c, *next;
	eventfd_t count;

	(void)events;
	eventfd_read(dev->opened_fd, &count);
	pthread_mutex_lock(&dev->lock);
	c = dev->opened;
	dev->opened = NULL;
	dev->opened_tail = &dev->opened;
	pthread_mutex_unlock(&dev->lock);
	for (; c; c = next) {
		next = c->next;
		dev->connections++;
		vsock_bridge_connect(dev->bridge, c);
	}
	for (unsigned i = 0; i < dev->listener_count; i++)
		if (dev->listeners[i].stalled)
			on_listener(&dev->listeners[i], EPOLLIN);
}

static void connection_gone(void *owner)
{
	struct vsock_device *dev = owner;

	dev->connections--;
	for (unsigned i = 0; i < dev->listener_count; i++)
		if (dev->listeners[i].stalled)
			eventfd_write(dev->opened_fd, 1);
}

/* --- life cycle ---------------------------------------------------------- */

static int register_sources(struct vsock_device *dev)
{
	int r;

	dev->opened_source = (struct worker_source){dev->opened_fd, on_opened, dev};
	r = worker_add(dev->worker, &dev->opened_source, EPOLLIN);
	for (unsigned i = 0; r == 0 && i < dev->listener_count; i++) {
		struct vsock_listener *listener = &dev->listeners[i];

		listener->source = (struct worker_source){listener->fd, on_listener, listener};
		r = worker_add(dev->worker, &listener->source, EPOLLIN | EPOLLET);
	}
	return r;
}

static void reset(struct virtio_device *virtio)
{
	struct vsock_device *dev = (struct vsock_device *)virtio;

	if (!dev->worker)
		return;
	worker_stop(dev->worker);
	vsock_bridge_free(dev->bridge);
	dev->bridge = NULL;
	dev->connections = 0;
	worker_free(dev->worker);
	dev->worker = NULL;
}

static int activate(struct virtio_device *virtio, struct virtqueue *queues, unsigned count,
		    uint64_t features)
{
	struct vsock_device *dev = (struct vsock_device *)virtio;
	struct vsock_bridge_config config = {
		.guest_cid = dev->guest_cid,
		.owner = dev,
		.stream_ended = stream_ended,
		.connection_gone = connection_gone,
		.violation = violation,
	};
	int r;

	(void)features;
	if (count != QUEUE_COUNT || !queues[RX_QUEUE].enabled || !queues[TX_QUEUE].enabled)
		return -EINVAL;
	r = worker_new("vsock", JAIL_STREAMS, &dev->worker);
	if (r < 0)
		return r;
	config.rx = &queues[RX_QUEUE];
	config.tx = &queues[TX_QUEUE];
	config.worker = dev->worker;
	r = vsock_bridge_new(&config, &dev->bridge);
	if (r == 0)
		r = register_sources(dev);
	if (r == 0)
		r = worker_start(dev->worker);
	if (r < 0)
		reset(virtio);
	return r;
}

static void destroy(struct virtio_device *virtio)
{
	struct vsock_device *dev = (struct vsock_device *)virtio;

	for (struct vsock_connection *c = dev->opened, *next; c; c = next) {
		next = c->next;
		close(c->endpoint.fd);
		free(c->stream_end);
		free(c);
	}
	for (struct vsock_stream_end *e = dev->ended, *next; e; e = next) {
		next = e->next;
		free(e);
	}
	for (unsigned i = 0; i < dev->listener_count; i++)
		close(dev->listeners[i].fd);
	close(dev->event_fd);
	close(dev->opened_fd);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

static const struct virtio_device_ops ops = {
	.activate = activate,
	.reset = reset,
	.destroy = destroy,
};

int vsock_device_new(uint64_t guest_cid, struct vsock_device **ret_device)
{
	struct vsock_device *dev = calloc(1, sizeof(*dev));
	int r;

	if (!dev)
		return -ENOMEM;
	dev->virtio.ops = &ops;
	dev->guest_cid = guest_cid;
	dev->opened_tail = &dev->opened;
	dev->ended_tail = &dev->ended;
	dev->opened_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dev->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->opened_fd < 0 || dev->event_fd < 0) {
		r = -errno;
		if (dev->opened_fd >= 0)
			close(dev->opened_fd);
		free(dev);
		return r;
	}
	pthread_mutex_init(&dev->lock, NULL);
	*ret_device = dev;
	return 0;
}

struct virtio_device *vsock_device_virtio(struct vsock_device *dev)
{
	return &dev->virtio;
}

/* --- for Python ---------------------------------------------------------- */

int vsock_device_listen(struct vsock_device *dev, int listen_fd, uint32_t guest_port)
{
	int flags = fcntl(listen_fd, F_GETFL);

	if (dev->listener_count == MAX_LISTENERS)
		return -ENOSPC;
	if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	dev->listeners[dev->listener_count++] = (struct vsock_listener){
		.dev = dev,
		.fd = listen_fd,
		.guest_port = guest_port,
	};
	return 0;
}

int vsock_device_open_stream(struct vsock_device *dev, uint64_t stream, uint32_t guest_port,
			     enum vsock_direction direction, int fd, const void *prefix,
			     size_t prefix_len)
{
	struct vsock_connection *c;

	if (prefix_len > VSOCK_STREAM_PREFIX_MAX ||
	    (direction != VSOCK_TO_GUEST && direction != VSOCK_FROM_GUEST))
		return -EINVAL;
	c = malloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	vsock_connection_init(c, fd, guest_port, direction);
	c->stream_end = calloc(1, sizeof(*c->stream_end));
	if (!c->stream_end) {
		free(c);
		return -ENOMEM;
	}
	c->stream_end->event.stream = stream;
	if (prefix_len > 0)
		memcpy(c->prefix, prefix, prefix_len);
	c->prefix_len = (uint32_t)prefix_len;

	pthread_mutex_lock(&dev->lock);
	*dev->opened_tail = c;
	dev->opened_tail = &c->next;
	pthread_mutex_unlock(&dev->lock);
	eventfd_write(dev->opened_fd, 1);
	return 0;
}

unsigned vsock_device_connections(const struct vsock_device *dev)
{
	return dev->connections;
}

int vsock_device_event_fd(const struct vsock_device *dev)
{
	return dev->event_fd;
}

int vsock_device_next_event(struct vsock_device *dev, struct vsock_event *ret_event)
{
	struct vsock_stream_end *stream_end;
	eventfd_t count;

	pthread_mutex_lock(&dev->lock);
	stream_end = dev->ended;
	if (stream_end) {
		dev->ended = stream_end->next;
		if (!dev->ended)
			dev->ended_tail = &dev->ended;
	} else {
		eventfd_read(dev->event_fd, &count);
	}
	pthread_mutex_unlock(&dev->lock);
	if (!stream_end)
		return 0;
	*ret_event = stream_end->event;
	free(stream_end);
	return 1;
}
