"""What somebody does with labgrid's QEMU driver: ``python labgrid_session.py CONFIGURATION``, where labgrid is. What it
learnt is printed as JSON: the command lines of the targets, and a session with the one that is called main.
"""

import json
import sys
from typing import Any

from labgrid import Environment  # type: ignore[import-not-found]  # it has a folder of its own


def session(driver: Any) -> dict[str, Any]:
    """Console, monitor, reset, off and on again."""
    learnt: dict[str, Any] = {}
    driver.on()
    driver.expect(r"GUEST [^\n]*\n# ", timeout=60)
    learnt["start"] = driver._expect.after.decode()
    for line in ("hello", "a line that is a little longer"):
        driver.sendline(line)
        driver.expect(r"you said: ([^\n]*)\n# ", timeout=60)
        learnt[line] = driver._expect.match.group(1).decode()
    learnt["running"] = driver.monitor_command("query-status")["status"]
    driver.monitor_command("stop")
    learnt["stopped"] = driver.monitor_command("query-status")["status"]
    driver.sendline("typed while it stood still")
    driver.monitor_command("cont")
    driver.expect("you said: typed while it stood still", timeout=60)
    try:
        driver.monitor_command("no-such-command")
    except Exception as error:
        learnt["unknown"] = type(error).__name__, str(error)
    driver.monitor_command("system_reset")
    driver.expect("GUEST", timeout=60)
    driver.cycle()
    driver.expect("GUEST", timeout=60)
    driver.off()
    learnt["status"] = driver.status
    return learnt


def main(configuration: str) -> None:
    """See above."""
    environment = Environment(configuration)
    lines, learnt = {}, {}
    for name in environment.config.get_targets():
        target = environment.get_target(name)
        driver = target.get_driver("QEMUDriver", activate=False)
        lines[name] = driver.get_qemu_base_args()[1:]
        if name == "main":
            target.activate(driver)
            learnt = session(driver)
            target.deactivate(driver)
    print(json.dumps({"lines": lines, "learnt": learnt}))


if __name__ == "__main__":
    main(sys.argv[1])
