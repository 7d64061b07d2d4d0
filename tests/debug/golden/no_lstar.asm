# SYSCALL is switched on, and nobody has said where it leads.
.include "start64.inc"
main:
    mov dword ptr [0], 0x0b0f   # UD2
    mov ecx, 0xc0000080         # EFER.SCE
    rdmsr
    or eax, 1
    wrmsr
    mov ecx, 0xc0000081         # STAR
    mov edx, 0x00080008
    xor eax, eax
    wrmsr
    syscall
    ret
