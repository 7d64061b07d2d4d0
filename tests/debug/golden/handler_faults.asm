# The handler of #UD prints the current task's name; there is no task yet.
.include "start64.inc"
main:
    push rbp
    mov rbp, rsp
    gate 6, on_undefined
    ud2
    leave
    ret
on_undefined:
    push rax
    push rbx
    call task_name
    pop rbx
    pop rax
    iretq
task_name:
    push rbp
    mov rbp, rsp
    mov rbx, 0x4000000000
    mov rax, [rbx + 8]
    leave
    ret
