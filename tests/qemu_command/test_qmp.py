"""QMP, by `qemu.qmp` from PyPI, and by whoever sends something else."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ConnectError, ExecuteError, QMPClient

from hypervisor.cli.qemu.monitor.qmp import Splitter
from tests.qemu_command import images
from tests.qemu_command.programs import Program, commands
from tests.qemu_command.test_rows import connected, free_port


async def talks(address: Any, picture: Path) -> dict[str, Any]:
    """What a client does, and what it learns."""
    client = QMPClient("test")
    events: list[tuple[str, Any]] = []
    for _ in range(400):
        try:
            await client.connect(address)
            break
        except ConnectError:  # it is still starting
            await asyncio.sleep(0.05)
    learnt: dict[str, Any] = {"running": (await client.execute("query-status"))["status"]}
    await client.execute("stop")
    learnt["stopped"] = (await client.execute("query-status"))["status"]
    await client.execute("cont")
    learnt["again"] = (await client.execute("query-status"))["status"]
    await client.execute("screendump", {"filename": str(picture)})
    try:
        await client.execute("no-such-command")
    except ExecuteError as error:
        learnt["unknown"] = error.error_class, str(error)
    await client.execute("system_reset")
    learnt["human"] = await client.execute("human-monitor-command", {"command-line": "info status"})
    await asyncio.sleep(0.3)
    await client.execute("quit")
    with_data = (dict(event) for event in client.events.history)
    events = [(event["event"], event.get("data")) for event in with_data]
    learnt["events"] = events
    try:
        await client.disconnect()
    except Exception as error:  # the other side was quicker
        learnt["end"] = type(error).__name__
    return learnt


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_client_learns_what_it_learns_of_qemu(tmp_path: Path, kind: str) -> None:
    learnt = {}
    for name, command in commands().items():
        image, port = images.disk(tmp_path / "d", "halts", images.HALT), free_port()
        socket_path = tmp_path / f"{name}.sock"
        address: Any = str(socket_path) if kind == "unix" else ("127.0.0.1", port)
        option = f"unix:{socket_path}" if kind == "unix" else f"tcp:127.0.0.1:{port}"
        words = ["-drive", f"format=raw,file={image}", "-display", "none", "-qmp", f"{option},server,nowait"]
        with Program(command, words, tmp_path) as program:
            learnt[name] = asyncio.run(talks(address, tmp_path / f"{name}.ppm"))
            assert program.end() == 0
        assert (tmp_path / f"{name}.ppm").read_bytes().startswith(b"P6\n")
        learnt[name].pop("end", None)
        # SeaBIOS resets the machine while it starts, too.
        learnt[name]["events"] = [
            (event, data)
            for event, data in learnt[name]["events"]
            if event in ("STOP", "RESUME", "RESET") and not (data or {}).get("guest")
        ]
    assert learnt["ours"] == learnt["qemu"]


def test_who_sends_anything_gets_an_answer(tmp_path: Path) -> None:
    port, image = free_port(), images.disk(tmp_path / "d", "halts", images.HALT)
    words = [image, "-snapshot", "-display", "none", "-qmp", f"tcp:127.0.0.1:{port},server,nowait"]
    choose = random.Random(3)
    pieces = ["{", "}", '"execute"', ":", '"stop"', "[", "]", "1", ",", '"arguments"', "null", "\x00", '"id"', "{}"]
    with Program(commands()["ours"], words, tmp_path) as program, connected(port) as client:
        reader = client.makefile("rb")
        assert json.loads(reader.readline())["QMP"]["capabilities"] == []

        def asked(text: str) -> Any:
            client.sendall(text.encode() + b"\n")
            answer = json.loads(reader.readline())
            return json.loads(reader.readline()) if "event" in answer else answer

        assert asked('{"execute": "query-status"}')["error"]["class"] == "CommandNotFound"
        assert asked('{"execute": "qmp_capabilities", "id": [1]}') == {"return": {}, "id": [1]}
        assert asked('{"execute": "qmp_capabilities"}')["error"]["class"] == "CommandNotFound"
        for _ in range(300):
            text = "".join(choose.choice(pieces) for _ in range(choose.randrange(1, 9)))
            for answer in [
                asked(text),
                *(json.loads(reader.readline()) for _ in list(Splitter().feed(text.encode() + b"\n"))[1:]),
            ]:
                assert {"return", "error", "event"} & set(answer), text
        for text in ("[" * 100000, '{"execute": "screendump"}', '{"execute": "screendump", "arguments": []}'):
            assert asked(text)["error"]["class"] == "GenericError"
        assert asked('{"x": "' + "x" * (3 << 20))["error"]["class"] == "GenericError"
        client.close()
        reader.close()
        with connected(port) as another:
            another.sendall(b'{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n')
            assert program.end() == 0


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_messages_need_no_line_ends(size: int) -> None:
    messages = [b'{"a": "}]\\"{"}', b'{"b": [{}, {"c": 1}]}', b"[]", b'{"d": "\\\\"}', b"broken {\n", b'{"e": 1}']
    splitter, found, sent = Splitter(), [], b"".join(messages)
    for at in range(0, len(sent), size):
        found += splitter.feed(sent[at : at + size])
    assert found == messages


@pytest.mark.parametrize(
    "address", ["tcp:10.0.0.1:1,server", "tcp:127.0.0.1:1", "udp:x,server", "unix:,server", "unix:no/such,server"]
)
def test_addresses_that_are_none(tmp_path: Path, address: str) -> None:
    with Program(commands()["ours"], [images.disk(tmp_path / "d", "", images.HALT), "-qmp", address], tmp_path) as one:
        assert one.end() == 1
        assert b"-qmp" in one.errors or b"Failed to " in one.errors
