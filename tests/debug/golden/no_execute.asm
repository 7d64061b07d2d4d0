# A jump into a page that is marked no-execute.
.include "start64.inc"
main:
    mov ecx, 0xc0000080         # EFER.NXE
    rdmsr
    or eax, 0x800
    wrmsr
    call page_directory
    bts qword ptr [rax + 8], 63 # the entry of 2 MiB
    mov rax, cr3
    mov cr3, rax
    mov rax, 0x200000
    call rax
    ret
