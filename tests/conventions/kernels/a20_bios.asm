; Line A20 by the BIOS: INT 15h AX=2400h to 2403h.
%include "real.inc"
%include "a20.inc"
        bits 16
        org 0x7c00

start:  begin
        mov ax, 0x2403
        int 0x15
        say "supported: "
        hex ebx, 4
        say 10, "at first: "
        wraps
        mov ax, 0x2400
        int 0x15
        say "switched off: "
        wraps
        mov ax, 0x2402
        int 0x15
        say "status: "
        hex eax, 4
        mov ax, 0x2401
        int 0x15
        say 10, "switched on: "
        wraps
        mov ax, 0x2402
        int 0x15
        say "status: "
        hex eax, 4
        finish
        routines
        a20_routine
        signature
