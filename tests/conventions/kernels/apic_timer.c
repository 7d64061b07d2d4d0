/* The APICs: the old controllers masked, the local APIC's timer, and the PIT through the I/O APIC. */
#include "kernel.h"

enum { LOCAL = 0xfee00000, IO = 0xfec00000 };

static volatile u32 local_ticks, pit_ticks;

static volatile u32 *local(u32 at) { return (volatile u32 *)(LOCAL + at); }
static void io(u32 at, u32 value) { *(volatile u32 *)IO = at; *(volatile u32 *)(IO + 16) = value; }
static u32 io_read(u32 at) { *(volatile u32 *)IO = at; return *(volatile u32 *)(IO + 16); }

__attribute__((interrupt)) static void on_local(void *frame) { (void)frame; local_ticks++; *local(0xb0) = 0; }
__attribute__((interrupt)) static void on_pit(void *frame) { (void)frame; pit_ticks++; *local(0xb0) = 0; }
__attribute__((interrupt)) static void on_spurious(void *frame) { (void)frame; }

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    set_gate(0x30, (void (*)(void))on_local, 0x8e);
    set_gate(0x31, (void (*)(void))on_pit, 0x8e);
    set_gate(0xff, (void (*)(void))on_spurious, 0x8e);
    load_idt();
    remap_pic(0xffff);
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0x1b));
    print("base ");
    hex(low & 0xfffff000, 8);
    print(low & 0x800 ? ", enabled" : ", disabled");
    print(low & 0x100 ? ", boot processor\n" : ", another processor\n");
    *local(0xf0) = 0x1ff;
    print("local version ");
    hex(*local(0x30) & 0xff, 2);
    print((io_read(1) & 0xff) >= 0x11 ? ", an I/O APIC" : ", none");
    print(", inputs ");
    number((io_read(1) >> 16 & 0xff) + 1);
    *local(0x3e0) = 3; /* divide by 16 */
    *local(0x320) = 0x20030;
    *local(0x380) = 100000;
    WAIT_UNTIL(local_ticks >= 5);
    *local(0x320) = 0x10000;
    print("\nlocal timer: 5 ticks\n");
    io(0x10 + 2 * 2 + 1, 0);
    io(0x10 + 2 * 2, 0x31); /* the PIT is on input 2 */
    outb(0x43, 0x34);
    outb(0x40, 0x9c);
    outb(0x40, 0x2e);
    WAIT_UNTIL(pit_ticks >= 5);
    io(0x10 + 2 * 2, 0x10000);
    print("PIT through the I/O APIC: 5 ticks\ninput 2 reads ");
    hex(io_read(0x10 + 2 * 2) & 0x1afff, 5);
}
