# hello: a boot sector that says Hello through the BIOS and powers the machine off.
#
# What a PC starts: the BIOS reads the first 512 bytes of the disk to 0x7c00, checks that they end in 55 AA and jumps
# there, in 16-bit real mode. DL holds the drive. Everything else is up to us.
#
#   qemu-system-x86_64 -drive format=raw,file=hello.bin

.code16
.org 0x7c00

start:
    jmp 0:canonical             # some BIOSes start at 07c0:0000, which is the same byte; agree on segment 0
canonical:
    xor ax, ax
    mov ds, ax
    mov ss, ax                  # the stack grows down from where we are; MOV SS holds off interrupts ...
    mov sp, 0x7c00              # ... until after this instruction
    cld
    mov si, text
.next:
    lodsb                       # AL = the byte at DS:SI, SI moves on
    test al, al
    jz .off
    mov ah, 0x0e                # INT 10h, AH = 0Eh: teletype, the character is in AL
    mov bx, 0x0007              # page 0, light grey
    int 0x10
    jmp .next
.off:
    mov dx, 0x604               # the power-management port of QEMU's PC: sleep state 5 is "soft off"
    mov ax, 0x2000
    out dx, ax
.halt:
    cli                         # no such port here: stop for good
    hlt
    jmp .halt

text:
    .asciz "Hello\r\n"

    .org 0x7c00 + 510
    .byte 0x55, 0xaa            # the signature that makes these 512 bytes bootable
