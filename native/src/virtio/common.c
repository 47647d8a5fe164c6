/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/common.h"

#include <endian.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define ISR_CONFIG 0x02
#define TRANSPORT_FEATURES                                                                         \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC |                        \
	 1ULL << VIRTIO_RING_F_EVENT_IDX)
#define DRIVER_BITS                                                                                \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
	 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

static uint64_t offered_features(const struct virtio_pci *dev)
{
	return dev->description.features | TRANSPORT_FEATURES;
}

static struct virtqueue *selected_queue(struct virtio_pci *dev)
{
	return dev->queue_select < dev->description.queue_count ? &dev->queues[dev->queue_select]
								: NULL;
}

/* Sources of interrupts: 0 is the configuration, then come the queues. */
static unsigned queue_source(unsigned queue)
{
	return queue + 1;
}

/* --- interrupts and failure ---------------------------------------------- */

void virtio_common_config_changed(struct virtio_pci *dev)
{
	atomic_fetch_or(&dev->isr, ISR_CONFIG);
	eventfd_write(dev->msix.sources[0].fd, 1);
}

void virtio_common_break(struct virtio_pci *dev, const char *why)
{
	const uint8_t old = atomic_fetch_or(&dev->status, VIRTIO_CONFIG_S_NEEDS_RESET);

	if (old & VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	/* Reported once in the device's life, as a driver could break and reset it
	 * for ever. */
	if (!atomic_exchange(&dev->fault_reported, true))
		machine_events_report_fault(dev->machine.events, "%.*s: %s", VIRTIO_PCI_NAME_BYTES,
					    dev->description.name, why);
	/* §2.1.2: the driver is told only after DRIVER_OK. */
	if (old & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_common_config_changed(dev);
}

/* --- status -------------------------------------------------------------- */

static void reset_queue(struct virtio_pci *dev, unsigned index)
{
	struct virtqueue *vq = &dev->queues[index];
	eventfd_t stale;

	dev->counters.chains += vq->pops;
	dev->counters.signals += vq->signals;
	(void)eventfd_read(vq->kick_fd, &stale);
	*vq = (struct virtqueue){
		.mem = dev->machine.mem,
		.size = dev->description.queue_sizes[index],
		.kick_fd = vq->kick_fd,
		.call_fd = vq->call_fd,
	};
}

void virtio_common_reset(struct virtio_pci *dev)
{
	if (dev->active)
		dev->model->ops->reset(dev->model);
	dev->active = false;
	msix_detach(&dev->msix);
	for (unsigned i = 0; i < dev->description.queue_count; i++)
		reset_queue(dev, i);
	dev->device_feature_select = dev->driver_feature_select = 0;
	dev->driver_features = 0;
	dev->queue_select = 0;
	atomic_store(&dev->isr, 0);
	/* Last, and after the model's threads have ended: none can set a bit any
	 * more. */
	atomic_store(&dev->status, 0);
}

bool virtio_common_features_acceptable(const struct virtio_pci *dev)
{
	return (dev->driver_features & ~offered_features(dev)) == 0 &&
	       (dev->driver_features & 1ULL << VIRTIO_F_VERSION_1);
}

static int start_queues(struct virtio_pci *dev)
{
	for (unsigned i = 0; i < dev->description.queue_count; i++) {
		struct virtqueue *vq = &dev->queues[i];
		int r;

		if (!vq->enabled)
			continue;
		vq->event_idx = dev->driver_features & 1ULL << VIRTIO_RING_F_EVENT_IDX;
		r = virtqueue_start(vq);
		if (r < 0)
			return r;
	}
	return 0;
}

void virtio_common_activate(struct virtio_pci *dev)
{
	if (start_queues(dev) < 0) {
		virtio_common_break(dev, "the driver set up a queue outside its memory");
		return;
	}
	dev->active = true;
	dev->counters.activations++;
	if (dev->model->ops->activate(dev->model, dev->queues, dev->description.queue_count,
				      dev->driver_features) < 0)
		virtio_common_break(dev, "the device could not be started");
}

static void advance_status(struct virtio_pci *dev, uint8_t value)
{
	const uint8_t old = atomic_load(&dev->status);
	uint8_t added;

	value &= DRIVER_BITS;
	/* §2.1.1: the driver must not clear a bit. */
	if ((old & DRIVER_BITS) & ~value)
		return;
	added = value & ~old;
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !virtio_common_features_acceptable(dev))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	/* §3.1.1: DRIVER_OK comes after FEATURES_OK has been accepted. */
	if (!((old | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	atomic_fetch_or(&dev->status, added);
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		virtio_common_activate(dev);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void write_status(struct virtio_pci *dev, uint8_t value)
{
	const uint64_t start_ns = now_ns();

	dev->counters.status_writes++;
	if (value == 0) {
		virtio_common_reset(dev);
		dev->counters.reset_ns += now_ns() - start_ns;
	} else {
		advance_status(dev, value);
		dev->counters.status_ns += now_ns() - start_ns;
	}
}

/* --- the structure ------------------------------------------------------- */

static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> 32 * select) : 0;
}

static void describe_queue(struct virtio_pci *dev, const struct virtqueue *vq,
			   struct virtio_pci_common_cfg *common)
{
	const unsigned index = dev->queue_select;

	common->queue_size = htole16(vq->size);
	common->queue_msix_vector = htole16(dev->msix.sources[queue_source(index)].vector);
	common->queue_enable = htole16(vq->enabled);
	common->queue_notify_off = htole16((uint16_t)index);
	common->queue_desc_lo = htole32((uint32_t)vq->desc_gpa);
	common->queue_desc_hi = htole32(vq->desc_gpa >> 32);
	common->queue_avail_lo = htole32((uint32_t)vq->driver_gpa);
	common->queue_avail_hi = htole32(vq->driver_gpa >> 32);
	common->queue_used_lo = htole32((uint32_t)vq->device_gpa);
	common->queue_used_hi = htole32(vq->device_gpa >> 32);
}

void virtio_common_read(struct virtio_pci *dev, uint64_t offset, void *data, unsigned len)
{
	const struct virtqueue *vq = selected_queue(dev);
	struct virtio_pci_common_cfg common = {
		.device_feature_select = htole32(dev->device_feature_select),
		.device_feature =
			htole32(feature_word(offered_features(dev), dev->device_feature_select)),
		.guest_feature_select = htole32(dev->driver_feature_select),
		.guest_feature =
			htole32(feature_word(dev->driver_features, dev->driver_feature_select)),
		.msix_config = htole16(dev->msix.sources[0].vector),
		.num_queues = htole16((uint16_t)dev->description.queue_count),
		.device_status = atomic_load(&dev->status),
		.config_generation = dev->config_generation,
		.queue_select = htole16(dev->queue_select),
		.queue_msix_vector = htole16(MSIX_NO_VECTOR),
	};

	/* §4.1.4.3.1: size 0 says that there is no such queue. */
	if (vq)
		describe_queue(dev, vq, &common);
	memset(data, 0, len);
	if (offset < sizeof(common) && len <= sizeof(common) - offset)
		memcpy(data, (const uint8_t *)&common + offset, len);
}

static void set_half(uint64_t *field, bool high, uint32_t value)
{
	if (high)
		*field = (*field & UINT32_MAX) | (uint64_t)value << 32;
	else
		*field = (*field & ~(uint64_t)UINT32_MAX) | value;
}

/* Bounds: a size that is no power of two, or above the maximum, is not taken. */
static void write_queue_size(struct virtio_pci *dev, struct virtqueue *vq, uint16_t value)
{
	if (value != 0 && (value & (value - 1)) == 0 &&
	    value <= dev->description.queue_sizes[dev->queue_select])
		vq->size = value;
}

static void write_queue_word(struct virtqueue *vq, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&vq->desc_gpa, offset == VIRTIO_PCI_COMMON_Q_DESCHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&vq->driver_gpa, offset == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&vq->device_gpa, offset == VIRTIO_PCI_COMMON_Q_USEDHI, value);
		break;
	}
}

/* The driver cannot change a queue that is enabled, or any queue of a device that
 * is up (§4.1.4.3.2): the model's threads read them without a lock. */
static struct virtqueue *writable_queue(struct virtio_pci *dev)
{
	struct virtqueue *vq = selected_queue(dev);

	if (!vq || vq->enabled || (atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK))
		return NULL;
	return vq;
}

static void write_word(struct virtio_pci *dev, uint64_t offset, uint32_t value)
{
	struct virtqueue *vq = writable_queue(dev);

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		dev->device_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		dev->driver_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		if (dev->driver_feature_select < 2 &&
		    !(atomic_load(&dev->status) & VIRTIO_CONFIG_S_FEATURES_OK))
			set_half(&dev->driver_features, dev->driver_feature_select == 1, value);
		break;
	default:
		if (vq)
			write_queue_word(vq, offset, value);
		break;
	}
}

static void write_half(struct virtio_pci *dev, uint64_t offset, uint16_t value)
{
	struct virtqueue *vq = writable_queue(dev);

	switch (offset) {
	case VIRTIO_PCI_COMMON_MSIX:
		msix_set_vector(&dev->msix, 0, value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		dev->queue_select = value;
		break;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		if (selected_queue(dev))
			msix_set_vector(&dev->msix, queue_source(dev->queue_select), value);
		break;
	case VIRTIO_PCI_COMMON_Q_SIZE:
		if (vq)
			write_queue_size(dev, vq, value);
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (vq && value == 1)
			vq->enabled = true;
		break;
	}
}

void virtio_common_write(struct virtio_pci *dev, uint64_t offset, const void *data, unsigned len)
{
	uint32_t value = 0;

	/* §4.1.3.1: every field is written whole, at its own width. */
	if (len > sizeof(value))
		return;
	memcpy(&value, data, len);
	value = le32toh(value);
	if (len == 1 && offset == VIRTIO_PCI_COMMON_STATUS)
		write_status(dev, (uint8_t)value);
	else if (len == 2)
		write_half(dev, offset, (uint16_t)value);
	else if (len == 4)
		write_word(dev, offset, value);
}
