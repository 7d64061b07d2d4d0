# A boot sector whose timer handler never tells the PIC that it is done.
start:
    cli
    xor ax, ax
    mov ds, ax
    mov word ptr [8 * 4], on_timer
    mov word ptr [8 * 4 + 2], 0
    sti
wait_for_key:
    hlt
    cmp byte ptr [ticks], 3
    jb wait_for_key
    cli
    hlt
on_timer:
    inc byte ptr [ticks]
    iret
ticks:
    .byte 0
