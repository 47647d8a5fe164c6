/* SPDX-License-Identifier: Apache-2.0 */
/* For cffi: KVM's user interface of <linux/kvm.h>, whose numbers and layouts come from the
 * header when this is compiled ("..."), and native/src/kvm. */
#include <kvm/ioctl.h>
#include <kvm/prefault.h>
#include <kvm/vcpu.h>
#include <linux/kvm.h>

#define KVM_API_VERSION ...

#define KVM_GET_API_VERSION ...
#define KVM_CREATE_VM ...
#define KVM_CHECK_EXTENSION ...
#define KVM_GET_VCPU_MMAP_SIZE ...
#define KVM_GET_SUPPORTED_CPUID ...
#define KVM_GET_MSR_INDEX_LIST ...

#define KVM_CREATE_VCPU ...
#define KVM_SET_USER_MEMORY_REGION ...
#define KVM_SET_TSS_ADDR ...
#define KVM_SET_IDENTITY_MAP_ADDR ...
#define KVM_CREATE_IRQCHIP ...
#define KVM_IRQFD ...
#define KVM_SET_CLOCK ...
#define KVM_GET_CLOCK ...

#define KVM_GET_REGS ...
#define KVM_SET_REGS ...
#define KVM_GET_SREGS ...
#define KVM_SET_SREGS ...
#define KVM_GET_MSRS ...
#define KVM_SET_MSRS ...
#define KVM_SET_CPUID2 ...
#define KVM_GET_LAPIC ...
#define KVM_SET_LAPIC ...
#define KVM_GET_MP_STATE ...
#define KVM_SET_MP_STATE ...
#define KVM_GET_XSAVE ...
#define KVM_GET_XSAVE2 ...
#define KVM_SET_XSAVE ...
#define KVM_GET_XCRS ...
#define KVM_SET_XCRS ...
#define KVM_GET_DEBUGREGS ...
#define KVM_SET_DEBUGREGS ...
#define KVM_GET_VCPU_EVENTS ...
#define KVM_SET_VCPU_EVENTS ...
#define KVM_GET_IRQCHIP ...
#define KVM_SET_IRQCHIP ...
#define KVM_IRQCHIP_PIC_MASTER ...
#define KVM_IRQCHIP_PIC_SLAVE ...
#define KVM_IRQCHIP_IOAPIC ...
#define KVM_GET_TSC_KHZ ...
#define KVM_SET_TSC_KHZ ...

#define KVM_CAP_IRQCHIP ...
#define KVM_CAP_USER_MEMORY ...
#define KVM_CAP_EXT_CPUID ...
#define KVM_CAP_IRQ_ROUTING ...
#define KVM_CAP_IRQFD ...
#define KVM_CAP_IOEVENTFD ...
#define KVM_CAP_TSC_CONTROL ...
#define KVM_CAP_MAX_VCPUS ...
#define KVM_CAP_TSC_DEADLINE_TIMER ...
#define KVM_CAP_XSAVE2 ...
#define KVM_CAP_IMMEDIATE_EXIT ...

struct kvm_userspace_memory_region {
	uint32_t slot, flags;
	uint64_t guest_phys_addr, memory_size, userspace_addr;
	...;
};

struct kvm_irqfd {
	uint32_t fd, gsi, flags;
	...;
};

struct kvm_clock_data {
	uint64_t clock;
	uint32_t flags;
	...;
};

struct kvm_regs {
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rip, rflags;
	...;
};

struct kvm_segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint8_t type, present, dpl, db, s, l, g, avl, unusable;
	...;
};

struct kvm_dtable {
	uint64_t base;
	uint16_t limit;
	...;
};

struct kvm_sregs {
	struct kvm_segment cs, ds, es, fs, gs, ss;
	struct kvm_segment tr, ldt;
	struct kvm_dtable gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t efer, apic_base;
	...;
};

struct kvm_msr_entry {
	uint32_t index;
	uint64_t data;
	...;
};

struct kvm_msrs {
	uint32_t nmsrs;
	struct kvm_msr_entry entries[];
	...;
};

struct kvm_cpuid_entry2 {
	uint32_t function, index, flags, eax, ebx, ecx, edx;
	...;
};

struct kvm_cpuid2 {
	uint32_t nent;
	struct kvm_cpuid_entry2 entries[];
	...;
};

struct kvm_lapic_state {
	char regs[...];
	...;
};

struct kvm_msr_list {
	uint32_t nmsrs;
	uint32_t indices[];
	...;
};

struct kvm_xcrs {
	...;
};

struct kvm_debugregs {
	...;
};

struct kvm_vcpu_events {
	...;
};

struct kvm_irqchip {
	uint32_t chip_id;
	...;
};

struct kvm_mp_state {
	uint32_t mp_state;
	...;
};

/* --- ioctl.h */

struct kvm_calls {
	...;
};

extern struct kvm_calls kvm_calls;

int kvm_ioctl(int fd, unsigned long request, void *arg);

/* --- prefault.h */

struct prefault_range {
	uint64_t gpa;
	uint64_t len;
	uint64_t written;
};

int guest_memory_prefault(const struct kvm_calls *calls, const struct guest_memory *mem,
			  int vcpu_fd, const struct prefault_range *ranges, unsigned count);
int guest_memory_disable_fault_around(const struct guest_memory *mem);

/* --- vcpu.h */

#define VCPU_MAX_EXIT_REASONS ...

struct vcpu_set;

int vcpu_set_new(const struct kvm_calls *calls, struct bus *bus, struct machine_events *events,
		 struct vcpu_set **ret_set);
int vcpu_set_add(struct vcpu_set *set, int vcpu_fd, size_t run_bytes);
int vcpu_set_start(struct vcpu_set *set);
void vcpu_set_pause(struct vcpu_set *set);
void vcpu_set_resume(struct vcpu_set *set);
void vcpu_set_free(struct vcpu_set *set);
uint64_t vcpu_set_exits(const struct vcpu_set *set, unsigned reason);
const char *vcpu_exit_name(unsigned reason);
