"""What a machine runs before its guest: a BIOS in trap handlers, or a ROM, with the RAM that shadows it."""
