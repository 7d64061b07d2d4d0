"""One virtual CPU: its registers, operands of its instructions, the guest's breakpoints, and the record of an exit."""
