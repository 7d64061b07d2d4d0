/* Messages between four processors: destinations, priorities, NMI, pending and level-triggered interrupts. */
#include "kernel.h"
#include "trampoline.h"

enum { APIC = 0xfee00000, IO = 0xfec00000 };
enum { ID = 0x20, TPR = 0x80, PPR = 0xa0, EOI = 0xb0, LDR = 0xd0, DFR = 0xe0, SVR = 0xf0, ISR = 0x100, IRR = 0x200 };
enum { ICR = 0x300, ICR_HIGH = 0x310, LVT_TIMER = 0x320, LVT_LINT0 = 0x350, INITIAL = 0x380, CURRENT = 0x390 };
enum { LOGICAL = 0x800, NMI = 0x400, SELF = 0x40000, ALL = 0x80000, OTHERS = 0xc0000, ASSERT = 0x4000, LOWEST = 0x100 };

static volatile u32 *apic(u32 at) { return (volatile u32 *)(APIC + at); }
static void io(u32 at, u32 value) { *(volatile u32 *)IO = at; *(volatile u32 *)(IO + 16) = value; }
static u32 io_read(u32 at) { *(volatile u32 *)IO = at; return *(volatile u32 *)(IO + 16); }

static volatile u32 phase, started, asleep, woken, nmis, taken[256], pic_ticks, com1_interrupts;
static volatile u32 priority, in_service, redirection;
static volatile u8 order[16], orders;

static void add(volatile u32 *to, u32 what) { __asm__ volatile("lock addl %1, %0" : "+m"(*to) : "r"(what) : "memory"); }

static void wait(void)
{
    for (u32 n = 0; n < 10000; n++) {
        inb(0x80);
        __asm__ volatile("pause");
    }
}

/* What is to happen does so after a while; a message that got lost is told by what is printed then. */
#define EXPECT(condition) \
    for (u32 n_ = 0; n_ < 10000000 && !(condition); n_++) { \
        inb(0x80); \
        __asm__ volatile("pause"); \
    }

static void window(void) { __asm__ volatile("sti\n\tnop\n\tnop\n\tcli" : : : "memory"); }
static void self(u32 vector) { *apic(ICR) = SELF | ASSERT | vector; }

static void send(u32 to, u32 what)
{
    *apic(ICR_HIGH) = to << 24;
    *apic(ICR) = ASSERT | what;
}

static void said(u8 what)
{
    if (orders < sizeof order)
        order[orders++] = what;
}

static void take(u8 vector)
{
    add(&taken[vector], 1);
    if (*apic(ID) == 0)
        said(vector);
}

