"""Makes bench/README.md and bench/plots from the rows under bench/results and bench/targets.toml.

    python bench/report.py

Of each benchmark the newest rows count: of one command, on one commit. Test: tests/test_bench_report.py.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import curation
from choosing import choosing
from data_path import Row, lines_of
from plots import plots_of
from targets import Point, State, Target, load_targets, newest, number

HERE = Path(__file__).parent
RESULTS = HERE / "results"
RUNS = "[0-9]*.jsonl"  # of bench/gpu.py: their names begin with the date
FEWEST_ROUNDS = 50  # a median of fewer is marked

HEAD = """# Benchmarks

Made by `python bench/report.py` from the rows under [results](results), which name commit, machine, versions
and command of each figure. Ratios are of chains that took turns in one run; on a busy machine they hold,
times do not. All on AMD EPYC, 2 cores; `isiis` is ISIIS of docs/isiis.md.
"""
TARGETS_INTRO = """## Goals and gates

From [targets.toml](targets.toml), the newest measurement of each: `make bench` measures, `make bench-gate`
refuses a change whose ratio lies under a gate. How to read this page:
[docs/performance.md](../docs/performance.md).
"""
PLOTS_INTRO = """Over commits, oldest first: dashed the goal, dotted the gate; a line for each machine.
"""
STATES: tuple[State, ...] = ("met", "missed", "under the gate", "not measured")
GPU_INTRO = """## Kernels on a GPU

`python bench/gpu.py` takes eight minutes at most: ceilings of the GPU, then each case: is it right, how long
does it take beside its peers, how much memory. What the cases are, and who the peers, is said in
[bench/kernels](kernels).
"""
NO_GPU = "No GPU has run it yet: every figure below is of the compiler, and `auto` takes no kernel of ours.\n"
OFFLINE_INTRO = """## Kernels, compiled without a GPU

