; Line A20 by the keyboard controller: its output port, read by command D0h and written by D1h.
%include "real.inc"
%include "a20.inc"
        bits 16
        org 0x7c00

start:  begin
        cli
        call wait_in
        mov al, 0xad            ; the keyboard is quiet meanwhile
        out 0x64, al
        call wait_in
        mov al, 0xd0
        out 0x64, al
        call wait_out
        in al, 0x60
        mov [output], al
        say "output port, bits 1 and 0: "
        movzx eax, byte [output]
        and al, 3
        hex eax, 1
        say 10
        mov bl, [output]
        and bl, ~2
        call write
        say "switched off: "
        wraps
        mov bl, [output]
        or bl, 2
        call write
        say "switched on: "
        wraps
        call wait_in
        mov al, 0xdd            ; the short commands of later controllers
        out 0x64, al
        call wait_in
        say "command DD: "
        wraps
        mov al, 0xdf
        out 0x64, al
        call wait_in
        say "command DF: "
        wraps
        call wait_in
        mov al, 0xae
        out 0x64, al
        finish

write:  call wait_in
        mov al, 0xd1
        out 0x64, al
        call wait_in
        mov al, bl
        out 0x60, al
wait_in:
        in al, 0x64
        test al, 2
        jnz wait_in
        ret
wait_out:
        in al, 0x64
        test al, 1
        jz wait_out
        ret
output: db 0
        routines
        a20_routine
        signature
