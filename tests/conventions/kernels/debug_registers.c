/* Hardware breakpoints and single steps: DR0 to DR3 for code and data, the trap flag, and what DR6 says. */
#include "kernel.h"

static volatile u32 watched[2];
static volatile u32 hits, steps;

struct frame {
    u32 ip, cs, flags;
};

__attribute__((interrupt)) static void on_debug(struct frame *frame)
{
    u32 status;
    __asm__ volatile("mov %%dr6, %0" : "=r"(status));
    if (status & 0x4000) {
        if (++steps == 5)
            frame->flags &= ~0x100u;
    } else {
        print("hit ");
        hex(status & 15, 1);
        put(' ');
        hits++;
        if (status & 4)
            frame->flags |= 0x10000; /* on, past the instruction */
    }
    __asm__ volatile("mov %0, %%dr6" : : "r"(0xffff0ff0));
}

__attribute__((noinline)) static void target(void) { __asm__ volatile("nop"); }

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    set_gate(1, (void (*)(void))on_debug, 0x8e);
    load_idt();
    __asm__ volatile("mov %0, %%dr0" : : "r"(&watched[0]));
    __asm__ volatile("mov %0, %%dr1" : : "r"(&watched[1]));
    __asm__ volatile("mov %0, %%dr2" : : "r"(target));
    /* DR0: writes of 4 bytes; DR1: reads and writes of 4; DR2: execution */
    __asm__ volatile("mov %0, %%dr7" : : "r"(0x00fd0400 | 0x2a));
    watched[0] = 1;
    u32 value = watched[0];
    watched[1] = value;
    value += watched[1];
    target();
    target();
    __asm__ volatile("mov %0, %%dr7" : : "r"(0x400));
    watched[0] = 2;
    print("\nhits ");
    number(hits);
    __asm__ volatile("pushf\n\torl $0x100, (%%esp)\n\tpopf\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop" : : : "memory", "cc");
    print("\nsteps ");
    number(steps);
}
