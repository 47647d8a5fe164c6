/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with one virtio device of no type, a fake KVM that records calls, and
 * the driver's accesses to both: reads and writes of the bus. */
#ifndef SAMPAN_TESTS_PCI_DRIVER_H
#define SAMPAN_TESTS_PCI_DRIVER_H

#include <errno.h>
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

#include "check.h"
#include "platform/bus.h"
#include "virtio/pci_window.h"

#define ECAM_GPA 0xe0000000u
#define WINDOW_GPA 0xc0000000u
#define WINDOW_BYTES 0x20000000u
#define BAR_GPA (WINDOW_GPA + 3 * PCI_BAR_BYTES)
#define SLOT 3
#define QUEUES 2
#define VECTORS (QUEUES + 1)
#define OWN_FEATURES (1ULL << 5 | 1ULL << 40)
#define RAM_BYTES 0x100000u
#define QUEUE_GPA(index) (0x10000u * ((index) + 1))

/* --- a fake KVM that records calls ---------------------------------------- */

#define MAX_NOTES 64

struct fake_kvm {
	struct kvm_calls calls; /* first */
	pthread_mutex_t lock;
	int vm_fd;
	unsigned irqfd_count, ioeventfd_count;
	struct kvm_irqfd irqfds[MAX_NOTES];	    /* those assigned now */
	struct kvm_ioeventfd ioeventfds[MAX_NOTES]; /* likewise */
	unsigned routes;			    /* entries of the latest table */
	struct kvm_irq_routing_entry table[MAX_NOTES];
	unsigned routings; /* KVM_SET_GSI_ROUTING calls */
	bool quiet;	   /* an eventfd that becomes an irqfd must hold nothing */
	int refuse_routing, refuse_ioeventfd; /* -errno to return */
};

static inline int note_irqfd(struct fake_kvm *kvm, const struct kvm_irqfd *irqfd)
{
	for (unsigned i = 0; i < kvm->irqfd_count; i++) {
		if (kvm->irqfds[i].fd != irqfd->fd)
			continue;
		CHECK_EQUAL(kvm->irqfds[i].gsi, irqfd->gsi);
		if (!(irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN))
			return -EBUSY;
		kvm->irqfds[i] = kvm->irqfds[--kvm->irqfd_count];
		return 0;
	}
	CHECK(!(irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN));
	CHECK(kvm->irqfd_count < MAX_NOTES);
	CHECK(!kvm->quiet || !is_readable((int)irqfd->fd));
	kvm->irqfds[kvm->irqfd_count++] = *irqfd;
	return 0;
}

static inline int note_ioeventfd(struct fake_kvm *kvm, const struct kvm_ioeventfd *ioeventfd)
{
	if (kvm->refuse_ioeventfd)
		return kvm->refuse_ioeventfd;
	for (unsigned i = 0; i < kvm->ioeventfd_count; i++) {
		if (kvm->ioeventfds[i].addr != ioeventfd->addr)
			continue;
		if (!(ioeventfd->flags & KVM_IOEVENTFD_FLAG_DEASSIGN))
			return -EEXIST;
		kvm->ioeventfds[i] = kvm->ioeventfds[--kvm->ioeventfd_count];
		return 0;
	}
	if (ioeventfd->flags & KVM_IOEVENTFD_FLAG_DEASSIGN)
		return -ENOENT;
	CHECK_EQUAL(ioeventfd->len, 0);
	CHECK_EQUAL(ioeventfd->flags, 0);
	CHECK(kvm->ioeventfd_count < MAX_NOTES);
	kvm->ioeventfds[kvm->ioeventfd_count++] = *ioeventfd;
	return 0;
}

static inline int note_routing(struct fake_kvm *kvm, const struct kvm_irq_routing *routing)
{
	kvm->routings++;
	if (kvm->refuse_routing)
		return kvm->refuse_routing;
	CHECK(routing->nr <= MAX_NOTES);
	kvm->routes = routing->nr;
	memcpy(kvm->table, routing->entries, routing->nr * sizeof(kvm->table[0]));
	return 0;
}

static inline int fake_ioctl(const struct kvm_calls *calls, int fd, unsigned long request,
			     void *arg)
{
	struct fake_kvm *kvm = (struct fake_kvm *)calls;
	int r = -ENOTTY;

	pthread_mutex_lock(&kvm->lock);
	CHECK_EQUAL(fd, kvm->vm_fd);
	if (request == KVM_IRQFD)
		r = note_irqfd(kvm, arg);
	else if (request == KVM_IOEVENTFD)
		r = note_ioeventfd(kvm, arg);
	else if (request == KVM_SET_GSI_ROUTING)
		r = note_routing(kvm, arg);
	pthread_mutex_unlock(&kvm->lock);
	return r;
}

