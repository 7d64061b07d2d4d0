"""``hypervisor-qemu``: QEMU's command line for toy kernels, for a Makefile or a cargo runner that calls QEMU.

`parsing` reads words as QEMU does, `option_table` says of each option what it means (`meanings`) or why not,
`command` holds what was asked for. `as_config` and `qemu_board` make a machine of it, `connected` and `machine_life`
run that.
"""
