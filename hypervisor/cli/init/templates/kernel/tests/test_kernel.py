"""Each test boots the kernel. `vm` comes with rootmode, `kernel` from conftest.py."""

import hypervisor as hv


def test_it_says_hello_and_switches_the_machine_off(vm, kernel):
    machine = vm(kernel, memory="16M")
    result = machine.run(timeout=10)
    result.check()  # raises, with a report, if the kernel crashed, hung or halted
    assert machine.console.text == "Hello from my-kernel\n"


def test_it_can_be_stopped_on_the_way(vm, kernel):
    machine = vm(kernel, memory="16M")
    machine.run(until="Hello", timeout=10).check()
    assert "from" not in machine.console.text


def test_it_writes_to_the_serial_port_only(vm, kernel):
    machine = vm(kernel, memory="16M")
    written = []

    @machine.traps.port_out(0x3F8, mode="observe")
    def serial(vcpu, exit):
        written.append(chr(exit.value))

    @machine.traps.port_out(0x80)
    def delay(vcpu, exit):
        return hv.stop("the kernel writes to port 80h")

    machine.run(timeout=10).check()
    assert "".join(written) == "Hello from my-kernel\n"


# This one fails, as the kernel does not say goodbye. Uncomment it to see what a failure shows.
#
# def test_it_says_goodbye(vm, kernel):
#     machine = vm(kernel, memory="16M")
#     machine.run(until="Goodbye", timeout=10).check()
