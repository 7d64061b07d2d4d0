/* Power off by ACPI: the root pointer, the tables, the FADT, \_S5 in the DSDT, and SLP_EN in PM1a. */
#include "kernel.h"

struct __attribute__((packed)) header {
    char signature[4];
    u32 length;
    u8 revision, checksum;
    char rest[26];
};

static int same(const char *one, const char *other, int length)
{
    while (length--)
        if (*one++ != *other++)
            return 0;
    return 1;
}

static u8 sum(const void *at, u32 length)
{
    u8 total = 0;
    for (const u8 *byte = at; length--; byte++)
        total += *byte;
    return total;
}

static const char *root_pointer(u32 from, u32 to)
{
    for (u32 at = from; at < to; at += 16)
        if (same((const char *)at, "RSD PTR ", 8) && sum((const void *)at, 20) == 0)
            return (const char *)at;
    return 0;
}

static const struct header *find(const struct header *rsdt, const char *signature)
{
    const u32 *tables = (const u32 *)(rsdt + 1);
    for (u32 n = 0; n < (rsdt->length - sizeof *rsdt) / 4; n++) {
        const struct header *table = (const struct header *)tables[n];
        if (same(table->signature, signature, 4) && sum(table, table->length) == 0)
            return table;
    }
    return 0;
}

void kernel_main(u32 magic, const u32 *info)
{
    (void)magic, (void)info;
    clear();
    u32 ebda = (u32) * (volatile u16 *)0x40e << 4;
    const char *rsdp = root_pointer(ebda, ebda + 1024);
    if (!rsdp)
        rsdp = root_pointer(0xe0000, 0x100000);
    print(rsdp ? "root pointer found\n" : "no root pointer\n");
    const struct header *rsdt = *(const struct header **)(rsdp + 16);
    print(same(rsdt->signature, "RSDT", 4) && sum(rsdt, rsdt->length) == 0 ? "RSDT is good\n" : "RSDT is bad\n");
    print(find(rsdt, "APIC") ? "MADT found\n" : "no MADT\n");
    const u8 *fadt = (const u8 *)find(rsdt, "FACP");
    print(fadt ? "FADT found\n" : "no FADT\n");
    u32 smi_command = *(const u32 *)(fadt + 48), pm1a = *(const u32 *)(fadt + 64);
    const struct header *dsdt = *(const struct header *const *)(fadt + 40);
    print(same(dsdt->signature, "DSDT", 4) ? "DSDT found\n" : "no DSDT\n");
    const u8 *at = (const u8 *)dsdt + sizeof *dsdt, *end = (const u8 *)dsdt + dsdt->length;
    while (at < end && !same((const char *)at, "_S5_", 4))
        at++;
    if (at == end) {
        print("no S5\n");
        return;
    }
    at += 5;
    at += (*at >> 6) + 2;
    if (*at == 0x0a)
        at++;
    u16 type = (u16)(*at << 10);
    if (!(inw((u16)pm1a) & 1)) {
        if (smi_command)
            outb((u16)smi_command, fadt[52]);
        for (int n = 0; n < 300 && !(inw((u16)pm1a) & 1); n++)
            ;
    }
    print(inw((u16)pm1a) & 1 ? "ACPI is on\n" : "ACPI is off\n");
    outw((u16)pm1a, type | 1 << 13);
    for (int n = 0; n < 1000000; n++)
        inb(0x80); /* a bus cycle each, until it happens */
    print("it did not\n");
}