`python bench/kernels/offline.py` compiles every kernel for each shape class as training launches it; the rows
are in [results/offline.jsonl](results/offline.jsonl). Registers and spilled bytes per thread, shared memory
per program, least to most of an op's launches. 80 is A100, 90 H100 and H200, 100 B200.
"""


def main() -> None:
    (HERE / "README.md").write_text(report(), encoding="utf-8")
    (HERE / "plots").mkdir(exist_ok=True)
    for name, drawing in plots_of(RESULTS).items():
        (HERE / "plots" / name).write_text(drawing, encoding="utf-8")


def report() -> str:
    """The page."""
    parts = [
        HEAD,
        wanted(),
        "## Data path on a CPU\n",
        data_path(),
        choosing(RESULTS / "cpu"),
        curated() + GPU_INTRO,
        on_gpus(),
    ]
    return "\n".join([*parts, OFFLINE_INTRO, compiled()])


def wanted() -> str:
    """Every target: goal, gate, and what became of it; then how the measured ones went over commits."""
    judged = {name: (target, *newest(target, RESULTS)) for name, target in load_targets().items()}
    counts = Counter(state for _, state, _ in judged.values())
    counted = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    body = [_target_cells(name, *found) for name, found in judged.items()]
    columns = ("name", "what", "goal", "gate", "beside", "measured", "", "on", "commit")
    drawn = "".join(f"\n![{name}](plots/{name})\n" for name in plots_of(RESULTS))
    return f"{TARGETS_INTRO}\n{counted}.\n\n{table(columns, body)}\n{PLOTS_INTRO}{drawn}"


def _target_cells(name: str, target: Target, state: State, point: Point | None) -> tuple[str, ...]:
    measured, machine, commit = ("", "", "") if point is None else (
        number(point.value), point.machine, point.commit[:10]
    )  # fmt: skip
    gate = "" if target.gate is None else number(target.gate)
    said = state if state in ("met", "not measured") else f"**{state}**"
    device = machine or ("a GPU" if target.device == "gpu" else "")
    return (f"`{name}`", target.what, target.in_words(), gate, target.peer, measured, said, device, commit)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    lines = [list(head), ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def data_path() -> str:
    """What each part does, its goal, and who else did what in the same run."""
    targets = load_targets()
    body = []
    for line in lines_of(RESULTS / "cpu"):
        wanted = [targets[name] for name in line.targets]
        met = [target.met(value) for target in wanted if (value := target.value(line.row)) is not None]
        goals = "; ".join(target.in_words() for target in wanted)
        verdict = "" if not wanted else "yes" if len(met) == len(wanted) and all(met) else "**no**"
        made_by = f"`{line.row.get('command', 'ingest.py')}`"
        cells = (line.part, goals, line.measured, line.beside, verdict, made_by, line.row["commit"][:10])
        body.append(cells)
    columns = ("part", "goal", "measured", "beside it, in the same run", "goal met", "bench/data", "commit")
    return table(columns, body)


def curated() -> str:
    """Clusters, copies and balance; nothing where nothing was measured."""
    found = [
        f"{sentence}\n\n{table(head, body)}\n" for sentence, head, body in curation.tables(RESULTS / "cpu")
    ]
    return "".join(["## Curation\n\n", *found]) if found else ""


def on_gpus() -> str:
    """The newest run on each GPU."""
    runs = [max(folder.glob(RUNS)) for folder in sorted(RESULTS.iterdir()) if _is_gpu(folder)]
    return "\n".join(map(one_gpu, runs)) if runs else NO_GPU


def _is_gpu(folder: Path) -> bool:
    return folder.is_dir() and folder.name != "cpu" and any(folder.glob(RUNS))


def one_gpu(path: Path) -> str:
    """Everything a run of bench/gpu.py wrote."""
    about, *found = rows(path)
    versions, link = about["versions"], f"[{path.name}](results/{path.parent.name}/{path.name})"
    head = (
        f"### {about['device']}\n\nCopy {about['copy_gb_s']:,.0f} GB/s, bfloat16 product "
        f"{about['bf16_tflop_s']:,.0f} TFLOP/s. Commit {about['commit'][:10]}, torch {versions['torch']}, "
        f"triton {versions['triton']}; rows in {link}.\n\n"
    )
    body = [line for row in found if row["kind"] == "case" for line in _case_lines(row)]
    columns = (
        "case",
        "",
        "backend",
        "ms (deciles)",
        "× eager",
        "peak MiB",
        "of copy",
        "of product",
        "of 989 TFLOP/s",
        "host ms",
        "error",
    )
    absent = [f"- {row['op']}: {row['why']}\n" for row in found if row["kind"] == "not run"]
    absent += [
        f"- {row['case']}: {name}: {why}\n"
        for row in found
        if row["kind"] == "case"
        for name, why in row["not_run"].items()
    ]
    return head + table(columns, body) + ("\nNot run:\n\n" + "".join(absent) if absent else "")


def _case_lines(row: Row) -> Iterator[tuple[str, ...]]:
    for side in ("forward", "both"):
        timings = row[side]
        eager = timings.get("eager") or timings.get("reference")
        for backend, t in timings.items():
            yield (
                row["case"],
                side,
                backend,
                f"{t['median_ms']:.3f} ({t['low_ms']:.3f}–{t['high_ms']:.3f})"
                + (f", {t['rounds']} rounds" if t["rounds"] < FEWEST_ROUNDS else ""),
                f"{eager['median_ms'] / t['median_ms']:.2f}" if eager else "",
                f"{t['peak_bytes'] / 2**20:,.0f}",
                _share(t.get("copy_share")),
                _share(t.get("product_share")),
                "" if t.get("mfu_of_989") is None else f"{t['mfu_of_989']:.0%}",
                f"{t['host_ms']:.2f}",
                "" if t["error"] is None else f"{t['error']:.1e}",
            )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def compiled() -> str:
    """Of each op and GPU, what its launches take."""
    found: dict[tuple[str, int], list[Row]] = {}
    for row in rows(RESULTS / "offline.jsonl"):
        found.setdefault((row["op"], row["architecture"]), []).append(row)
    columns = (
        "op",
        "sm",
        "launches",
        "registers",
        "spilled, bytes",
        "shared, kB",
        "warps",
        "stages",
        "with matrix units",
    )
    body = [
        (
            op,
            architecture,
            len(group),
            _span(row["registers"] for row in group),
            _span(row["spill_bytes"] for row in group),
            _span(round(row["shared_bytes"] / 1024, 1) for row in group),
            _span(row["num_warps"] for row in group),
            _span(row["num_stages"] for row in group),
            sum(row["matrix_instructions"] > 0 for row in group),
        )
        for (op, architecture), group in sorted(found.items())
    ]
    return table(columns, body)


def _span(values: Iterable[float]) -> str:
    found = list(values)
    return f"{min(found):g}" if min(found) == max(found) else f"{min(found):g}–{max(found):g}"


if __name__ == "__main__":
    main()
