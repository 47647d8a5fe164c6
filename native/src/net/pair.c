/* SPDX-License-Identifier: Apache-2.0 */
#include "net/pair.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define RX_QUEUE 0
#define TX_QUEUE 1

/* --- on the worker's thread ------------------------------------------------- */

static void report_violation(struct net_pair *pair)
{
	if (pair->virtio->needs_reset)
		pair->virtio->needs_reset(pair->virtio->transport);
}

static void run_again(struct net_pair *pair)
{
	eventfd_write(pair->again_fd, 1);
}

/* The tap may leave to the guest what the guest has offered to do.  If the tap
 * refuses this it does that work itself, which is harmless. */
static void set_offloads(const struct net_pair *pair)
{
	unsigned flags = 0;

	if (pair->features & 1ULL << VIRTIO_NET_F_GUEST_CSUM)
		flags |= TUN_F_CSUM;
	if (pair->features & 1ULL << VIRTIO_NET_F_GUEST_TSO4)
		flags |= TUN_F_TSO4;
	if (pair->features & 1ULL << VIRTIO_NET_F_GUEST_TSO6)
		flags |= TUN_F_TSO6;
	if (pair->features & 1ULL << VIRTIO_NET_F_GUEST_ECN)
		flags |= TUN_F_TSO_ECN;
	(void)ioctl(pair->tap_fd, TUNSETOFFLOAD, flags);
}

static void poll_tap(struct net_pair *pair, bool wanted)
{
	if (pair->path.tap_fd < 0 || pair->polling_tap == wanted)
		return;
	pair->polling_tap = wanted;
	(void)worker_modify(pair->worker, &pair->tap_source, wanted ? EPOLLIN : 0);
}

/* The tap's link was deleted, or the namespace that it was in. */
static void drop_tap(struct net_pair *pair)
{
	worker_remove(pair->worker, &pair->tap_source);
	pair->path.tap_fd = -1;
	pthread_mutex_lock(&pair->lock);
	close(pair->tap_fd);
	pair->tap_fd = -1;
	pthread_mutex_unlock(&pair->lock);
}

static void on_receive(void *context, uint32_t events)
{
	struct net_pair *pair = context;

	(void)events;
	virtqueue_disable_kicks(pair->path.rx);
	switch (net_path_receive(&pair->path)) {
	case NET_MORE:
		run_again(pair);
		break;
	case NET_NO_BUFFERS:
		if (virtqueue_enable_kicks(pair->path.rx))
			run_again(pair);
		else
			poll_tap(pair, false); /* until the guest gives buffers */
		return;
	case NET_GONE:
		drop_tap(pair);
		break;
	case NET_VIOLATION:
		poll_tap(pair, false);
		report_violation(pair);
		return;
	case NET_IDLE:
		break;
	}
	poll_tap(pair, true);
}

static void on_tap(void *context, uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP))
		drop_tap(context);
	else
		on_receive(context, events);
}

static void on_transmit(void *context, uint32_t events)
{
	struct net_pair *pair = context;
	enum net_result r;

	(void)events;
	virtqueue_disable_kicks(pair->path.tx);
	r = net_path_transmit(&pair->path);
	if (r == NET_VIOLATION)
		report_violation(pair);
	else if (r == NET_MORE || virtqueue_enable_kicks(pair->path.tx))
		run_again(pair);
}

static void on_vhost_error(void *context, uint32_t events)
{
	struct net_pair *pair = context;
	eventfd_t count;

	(void)events;
	eventfd_read(pair->vhost.error_fd, &count);
	report_violation(pair);
}

/* False: there is no vhost-net, or it lacks a negotiated feature and is not used
 * any more. */
static bool start_vhost(struct net_pair *pair)
{
	if (pair->vhost.fd < 0)
		return false;
	net_path_give_back(&pair->path);
	pair->error_source = (struct worker_source){pair->vhost.error_fd, on_vhost_error, pair};
	if (worker_add(pair->worker, &pair->error_source, EPOLLIN) == 0 &&
	    net_vhost_start(&pair->vhost, pair->tap_fd, pair->queues, pair->features) == 0) {
		worker_remove(pair->worker, &pair->rx_source);
		worker_remove(pair->worker, &pair->tx_source);
		return true;
	}
	worker_remove(pair->worker, &pair->error_source);
	net_vhost_set_fd(&pair->vhost, -1);
	return false;
}

