# A page-table entry with a bit that no address has.
.include "start64.inc"
main:
    call page_directory
    bts qword ptr [rax + 8], 45
    mov rax, cr3
    mov cr3, rax
    mov eax, [0x200008]
    ret
