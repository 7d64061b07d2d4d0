/* Descriptor tables, the interrupt controllers and the timer: ticks are counted while the CPU halts. */
#include "kernel.h"

static volatile u32 ticks, breakpoints, spurious;

__attribute__((interrupt)) static void on_timer(void *frame) { (void)frame; ticks++; outb(0x20, 0x20); }
__attribute__((interrupt)) static void on_breakpoint(void *frame) { (void)frame; breakpoints++; }
__attribute__((interrupt)) static void on_other(void *frame) { (void)frame; spurious++; outb(0x20, 0x20); }

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    print("GDT loaded\n");
    for (int vector = 0x20; vector < 0x30; vector++)
        set_gate(vector, (void (*)(void))on_other, 0x8e);
    set_gate(3, (void (*)(void))on_breakpoint, 0x8e);
    set_gate(0x20, (void (*)(void))on_timer, 0x8e);
    load_idt();
    __asm__ volatile("int3");
    print("breakpoints: ");
    number(breakpoints);
    remap_pic(0xfffe);
    u32 divisor = 1193182 / 100;
    outb(0x43, 0x36);
    outb(0x40, (u8)divisor);
    outb(0x40, (u8)(divisor >> 8));
    for (u32 second = 1; second <= 3; second++) {
        WAIT_UNTIL(ticks >= second * 10);
        print("\ntick ");
        number(second * 10);
    }
    print("\nmasks: ");
    hex(inb(0x21), 2);
    hex(inb(0xa1), 2);
    outb(0x20, 0x0b);
    print(", in service: ");
    hex(inb(0x20), 2);
    print("\nothers: ");
    number(spurious);
}
