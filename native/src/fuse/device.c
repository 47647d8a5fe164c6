/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/device.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "jail/jail.h"

struct fs_worker {
	struct fs_device *dev;
	pthread_t thread;
	struct virtqueue_chain chain;
};

struct fs_device {
	struct virtio_device virtio; /* first */
	struct fuse_server *server;
	unsigned queue_count; /* hiprio included */
	unsigned worker_count;
	unsigned running; /* workers started; 0 between reset and activate */
	int stop_fd;	  /* eventfd: makes the listener look at `stopping` */

	pthread_mutex_t lock; /* for queues and all below */
	pthread_cond_t wanted;
	struct virtqueue *queues;
	unsigned next_queue; /* where the search for a request starts, so that no queue starves */
	unsigned idle;	     /* workers that wait to be wanted */
	bool listening;	     /* a worker waits for kicks */
	bool stopping;
	bool broken; /* a violation was reported */

	struct fs_worker workers[];
};

/* --- on the workers' threads, with the lock held unless noted -------------- */

static void report_violation(struct fs_device *dev)
{
	if (dev->broken)
		return;
	dev->broken = true;
	if (dev->virtio.needs_reset)
		dev->virtio.needs_reset(dev->virtio.transport);
}

static bool is_served(const struct virtqueue *vq)
{
	return vq->enabled && !vq->broken;
}

/* The next request of any queue; FORGETs (hiprio) first, as each gives a
 * descriptor back. */
static struct virtqueue *pop(struct fs_device *dev, struct fs_worker *w)
{
	for (unsigned i = 0; i < dev->queue_count; i++) {
		const unsigned requests = dev->queue_count - 1;
		struct virtqueue *vq = dev->queues;
		int r;

		if (i > 0)
			vq += 1 + (dev->next_queue + i - 1) % requests;
		if (!is_served(vq))
			continue;
		r = virtqueue_pop(vq, &w->chain);
		if (r < 0)
			report_violation(dev);
		if (r <= 0)
			continue;
		if (i > 0)
			dev->next_queue = (dev->next_queue + i) % requests;
		return vq;
	}
	return NULL;
}

/* True: a request came before the driver could see that it must kick. */
static bool enable_kicks(struct fs_device *dev)
{
	bool more = false;

	for (unsigned i = 0; i < dev->queue_count; i++)
		if (is_served(&dev->queues[i]) && virtqueue_enable_kicks(&dev->queues[i]))
			more = true;
	return more;
}

static void disable_kicks(struct fs_device *dev)
{
	for (unsigned i = 0; i < dev->queue_count; i++)
		if (is_served(&dev->queues[i]))
			virtqueue_disable_kicks(&dev->queues[i]);
}

/* Releases the lock while it waits: only the listener reads the kick descriptors. */
static void wait_kick(struct fs_device *dev)
{
	struct pollfd fds[FS_DEVICE_MAX_QUEUES + 1];
	const unsigned count = dev->queue_count;
	eventfd_t kicks;
	int ready;

	for (unsigned i = 0; i < count; i++) {
		const bool served = is_served(&dev->queues[i]);

		fds[i] = (struct pollfd){served ? dev->queues[i].kick_fd : -1, POLLIN, 0};
	}
	fds[count] = (struct pollfd){dev->stop_fd, POLLIN, 0};
	pthread_mutex_unlock(&dev->lock);
	ready = poll(fds, count + 1, -1);
	for (unsigned i = 0; ready > 0 && i < count; i++)
		if (fds[i].revents & POLLIN)
			eventfd_read(fds[i].fd, &kicks);
	pthread_mutex_lock(&dev->lock);
}

static void listen_for_kicks(struct fs_device *dev)
{
	dev->listening = true;
	if (!enable_kicks(dev))
		wait_kick(dev);
	disable_kicks(dev);
	dev->listening = false;
}

static void wait_for_work(struct fs_device *dev)
{
	dev->idle++;
	pthread_cond_wait(&dev->wanted, &dev->lock);
	dev->idle--;
}

static void wake_idle_worker(struct fs_device *dev)
{
	if (dev->idle > 0 && !dev->listening)
		pthread_cond_signal(&dev->wanted);
}

/* Called back by the server, without the lock. */
static void about_to_wait(void *context)
{
	struct fs_device *dev = context;

	pthread_mutex_lock(&dev->lock);
	wake_idle_worker(dev);
	pthread_mutex_unlock(&dev->lock);
}

static bool has_more(const struct virtqueue *vq)
{
	const struct vring_avail *avail = vq->driver;

	return __atomic_load_n(&avail->idx, __ATOMIC_RELAXED) != vq->next_avail;
}

static void serve(struct fs_device *dev, struct fs_worker *w, struct virtqueue *vq)
{
	ptrdiff_t n;

	if (has_more(vq))
		wake_idle_worker(dev);
	pthread_mutex_unlock(&dev->lock);
	n = fuse_server_handle(dev->server, w->chain.iov, w->chain.readable_count,
			       virtqueue_chain_writable(&w->chain), w->chain.writable_count);
	pthread_mutex_lock(&dev->lock);
	/* A request that cannot be answered goes back unanswered. */
	virtqueue_push(vq, w->chain.head, n > 0 ? (uint32_t)n : 0);
	virtqueue_signal(vq);
}

