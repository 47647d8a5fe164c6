/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/msix.h"

#include <errno.h>
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int set_irqfd(const struct msix *msix, const struct msix_source *source, uint32_t flags)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)source->fd,
		.gsi = source->gsi,
		.flags = flags,
	};

	return msix->calls->ioctl(msix->calls, msix->vm_fd, KVM_IRQFD, &irqfd);
}

int msix_init(struct msix *msix, const struct kvm_calls *calls, int vm_fd,
	      struct irq_routing *routing, unsigned count)
{
	if (count > MSIX_MAX_VECTORS)
		return -EINVAL;
	*msix = (struct msix){.calls = calls, .vm_fd = vm_fd, .routing = routing};
	for (; msix->count < count; msix->count++) {
		struct msix_source *source = &msix->sources[msix->count];
		int r;

		/* §6.8.2.9: every vector is masked after a reset. */
		msix->entries[msix->count].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
		source->vector = MSIX_NO_VECTOR;
		source->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = source->fd < 0 ? -errno : irq_routing_take_gsi(routing, &source->gsi);
		if (r < 0) {
			if (source->fd >= 0)
				close(source->fd);
			msix_destroy(msix);
			return r;
		}
	}
	return 0;
}

static void deassign_irqfd(struct msix *msix, struct msix_source *source)
{
	if (source->assigned)
		(void)set_irqfd(msix, source, KVM_IRQFD_FLAG_DEASSIGN);
	source->assigned = false;
}

void msix_destroy(struct msix *msix)
{
	while (msix->count > 0)
		close(msix->sources[--msix->count].fd);
}

static bool is_open(const struct msix *msix, uint16_t vector)
{
	return msix->enabled && !msix->function_masked && vector < msix->count &&
	       !(msix->entries[vector].control & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static uint64_t address_of(const struct msix_entry *entry)
{
	return (uint64_t)entry->address_hi << 32 | entry->address_lo;
}

static void note_route(struct msix_source *source, const struct msix_entry *entry)
{
	source->routed = true;
	source->address = address_of(entry);
	source->data = entry->data;
}

static int route(struct msix *msix, struct msix_source *source)
{
	const struct msix_entry *entry = &msix->entries[source->vector];
	const uint64_t address = address_of(entry);
	int r;

	if (source->routed && source->address == address && source->data == entry->data)
		return 0;
	r = irq_routing_set(msix->routing, source->gsi, address, entry->data);
	if (r == 0)
		note_route(source, entry);
	return r;
}

void msix_stage_route(struct msix *msix, unsigned index, const struct msix_entry *entry)
{
	struct msix_source *source = &msix->sources[index];

	irq_routing_stage(msix->routing, source->gsi, address_of(entry), entry->data);
	note_route(source, entry);
}

/* A pending count is read before the eventfd becomes an irqfd and is written
 * again afterwards, so that it is neither lost nor shown as pending at the next
 * mask. */
static int assign_irqfd(struct msix *msix, struct msix_source *source)
{
	eventfd_t pending;
	bool was_pending;
	int r;

	r = route(msix, source);
	if (r < 0 || source->assigned)
		return r;
	was_pending = eventfd_read(source->fd, &pending) == 0;
	r = set_irqfd(msix, source, 0);
	if (r >= 0)
		source->assigned = true;
	if (was_pending)
		eventfd_write(source->fd, 1);
	return r < 0 ? r : 0;
}

static void update(struct msix *msix, struct msix_source *source)
{
	int r;

	if (!is_open(msix, source->vector)) {
		deassign_irqfd(msix, source);
		return;
	}
	r = assign_irqfd(msix, source);
	if (r < 0 && msix->error == 0)
		msix->error = r;
}

void msix_set_control(struct msix *msix, bool enabled, bool function_masked)
{
	if (msix->enabled == enabled && msix->function_masked == function_masked)
		return;
	msix->enabled = enabled;
	msix->function_masked = function_masked;
	for (unsigned i = 0; i < msix->count; i++)
		update(msix, &msix->sources[i]);
}

void msix_set_vector(struct msix *msix, unsigned index, uint16_t vector)
{
	struct msix_source *source = &msix->sources[index];
	eventfd_t stale;

	/* Without a vector nothing is pending, as a vector holds the pending bit. */
	if (source->vector == MSIX_NO_VECTOR)
		(void)eventfd_read(source->fd, &stale);
	source->vector = vector < msix->count ? vector : MSIX_NO_VECTOR;
	update(msix, source);
}

void msix_detach(struct msix *msix)
{
	for (unsigned i = 0; i < msix->count; i++)
		msix_set_vector(msix, i, MSIX_NO_VECTOR);
}

static bool in_table(const struct msix *msix, uint64_t offset, unsigned len)
{
	const uint64_t bytes = msix->count * sizeof(struct msix_entry);

	return offset < bytes && len <= bytes - offset;
}

void msix_read_table(const struct msix *msix, uint64_t offset, void *data, unsigned len)
{
	if (in_table(msix, offset, len))
		memcpy(data, (const uint8_t *)msix->entries + offset, len);
	else
		memset(data, 0, len);
}

void msix_write_table(struct msix *msix, uint64_t offset, const void *data, unsigned len)
{
	const uint16_t vector = (uint16_t)(offset / sizeof(struct msix_entry));

	/* §6.8.2: whole, aligned DWORDs and QWORDs; so never two entries at once. */
	if (!in_table(msix, offset, len) || (len != 4 && len != 8) || offset % len != 0)
		return;
	memcpy((uint8_t *)msix->entries + offset, data, len);
	for (unsigned i = 0; i < msix->count; i++)
		if (msix->sources[i].vector == vector)
			update(msix, &msix->sources[i]);
}

static bool is_pending(const struct msix_source *source)
{
	struct pollfd p = {.fd = source->fd, .events = POLLIN};

	return !source->assigned && poll(&p, 1, 0) == 1;
}

void msix_read_pending(const struct msix *msix, uint64_t offset, void *data, unsigned len)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < msix->count; i++) {
		const struct msix_source *source = &msix->sources[i];

		if (source->vector < msix->count && is_pending(source))
			bits |= 1ULL << source->vector;
	}
	memset(data, 0, len);
	if (offset < sizeof(bits) && len <= sizeof(bits) - offset)
		memcpy(data, (const uint8_t *)&bits + offset, len);
}