static inline void fake_kvm_init(struct fake_kvm *kvm)
{
	memset(kvm, 0, sizeof(*kvm));
	kvm->calls.ioctl = fake_ioctl;
	kvm->vm_fd = 77;
	pthread_mutex_init(&kvm->lock, NULL);
}

static inline bool is_irqfd(const struct fake_kvm *kvm, int fd)
{
	for (unsigned i = 0; i < kvm->irqfd_count; i++)
		if ((int)kvm->irqfds[i].fd == fd)
			return true;
	return false;
}

/* The message that a write to this eventfd sends. */
static inline const struct kvm_irq_routing_msi *message_of(const struct fake_kvm *kvm, int fd)
{
	for (unsigned i = 0; i < kvm->irqfd_count; i++) {
		if ((int)kvm->irqfds[i].fd != fd)
			continue;
		for (unsigned j = 0; j < kvm->routes; j++)
			if (kvm->table[j].gsi == kvm->irqfds[i].gsi) {
				CHECK_EQUAL(kvm->table[j].type, KVM_IRQ_ROUTING_MSI);
				return &kvm->table[j].u.msi;
			}
	}
	return NULL;
}

/* --- a device of no kind ------------------------------------------------------ */

struct model {
	struct virtio_device virtio;
	unsigned activations, resets, destroyed;
	int refuse; /* -errno that activate returns */
	struct virtqueue *queues;
	unsigned count;
	uint64_t features;
};

static inline int model_activate(struct virtio_device *dev, struct virtqueue *queues,
				 unsigned count, uint64_t features)
{
	struct model *m = (struct model *)dev;

	m->activations++;
	m->queues = queues;
	m->count = count;
	m->features = features;
	return m->refuse;
}

static inline void model_reset(struct virtio_device *dev)
{
	((struct model *)dev)->resets++;
}

static inline void model_destroy(struct virtio_device *dev)
{
	((struct model *)dev)->destroyed++;
}

static const struct virtio_device_ops model_ops = {
	.activate = model_activate,
	.reset = model_reset,
	.destroy = model_destroy,
};

/* --- the machine ---------------------------------------------------------- */

struct machine {
	struct fake_kvm kvm;
	struct guest_memory mem;
	uint8_t *ram;
	struct machine_events *events;
	struct bus *bus;
	struct pci_window *window;
	struct model model;
};

static inline struct pci_device_description describe(void)
{
	return (struct pci_device_description){
		.name = "nothing",
		.virtio_type = 42,
		.class_code = 0x018000,
		.features = OWN_FEATURES,
		.queue_count = QUEUES,
		.queue_sizes = {256, 64},
		.config_bytes = 12,
		.config = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
		.bar_gpa = BAR_GPA,
	};
}

static inline void machine_setup(struct machine *m)
{
	const struct pci_device_description description = describe();

	memset(m, 0, sizeof(*m));
	fake_kvm_init(&m->kvm);
	m->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(m->ram != MAP_FAILED);
	CHECK_EQUAL(guest_memory_add(&m->mem, 0, RAM_BYTES, m->ram), 0);
	CHECK_EQUAL(machine_events_new(&m->events), 0);
	CHECK_EQUAL(bus_new(&m->bus), 0);
	CHECK_EQUAL(
		pci_window_new(&m->kvm.calls, m->kvm.vm_fd, true, &m->mem, m->events, &m->window),
		0);
	m->model.virtio.ops = &model_ops;
	CHECK_EQUAL(pci_window_add(m->window, SLOT, &description, &m->model.virtio), 0);
	CHECK_EQUAL(pci_window_attach_ecam(m->window, m->bus, ECAM_GPA), 0);
	CHECK_EQUAL(pci_window_attach_memory(m->window, m->bus, WINDOW_GPA, WINDOW_BYTES), 0);
}

/* Ioeventfds and irqfds go with the VM, without a call for each. */
static inline void machine_teardown(struct machine *m)
{
	const unsigned wired = m->kvm.irqfd_count + m->kvm.ioeventfd_count;

	pci_window_free(m->window);
	CHECK_EQUAL(m->kvm.irqfd_count + m->kvm.ioeventfd_count, wired);
	CHECK_EQUAL(m->model.destroyed, 1);
	bus_free(m->bus);
	machine_events_free(m->events);
	munmap(m->ram, RAM_BYTES);
}

/* --- accesses ------------------------------------------------------------- */

static inline uint64_t read_at(struct machine *m, uint64_t gpa, unsigned len)
{
	uint64_t value = 0;

	bus_read(m->bus, BUS_MEMORY, gpa, &value, len);
	return value;
}

static inline void write_at(struct machine *m, uint64_t gpa, uint64_t value, unsigned len)
{
	bus_write(m->bus, BUS_MEMORY, gpa, &value, len);
}

static inline uint64_t config_gpa(unsigned offset)
{
	return ECAM_GPA + SLOT * 0x8000 + offset;
}

static inline uint32_t config_read(struct machine *m, unsigned offset, unsigned len)
{
	return (uint32_t)read_at(m, config_gpa(offset), len);
}

