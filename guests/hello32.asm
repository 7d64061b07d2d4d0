# hello32: a Multiboot kernel in 32-bit protected mode; prints on the serial port and on the screen, and its command line.
#
#   qemu-system-x86_64 -kernel hello32.bin -append "one two" -serial stdio

.include "multiboot.inc"

.equ COM1, 0x3f8
.equ SCREEN, 0xb8000            # 80 x 25 cells of two bytes: character, colour
.equ INFO_FLAGS, 0              # fields of the Multiboot information block
.equ INFO_COMMAND_LINE, 16

start:
    mov esp, stack_top
    cld
    mov dword ptr [cursor], SCREEN
    mov esi, greeting
    call print
    test dword ptr [ebx + INFO_FLAGS], 1 << 2   # did the loader give a command line?
    jz .off
    mov esi, label
    call print
    mov esi, [ebx + INFO_COMMAND_LINE]
    call print
    mov esi, newline
    call print
.off:
    mov dx, 0x604               # soft off, as QEMU's PC has it
    mov ax, 0x2000
    out dx, ax
.halt:
    cli
    hlt
    jmp .halt

# Print the text at ESI, up to a zero byte. Changes EAX, ECX, EDX, ESI, EDI.
print:
    lodsb
    test al, al
    jz .done
    mov ecx, eax
    mov dx, COM1 + 5            # line status: bit 5 says that the transmitter takes a byte
.wait:
    in al, dx
    test al, 1 << 5
    jz .wait
    mov eax, ecx
    mov dx, COM1
    out dx, al
    cmp al, '\n'
    je .line
    mov edi, [cursor]
    mov ah, 0x07                # light grey on black
    stosw
    mov [cursor], edi
    jmp print
.line:
    mov eax, [cursor]           # to the start of the next row of 160 bytes
    sub eax, SCREEN
    xor edx, edx
    mov ecx, 160
    div ecx
    inc eax
    mul ecx
    add eax, SCREEN
    mov [cursor], eax
    jmp print
.done:
    ret

greeting:
    .asciz "Hello from 32-bit protected mode\n"
label:
    .asciz "command line: "
newline:
    .asciz "\n"
image_end:

.bss
    .align 16
cursor:
    .skip 4
    .skip 4096
stack_top:
memory_end:
