"""``hypervisor-qemu``: QEMU's command line for toy kernels, for a Makefile or a cargo runner that calls QEMU.

`parsing` reads words as QEMU does, `table` says of each option what it means (`meanings`) or why it is not there,
`command` holds what was asked for. `machine` and `board` make a machine of it, `start` and what it uses run that.
"""
