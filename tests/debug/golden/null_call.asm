# A driver without an open function is opened: a call through a null pointer, to where the interrupt vectors of real mode
# would be.
.include "start64.inc"
main:
    mov dword ptr [0], 0x0b0f   # UD2
    call open
    ret
open:
    push rbp
    mov rbp, rsp
    mov rbx, driver
    call [rbx]
    leave
    ret
driver:
    .qword 0