static void *run(void *context)
{
	struct fs_worker *w = context;
	struct fs_device *dev = w->dev;
	struct virtqueue *vq;
	int r = fuse_server_enter_thread(dev->server);

	pthread_mutex_lock(&dev->lock);
	if (r < 0)
		report_violation(dev);
	while (r == 0 && !dev->stopping) {
		vq = pop(dev, w);
		if (vq)
			serve(dev, w, vq);
		else if (dev->listening)
			wait_for_work(dev);
		else
			listen_for_kicks(dev);
	}
	pthread_mutex_unlock(&dev->lock);
	return NULL;
}

/* --- life cycle ------------------------------------------------------------ */

static void stop(struct virtio_device *virtio)
{
	struct fs_device *dev = (struct fs_device *)virtio;
	eventfd_t count;

	if (dev->running == 0)
		return;
	pthread_mutex_lock(&dev->lock);
	dev->stopping = true;
	pthread_cond_broadcast(&dev->wanted);
	pthread_mutex_unlock(&dev->lock);
	eventfd_write(dev->stop_fd, 1);
	while (dev->running > 0)
		pthread_join(dev->workers[--dev->running].thread, NULL);
	eventfd_read(dev->stop_fd, &count);
}

static void reset(struct virtio_device *virtio)
{
	struct fs_device *dev = (struct fs_device *)virtio;

	stop(virtio);
	dev->queues = NULL;
	fuse_server_reset(dev->server);
}

static int start(struct fs_device *dev)
{
	sigset_t all;
	int r = 0;

	sigfillset(&all);
	while (r == 0 && dev->running < dev->worker_count) {
		struct fs_worker *w = &dev->workers[dev->running];

		r = jail_thread(JAIL_FILES, "fs", &all, run, w, &w->thread);
		if (r == 0)
			dev->running++;
	}
	return r;
}

static int activate(struct virtio_device *virtio, struct virtqueue *queues, unsigned count,
		    uint64_t features)
{
	struct fs_device *dev = (struct fs_device *)virtio;
	int r;

	if (dev->running > 0)
		return -EALREADY;
	if (count != dev->queue_count || !(features & 1ULL << VIRTIO_F_VERSION_1))
		return -EINVAL;
	dev->queues = queues;
	dev->stopping = dev->broken = dev->listening = false;
	dev->next_queue = dev->idle = 0;
	r = start(dev);
	if (r < 0)
		reset(virtio);
	return r;
}

static void destroy(struct virtio_device *virtio)
{
	struct fs_device *dev = (struct fs_device *)virtio;

	reset(virtio);
	fuse_server_free(dev->server);
	close(dev->stop_fd);
	pthread_cond_destroy(&dev->wanted);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

static const struct virtio_device_ops ops = {
	.activate = activate,
	.reset = reset,
	.destroy = destroy,
	.stop = stop,
};

int fs_device_new(struct fuse_server *server, unsigned request_queues, unsigned worker_count,
		  struct virtio_device **ret_device)
{
	struct fs_device *dev;

	if (request_queues == 0 || request_queues >= FS_DEVICE_MAX_QUEUES || worker_count == 0 ||
	    worker_count > FS_DEVICE_MAX_WORKERS)
		return -EINVAL;
	dev = calloc(1, sizeof(*dev) + worker_count * sizeof(struct fs_worker));
	if (!dev)
		return -ENOMEM;
	dev->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->stop_fd < 0) {
		free(dev);
		return -errno;
	}
	dev->virtio.ops = &ops;
	dev->server = server;
	dev->queue_count = request_queues + 1;
	dev->worker_count = worker_count;
	pthread_mutex_init(&dev->lock, NULL);
	pthread_cond_init(&dev->wanted, NULL);
	for (unsigned i = 0; i < worker_count; i++)
		dev->workers[i].dev = dev;
	fuse_server_on_wait(server, about_to_wait, dev);
	*ret_device = &dev->virtio;
	return 0;
}

ptrdiff_t fs_device_save(const struct virtio_device *device, void *buffer, size_t bytes)
{
	const struct fs_device *dev = (const struct fs_device *)device;

	return dev->running > 0 ? -EBUSY : fuse_server_save(dev->server, buffer, bytes);
}

int fs_device_restore(struct virtio_device *device, const void *state, size_t bytes)
{
	struct fs_device *dev = (struct fs_device *)device;

	return dev->running > 0 ? -EBUSY : fuse_server_restore(dev->server, state, bytes);
}

void fs_device_counters(const struct virtio_device *device, uint64_t ret_counts[FUSE_OPCODES])
{
	fuse_server_counters(((const struct fs_device *)device)->server, ret_counts);
}
