"""Where serial ports, debug consoles, monitors and QMP end on the host: QEMU's character devices."""
