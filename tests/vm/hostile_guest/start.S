/* SPDX-License-Identifier: Apache-2.0 */
/* Entry of both processors.  The first comes here in 64-bit mode, as the boot protocol
 * says, with the zero page in rsi; the second in real mode at TRAMPOLINE. */
#define STACK_BYTES 0x4000
#define TRAMPOLINE 0x10000 /* machine.c has it too */
#define CODE64 0x08
#define DATA 0x10
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define CR0_PAGED 0x80000011

	.section .note.GNU-stack,"",@progbits
	.bss
	.balign 16
	.skip STACK_BYTES
first_stack:
	.skip STACK_BYTES
second_stack:

	.text
	.code64
	.globl _start
_start:
	mov $first_stack, %rsp
	mov %rsi, %rdi
	xor %ebp, %ebp
	call guest_main

second_processor64:
	mov $DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $second_stack, %rsp
	call second_main

/* Copied to TRAMPOLINE; cs is its segment. */
	.code16
	.globl trampoline, trampoline_end
trampoline:
	cli
	lgdtl %cs:(gdt_pointer - trampoline)
	mov $CR4_PAE, %eax
	mov %eax, %cr4
	mov $page_tables, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	rdmsr
	or $EFER_LME, %eax
	wrmsr
	mov $CR0_PAGED, %eax
	mov %eax, %cr0
	ljmpl $CODE64, $second_processor64
	.balign 8
gdt:
	.quad 0
	.quad 0x00af9b000000ffff
	.quad 0x00cf93000000ffff
gdt_pointer:
	.word gdt_pointer - gdt - 1
	.long TRAMPOLINE + gdt - trampoline
trampoline_end:
