# balloon: gives pages that it does not need back to the host, by two hypercalls, and takes them into use again.
#
#   hypervisor run balloon --plugin hypervisor:Balloon,wanted=100
#
# The protocol is in docs/sharing.md. A host that does not speak it answers VMMCALL with #UD, as a processor does.

.include "long.inc"
.include "text.inc"

.equ WANTED, 0x42414c00         # how many pages does the host want? the answer is in RAX
.equ GIVE, 0x42414c01           # RCX pages from RBX on are not needed; how many the host has taken is in RAX
.equ AREA, 2 << 20              # our pages
.equ PAGES, 512
.equ KEPT, 16                   # of which we need so many

main:
    mov qword ptr [handlers + 6*8], on_invalid_opcode
    xor ebx, ebx                # each page holds its own number
.fill:
    mov edi, ebx
    shl edi, 12
    lea eax, [rbx + 0x5a00]
    mov [rdi + AREA], eax
    mov [rdi + AREA + 4092], eax
    inc ebx
    cmp ebx, PAGES
    jb .fill

    mov eax, WANTED
    vmmcall
    cmp rax, -1
    je .nobody
    mov r12d, PAGES - KEPT      # r12: how many we give
    cmp rax, r12
    cmova rax, r12
    mov r12, rax
    mov r13d, PAGES
    sub r13d, r12d              # r13: the first of them
    call print_decimal
    say " pages are wanted, "
    mov eax, GIVE
    mov ebx, r13d
    shl ebx, 12
    add ebx, AREA
    mov ecx, r12d
    vmmcall
    mov r14, rax
    call print_decimal
    say " were given\n"

    xor ebx, ebx                # those that were given read as zeros, the others hold their numbers
    xor r15d, r15d
.check:
    lea eax, [rbx + 0x5a00]
    cmp ebx, r13d
    jb .compare
    xor eax, eax
.compare:
    mov edi, ebx
    shl edi, 12
    cmp [rdi + AREA], eax
    jne .wrong
    cmp [rdi + AREA + 4092], eax
    je .next
.wrong:
    inc r15d
.next:
    inc ebx
    cmp ebx, PAGES
    jb .check
    mov dword ptr [AREA + (PAGES - 1) * 4096], 7    # who stores to a page takes it back
    cmp dword ptr [AREA + (PAGES - 1) * 4096], 7
    jne .failed
    cmp r12, r14
    jne .failed
    test r15d, r15d
    jnz .failed
    say "balloon: good\n"
    ret                         # to a power-off
.nobody:
    say "balloon: nobody wants memory here\n"
    ret
.failed:
    mov al, 1
    jmp debug_exit

# VMMCALL is no instruction here: answer -1 for the host.
on_invalid_opcode:
    add qword ptr [rdi + FRAME_RIP], 3
    mov qword ptr [rdi + FRAME_RAX], -1
    mov rax, rdi
    ret

.include "long_bss.inc"
memory_end:
