/* SPDX-License-Identifier: Apache-2.0 */
#include "net/vhost.h"

#include <endian.h>
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Features that vhost-net must know of; offloads concern the tap alone. */
#define RING_FEATURES                                                                              \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC |                        \
	 1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_NET_F_MRG_RXBUF)
#define NOTHING -1 /* no backend, no eventfd */

int net_vhost_init(struct net_vhost *vhost)
{
	const int error_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (error_fd < 0)
		return -errno;
	*vhost = (struct net_vhost){.fd = -1, .error_fd = error_fd};
	return 0;
}

void net_vhost_set_fd(struct net_vhost *vhost, int fd)
{
	if (vhost->fd >= 0)
		close(vhost->fd);
	vhost->fd = fd;
	vhost->owned = false;
}

static int call(const struct net_vhost *vhost, unsigned long request, const void *argument)
{
	return ioctl(vhost->fd, request, argument) < 0 ? -errno : 0;
}

static int take_ownership(struct net_vhost *vhost)
{
	int r = vhost->owned ? 0 : call(vhost, VHOST_SET_OWNER, NULL);

	if (r == 0)
		vhost->owned = true;
	return r;
}

static int set_features(const struct net_vhost *vhost, uint64_t features)
{
	const uint64_t wanted = features & RING_FEATURES;
	uint64_t known;
	int r = call(vhost, VHOST_GET_FEATURES, &known);

	if (r == 0 && (wanted & ~known) != 0)
		r = -EOPNOTSUPP;
	return r < 0 ? r : call(vhost, VHOST_SET_FEATURES, &wanted);
}

/* Lifetime: the kernel accesses guest memory until stop, or until the process ends. */
static int set_memory(const struct net_vhost *vhost, const struct guest_memory *mem)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region regions[GUEST_MEMORY_MAX_REGIONS];
	} table = {.head.nregions = mem->count};

	for (unsigned i = 0; i < mem->count; i++)
		table.regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = mem->regions[i].gpa,
			.memory_size = mem->regions[i].len,
			.userspace_addr = (uintptr_t)mem->regions[i].hva,
		};
	return call(vhost, VHOST_SET_MEM_TABLE, &table);
}

static int set_ring(const struct net_vhost *vhost, unsigned index, const struct virtqueue *vq)
{
	const struct vhost_vring_state size = {index, vq->size};
	const struct vhost_vring_state base = {index, vq->next_avail};
	const struct vhost_vring_addr addresses = {
		.index = index,
		.desc_user_addr = (uintptr_t)vq->desc,
		.avail_user_addr = (uintptr_t)vq->driver,
		.used_user_addr = (uintptr_t)vq->device,
	};
	int r = call(vhost, VHOST_SET_VRING_NUM, &size);

	if (r == 0)
		r = call(vhost, VHOST_SET_VRING_BASE, &base);
	if (r == 0)
		r = call(vhost, VHOST_SET_VRING_ADDR, &addresses);
	return r;
}

static int set_events(const struct net_vhost *vhost, unsigned index, const struct virtqueue *vq)
{
	const struct vhost_vring_file kick = {index, vq->kick_fd};
	const struct vhost_vring_file interrupt = {index, vq->call_fd};
	const struct vhost_vring_file error = {index, vhost->error_fd};
	int r = call(vhost, VHOST_SET_VRING_KICK, &kick);

	if (r == 0)
		r = call(vhost, VHOST_SET_VRING_CALL, &interrupt);
	if (r == 0)
		r = call(vhost, VHOST_SET_VRING_ERR, &error);
	return r;
}

static int set_backend(const struct net_vhost *vhost, unsigned index, int fd)
{
	const struct vhost_vring_file backend = {index, fd};

	return call(vhost, VHOST_NET_SET_BACKEND, &backend);
}

static int prepare(struct net_vhost *vhost, const struct virtqueue *queues, uint64_t features)
{
	int r = take_ownership(vhost);

	if (r == 0)
		r = set_features(vhost, features);
	if (r == 0)
		r = set_memory(vhost, queues[0].mem);
	for (unsigned i = 0; r == 0 && i < NET_VHOST_QUEUES; i++) {
		r = set_ring(vhost, i, &queues[i]);
		if (r == 0)
			r = set_events(vhost, i, &queues[i]);
	}
	return r;
}

/* The kernel keeps the used ring's position in the ring itself. */
static void take_back(const struct net_vhost *vhost, unsigned index, struct virtqueue *vq)
{
	const struct vhost_vring_file nothing = {index, NOTHING};
	struct vhost_vring_state base = {index, 0};
	uint16_t used;

	(void)set_backend(vhost, index, NOTHING);
	(void)call(vhost, VHOST_SET_VRING_KICK, &nothing);
	(void)call(vhost, VHOST_SET_VRING_CALL, &nothing);
	if (call(vhost, VHOST_GET_VRING_BASE, &base) < 0)
		return;
	vq->next_avail = (uint16_t)base.num;
	memcpy(&used, (const uint8_t *)vq->device + sizeof(uint16_t), sizeof(used));
	vq->next_used = le16toh(used);
}

int net_vhost_start(struct net_vhost *vhost, int tap_fd, struct virtqueue *queues,
		    uint64_t features)
{
	unsigned started = 0;
	int r = prepare(vhost, queues, features);

	while (r == 0 && started < NET_VHOST_QUEUES) {
		r = set_backend(vhost, started, tap_fd);
		if (r == 0)
			started++;
	}
	if (r < 0) {
		while (started > 0) {
			started--;
			take_back(vhost, started, &queues[started]);
		}
		return r;
	}
	vhost->running = true;
	/* An earlier kick may have gone to the one that served the queue then. */
	for (unsigned i = 0; i < NET_VHOST_QUEUES; i++)
		eventfd_write(queues[i].kick_fd, 1);
	return 0;
}

void net_vhost_stop(struct net_vhost *vhost, struct virtqueue *queues)
{
	if (!vhost->running)
		return;
	for (unsigned i = 0; i < NET_VHOST_QUEUES; i++)
		take_back(vhost, i, &queues[i]);
	vhost->running = false;
}

void net_vhost_destroy(struct net_vhost *vhost)
{
	net_vhost_set_fd(vhost, -1);
	close(vhost->error_fd);
}
