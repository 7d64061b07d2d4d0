"""The monitor: QEMU's commands for a person who looks into a machine."""
