/* How a second processor gets to `other_main`: a trampoline for page 8, in real mode; each has a stack of 4 KiB. */
#pragma once

enum { TRAMPOLINE = 0x8000 };

__asm__(
    ".pushsection .rodata\n.code16\ntrampoline:\n"
    "\tcli\n\txor %ax, %ax\n\tmov %ax, %ds\n"
    "\tlgdtl trampoline_gdt_pointer - trampoline + 0x8000\n"
    "\tmov %cr0, %eax\n\tor $1, %al\n\tmov %eax, %cr0\n"
    "\tljmpl $8, $trampoline_protected - trampoline + 0x8000\n"
    ".code32\ntrampoline_protected:\n"
    "\tmov $16, %ax\n\tmov %ax, %ds\n\tmov %ax, %es\n\tmov %ax, %ss\n"
    "\tmov $4096, %eax\n\tlock xadd %eax, stack_at - trampoline + 0x8000\n\tmov %eax, %esp\n"
    "\tmov $other_main, %eax\n\tjmp *%eax\n"
    ".align 8\ntrampoline_gdt:\n\t.quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff\n"
    "trampoline_gdt_pointer:\n\t.word 23\n\t.long trampoline_gdt - trampoline + 0x8000\n"
    "stack_at:\n\t.long 0x71000\n"
    "trampoline_end:\n.popsection");
extern const u8 trampoline[], trampoline_end[];

static void copy_trampoline(void)
{
    for (u32 n = 0; n < (u32)(trampoline_end - trampoline); n++)
        ((volatile u8 *)TRAMPOLINE)[n] = trampoline[n];
}
