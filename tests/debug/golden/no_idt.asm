# The first exception comes before the first LIDT.
main:
    mov rbx, 0x123456789000
    mov eax, [rbx]
    hlt
