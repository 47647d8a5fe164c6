/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/vcpu_exit.h"

#include <stdio.h>
#include <string.h>

#include "kvm/vcpu.h"

#define INSTRUCTION_BYTES 15
#define HEX_BYTES (3 * INSTRUCTION_BYTES + 1)

static const char *const names[] = {
	[KVM_EXIT_UNKNOWN] = "unknown",
	[KVM_EXIT_EXCEPTION] = "exception",
	[KVM_EXIT_IO] = "io",
	[KVM_EXIT_HYPERCALL] = "hypercall",
	[KVM_EXIT_DEBUG] = "debug",
	[KVM_EXIT_HLT] = "hlt",
	[KVM_EXIT_MMIO] = "mmio",
	[KVM_EXIT_IRQ_WINDOW_OPEN] = "irq_window_open",
	[KVM_EXIT_SHUTDOWN] = "shutdown",
	[KVM_EXIT_FAIL_ENTRY] = "fail_entry",
	[KVM_EXIT_INTR] = "intr",
	[KVM_EXIT_SET_TPR] = "set_tpr",
	[KVM_EXIT_TPR_ACCESS] = "tpr_access",
	[KVM_EXIT_NMI] = "nmi",
	[KVM_EXIT_INTERNAL_ERROR] = "internal_error",
	[KVM_EXIT_SYSTEM_EVENT] = "system_event",
	[KVM_EXIT_IOAPIC_EOI] = "ioapic_eoi",
	[KVM_EXIT_HYPERV] = "hyperv",
	[KVM_EXIT_X86_RDMSR] = "rdmsr",
	[KVM_EXIT_X86_WRMSR] = "wrmsr",
	[KVM_EXIT_DIRTY_RING_FULL] = "dirty_ring_full",
	[KVM_EXIT_X86_BUS_LOCK] = "bus_lock",
	[KVM_EXIT_XEN] = "xen",
};

const char *vcpu_exit_name(unsigned reason)
{
	return reason < sizeof(names) / sizeof(names[0]) ? names[reason] : NULL;
}

static uint64_t read_rip(const struct vcpu_context *vcpu)
{
	struct kvm_regs regs = {0};

	(void)vcpu->calls->ioctl(vcpu->calls, vcpu->fd, KVM_GET_REGS, &regs);
	return regs.rip;
}

static void handle_io(const struct vcpu_context *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	const uint64_t bytes = (uint64_t)run->io.size * run->io.count;
	uint8_t *data = (uint8_t *)vcpu->run + run->io.data_offset;

	/* KVM writes the run area, but a wrong offset would make us read outside of
	 * it. */
	if (run->io.data_offset > vcpu->run_bytes || bytes > vcpu->run_bytes - run->io.data_offset)
		return;
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			bus_read(vcpu->bus, BUS_PORTS, run->io.port, data, run->io.size);
		else
			bus_write(vcpu->bus, BUS_PORTS, run->io.port, data, run->io.size);
	}
}

static void handle_mmio(const struct vcpu_context *vcpu)
{
	struct kvm_run *run = vcpu->run;
	const unsigned len = run->mmio.len;

	if (len == 0 || len > sizeof(run->mmio.data))
		return;
	if (run->mmio.is_write)
		bus_write(vcpu->bus, BUS_MEMORY, run->mmio.phys_addr, run->mmio.data, len);
	else
		bus_read(vcpu->bus, BUS_MEMORY, run->mmio.phys_addr, run->mmio.data, len);
}

static void handle_system_event(const struct vcpu_context *vcpu)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		machine_events_end(vcpu->events, MACHINE_POWEROFF, vcpu->index, "system event");
		break;
	case KVM_SYSTEM_EVENT_RESET:
	case KVM_SYSTEM_EVENT_CRASH:
		machine_events_end(vcpu->events, MACHINE_RESET, vcpu->index, "system event %u",
				   vcpu->run->system_event.type);
		break;
	default:
		machine_events_end(vcpu->events, MACHINE_KVM_ERROR, vcpu->index,
				   "unknown system event %u", vcpu->run->system_event.type);
		break;
	}
}

/* The instruction that KVM could not emulate, if KVM reports it. */
static void format_instruction(const struct kvm_run *run, char hex[HEX_BYTES])
{
	unsigned size = run->emulation_failure.insn_size;

	hex[0] = 0;
	if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION || run->internal.ndata == 0 ||
	    !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
		return;
	if (size > INSTRUCTION_BYTES)
		size = INSTRUCTION_BYTES;
	for (unsigned i = 0; i < size; i++)
		(void)snprintf(hex + 3 * i, 4, " %02x", run->emulation_failure.insn_bytes[i]);
}

static void handle_internal_error(const struct vcpu_context *vcpu)
{
	char hex[HEX_BYTES];

	format_instruction(vcpu->run, hex);
	machine_events_end(vcpu->events, MACHINE_KVM_ERROR, vcpu->index,
			   "KVM internal error %u at rip %#llx%s%s", vcpu->run->internal.suberror,
			   (unsigned long long)read_rip(vcpu), hex[0] ? ", instruction" : "", hex);
}

void vcpu_handle_exit(const struct vcpu_context *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		machine_events_end(vcpu->events, MACHINE_TRIPLE_FAULT, vcpu->index, "rip %#llx",
				   (unsigned long long)read_rip(vcpu));
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		handle_system_event(vcpu);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		handle_internal_error(vcpu);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		machine_events_end(
			vcpu->events, MACHINE_KVM_ERROR, vcpu->index,
			"the processor refused to enter the guest, reason %#llx",
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		/* No other exit is expected: with the interrupt controllers in KVM
		 * even a halt stays there. */
		machine_events_end(vcpu->events, MACHINE_KVM_ERROR, vcpu->index,
				   "unexpected exit %u at rip %#llx", run->exit_reason,
				   (unsigned long long)read_rip(vcpu));
		break;
	}
}

void vcpu_handle_error(const struct vcpu_context *vcpu, int error)
{
	machine_events_end(vcpu->events, MACHINE_KVM_ERROR, vcpu->index, "KVM_RUN: %s at rip %#llx",
			   strerrordesc_np(-error), (unsigned long long)read_rip(vcpu));
}