#define HANDLER(vector) \
    __asm__(".text\nhandle_" #vector ":\n\tpusha\n\tpushl $0x" #vector "\n\tcall on_vector\n\tadd $4, %esp\n\tpopa\n\tiret"); \
    extern void handle_##vector(void);

__attribute__((used)) static void on_vector(u32 vector)
{
    take((u8)vector);
    if (vector == 0x61) {
        priority = *apic(PPR);
        in_service = *apic(ISR + 0x30);
    }
    if (vector == 0x51) { /* lets a higher class in, and not its own */
        self(0x52);
        self(0x71);
        window();
        said(0x15);
    }
    if (vector == 0x91) {
        redirection = io_read(0x10 + 2 * 4) & 0xffff;
        if (++com1_interrupts == 3)
            inb(0x3fa); /* takes the request back */
    }
    *apic(EOI) = 0;
}

HANDLER(30) HANDLER(31) HANDLER(40) HANDLER(41) HANDLER(51) HANDLER(52) HANDLER(61) HANDLER(71) HANDLER(91)
__attribute__((interrupt)) static void on_nmi(void *frame) { (void)frame; add(&nmis, 1); }
__attribute__((interrupt)) static void on_pic(void *frame) { (void)frame; pic_ticks++; outb(0x20, 0x20); }

void other_main(void)
{
    load_idt();
    *apic(SVR) = 0x1ff;
    add(&started, 1);
    for (;;) {
        __asm__ volatile("pause");
        if (phase == 1) {
            add(&asleep, 1);
            __asm__ volatile("hlt"); /* interrupts are off: only an NMI wakes it */
            add(&woken, 1);
            while (phase == 1)
                __asm__ volatile("pause");
        } else if (phase == 2) {
            window();
        } else if (phase == 3) {
            for (;;)
                __asm__ volatile("cli\n\thlt");
        }
    }
}

static void say(const char *what, u32 value, int digits)
{
    print(what);
    hex(value, digits);
    put('\n');
}

static void say_order(const char *what)
{
    print(what);
    for (u32 n = 0; n < orders; n++) {
        put(' ');
        hex(order[n], 2);
    }
    put('\n');
    orders = 0;
}

static void to_itself(void)
{
    self(0x30);
    window();
    send(0, 0x30);
    window();
    *apic(LDR) = 0x01000000;
    send(1, LOGICAL | 0x30);
    window();
    send(2, LOGICAL | 0x30); /* nobody's bit */
    window();
    *apic(DFR) = 0x0fffffff;
    *apic(LDR) = 0x21000000;
    send(0x21, LOGICAL | 0x30);
    window();
    send(0x31, LOGICAL | 0x30); /* another cluster */
    window();
    *apic(DFR) = 0xffffffff;
    *apic(LDR) = 0x01000000;
    say("to itself: ", taken[0x30], 1);
    orders = 0;
}

static void priorities(void)
{
    self(0x30);
    self(0x41);
    self(0x40);
    self(0x61);
    say("requested: ", *apic(IRR + 0x20), 8);
    for (int n = 0; n < 4; n++)
        window();
    say_order("order:");
    say("priority meanwhile ", priority, 2);
    say("in service ", in_service, 8);
    *apic(TPR) = 0x40;
    self(0x41);
    self(0x61);
    window();
    window();
    say("priority ", *apic(PPR), 2);
    say_order("above 4x:");
    *apic(TPR) = 0;
    window();
    say_order("and below:");
    self(0x51);
    for (int n = 0; n < 3; n++)
        window();
    say_order("nested:");
}

static void to_others(void)
{
    self(NMI);
    EXPECT(nmis == 1);
    say("NMI to itself ", nmis, 1);
    phase = 1;
    EXPECT(asleep == 3);
    for (int n = 0; n < 3 && woken < 1; n++) { /* again, if it was not asleep yet */
        wait();
        send(2, NMI);
        EXPECT(woken == 1);
    }
    say("woken by NMI ", woken, 1);
    nmis = 0;
    *apic(ICR) = OTHERS | ASSERT | NMI;
    EXPECT(nmis == 3 && woken == 3);
    say("NMI to the others ", nmis, 1);
    say("woken ", woken, 1);
    send(1, 0x40);
    wait();
    say("held back ", taken[0x40] - 1, 1);
    phase = 2;
    EXPECT(taken[0x40] == 2);
    say("let in ", taken[0x40] - 1, 1);
    *apic(ICR) = OTHERS | ASSERT | 0x31;
    EXPECT(taken[0x31] == 3);
    say("to the others ", taken[0x31], 1);
    *apic(ICR) = ALL | ASSERT | 0x31;
    window();
    EXPECT(taken[0x31] == 7);
    say("to all ", taken[0x31], 1);
    send(0xff, 0x31);
    window();
    EXPECT(taken[0x31] == 11);
    say("to everybody's id ", taken[0x31], 1);
    send(0xff, LOGICAL | LOWEST | 0x31); /* only the first one has a logical id */
    window();
    wait();
    say("to the idlest ", taken[0x31], 1);
    phase = 0;
}

static void lines(void)
{
    *apic(LVT_LINT0) = 0x10700;
    outb(0x43, 0x34);
    outb(0x40, 0);
    outb(0x40, 0x10);
    outb(0x21, 0xfe);
    for (int n = 0; n < 4; n++) {
        window();
        wait();
    }
    say("LINT0 masked: ", pic_ticks, 1);
    *apic(LVT_LINT0) = 0x700;
    while (pic_ticks < 2)
        window();
    print("LINT0 open: ticks\n");
    outb(0x21, 0xff);
    *apic(LVT_LINT0) = 0x10000;
    *apic(LVT_TIMER) = 0x10040;
    *apic(INITIAL) = 10000;
    while (*apic(CURRENT))
        ;
    orders = 0;
    *apic(LVT_TIMER) = 0x40;
    window();
    say_order("a timer that ended while masked:");
    wait();
    io(0x10 + 2 * 4 + 1, 0);
    io(0x10 + 2 * 4, 0x8091); /* COM1 at level: its transmitter is empty, and asks until its IIR is read */
    outb(0x3fc, 8);
    outb(0x3f9, 2);
    for (int n = 0; n < 9; n++)
        window();
    say("at level: ", com1_interrupts, 1);
    say("entry meanwhile ", redirection, 4);
    say("entry behind ", io_read(0x10 + 2 * 4) & 0x1ffff, 5);
    outb(0x3f9, 0);
    io(0x10 + 2 * 4, 0x91);
    com1_interrupts = 3;
    wait();
    outb(0x3f9, 2);
    for (int n = 0; n < 9; n++)
        window();
    say("at edges: ", com1_interrupts - 3, 1);
    outb(0x3f9, 0);
    io(0x10 + 2 * 4, 0x10000);
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    load_gdt();
    set_gate(2, (void (*)(void))on_nmi, 0x8e);
    set_gate(0x20, (void (*)(void))on_pic, 0x8e);
    void (*const handlers[])(void) = {handle_30, handle_31, handle_40, handle_41, handle_51, handle_52, handle_61, handle_71, handle_91};
    const u8 vectors[] = {0x30, 0x31, 0x40, 0x41, 0x51, 0x52, 0x61, 0x71, 0x91};
    for (u32 n = 0; n < sizeof vectors; n++)
        set_gate(vectors[n], handlers[n], 0x8e);
    load_idt();
    remap_pic(0xffff);
    *apic(SVR) = 0x1ff;
    copy_trampoline();
    for (u32 other = 1; other < 4; other++) {
        send(other, 0x500);
        wait();
        send(other, 0x600 | TRAMPOLINE >> 12);
        while (started < other)
            wait();
        send(other, 0x600 | TRAMPOLINE >> 12); /* it runs already */
        wait();
    }
    say("started ", started, 1);
    to_itself();
    priorities();
    to_others();
    lines();
    phase = 3;
}
