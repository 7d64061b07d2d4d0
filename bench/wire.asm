# wire: frames there and back between two machines; "ROLE SIZE COUNT" at the end of the command line says the rest.
#
#    1 SIZE COUNT   send frames of SIZE bytes, at most WINDOW unanswered, until COUNT have come back, each as it was sent
#    2 SIZE COUNT   send back whatever comes
#
# It drives the card that it finds at port 300h with IRQ 10: the interface of docs/networks.md, or an NE2000 (National
# Semiconductor DP8390D, and the registers around it; QEMU's ne2k_isa):
#
#   qemu-system-x86_64 -kernel wire.bin -append "2 60 0" -netdev socket,id=n,listen=127.0.0.1:PORT \
#       -device ne2k_isa,iobase=0x300,irq=10,netdev=n -device isa-debug-exit,iobase=0xf4,iosize=1
#
# Ends with debug-exit status 33 (65 if a frame came back otherwise, or in another order, than it was sent).

.include "long.inc"
.include "text.inc"
.include "ethernet.inc"

.equ INFO_COMMAND_LINE, 16
.equ WINDOW, 8                  # frames of 1,514 bytes for which an NE2000 has room
.equ SEQUENCE, 14               # where a frame's number is

.equ NE, 0x300                  # registers; each page has others behind the command register
.equ NE_BOUNDARY, NE + 3
.equ NE_TX_PAGE, NE + 4
.equ NE_TX_LENGTH, NE + 5
.equ NE_STATUS, NE + 7
.equ NE_CURRENT, NE + 7         # of page 1
.equ NE_ADDRESS, NE + 8
.equ NE_COUNT, NE + 10
.equ NE_DATA, NE + 16
.equ NE_FIRST, 0x46             # pages of 256 bytes: what is sent lies before them
.equ NE_END, 0x80

main:
    mov ebx, [multiboot_info]
    mov esi, [rbx + INFO_COMMAND_LINE]
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
.parse:                         # the last three numbers
    call number
    jc .parsed
    mov r12d, r13d
    mov r13d, r14d
    mov r14d, eax
    jmp .parse
.parsed:                        # R12 role, R13 size, R14 count
    mov eax, -1
    mov [sent], eax             # to everybody, from us
    mov [sent + 4], ax
    mov dword ptr [sent + 6], 0x00000052
    mov byte ptr [sent + 11], 1
    mov word ptr [sent + 12], 0xb588
    mov qword ptr [handlers + (IRQ_BASE + ETHERNET_IRQ)*8], on_frame
    call open
    mov al, 0x30                # the timer waits for a count that does not come
    out 0x43, al
    in al, 0x21
    and al, ~(1 << 2) & 0xff
    out 0x21, al
    in al, 0xa1
    and al, ~(1 << (ETHERNET_IRQ - 8)) & 0xff
    out 0xa1, al
    cmp r12d, 1
    jne .rest
    xor r15d, r15d
.begin:
    cmp r15d, [last_window]
    jae .rest
    cmp r15d, r14d
    jae .rest
    call send_next
    jmp .begin
.rest:                          # all else is done by interrupts
    sti
    hlt
    cli
    cmp r12d, 1
    jne .rest
    cmp [came], r14d
    jb .rest
    mov al, 0x10
    jmp debug_exit

send_next:                      # the next of our frames
    mov [sent + SEQUENCE], r15d
    inc r15d
    mov [next_number], r15d
    mov rsi, sent
    mov ecx, r13d
    jmp transmit

# A frame of ECX bytes has come to `received`: R12 to R15 are main's.
look:
    cmp r12d, 1
    je .ours
    mov rsi, received
    jmp transmit
.ours:
    mov eax, [received + SEQUENCE]
    cmp eax, [came]
    jne .wrong
    cmp ecx, r13d
    jb .wrong
    inc dword ptr [came]
    mov r15d, [next_number]
    cmp r15d, r14d
    jae .done
    call send_next
.done:
    ret
.wrong:
    mov al, 0x20
    jmp debug_exit

open:
    mov dx, ETHERNET_ID
    in eax, dx
    cmp eax, ETHERNET_SIGNATURE
    jne open_ne2000
    mov dx, ETHERNET_RX_ADDRESS
    mov eax, received
    out dx, eax
    mov dx, ETHERNET_CONTROL
    mov eax, ETHERNET_RECEIVE | ETHERNET_INTERRUPT
    out dx, eax
    ret

transmit:                       # ECX bytes at RSI. Changes RAX, RCX, RDX and RSI
    cmp byte ptr [is_ne2000], 0
    jne transmit_ne2000
    mov dx, ETHERNET_TX_ADDRESS
    mov eax, esi
    out dx, eax
    mov dx, ETHERNET_TX_LENGTH
    mov eax, ecx
    out dx, eax
    ret

on_frame:
    push rdi
    mov r15d, [next_number]
    cmp byte ptr [is_ne2000], 0
    jne .ne2000
.next:
    mov dx, ETHERNET_STATUS
    in eax, dx
    test eax, ETHERNET_RECEIVED
    jz .done
    mov dx, ETHERNET_RX_LENGTH
    in eax, dx
    mov ecx, eax
    call look
    mov dx, ETHERNET_STATUS
    mov eax, ETHERNET_RECEIVED
    out dx, eax
    jmp .next
.ne2000:
    call receive_ne2000
.done:
    mov al, 0x20
    out 0xa0, al
    out 0x20, al
    pop rax
    ret

# --- NE2000 -------------------------------------------------------------------------------------------------------------

open_ne2000:
    mov byte ptr [is_ne2000], 1
    mov rsi, settings
.next:
    movzx edx, word ptr [rsi]
    test edx, edx
    jz .over
    mov al, [rsi + 2]
    out dx, al
    add rsi, 3
    jmp .next
.over:
    ret

transmit_ne2000:                # into its page 40h, and off
    push rcx
    mov eax, ecx
    inc eax
    and eax, ~1
    mov ecx, eax
    xor eax, eax
    mov ah, 0x40
    call remote
    mov dx, NE
    mov al, 0x12                # write
    out dx, al
    shr ecx, 1
    mov dx, NE_DATA
    rep outsw
    pop rax
    mov dx, NE_TX_LENGTH
    out dx, al
    inc edx
    mov al, ah
    out dx, al
    mov dx, NE_TX_PAGE
    mov al, 0x40
    out dx, al
    mov dx, NE
    mov al, 0x26
    out dx, al
    ret

remote:                         # ECX bytes at AX of its memory are to be moved. Changes RDX
    push rax
    mov dx, NE_ADDRESS
    out dx, al
    inc edx
    mov al, ah
    out dx, al
    mov eax, ecx
    mov dx, NE_COUNT
    out dx, al
    inc edx
    mov al, ah
    out dx, al
    pop rax
    ret

fetch_ne2000:                   # ECX bytes at AX of its memory to RDI
    call remote
    mov dx, NE
    mov al, 0x0a                # read
    out dx, al
    shr ecx, 1
    mov dx, NE_DATA
    rep insw
    ret

receive_ne2000:
    mov dx, NE_STATUS
    mov al, 0x41                # a frame came; a transfer is over
    out dx, al
.next:
    mov dx, NE
    mov al, 0x62                # page 1
    out dx, al
    mov dx, NE_CURRENT
    in al, dx
    mov bl, al
    mov dx, NE
    mov al, 0x22
    out dx, al
    mov al, [ring]
    cmp al, bl
    je .over
    mov ah, al
    xor al, al
    mov [at], ax
    mov ecx, 4
    mov rdi, header
    call fetch_ne2000
    movzx ecx, word ptr [header + 2]
    sub ecx, 4
    cmp ecx, 1514
    ja .bad
    push rcx
    inc ecx
    and ecx, ~1
    mov ax, [at]
    add ax, 4
    mov rdi, received
    call fetch_ne2000
    pop rcx
    call look
    mov al, [header + 1]
    mov [ring], al
    dec al
    cmp al, NE_FIRST
    jae .in_ring
    mov al, NE_END - 1
.in_ring:
    mov dx, NE_BOUNDARY
    out dx, al
    jmp .next
.bad:
    mov al, 0x21
    jmp debug_exit
.over:
    ret

.macro set register value
    .word \register
    .byte \value
.endm

settings:
    set NE, 0x21                # stopped, page 0
    set NE + 14, 0x49           # words
    set NE_COUNT, 0
    set NE_COUNT + 1, 0
    set NE + 12, 0x04           # take what is for everybody
    set NE + 13, 0x00
    set NE + 1, NE_FIRST
    set NE + 2, NE_END
    set NE_BOUNDARY, NE_END - 1
    set NE_STATUS, 0xff
    set NE, 0x61                # page 1
    set NE_CURRENT, NE_FIRST
    set NE, 0x22                # on
    set NE + 15, 0x01           # frames interrupt
    .word 0

# The next decimal number at RSI in EAX, or carry. Changes RCX.
number:
    xor eax, eax
.skip:
    movzx ecx, byte ptr [rsi]
    test ecx, ecx
    jz .none
    sub ecx, '0'
    cmp ecx, 10
    jb .digit
    inc rsi
    jmp .skip
.digit:
    lea eax, [rax + rax*4]
    lea eax, [rcx + rax*2]
    inc rsi
    movzx ecx, byte ptr [rsi]
    sub ecx, '0'
    cmp ecx, 10
    jb .digit
    clc
    ret
.none:
    stc
    ret

    .align 8
last_window:
    .dword WINDOW
came:
    .dword 0
next_number:
    .dword 0
header:
    .dword 0
at:
    .word 0
ring:
    .byte NE_FIRST
is_ne2000:
    .byte 0

.include "long_bss.inc"
    .align 16
received:
    .skip 1520
sent:
    .skip 1520
memory_end:
