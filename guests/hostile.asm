# hostile: tries to get out of its virtual machine, to its hypervisor's memory and past its rings, and reports each refusal.
#
#   qemu-system-x86_64 -cpu qemu64,-svm -kernel hostile.bin -serial stdio
#
# A refusal is an exception, or an answer that gives nothing away ("nothing there", "ignored"). Whatever just works is
# printed as ESCAPED. The last line is "contained", followed by a power-off, or the number of escapes and a debug exit.

.include "long.inc"
.include "text.inc"
.include "try.inc"

.equ STAR, 0xc0000081
.equ LSTAR, 0xc0000082
.equ EFER_SVME, 1 << 12
.equ VM_CR, 0xc0010114
.equ VM_HSAVE_PA, 0xc0010117
.equ WINDOW, 2 << 30            # virtual address that we map to where no memory is
.equ BEYOND, 0x7f00000000       # physical: 508 GiB
.equ NOT_CANONICAL, 0x0000800000000000

.equ HARMLESS, 0xfe             # results of a try, beside OK and the vectors

.macro refuse name, what        # an exception is what we expect
    attempt \name, {\what}
    call judge
.endm

.macro in_ring_3 what           # the instruction runs at USER + its address; a SYSCALL says that it was not refused
    attempt "ring 3: \what", {call go_to_ring_3; \what; syscall}
    call judge
.endm

main:
    call catch_exceptions
    mov qword ptr [ok_text], escaped
    mov qword ptr [handlers + IRQ_BASE*8], on_interrupt
    mov ecx, STAR
    xor eax, eax
    mov edx, SYSRET_BASE << 16 | KERNEL_CODE
    wrmsr
    mov ecx, LSTAR
    mov eax, end_try
    xor edx, edx
    wrmsr

    say "--- be a hypervisor\n"
    call svm_instructions
    mov ecx, EFER
    refuse "set EFER.SVME", {rdmsr; or eax, EFER_SVME; wrmsr; rdmsr; and eax, EFER_SVME; jz ignored}
    call svm_instructions
    mov ecx, VM_CR
    refuse "read VM_CR", {rdmsr; or eax, edx; jz nothing_there}
    mov ecx, VM_HSAVE_PA
    refuse "read VM_HSAVE_PA", {rdmsr; or eax, edx; jz nothing_there}
    refuse "set VM_HSAVE_PA and run", {xor edx, edx; mov eax, 0x5000; wrmsr; vmrun}

    say "--- registers that are not there\n"
    mov ecx, 0x12345678
    refuse "read an unknown MSR", {rdmsr; or eax, edx; jz nothing_there}
    mov ecx, 0x4b564d00         # KVM's clock: would make the host write into memory
    refuse "set another hypervisor's MSR", {xor edx, edx; mov eax, 0x5001; wrmsr; rdmsr; or eax, edx; jz ignored}
    mov ecx, 0x40000000         # Hyper-V's
    refuse "set a third hypervisor's MSR", {xor edx, edx; mov eax, 0x5001; wrmsr; rdmsr; or eax, edx; jz ignored}
    mov eax, 0x40000000         # QEMU's TCG (7.2) does not refuse the next two and dies of them: not there
    cpuid
    cmp ebx, 0x54474354         # "TCGT"
    je .qemu
    refuse "set reserved bits of CR4", {mov rax, cr4; bts rax, 31; mov cr4, rax; mov rax, cr4; bt rax, 31; jnc ignored}
    refuse "turn PAE off in long mode", {mov rax, cr4; btr rax, 5; mov cr4, rax; mov rax, cr4; bt rax, 5; jc ignored}
