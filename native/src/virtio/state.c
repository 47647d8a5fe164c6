/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/state.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>

#include "virtio/common.h"

/* --- saving ------------------------------------------------------------------ */

static void save_queue(const struct virtio_pci *dev, unsigned index, struct virtio_queue_state *q)
{
	const struct virtqueue *vq = &dev->queues[index];

	*q = (struct virtio_queue_state){
		.desc_gpa = vq->desc_gpa,
		.driver_gpa = vq->driver_gpa,
		.device_gpa = vq->device_gpa,
		.size = vq->size,
		.vector = dev->msix.sources[index + 1].vector,
		.next_avail = vq->next_avail,
		.next_used = vq->next_used,
		.enabled = vq->enabled,
	};
}

static void save_locked(const struct virtio_pci *dev, struct virtio_pci_state *state)
{
	memset(state, 0, sizeof(*state));
	memcpy(state->config, dev->config.bytes, sizeof(state->config));
	memcpy(state->entries, dev->msix.entries, sizeof(state->entries));
	state->driver_features = dev->driver_features;
	state->device_feature_select = dev->device_feature_select;
	state->driver_feature_select = dev->driver_feature_select;
	state->queue_count = dev->description.queue_count;
	state->queue_select = dev->queue_select;
	state->config_vector = dev->msix.sources[0].vector;
	state->status = dev->status;
	state->isr = dev->isr;
	state->config_generation = dev->config_generation;
	for (unsigned i = 0; i < state->queue_count; i++)
		save_queue(dev, i, &state->queues[i]);
}

int virtio_pci_save(struct virtio_pci *dev, struct virtio_pci_state *ret_state)
{
	int r = 0;

	pthread_mutex_lock(&dev->lock);
	if (dev->active)
		r = -EBUSY;
	else if (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		r = -EIO;
	else
		save_locked(dev, ret_state);
	pthread_mutex_unlock(&dev->lock);
	return r;
}

/* --- restoring --------------------------------------------------------------- */

static bool is_of(const struct virtio_pci_state *state, const struct virtio_pci *dev)
{
	return state->queue_count == dev->description.queue_count &&
	       !(state->status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void stage_route(struct virtio_pci *dev, const struct virtio_pci_state *state,
			unsigned source, uint16_t vector)
{
	/* Bounds: the state's table is as long as the longest one. */
	if (vector < dev->msix.count &&
	    !(state->entries[vector].control & PCI_MSIX_ENTRY_CTRL_MASKBIT))
		msix_stage_route(&dev->msix, source, &state->entries[vector]);
}

void virtio_pci_stage_routes(struct virtio_pci *dev, const struct virtio_pci_state *state)
{
	if (!is_of(state, dev))
		return;
	pthread_mutex_lock(&dev->lock);
	stage_route(dev, state, 0, state->config_vector);
	for (unsigned i = 0; i < state->queue_count; i++)
		stage_route(dev, state, i + 1, state->queues[i].vector);
	pthread_mutex_unlock(&dev->lock);
}

static void restore_config(struct virtio_pci *dev, const struct virtio_pci_state *state)
{
	struct pci_config *config = &dev->config;
	struct pci_decoded decoded;

	for (unsigned i = 0; i < PCI_CONFIG_BYTES; i++)
		config->bytes[i] = (uint8_t)((config->bytes[i] & ~config->writable[i]) |
					     (state->config[i] & config->writable[i]));
	memcpy(dev->msix.entries, state->entries, sizeof(state->entries));
	decoded = pci_config_decode(config);
	msix_set_control(&dev->msix, decoded.msix_enabled, decoded.msix_masked);
	atomic_store(&dev->bar_gpa, decoded.bar_gpa);
}

static void restore_queue(struct virtio_pci *dev, unsigned index,
			  const struct virtio_queue_state *q)
{
	struct virtqueue *vq = &dev->queues[index];

	vq->desc_gpa = q->desc_gpa;
	vq->driver_gpa = q->driver_gpa;
	vq->device_gpa = q->device_gpa;
	vq->size = q->size;
	vq->enabled = q->enabled;
	vq->next_avail = q->next_avail;
	vq->next_used = q->next_used;
	msix_set_vector(&dev->msix, index + 1, q->vector);
}

/* Needs no record of what was in flight: a driver accepts a spurious interrupt. */
static void wake_up(const struct virtio_pci *dev)
{
	for (unsigned i = 0; i < dev->description.queue_count; i++) {
		const struct virtqueue *vq = &dev->queues[i];

		if (!vq->enabled)
			continue;
		eventfd_write(vq->kick_fd, 1);
		if (dev->msix.sources[i + 1].vector != MSIX_NO_VECTOR)
			eventfd_write(vq->call_fd, 1);
	}
}

static int restore_locked(struct virtio_pci *dev, const struct virtio_pci_state *state)
{
	dev->driver_features = state->driver_features;
	if ((state->status & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    !virtio_common_features_acceptable(dev))
		return -EINVAL;
	restore_config(dev, state);
	dev->device_feature_select = state->device_feature_select;
	dev->driver_feature_select = state->driver_feature_select;
	dev->queue_select = state->queue_select;
	dev->config_generation = state->config_generation;
	msix_set_vector(&dev->msix, 0, state->config_vector);
	for (unsigned i = 0; i < state->queue_count; i++)
		restore_queue(dev, i, &state->queues[i]);
	if (dev->msix.error != 0)
		return -EIO;
	atomic_store(&dev->isr, state->isr);
	atomic_store(&dev->status, state->status);
	if (state->status & VIRTIO_CONFIG_S_DRIVER_OK) {
		virtio_common_activate(dev);
		virtio_pci_place_notifications(dev);
		wake_up(dev);
	}
	return dev->status & VIRTIO_CONFIG_S_NEEDS_RESET ? -EIO : 0;
}

int virtio_pci_restore(struct virtio_pci *dev, const struct virtio_pci_state *state)
{
	int r = -EINVAL;

	if (!is_of(state, dev))
		return r;
	/* Bounds: the driver could not have set a greater one. */
	for (unsigned i = 0; i < state->queue_count; i++)
		if (state->queues[i].size > dev->description.queue_sizes[i])
			return r;
	pthread_mutex_lock(&dev->lock);
	r = dev->status != 0 ? -EBUSY : restore_locked(dev, state);
	pthread_mutex_unlock(&dev->lock);
	return r;
}
