/* What C needs before its first function: a Multiboot header to be found by, and a stack.
 * The loader starts _start in 32-bit protected mode with flat segments, interrupts off. */

        .section .multiboot, "a"
        .balign 4
        .long 0x1badb002, 0, -0x1badb002        /* magic, flags, checksum: they add up to 0 */

        .text
        .globl _start
_start: mov $stack_top, %esp
        xor %ebp, %ebp                          /* where backtraces end */
        call kernel_main
halt:   cli                                     /* only where the machine cannot be switched off */
        hlt
        jmp halt

        .bss
        .balign 16
        .skip 16384
stack_top:

        .section .note.GNU-stack, "", %progbits