.qemu:
    refuse "set reserved bits of CR0", {mov rax, cr0; bts rax, 40; mov cr0, rax; mov rax, cr0; bt rax, 40; jnc ignored}

    say "--- memory that is not ours\n"
    mov rax, BEYOND + 0x83      # a 2 MiB page behind the end of memory
    mov [window_directory], rax
    mov qword ptr [pdpt + 2*8], window_directory + 3
    mov edi, WINDOW
    refuse "read beyond RAM", {mov rax, [rdi]; inc rax; cmp rax, 1; jbe nothing_there}
    mov rbx, 0x1122334455667788
    refuse "write beyond RAM", {mov [rdi], rbx; cmp [rdi], rbx; jne ignored}
    refuse "increment beyond RAM", {mov [rdi], rbx; inc qword ptr [rdi]; inc rbx; cmp [rdi], rbx; jne ignored}
    refuse "call beyond RAM", {call rdi}
    mov rax, 0x000fff0000000083 # bits 51:40: above any physical address we were told of
    mov [window_directory + 8], rax
    lea rbx, [rdi + (2 << 20)]
    refuse "map with reserved address bits", {mov rax, [rbx]}
    mov rax, BEYOND + 0x1003    # a page table where no memory is
    mov [window_directory + 16], rax
    lea rbx, [rdi + (4 << 20)]
    refuse "a page table beyond RAM", {mov rax, [rbx]}
    refuse "write through that table", {mov [rbx], rax}
    mov rbx, NOT_CANONICAL
    refuse "read at a non-canonical address", {mov rax, [rbx]}
    refuse "jump to a non-canonical address", {jmp rbx}
    mov qword ptr [task + 36], interrupt_stack_top  # IST 1: a stack fault needs another stack to be reported on
    mov byte ptr [idt + 12*16 + 4], 1               # (#SS is right; QEMU's TCG raises #GP)
    mov byte ptr [idt + 13*16 + 4], 1
    refuse "push to a non-canonical stack", {lea rsp, [rbx + 64]; push rax}

    say "--- out of ring 3\n"
    in_ring_3 {in al, 0x80}
    in_ring_3 {out 0x80, al}
    mov edx, 0xcf9              # a reset, if it works
    mov eax, 6
    in_ring_3 {out dx, al}
    mov edi, user_buffer + USER
    mov ecx, 1
    in_ring_3 {rep insb}
    in_ring_3 {cli}
    in_ring_3 {sti}
    in_ring_3 {hlt}
    in_ring_3 {mov rax, cr0}
    in_ring_3 {mov cr3, rax}
    in_ring_3 {mov dr7, rax}
    in_ring_3 {clts}
    in_ring_3 {lmsw ax}
    in_ring_3 {lgdt [rel user_buffer]}
    in_ring_3 {lidt [rel user_buffer]}
    in_ring_3 {ltr ax}
    in_ring_3 {lldt ax}
    in_ring_3 {invlpg [rel user_buffer]}
    in_ring_3 {wbinvd}
    mov ecx, EFER
    in_ring_3 {rdmsr}
    in_ring_3 {wrmsr}
    in_ring_3 {swapgs}
    in_ring_3 {sysretq}
    in_ring_3 {int 0x20}        # a gate for ring 0
    in_ring_3 {vmrun}
    mov eax, KERNEL_DATA
    in_ring_3 {mov ss, ax}
    mov ebx, gdt
    in_ring_3 {mov rax, [rbx]}
    in_ring_3 {mov qword ptr [rbx], 0}
    in_ring_3 {jmp rbx}
    attempt "ring 3: popfq with IOPL 3", {call go_to_ring_3; push 0x3002; popfq; in al, 0x80; syscall}
    call judge

    cmp qword ptr [escapes], 0
    jne failed
    mov rax, [tries]
    call print_decimal
    say " attempts, contained\n"
    ret                         # to a power-off
failed:
    mov rax, [escapes]
    call print_decimal
    say " escapes\n"
    mov al, 1
    jmp debug_exit

svm_instructions:               # all of them take an address in RAX
    mov eax, 0x5000
    refuse "vmrun", {vmrun}
    mov eax, 0x5000
    refuse "vmload", {vmload}
    mov eax, 0x5000
    refuse "vmsave", {vmsave}
    refuse "stgi", {stgi}
    refuse "clgi", {clgi}
    mov eax, 0x5000
    refuse "skinit", {skinit}
    xor ecx, ecx
    refuse "invlpga", {invlpga}
    ret

# After a try: AL = OK means that nothing stopped it.
judge:
    cmp al, OK
    jne .refused
    inc qword ptr [escapes]
.refused:
    ret

ignored:
    mov [try_rsi], rsi
    mov rsi, ignored_text
    mov al, HARMLESS
    jmp end_try_with_text
nothing_there:
    mov [try_rsi], rsi
    mov rsi, nothing_text
    mov al, HARMLESS
    jmp end_try_with_text

# Return to our caller in ring 3, at its address there. Every register but RSP is kept.
go_to_ring_3:
    push rax
    mov rax, [rsp + 8]
    add rax, USER
    mov [user_rip], rax
    mov eax, user_stack_top + USER
    mov [user_rsp], rax
    pop rax
    push USER_DATA
    push qword ptr [user_rsp]
    push 2                      # interrupts off, IOPL 0
    push USER_CODE
    push qword ptr [user_rip]
    iretq

on_interrupt:
    mov rax, rdi
    ret

escaped:
    .asciz "ESCAPED"
ignored_text:
    .asciz "ignored"
nothing_text:
    .asciz "nothing there"

    .align 16
user_rip:
    .qword 0
user_rsp:
    .qword 0
escapes:
    .qword 0
user_buffer:
    .skip 64
    .skip 512
user_stack_top:

.include "long_bss.inc"
    .align 4096
window_directory:
    .skip 4096
memory_end:
