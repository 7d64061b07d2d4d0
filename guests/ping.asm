# ping: answers ARP and pings at the address on its command line, and pings a second one if that is given, too.
#
# It needs the interface of docs/networks.md, at port 300h with IRQ 10. The command line has its own address, or its
# own, another one, and how many pings to send there (4 if nothing is said): "10.0.0.1", "10.0.0.2 10.0.0.1 10".
# Checksums of all that comes are verified (RFC 826, 791 and 792; RFC 1071).

.include "long.inc"
.include "text.inc"
.include "ethernet.inc"

.equ INFO_COMMAND_LINE, 16
.equ PATIENCE, 100              # ticks of a millisecond that an answer may take
.equ TRIES, 20                  # questions for an address before we give up

.equ TYPE, 12                   # where things are in a frame: destination 0, source 6
.equ ARP, 0x0608                # network order, as a word reads it
.equ IPV4, 0x0008
.equ ARP_OPERATION, 20
.equ ARP_SENDER_MAC, 22
.equ ARP_SENDER, 28
.equ ARP_TARGET_MAC, 32
.equ ARP_TARGET, 38
.equ ARP_SIZE, 42
.equ ARP_REQUEST, 0x0100
.equ ARP_REPLY, 0x0200
.equ IP_HEADER, 14
.equ IP_LENGTH, 16
.equ IP_TTL, 22
.equ IP_PROTOCOL, 23
.equ IP_CHECKSUM, 24
.equ IP_FROM, 26
.equ IP_TO, 30
.equ ICMP, 34
.equ ICMP_CHECKSUM, 36
.equ ICMP_NUMBER, 40
.equ ICMP_DATA, 42
.equ DATA_SIZE, 56
.equ ECHO_REQUEST, 8
.equ ECHO_REPLY, 0

main:
    mov ebx, [multiboot_info]
    mov esi, [rbx + INFO_COMMAND_LINE]
    call address
    jc .usage
    mov [own_address], eax
    call address
    jc .open
    mov [peer_address], eax
    call number
    jc .open
    mov [count], eax
.open:
    mov dx, ETHERNET_ID
    in eax, dx
    cmp eax, ETHERNET_SIGNATURE
    jne .no_device
    mov dx, ETHERNET_MAC_LOW
    in eax, dx
    mov [own_mac], eax
    mov dx, ETHERNET_MAC_HIGH
    in eax, dx
    mov [own_mac + 4], ax
    mov qword ptr [handlers + (IRQ_BASE + ETHERNET_IRQ)*8], on_frame
    mov qword ptr [handlers + IRQ_BASE*8], on_timer
    mov dx, ETHERNET_RX_ADDRESS
    mov eax, received
    out dx, eax
    mov dx, ETHERNET_CONTROL
    mov eax, ETHERNET_RECEIVE | ETHERNET_INTERRUPT
    out dx, eax
    cmp dword ptr [peer_address], 0
    jne .ping
    mov al, 0x30                # the timer's channel 0 waits for a count that does not come: nothing but frames wakes us
    out 0x43, al
    call unmask
.answer:                        # all else is done by interrupts
    sti
    hlt
    jmp .answer

.ping:
    mov ax, 1193                # 1,193,182 Hz / 1193 = 1000 Hz
    call start_timer
    call unmask
    xor r13d, r13d
.resolve:
    cli
    call ask_who
    sti
    mov rbx, resolved
    call wait
    jnc .resolved
    inc r13d
    cmp r13d, TRIES
    jb .resolve
    say "ping: nobody says that the address is his\n"
    mov al, 1
    jmp debug_exit
.resolved:
    mov r14d, 1
.each:
    cmp r14d, [count]
    ja .over
    cli
    mov [asked], r14d
    mov byte ptr [answered], 0
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov [asked_at], rax
    call ask_echo
    sti
    mov eax, r14d
    call print_decimal
    say ": "
    mov rbx, answered
    call wait
    jc .nothing
    inc dword ptr [good]
    mov rax, [answered_at]
    sub rax, [asked_at]
    call print_decimal
    say " ns\n"
    jmp .following
.nothing:
    say "no answer\n"
.following:
    inc r14d
    jmp .each
.over:
    say "ping: "
    mov eax, [count]
    call print_decimal
    say " sent, "
    mov eax, [good]
    call print_decimal
    say " answered, "
    mov eax, [strays]
    call print_decimal
    say " late or twice, "
    mov eax, [damaged]
    call print_decimal
    say " damaged\n"
    ret
.usage:
    say "ping: the command line has no address; give one such as 10.0.0.1\n"
    mov al, 2
    jmp debug_exit
.no_device:
    say "ping: there is no network interface at port 300h\n"
    mov al, 3
    jmp debug_exit

unmask:                         # the timer's line if it runs, the second PIC's and the interface's
    in al, 0x21
    and al, ~(1 << 2) & 0xff
    out 0x21, al
    in al, 0xa1
    and al, ~(1 << (ETHERNET_IRQ - 8)) & 0xff
    out 0xa1, al
    ret

# Sleep until the byte at RBX is set, or patience is over: carry. Changes RAX and RCX.
wait:
    mov rcx, [ticks]
    add rcx, PATIENCE
.again:
    cli
    cmp byte ptr [rbx], 0
    jne .yes
    cmp [ticks], rcx
    jae .no
    sti                         # which lets nothing come before HLT
    hlt
    jmp .again
.yes:
    sti
    clc
    ret
.no:
    sti
    stc
    ret

# --- sending, with interrupts off: there is one frame to write in -------------------------------------------------------

transmit:                       # ECX bytes of `sent`
    mov dx, ETHERNET_TX_ADDRESS
    mov eax, sent
    out dx, eax
    mov dx, ETHERNET_TX_LENGTH
    mov eax, ecx
    out dx, eax
    ret

address_frame:                  # to the six bytes at RSI, from us
    mov eax, [rsi]
    mov [sent], eax
    mov ax, [rsi + 4]
    mov [sent + 4], ax
    mov eax, [own_mac]
    mov [sent + 6], eax
    mov ax, [own_mac + 4]
    mov [sent + 10], ax
    ret

arp_frame:                      # to the six bytes at RSI; the operation in BX
    call address_frame
    mov word ptr [sent + TYPE], ARP
    mov dword ptr [sent + 14], 0x00080100       # Ethernet, IPv4
    mov word ptr [sent + 18], 0x0406            # whose addresses have six and four bytes
    mov [sent + ARP_OPERATION], bx
    mov eax, [own_mac]
    mov [sent + ARP_SENDER_MAC], eax
    mov ax, [own_mac + 4]
    mov [sent + ARP_SENDER_MAC + 4], ax
    mov eax, [own_address]
    mov [sent + ARP_SENDER], eax
    mov eax, [rsi]
    mov [sent + ARP_TARGET_MAC], eax
    mov ax, [rsi + 4]
    mov [sent + ARP_TARGET_MAC + 4], ax
    mov ecx, ARP_SIZE
    ret

ask_who:
    mov rsi, everybody
    mov bx, ARP_REQUEST
    call arp_frame
    mov eax, [peer_address]
    mov [sent + ARP_TARGET], eax
    jmp transmit

ask_echo:                       # number R14D
    mov rsi, peer_mac
    call address_frame
    mov word ptr [sent + TYPE], IPV4
    mov dword ptr [sent + IP_HEADER], 0x54000045       # version 4, five words of header, 20 + 8 + 56 bytes
    mov eax, r14d
    xchg al, ah
    mov [sent + IP_HEADER + 4], ax     # identification
    mov word ptr [sent + IP_HEADER + 6], 0
    mov word ptr [sent + IP_TTL], 0x0140        # 64 hops, ICMP
    mov word ptr [sent + IP_CHECKSUM], 0
    mov ecx, [own_address]
    mov [sent + IP_FROM], ecx
    mov ecx, [peer_address]
    mov [sent + IP_TO], ecx
    mov dword ptr [sent + ICMP], ECHO_REQUEST
    mov word ptr [sent + ICMP + 4], 0x3713
    mov [sent + ICMP_NUMBER], ax
    xor ecx, ecx
.data:
    lea eax, [rcx + r14]
    mov [sent + ICMP_DATA + rcx], al
    inc ecx
    cmp ecx, DATA_SIZE
    jb .data
    mov rsi, sent + IP_HEADER
    mov ecx, 20
    call checksum
    mov [sent + IP_CHECKSUM], ax
    mov ecx, 8 + DATA_SIZE
    call sum_icmp
    mov ecx, ICMP_DATA + DATA_SIZE
    jmp transmit

sum_icmp:                       # ECX bytes of it
    mov rsi, sent + ICMP
    call checksum
    mov [sent + ICMP_CHECKSUM], ax
    ret

# The complement of the sum of the ECX bytes at RSI in AX; 0 over what has its own sum in it. Changes RCX, RDX and RSI.
checksum:
    xor edx, edx
.word:
    cmp ecx, 2
    jb .odd
    movzx eax, word ptr [rsi]
    add edx, eax
    add rsi, 2
    sub ecx, 2
    jmp .word
.odd:
    test ecx, ecx
    jz .fold
    movzx eax, byte ptr [rsi]
    add edx, eax
.fold:
    mov eax, edx
    shr eax, 16
    movzx edx, dx
    add edx, eax
    mov eax, edx
    shr eax, 16
    add eax, edx
    not eax
    movzx eax, ax
    ret

# --- receiving ----------------------------------------------------------------------------------------------------------

