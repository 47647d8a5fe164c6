/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/pci.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "virtio/common.h"

/* --- life ---------------------------------------------------------------- */

static int check_description(const struct pci_device_description *d)
{
	if (d->queue_count == 0 || d->queue_count > VIRTIO_PCI_MAX_QUEUES ||
	    d->config_bytes > VIRTIO_PCI_MAX_CONFIG_BYTES || d->class_code >> 24 != 0 ||
	    d->bar_gpa % PCI_BAR_BYTES != 0)
		return -EINVAL;
	for (unsigned i = 0; i < d->queue_count; i++) {
		const uint16_t size = d->queue_sizes[i];

		if (size == 0 || size > VIRTQUEUE_MAX_SIZE || (size & (size - 1)) != 0)
			return -EINVAL;
	}
	return 0;
}

static int open_queues(struct virtio_pci *dev)
{
	for (unsigned i = 0; i < dev->description.queue_count; i++) {
		dev->queues[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (dev->queues[i].kick_fd < 0)
			return -errno;
		dev->queues[i].call_fd = dev->msix.sources[i + 1].fd;
	}
	return 0;
}

static void close_all(struct virtio_pci *dev)
{
	for (unsigned i = 0; i < dev->description.queue_count; i++)
		if (dev->queues[i].kick_fd >= 0)
			close(dev->queues[i].kick_fd);
	msix_destroy(&dev->msix);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

/* The model's threads: `transport` is the device. */
static void on_needs_reset(void *transport)
{
	virtio_common_break(transport, "the driver broke the protocol");
}

int virtio_pci_new(const struct virtio_pci_machine *machine,
		   const struct pci_device_description *description, struct virtio_device *model,
		   struct virtio_pci **ret_device)
{
	struct virtio_pci *dev;
	int r = check_description(description);

	if (r < 0)
		return r;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	dev->machine = *machine;
	dev->description = *description;
	dev->assigned_gpa = PCI_BAR_OFF;
	pthread_mutex_init(&dev->lock, NULL);
	for (unsigned i = 0; i < description->queue_count; i++)
		dev->queues[i].kick_fd = -1;
	r = msix_init(&dev->msix, machine->calls, machine->vm_fd, machine->routing,
		      description->queue_count + 1);
	if (r == 0)
		r = open_queues(dev);
	if (r < 0) {
		close_all(dev);
		return r;
	}
	pci_config_init(&dev->config, description->virtio_type, description->class_code,
			description->bar_gpa, description->queue_count, description->config_bytes);
	atomic_store(&dev->bar_gpa, pci_config_decode(&dev->config).bar_gpa);
	virtio_common_reset(dev);
	dev->model = model;
	model->transport = dev;
	model->needs_reset = on_needs_reset;
	*ret_device = dev;
	return 0;
}

void virtio_pci_stop(struct virtio_pci *dev)
{
	const struct virtio_device_ops *ops = dev->model->ops;

	pthread_mutex_lock(&dev->lock);
	if (dev->active)
		(ops->stop ? ops->stop : ops->reset)(dev->model);
	dev->active = false;
	pthread_mutex_unlock(&dev->lock);
}

static int set_ioeventfd(const struct virtio_pci *dev, unsigned queue, uint64_t bar_gpa,
			 uint32_t flags)
{
	struct kvm_ioeventfd ioeventfd = {
		.addr = bar_gpa + PCI_BAR_NOTIFY + queue * PCI_NOTIFY_MULTIPLIER,
		.len = 0, /* any width: §4.1.5.2 allows 16 and 32 bits */
		.fd = dev->queues[queue].kick_fd,
		.flags = flags,
	};

	return dev->machine.calls->ioctl(dev->machine.calls, dev->machine.vm_fd, KVM_IOEVENTFD,
					 &ioeventfd);
}

static void deassign_ioeventfds(struct virtio_pci *dev)
{
	if (dev->assigned_gpa == PCI_BAR_OFF)
		return;
	for (unsigned i = 0; i < dev->description.queue_count; i++)
		if (dev->assigned >> i & 1)
			(void)set_ioeventfd(dev, i, dev->assigned_gpa, KVM_IOEVENTFD_FLAG_DEASSIGN);
	dev->assigned = 0;
	dev->assigned_gpa = PCI_BAR_OFF;
}

void virtio_pci_place_notifications(struct virtio_pci *dev)
{
	const uint64_t wanted = dev->active ? atomic_load(&dev->bar_gpa) : PCI_BAR_OFF;

	if (wanted == dev->assigned_gpa)
		return;
	deassign_ioeventfds(dev);
	dev->assigned_gpa = wanted;
}

/* If KVM refuses, notifications still come as exits: slower, but correct. */
static void assign_ioeventfd(struct virtio_pci *dev, unsigned queue)
{
	if (dev->assigned_gpa == PCI_BAR_OFF || dev->assigned >> queue & 1)
		return;
	if (set_ioeventfd(dev, queue, dev->assigned_gpa, 0) >= 0)
		dev->assigned |= 1U << queue;
}

void virtio_pci_free(struct virtio_pci *dev)
{
	if (!dev)
		return;
	virtio_pci_stop(dev);
	dev->model->ops->destroy(dev->model);
	close_all(dev);
}

/* --- for the host -------------------------------------------------------- */

int virtio_pci_set_config(struct virtio_pci *dev, unsigned offset, const void *data, unsigned len)
{
	struct pci_device_description *d = &dev->description;

	if (offset > d->config_bytes || len > d->config_bytes - offset)
		return -EINVAL;
	pthread_mutex_lock(&dev->lock);
	memcpy(d->config + offset, data, len);
	dev->config_generation++;
	virtio_common_config_changed(dev);
	pthread_mutex_unlock(&dev->lock);
	return 0;
}

void virtio_pci_read_counters(struct virtio_pci *dev, struct pci_device_counters *ret_counters)
{
	pthread_mutex_lock(&dev->lock);
	*ret_counters = dev->counters;
	for (unsigned i = 0; i < dev->description.queue_count; i++) {
		const struct virtqueue *vq = &dev->queues[i];

		/* Written by the model's threads, which take no lock. */
		ret_counters->chains += __atomic_load_n(&vq->pops, __ATOMIC_RELAXED);
		ret_counters->signals += __atomic_load_n(&vq->signals, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&dev->lock);
}

/* --- the BAR ------------------------------------------------------------- */

static void read_device_config(const struct virtio_pci *dev, uint64_t offset, void *data,
			       unsigned len)
{
	const unsigned bytes = dev->description.config_bytes;

	memset(data, 0, len);
	for (unsigned i = 0; i < len && offset + i < bytes; i++)
		((uint8_t *)data)[i] = dev->description.config[offset + i];
}

/* §4.1.4.5: reading acknowledges. */
static void read_isr(struct virtio_pci *dev, uint64_t offset, void *data, unsigned len)
{
	memset(data, 0, len);
	if (offset == 0)
		*(uint8_t *)data = atomic_exchange(&dev->isr, 0);
}

static void read_bar_locked(struct virtio_pci *dev, uint64_t offset, void *data, unsigned len)
{
	const uint64_t within = offset % PCI_BAR_PAGE;

	switch (offset - within) {
	case PCI_BAR_COMMON:
		virtio_common_read(dev, within, data, len);
		break;
	case PCI_BAR_ISR:
		read_isr(dev, within, data, len);
		break;
	case PCI_BAR_DEVICE:
		read_device_config(dev, within, data, len);
		break;
	case PCI_BAR_TABLE:
		msix_read_table(&dev->msix, within, data, len);
		break;
	case PCI_BAR_PENDING:
		msix_read_pending(&dev->msix, within, data, len);
		break;
	default:
		memset(data, 0, len);
		break;
	}
}

/* A notification that did not come by ioeventfd: a queue's first one, one through
 * the window in configuration space, or one before DRIVER_OK. */
static void notify(struct virtio_pci *dev, uint64_t offset)
{
	const uint64_t queue = offset / PCI_NOTIFY_MULTIPLIER;

	if (offset % PCI_NOTIFY_MULTIPLIER != 0 || queue >= dev->description.queue_count)
		return;
	dev->counters.notify_exits++;
	assign_ioeventfd(dev, (unsigned)queue);
	eventfd_write(dev->queues[queue].kick_fd, 1);
}

static void write_bar_locked(struct virtio_pci *dev, uint64_t offset, const void *data,
			     unsigned len)
{
	const uint64_t within = offset % PCI_BAR_PAGE;

	switch (offset - within) {
	case PCI_BAR_COMMON:
		virtio_common_write(dev, within, data, len);
		virtio_pci_place_notifications(dev);
		break;
	case PCI_BAR_NOTIFY:
		notify(dev, within);
		break;
	case PCI_BAR_TABLE:
		msix_write_table(&dev->msix, within, data, len);
		break;
	default: /* the device configuration has no field that a driver may write */
		break;
	}
}

static void check_interrupts(struct virtio_pci *dev)
{
	if (dev->msix.error == 0)
		return;
	dev->msix.error = 0;
	virtio_common_break(dev, "KVM refused an interrupt of the driver's");
}

void virtio_pci_bar_read(struct virtio_pci *dev, uint64_t offset, void *data, unsigned len)
{
	pthread_mutex_lock(&dev->lock);
	read_bar_locked(dev, offset, data, len);
	pthread_mutex_unlock(&dev->lock);
}

void virtio_pci_bar_write(struct virtio_pci *dev, uint64_t offset, const void *data, unsigned len)
{
	pthread_mutex_lock(&dev->lock);
	write_bar_locked(dev, offset, data, len);
	check_interrupts(dev);
	pthread_mutex_unlock(&dev->lock);
}

/* --- configuration space ------------------------------------------------- */

static bool touches_window(const struct pci_bar_window *window, uint64_t offset, unsigned len)
{
	return window->len > 0 && offset < window->data_at + 4 && offset + len > window->data_at;
}

void virtio_pci_config_read(struct virtio_pci *dev, uint64_t offset, void *data, unsigned len)
{
	struct pci_bar_window window;

	pthread_mutex_lock(&dev->lock);
	window = pci_config_window(&dev->config);
	if (touches_window(&window, offset, len))
		read_bar_locked(dev, window.offset, dev->config.bytes + window.data_at, window.len);
	pci_config_read(&dev->config, offset, data, len);
	pthread_mutex_unlock(&dev->lock);
}

void virtio_pci_config_write(struct virtio_pci *dev, uint64_t offset, const void *data,
			     unsigned len)
{
	struct pci_decoded decoded;
	struct pci_bar_window window;

	pthread_mutex_lock(&dev->lock);
	pci_config_write(&dev->config, offset, data, len);
	window = pci_config_window(&dev->config);
	if (touches_window(&window, offset, len))
		write_bar_locked(dev, window.offset, dev->config.bytes + window.data_at,
				 window.len);
	decoded = pci_config_decode(&dev->config);
	msix_set_control(&dev->msix, decoded.msix_enabled, decoded.msix_masked);
	atomic_store(&dev->bar_gpa, decoded.bar_gpa);
	virtio_pci_place_notifications(dev);
	check_interrupts(dev);
	pthread_mutex_unlock(&dev->lock);
}
