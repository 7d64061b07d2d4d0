# A boot sector that switches paging on with tables that map nothing.
.include "start32.inc"
    mov eax, 0x9000             # a page of zeros
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
    hlt