static void start_path(struct net_pair *pair)
{
	pair->tap_source = (struct worker_source){pair->tap_fd, on_tap, pair};
	if (worker_add(pair->worker, &pair->tap_source, EPOLLIN) == 0) {
		pair->path.tap_fd = pair->tap_fd;
		pair->polling_tap = true;
	}
}

static void adopt_tap(struct net_pair *pair)
{
	pthread_mutex_lock(&pair->lock);
	if (pair->tap_fd >= 0 && pair->path.tap_fd != pair->tap_fd && !pair->vhost.running) {
		set_offloads(pair);
		if (!start_vhost(pair))
			start_path(pair);
	}
	pthread_mutex_unlock(&pair->lock);
}

static void on_kick_rx(void *context, uint32_t events)
{
	struct net_pair *pair = context;
	eventfd_t count;

	eventfd_read(pair->path.rx->kick_fd, &count);
	on_receive(pair, events);
}

static void on_kick_tx(void *context, uint32_t events)
{
	struct net_pair *pair = context;
	eventfd_t count;

	eventfd_read(pair->path.tx->kick_fd, &count);
	on_transmit(pair, events);
}

static void on_again(void *context, uint32_t events)
{
	struct net_pair *pair = context;
	eventfd_t count;

	eventfd_read(pair->again_fd, &count);
	adopt_tap(pair);
	if (pair->vhost.running)
		return;
	on_transmit(pair, events);
	on_receive(pair, events);
}

/* --- life cycle -------------------------------------------------------------- */

static int register_sources(struct net_pair *pair)
{
	int r;

	pair->rx_source = (struct worker_source){pair->path.rx->kick_fd, on_kick_rx, pair};
	pair->tx_source = (struct worker_source){pair->path.tx->kick_fd, on_kick_tx, pair};
	pair->again_source = (struct worker_source){pair->again_fd, on_again, pair};
	r = worker_add(pair->worker, &pair->rx_source, EPOLLIN);
	if (r == 0)
		r = worker_add(pair->worker, &pair->tx_source, EPOLLIN);
	if (r == 0)
		r = worker_add(pair->worker, &pair->again_source, EPOLLIN);
	return r;
}

int net_pair_init(struct net_pair *pair, struct virtio_device *virtio)
{
	int r;

	pair->virtio = virtio;
	pair->worker = NULL;
	pair->tap_fd = -1;
	pair->again_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pair->again_fd < 0)
		return -errno;
	r = net_vhost_init(&pair->vhost);
	if (r < 0) {
		close(pair->again_fd);
		return r;
	}
	pthread_mutex_init(&pair->lock, NULL);
	return 0;
}

int net_pair_start(struct net_pair *pair, struct virtqueue *queues, uint64_t features)
{
	int r;

	pair->features = features;
	pair->queues = queues;
	net_path_start(&pair->path, &queues[RX_QUEUE], &queues[TX_QUEUE], features);
	r = worker_new("net", JAIL_NETWORK, &pair->worker);
	if (r == 0)
		r = register_sources(pair);
	if (r == 0)
		r = worker_start(pair->worker);
	if (r < 0) {
		net_pair_stop(pair);
		return r;
	}
	run_again(pair); /* a tap or packets may be there already */
	return 0;
}

void net_pair_stop(struct net_pair *pair)
{
	worker_free(pair->worker);
	pair->worker = NULL;
	net_vhost_stop(&pair->vhost, pair->queues);
}

bool net_pair_has_tap(struct net_pair *pair)
{
	bool has;

	pthread_mutex_lock(&pair->lock);
	has = pair->tap_fd >= 0;
	pthread_mutex_unlock(&pair->lock);
	return has;
}

void net_pair_attach(struct net_pair *pair, int tap_fd, int vhost_fd)
{
	pthread_mutex_lock(&pair->lock);
	pair->tap_fd = tap_fd;
	net_vhost_set_fd(&pair->vhost, vhost_fd);
	pthread_mutex_unlock(&pair->lock);
	run_again(pair);
}

void net_pair_enable(struct net_pair *pair, bool enabled)
{
	struct ifreq queue = {.ifr_flags = enabled ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

	pthread_mutex_lock(&pair->lock);
	if (pair->tap_fd >= 0) /* fails if it is in that state already */
		(void)ioctl(pair->tap_fd, TUNSETQUEUE, &queue);
	pthread_mutex_unlock(&pair->lock);
}

void net_pair_destroy(struct net_pair *pair)
{
	net_vhost_destroy(&pair->vhost);
	if (pair->tap_fd >= 0)
		close(pair->tap_fd);
	close(pair->again_fd);
	pthread_mutex_destroy(&pair->lock);
}
