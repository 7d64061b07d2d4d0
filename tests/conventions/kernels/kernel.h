/* For multiboot kernels in C: a header, an entry, ports, and a terminal on the screen and the first serial port. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

__attribute__((section(".text.unlikely.header"), used, aligned(4)))
static const u32 multiboot_header[] = {0x1badb002, 3, -(0x1badb002u + 3)};

static u8 stack[16384] __attribute__((used, aligned(16)));

void kernel_main(u32 magic, const u32 *info);

__attribute__((naked, used, section(".text.unlikely.start"))) void start(void)
{
    __asm__("mov $stack + 16384, %esp\n\tpush %ebx\n\tpush %eax\n\tcall kernel_main\n1:\tcli\n\thlt\n\tjmp 1b");
}

static inline void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void outw(u16 port, u16 value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static inline void outl(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static inline u16 inw(u16 port) { u16 value; __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static inline u32 inl(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

static volatile u16 *const screen = (volatile u16 *)0xb8000;
static int row, column;

static void clear(void)
{
    for (int at = 0; at < 80 * 25; at++)
        screen[at] = 0x0720;
    row = column = 0;
}

static void put(char c)
{
    outb(0x3f8, (u8)c);
    if (c == '\n') {
        column = 0;
        row++;
    } else {
        screen[row * 80 + column] = 0x0700 | (u8)c;
        if (++column == 80) {
            column = 0;
            row++;
        }
    }
    if (row == 25) {
        for (int at = 0; at < 80 * 24; at++)
            screen[at] = screen[at + 80];
        for (int at = 80 * 24; at < 80 * 25; at++)
            screen[at] = 0x0720;
        row = 24;
    }
}

static void print(const char *text)
{
    while (*text)
        put(*text++);
}

__attribute__((unused)) static void hex(u32 value, int digits)
{
    while (digits-- > 0)
        put("0123456789abcdef"[value >> 4 * digits & 15]);
}

__attribute__((unused)) static void number(u32 value)
{
    if (value >= 10)
        number(value / 10);
    put((char)('0' + value % 10));
}

/* Sleep until an interrupt has made the condition true; interrupts are off behind it. */
#define WAIT_UNTIL(condition) \
    for (;;) { \
        __asm__ volatile("cli" : : : "memory"); \
        if (condition) \
            break; \
        __asm__ volatile("sti\n\thlt" : : : "memory"); \
    }

/* Descriptors: flat segments of ring 0 and 3 and a TSS, and gates. */

struct __attribute__((packed)) table {
    u16 limit;
    u32 base;
};

struct __attribute__((packed)) gate {
    u16 low, selector;
    u8 zero, type;
    u16 high;
};

enum { CODE = 8, DATA = 16, USER_CODE = 24 | 3, USER_DATA = 32 | 3, TASK = 40 };

static u64 gdt[8] = {0, 0x00cf9a000000ffff, 0x00cf92000000ffff, 0x00cffa000000ffff, 0x00cff2000000ffff};
static struct gate idt[256];

__attribute__((unused)) static void load_gdt(void)
{
    struct table at = {sizeof gdt - 1, (u32)gdt};
    __asm__ volatile("lgdt %0\n\tljmp $8, $1f\n1:\tmov %1, %%ds\n\tmov %1, %%es\n\tmov %1, %%fs\n\tmov %1, %%gs\n\tmov %1, %%ss"
                     : : "m"(at), "r"(DATA) : "memory");
}

__attribute__((unused)) static void load_idt(void)
{
    struct table at = {sizeof idt - 1, (u32)idt};
    __asm__ volatile("lidt %0" : : "m"(at));
}

__attribute__((unused)) static void set_gate(int vector, void (*handler)(void), u8 type)
{
    u32 at = (u32)handler;
    idt[vector] = (struct gate){(u16)at, CODE, 0, type, (u16)(at >> 16)};
}

/* The two interrupt controllers at vectors 20h and 28h, with all lines but those of the mask open. */
__attribute__((unused)) static void remap_pic(u16 mask)
{
    outb(0x20, 0x11);
    outb(0xa0, 0x11);
    outb(0x21, 0x20);
    outb(0xa1, 0x28);
    outb(0x21, 4);
    outb(0xa1, 2);
    outb(0x21, 1);
    outb(0xa1, 1);
    outb(0x21, (u8)mask);
    outb(0xa1, (u8)(mask >> 8));
}
