"""``python -m bench [--quick] [--only NAME]... [--update] [--repeat N]``: measure, print, write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import qemu, report
from bench.measure import Bench
from bench.rows import ROWS, Linux, Micro, Processors

DOCS = Path(__file__).parent.parent / "docs"


def main() -> int:
    """Exit status: 0 when everything is within its limits, 1 when something is not, 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure beside QEMU and write docs/benchmarks.md."
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the work; the documents are left alone")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="rows whose name has NAME in it; may be repeated"
    )
    parser.add_argument("--update", action="store_true", help="put the rows of --only into the published table")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs for each median (default: 5)")
    parser.add_argument("--peer-only", action="store_true", help="QEMU's side alone; the documents are left alone")
    arguments = parser.parse_args()
    if arguments.repeat < 1:
        parser.error("--repeat is less than 1")
    wanted = [row for row in ROWS if not arguments.only or any(text in row.name for text in arguments.only)]
    if arguments.peer_only:
        wanted = [row for row in wanted if isinstance(row, Micro | Linux | Processors)]
    if not wanted:
        parser.error(f"no row is called {arguments.only[0]!r}; there are: {'; '.join(row.name for row in ROWS)}")
    if arguments.update and (arguments.quick or arguments.peer_only):
        parser.error("--update publishes figures: leave --quick and --peer-only out")
    try:
        peer = qemu.version()
        published = report.read_json(DOCS / "benchmarks.json", arguments.repeat, peer) if arguments.update else {}
    except (qemu.PeerError, report.OtherRunError) as problem:
        parser.error(str(problem))

    bench = Bench(arguments.repeat, arguments.quick, arguments.peer_only)
    figures = []
    try:
        for row in wanted:
            figures.append(bench.measure(row))
            print(report.line(figures[-1]), figures[-1].problem, flush=True)
    finally:
        bench.close()
    # Part of the rows, or part of the work, does not replace the published table.
    if arguments.update or not (arguments.only or arguments.quick or arguments.peer_only):
        published |= {item.row.name: item for item in figures}
        table = [published[row.name] for row in ROWS if row.name in published]  # a new one may not be measured yet
        (DOCS / "benchmarks.md").write_text(report.markdown(table, arguments.repeat, arguments.quick, peer))
        report.write_json(DOCS / "benchmarks.json", table, arguments.repeat, arguments.quick, peer)
    problems = report.over(figures)
    for sentence in problems:
        print(f"over: {sentence}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
