; Reboot by the keyboard controller, as Linux and every toy kernel do: wait for its input buffer, pulse the reset line.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        say "rebooting"
        mov dx, 0x3f8
        mov al, "R"
        out dx, al
        cli
.wait:  in al, 0x64
        test al, 2
        jnz .wait
        mov al, 0xfe
        out 0x64, al
        mov cx, 0xffff
.slow:  in al, 0x80             ; a bus cycle or some, until it happens
        loop .slow
        say 10, "it did not"
        finish
        routines
        signature
