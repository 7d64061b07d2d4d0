; Line A20 by the system control port A, "fast A20".
%include "real.inc"
%include "a20.inc"
        bits 16
        org 0x7c00

start:  begin
        in al, 0x92
        mov bl, al
        movzx ebx, bl
        say "port 92h: "
        hex ebx, 2
        say 10
        and al, 0xfc            ; bit 0 would reset the machine
        out 0x92, al
        say "switched off: "
        wraps
        in al, 0x92
        or al, 2
        and al, 0xfe
        out 0x92, al
        say "switched on: "
        wraps
        in al, 0x92
        movzx eax, al
        and al, 3
        say "port 92h: "
        hex eax, 1
        finish
        routines
        a20_routine
        signature
