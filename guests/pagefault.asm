# pagefault: demand paging; 64 pages get their memory only when they are touched, by the #PF handler.
#
#   qemu-system-x86_64 -kernel pagefault.bin -serial stdio

.include "long.inc"
.include "text.inc"

.equ REGION, 2 << 30            # virtual address of the region: nothing is mapped there at first
.equ PAGES, 64
.equ ERROR_WRITE, 1 << 1        # bits of a page fault's error code
.equ ERROR_PRESENT, 1 << 0

main:
    mov qword ptr [handlers + 14*8], on_page_fault
    mov qword ptr [pdpt + 2*8], region_directory + 3    # the upper levels are there ...
    mov qword ptr [region_directory], region_table + 3
    mov qword ptr [next_frame], frames                  # ... and the table of 4 KiB pages is empty

    mov ebx, PAGES              # write to every page, the last one first
.write:
    dec ebx
    mov eax, ebx
    shl eax, 12
    mov rdi, REGION
    add rdi, rax
    lea eax, [rbx + 0x5a00]
    mov [rdi], eax
    mov [rdi + 4092], eax
    test ebx, ebx
    jnz .write
    mov rax, [faults]
    call print_decimal
    say " faults for 64 pages written\n"

    xor ebx, ebx                # each page must hold its own number, at both ends, and zeros between
    xor r12d, r12d
.check:
    mov eax, ebx
    shl eax, 12
    mov rdi, REGION
    add rdi, rax
    lea eax, [rbx + 0x5a00]
    cmp [rdi], eax
    jne .bad
    cmp [rdi + 4092], eax
    jne .bad
    cmp dword ptr [rdi + 2048], 0
    je .good
.bad:
    inc r12d
.good:
    inc ebx
    cmp ebx, PAGES
    jb .check
    mov rax, [faults]
    call print_decimal
    say " faults after reading them again\n"
    mov eax, r12d
    call print_decimal
    say " pages with wrong contents\n"

    # Take one page away. The TLB may still know it: INVLPG makes the processor look at the table again.
    mov qword ptr [region_table + 5*8], 0
    mov rdi, REGION + 5 * 4096
    invlpg [rdi]
    mov eax, [rdi]              # faults, and gets another, empty page
    mov rbx, rax
    mov rax, [faults]
    call print_decimal
    say " faults after unmapping one, which reads "
    mov rax, rbx
    call print_decimal
    say " now\n"
    cmp r12d, 0
    jne .failed
    say "pagefault: good\n"
    ret                         # to a power-off
.failed:
    mov al, 1
    jmp debug_exit

# CR2 holds the address. Map the next frame there, or give up if the fault is not a missing page of the region.
on_page_fault:
    test qword ptr [rdi + FRAME_ERROR], ERROR_PRESENT
    jnz unexpected
    mov rax, cr2
    mov rcx, REGION
    sub rax, rcx
    jb unexpected
    shr rax, 12
    cmp rax, PAGES
    jae unexpected
    mov rcx, [next_frame]
    mov rdx, rcx
    or rdx, 3                   # present, writable
    mov [region_table + rax*8], rdx
    add rcx, 4096
    mov [next_frame], rcx
    inc qword ptr [faults]
    mov rax, rdi
    ret                         # the instruction that faulted runs again

    .align 8
faults:
    .qword 0
next_frame:
    .qword 0

.include "long_bss.inc"

    .align 4096                 # still .bss: more memory of our own
region_directory:
    .skip 4096
region_table:
    .skip 4096
frames:
    .skip (PAGES + 1) * 4096
memory_end:
