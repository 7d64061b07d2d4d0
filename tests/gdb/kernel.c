/* A multiboot kernel in C that sums squares, for gdb to watch. */

__attribute__((section(".text.header"), used, aligned(4)))
static const unsigned header[] = {0x1badb002, 0, -0x1badb002};

static char stack[4096] __attribute__((used));

struct account {
    int sum;
    char owner[8];
} account = {0, "nobody"};

static int square(int number)
{
    int result = number * number;
    return result;
}

void main(void)
{
    for (int number = 1; number <= 5; number++)
        account.sum += square(number);
    __asm__ volatile("outw %%ax, %%dx" : : "a"(0x2000), "d"(0x604));
}

__attribute__((naked, section(".text.start"))) void start(void)
{
    __asm__("mov $stack + 4096, %esp\n\tcall main\n\tcli\n\thlt");
}