static inline void config_write(struct machine *m, unsigned offset, uint32_t value, unsigned len)
{
	write_at(m, config_gpa(offset), value, len);
}

static inline uint64_t bar_read(struct machine *m, unsigned offset, unsigned len)
{
	return read_at(m, BAR_GPA + offset, len);
}

static inline void bar_write(struct machine *m, unsigned offset, uint64_t value, unsigned len)
{
	write_at(m, BAR_GPA + offset, value, len);
}

#define COMMON_WIDTH(field) sizeof(((struct virtio_pci_common_cfg *)NULL)->field)
#define COMMON(m, field)                                                                           \
	bar_read(m, PCI_BAR_COMMON + offsetof(struct virtio_pci_common_cfg, field),                \
		 COMMON_WIDTH(field))
#define SET_COMMON(m, field, value)                                                                \
	bar_write(m, PCI_BAR_COMMON + offsetof(struct virtio_pci_common_cfg, field), value,        \
		  COMMON_WIDTH(field))

/* The capability with this id; for the vendor's id, the one of the virtio type. */
static inline unsigned find_capability(struct machine *m, uint8_t id, uint8_t type)
{
	unsigned at = config_read(m, PCI_CAPABILITY_LIST, 1);

	for (unsigned i = 0; at != 0; i++, at = config_read(m, at + PCI_CAP_LIST_NEXT, 1)) {
		CHECK(i < 48);
		CHECK(at >= 0x40 && at % 4 == 0);
		if (config_read(m, at, 1) == id &&
		    (id != PCI_CAP_ID_VNDR ||
		     config_read(m, at + offsetof(struct virtio_pci_cap, cfg_type), 1) == type))
			return at;
	}
	return 0;
}

/* --- what a driver does in order (§3.1.1) --------------------------------- */

static inline uint64_t read_features(struct machine *m)
{
	uint64_t features;

	SET_COMMON(m, device_feature_select, 0);
	features = COMMON(m, device_feature);
	SET_COMMON(m, device_feature_select, 1);
	return features | COMMON(m, device_feature) << 32;
}

static inline void accept_features(struct machine *m, uint64_t features)
{
	SET_COMMON(m, guest_feature_select, 0);
	SET_COMMON(m, guest_feature, (uint32_t)features);
	SET_COMMON(m, guest_feature_select, 1);
	SET_COMMON(m, guest_feature, features >> 32);
}

static inline void set_queue(struct machine *m, uint16_t index, uint16_t size)
{
	SET_COMMON(m, queue_select, index);
	SET_COMMON(m, queue_size, size);
	SET_COMMON(m, queue_desc_lo, QUEUE_GPA(index));
	SET_COMMON(m, queue_desc_hi, 0);
	SET_COMMON(m, queue_avail_lo, QUEUE_GPA(index) + 0x4000);
	SET_COMMON(m, queue_avail_hi, 0);
	SET_COMMON(m, queue_used_lo, QUEUE_GPA(index) + 0x8000);
	SET_COMMON(m, queue_used_hi, 0);
	SET_COMMON(m, queue_enable, 1);
}

#define UP_TO_DRIVER (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define UP_TO_FEATURES (UP_TO_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define UP (UP_TO_FEATURES | VIRTIO_CONFIG_S_DRIVER_OK)

static inline void negotiate(struct machine *m, uint64_t features)
{
	SET_COMMON(m, device_status, 0);
	SET_COMMON(m, device_status, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	SET_COMMON(m, device_status, UP_TO_DRIVER);
	accept_features(m, features);
	SET_COMMON(m, device_status, UP_TO_FEATURES);
}

static inline void bring_up(struct machine *m)
{
	negotiate(m, read_features(m));
	CHECK_EQUAL(COMMON(m, device_status), UP_TO_FEATURES);
	for (uint16_t i = 0; i < QUEUES; i++)
		set_queue(m, i, 16);
	SET_COMMON(m, device_status, UP);
}

/* --- MSI-X as a driver sets it up ----------------------------------------- */

static inline unsigned msix_flags_at(struct machine *m)
{
	return find_capability(m, PCI_CAP_ID_MSIX, 0) + PCI_MSIX_FLAGS;
}

static inline void write_vector(struct machine *m, unsigned vector, uint64_t address, uint32_t data,
				uint32_t control)
{
	const unsigned at = PCI_BAR_TABLE + vector * PCI_MSIX_ENTRY_SIZE;

	bar_write(m, at + PCI_MSIX_ENTRY_LOWER_ADDR, (uint32_t)address, 4);
	bar_write(m, at + PCI_MSIX_ENTRY_UPPER_ADDR, address >> 32, 4);
	bar_write(m, at + PCI_MSIX_ENTRY_DATA, data, 4);
	bar_write(m, at + PCI_MSIX_ENTRY_VECTOR_CTRL, control, 4);
}

#endif
