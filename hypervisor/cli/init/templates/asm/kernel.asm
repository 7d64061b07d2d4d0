; my-kernel: says hello on the first serial port, and switches the machine off.
;
; A Multiboot loader starts it at _start, in 32-bit protected mode with flat segments, interrupts off, without a stack.

        bits 32

SERIAL  equ 0x3f8               ; the first serial port: a byte written here is sent
STATUS  equ SERIAL + 5          ; its line status register
READY   equ 0x20                ; ... bit 5: the next byte may come
POWER   equ 0x604               ; the power management port of QEMU's and rootmode's PC
OFF     equ 0x2000              ; ... written there: off

        section .multiboot align=4
        dd 0x1badb002           ; "a kernel begins here"
        dd 0                    ; flags: nothing is asked of the loader
        dd -0x1badb002          ; the three add up to 0

        section .text
        global _start
_start: mov esp, stack.top
        mov esi, hello
        call print
        mov dx, POWER
        mov ax, OFF
        out dx, ax
.halt:  cli                     ; only where the machine cannot be switched off
        hlt
        jmp .halt

; Print the text at ESI, which ends with a zero byte. Changes EAX, EDX and ESI.
print:  mov dx, STATUS
.wait:  in al, dx
        test al, READY
        jz .wait
        lodsb
        test al, al
        jz .done
        mov dx, SERIAL
        out dx, al
        jmp print
.done:  ret

        section .rodata
hello:  db "Hello from my-kernel", 10, 0

        section .bss align=16
stack:  resb 16384
.top:
