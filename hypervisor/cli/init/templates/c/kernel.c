/* my-kernel: says hello on the first serial port, and switches the machine off. */

#include <stdint.h>

enum {
    SERIAL = 0x3f8,         /* the first serial port: a byte written here is sent */
    STATUS = SERIAL + 5,    /* its line status register */
    READY = 0x20,           /* ... bit 5: the next byte may come */
    POWER = 0x604,          /* the power management port of QEMU's and rootmode's PC */
    OFF = 0x2000,           /* ... written there: off */
};

static void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void print(const char *text)
{
    for (; *text; text++) {
        while (!(in8(STATUS) & READY))
            ;
        out8(SERIAL, *text);
    }
}

void kernel_main(void)
{
    print("Hello from my-kernel\n");
    out16(POWER, OFF);
}