on_timer:
    inc qword ptr [ticks]
    mov al, 0x20
    out 0x20, al
    mov rax, rdi
    ret

on_frame:
    push rdi
.next:
    mov dx, ETHERNET_STATUS
    in eax, dx
    test eax, ETHERNET_RECEIVED
    jz .done
    mov dx, ETHERNET_RX_LENGTH
    in eax, dx
    mov [received_size], eax
    call look
    mov dx, ETHERNET_STATUS
    mov eax, ETHERNET_RECEIVED
    out dx, eax
    jmp .next
.done:
    mov al, 0x20
    out 0xa0, al
    out 0x20, al
    pop rax
    ret

look:
    mov rsi, received
    cmp word ptr [rsi + TYPE], ARP
    je .arp
    cmp word ptr [rsi + TYPE], IPV4
    je look_at_ip
.nothing:
    ret
.arp:
    mov eax, [rsi + ARP_TARGET]
    cmp eax, [own_address]
    jne .nothing
    mov eax, [rsi + ARP_SENDER]
    cmp word ptr [rsi + ARP_OPERATION], ARP_REQUEST
    je .asked
    cmp word ptr [rsi + ARP_OPERATION], ARP_REPLY
    jne .nothing
    cmp eax, [peer_address]
    jne .nothing
    mov eax, [rsi + ARP_SENDER_MAC]
    mov [peer_mac], eax
    mov ax, [rsi + ARP_SENDER_MAC + 4]
    mov [peer_mac + 4], ax
    mov byte ptr [resolved], 1
    ret
.asked:
    push rax
    lea rsi, [rsi + ARP_SENDER_MAC]
    mov bx, ARP_REPLY
    call arp_frame
    pop rax
    mov [sent + ARP_TARGET], eax
    jmp transmit

look_at_ip:
    cmp byte ptr [rsi + IP_HEADER], 0x45
    jne .nothing
    cmp byte ptr [rsi + IP_PROTOCOL], 1
    jne .nothing
    mov eax, [rsi + IP_TO]
    cmp eax, [own_address]
    jne .nothing
    movzx eax, word ptr [rsi + IP_LENGTH]
    xchg al, ah
    cmp eax, 28
    jb .bad
    lea ebx, [rax + IP_HEADER]         # the frame's bytes, without what pads it
    cmp ebx, [received_size]
    ja .bad
    mov rsi, received + IP_HEADER
    mov ecx, 20
    call checksum
    test eax, eax
    jnz .bad
    mov rsi, received + ICMP
    lea ecx, [rbx - ICMP]
    call checksum
    test eax, eax
    jnz .bad
    cmp byte ptr [received + ICMP], ECHO_REQUEST
    je .asked
    cmp byte ptr [received + ICMP], ECHO_REPLY
    jne .nothing
    movzx eax, word ptr [received + ICMP_NUMBER]
    xchg al, ah
    cmp eax, [asked]
    jne .stray
    cmp byte ptr [answered], 0
    jne .stray
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov [answered_at], rax
    mov byte ptr [answered], 1
.nothing:
    ret
.stray:
    inc dword ptr [strays]
    ret
.bad:
    inc dword ptr [damaged]
    ret
.asked:                         # the same back, as a reply
    mov rsi, received
    mov rdi, sent
    mov ecx, ebx
    rep movsb
    mov rsi, received + 6
    call address_frame
    mov eax, [received + IP_FROM]
    mov [sent + IP_TO], eax
    mov eax, [own_address]
    mov [sent + IP_FROM], eax
    mov dword ptr [sent + ICMP], ECHO_REPLY
    lea ecx, [rbx - ICMP]
    call sum_icmp
    mov ecx, ebx
    jmp transmit

# --- the command line ---------------------------------------------------------------------------------------------------

# The next number at RSI in EAX, RSI behind it; carry if there is none. Changes RCX.
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

# The next four, as an address in network order. Changes RBX, RCX and R8.
address:
    mov r8d, 4
.part:
    call number
    jc .none
    shr ebx, 8
    shl eax, 24
    or ebx, eax
    dec r8d
    jnz .part
    mov eax, ebx
    clc
.none:
    ret

everybody:
    .byte 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
    .align 8
ticks:
    .qword 0
asked_at:
    .qword 0
answered_at:
    .qword 0
count:
    .dword 4
own_address:
    .dword 0
peer_address:
    .dword 0
asked:                          # number of the ping that we wait for
    .dword 0
good:
    .dword 0
strays:
    .dword 0
damaged:
    .dword 0
received_size:
    .dword 0
own_mac:
    .skip 8
peer_mac:
    .skip 8
resolved:
    .byte 0
answered:
    .byte 0

.include "long_bss.inc"
    .align 16
received:
    .skip 1520
sent:
    .skip 1520
memory_end:
