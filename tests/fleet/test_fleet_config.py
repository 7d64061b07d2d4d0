"""Descriptions of hosts: what they mean, and what is said of each kind of mistake."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.fleet.fleet_config import CableConfig

FULL = """
[host]
memory = "64M"
cpus = 2
scheduler = "edf"
code_cache = "32M"
overcommit = 1.5
seed = 5

[network.lan]
latency = 0.002
loss = 0.1
capture = "lan.pcap"

[vm.web]
image = "ping"
memory = "8M"
cpus = 2
append = "10.0.0.1"
disks = ["a.img", {image = "b.img", mode = "write"}]
budget = 0.002
period = 0.01
pcpus = [1]
networks = [{name = "lan", loss = 0, mac = "02:00:00:00:00:07"}, "lan"]

[vm."a b"]
floppy = "x.img"
weight = 3
cap = 0.5
log = "x.log"
log_limit = "1M"
console = "64K"
"""


def test_a_description_is_read() -> None:
    config = hv.FleetConfig.from_toml(FULL)
    assert (config.host.memory, config.host.cpus, config.host.scheduler, config.host.seed) == ("64M", 2, "edf", 5)
    assert config.host.overcommit == 1.5
    web, other = config.machines["web"], config.machines["a b"]
    assert web.machine == hv.MachineConfig(
        image="ping", memory="8M", cpus=2, append="10.0.0.1", name="web",
        disks=(hv.Disk("a.img"), hv.Disk("b.img", mode="write")),
    )  # fmt: skip
    assert web.share == hv.Share(budget=0.002, period=0.01, pcpus=[1])
    assert web.cables == (
        CableConfig(network="lan", link=hv.Link(latency=0.002, loss=0), mac="02:00:00:00:00:07"),
        CableConfig(network="lan"),
    )
    assert config.networks["lan"].link == hv.Link(latency=0.002, loss=0.1)
    assert config.networks["lan"].capture == "lan.pcap"
    assert other.share == hv.Share(weight=3, cap=0.5) and other.cables == ()
    assert (other.log, other.log_limit, other.console) == ("x.log", "1M", "64K") and web.log is None
    assert config.memory == 64 << 20


def test_a_host_has_the_memory_of_its_machines_unless_it_says_otherwise() -> None:
    text = '[vm.a]\nimage = "hello"\nmemory = "3M"\n[vm.b]\nimage = "hello"\nmemory = "5M"\n'
    config = hv.FleetConfig.from_toml(text)
    assert config.memory == 8 << 20 and config.host.scheduler == "credit"


VM = '[vm.a]\nimage = "hello"\n'


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[hosts]\n", 1, "the description of a host has no 'hosts'. Did you mean host?"),
        ("[host]\ncpus = 1\nschedular = 'edf'\n", 3, "a host has no 'schedular'. Did you mean scheduler?"),
        ("[host]\n\nscheduler = 'edg'\n", 3, "Did you mean edf?"),
        ("[host]\nmemory = '64'\n", 2, "it has no unit"),
        ("[host]\ncpus = 1\novercommit = 0.5\n", 3, "overcommit=0.5: a host promises 1 to 16 times its memory."),
        ("[host]\nseed = 1\ncpus = 'two'\n", 3, "cpus = 'two': a whole number is needed."),
        ("[host]\ncpus = true\n", 2, "cpus = True: a whole number is needed."),
        ("[host]\ncpus = 99\n", 2, "a host has 1 to 64 physical CPUs"),
        ("host = 3\n", 1, "host is a table, and this is 3."),
        (VM + "\nmemroy = '1M'\n", 4, "a machine has no 'memroy'. Did you mean memory?"),
        (VM + "wieght = 2\n", 3, "a machine has no 'wieght'. Did you mean weight?"),
        (VM + "zzz = 2\n", 3, "a machine has no 'zzz'. It has image, memory,"),
        (VM + "name = 'b'\n", 3, "a machine has no 'name'."),
        (VM + "memory = 'much'\n", 3, "'much' is not a size"),
        (VM + "memory = '4M'\ncpus = 9\n", 4, "cpus=9: a VM has 1 to 8 virtual CPUs."),
        (VM + "strict = 1\n", 3, "strict = 1 is no bool."),
        (VM + "disks = [\n'a', {img = 'b'}]\n", 3, "is no disk"),
        (VM + "weight = 'big'\n", 3, "weight = 'big': a number is needed."),
        (VM + "cap = 0.5\nweight = -1\n", 4, "weight=-1: a weight is"),
        (VM + "budget = 0.5\n", 3, "A reservation has both"),
        (VM + "pcpus = 1\n", 3, "pcpus = 1: a list is needed."),
        (VM + "pcpus = [-1]\n", 3, "give the numbers of pCPUs"),
        (VM + "log = 3\n", 3, "log = 3: a text is needed."),
        (VM + "log = 'x'\nlog_limit = '1K'\n", 4, "a log has"),
        (VM + "console = '1G'\n", 3, "a console keeps"),
        (VM + "networks = ['lan']\n", 3, "there is no network 'lan': describe it as [network.lan]."),
        ("[network.lan]\n" + VM + "networks = ['la']\n", 4, "Did you mean lan?"),
        ("[network.lan]\n" + VM + "networks = [{name = 'lan', los = 1}]\n", 4, "no 'los'. Did you mean loss?"),
        ("[network.lan]\n" + VM + "networks = [{name = 'lan', mac = 'x'}]\n", 4, "mac='x': give an address"),
        ("[network.lan]\n" + VM + "networks = [{}]\n", 4, "there is no network ''"),
        ("[network.lan]\n" + VM + "clock = 'wall'\nnetworks = ['lan']\n", 4, "the wall clock waits for nobody"),
        ("[network.lan]\nlatency = 1e-6\n", 2, "latency=1e-06: give seconds"),
        ("[network.lan]\nloss = 0\nlatncy = 1\n", 3, "a network has no 'latncy'. Did you mean latency?"),
        ("[vm.a]\nmemory = '1M'\n", 1, "there is nothing that a could boot"),
        ("[vm.'../x']\nimage = 'hello'\n", 1, "'../x' is no name of a machine"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_lines(text: str, line: int, said: str) -> None:
    with pytest.raises(hv.ConfigError) as raised:
        hv.FleetConfig.from_toml(text if text.count("\n") else text + "\n")
    message = str(raised.value)
    assert message.startswith(f"the text:{line}: ") and said in message, message


def test_a_description_without_machines_is_refused() -> None:
    with pytest.raises(hv.ConfigError, match="there is no machine in it"):
        hv.FleetConfig.from_toml("[host]\ncpus = 1\n")
