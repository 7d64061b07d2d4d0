"""A PC BIOS in trap handlers: what INT 10h to 1Ah do, each service a method (docs/bios.md)."""
