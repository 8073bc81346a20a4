"""The answer in lines for people, and in values for machines. Test: tests/cost/test_plan.py."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from textwrap import wrap
from typing import Any

from aqqua.cost.estimate import Prediction, gpu_hours_at, memory_of, predict
from aqqua.cost.facts import GIGA
from aqqua.cost.memory import Memory, checkpoint_bytes
from aqqua.cost.plan import Plan
from aqqua.cost.traffic import Traffic
from aqqua.cost.work import Workload

MILLION, BILLION = 1e6, 1e9
STATED_MFU = 0.5  # of the GPU-hours that nothing of this machine's model is in


def lines(plan: Plan) -> list[str]:
    """For people."""
    found: list[str] = []
    if plan.native is not None and plan.fixed is not None:
        work = plan.native.work
        found += [*_model(plan, work), *_tokens(work), *_operations(work, plan.fixed.work), *_moved(work)]
        if plan.native.predictions:
            largest = max(plan.native.predictions, key=lambda p: p.gpus)
            found += [
                *_memory(plan, work, largest),
                *_engines(plan, work, largest),
                *_predictions(plan),
                *_known(plan),
            ]
    for head, texts in (("note", plan.notes), ("in the way", plan.blockers)):
        found += [line for text in texts for line in _wrapped(head, text)]
    return found


def _model(plan: Plan, work: Workload) -> Iterator[str]:
    model, parameters = work.model, work.parameters
    ours = {False: "PyTorch", True: "our kernels"}
    yield (
        f"model      {model.size}, D {model.width}, L {model.layers}, patch {model.patch_px}: backbone "
        f"{parameters.backbone / MILLION:.1f} M parameters, heads {parameters.heads / MILLION:.1f} M; a "
        f"checkpoint {_short(checkpoint_bytes(parameters, work.objective) / GIGA)} GB"
    )
    yield (
        f"served by  backbone {ours[work.saving.fused]}, attention {ours[work.fused_attention]}, losses "
        f"{work.saving.losses}, optimizer {ours[work.fused_optimizer]}"
    )
    if plan.images_total is not None:
        steps = plan.images_total / work.images_per_step
        length = f"{_count(plan.images_total, 'image')}, {_count(steps, 'step')}"
        yield f"run        {length} of {_count(work.lanes, 'pack')}"


def _tokens(work: Workload) -> Iterator[str]:
    tokens = work.tokens
    yield f"tokens     {tokens.known}: {tokens.source}"
    rows = [
        (name, f"{role.views:g}", f"{role.mean:.1f}", f"{role.n2:.1f}", f"{role.tokens:.1f}")
        for name, role in (
            ("global", tokens.globals_),
            ("local", tokens.locals_),
            ("student", tokens.student),
        )
    ]
    yield from aligned(("view", "an image", "tokens", "E[n²]/E[n]", "tokens an image"), rows)
    yield (
        f"           teacher {tokens.teacher.tokens:.1f} tokens an image, {tokens.masked:.1f} patches "
        f"hidden; {work.images_per_pack:.1f} images a pack (fill {tokens.fill:.3f}), "
        f"{work.images_per_step:.1f} a step"
    )


def _operations(work: Workload, fixed: Workload) -> Iterator[str]:
    yield "operations GFLOP of an image, useful matrix products, forward and backward"
    rows = []
    for name, of in (("native", work), ("at 224/98", fixed)):
        flops = of.flops
        parts = (
            flops.student_globals.training_total,
            flops.student_locals.training_total,
            flops.student_heads.training_total,
            flops.teacher.forward_total,
            flops.teacher_heads.forward_total,
            flops.total,
        )
        rows.append((name, f"{of.tokens.student.tokens:.0f}", *(_short(part / GIGA) for part in parts)))
    head = ("", "tokens", "student global", "local", "heads", "teacher", "its heads", "total")
    yield from aligned(head, rows)
    ratio = fixed.flops.total / work.flops.total
    times = fixed.tokens.student.tokens / work.tokens.student.tokens
    yield f"           224/98 takes {times:.2f} times the tokens and {ratio:.2f} times the operations"


def _moved(work: Workload) -> Iterator[str]:
    traffic = work.traffic()
    once = traffic.pop("optimizer")
    packs = Traffic({})
    for of in traffic.values():
        packs = packs.plus(of)
    ops = packs.times(work.lanes).plus(once).ops
    step = f"a step of {_count(work.lanes, 'pack')}"
    yield f"moved      GB of {step} by op, optimizer on each GPU; of products none"
    rows = [(name, _short(value / GIGA)) for name, value in sorted(ops.items(), key=lambda item: -item[1])]
    yield from aligned(("", "GB"), rows)


def _memory(plan: Plan, work: Workload, at: Prediction) -> Iterator[str]:
    """By engine, for the most GPUs that were asked for."""
    yield (
        f"memory     GB of each of {_count(at.gpus, 'GPU')}, packs of a step on each: {at.packs}; the run's "
        "engine first"
    )
    used = {engine.name: memory_of(work, engine, at.gpus) for engine in plan.engines}
    rows = [
        (name, *(_short(part / GIGA) for part in (*vars(memory).values(), memory.total)))
        for name, memory in used.items()
    ]
    names = [name.replace("_", " ") for name in Memory.__dataclass_fields__]
    yield from aligned(("engine", *names, "in all"), rows)


def _engines(plan: Plan, work: Workload, at: Prediction) -> Iterator[str]:
    """What each engine would need and take there, and other ways to keep activations."""
    forms: dict[str, dict[str, Any]] = {
        "checkpointed": {"checkpointed": True},
        "recompute": {"losses": "recompute"},
        "both": {"checkpointed": True, "losses": "recompute"},
    }
    rows = []
    for engine in plan.engines:
        one = predict(work, plan.facts, at.gpu, at.nodes, at.gpus // at.nodes, engines=[engine])
        other = [replace(work, saving=replace(work.saving, **form)) for form in forms.values()]
        needs = [one.memory.total, *(memory_of(of, engine, at.gpus).total for of in other)]
        times = (one.step.total_s, one.step.communication_s, one.step.exposed_s)
        rows.append(
            (
                *(engine.name, "yes" if one.fits else "no", *(_short(need / GIGA) for need in needs)),
                *(_short(seconds * 1e3) for seconds in times),
                _short(one.gpu_hours_per_billion),
            )
        )
    yield f"engines    on {at.gpus} {at.gpu}: GB of a GPU as configured and by other settings, ms of a step"
    yield from aligned(("engine", "fits", "GB", *forms, "step", "talks", "exposed", "GPU-h/1e9"), rows)


def _predictions(plan: Plan) -> Iterator[str]:
    assert plan.native is not None
    assert plan.fixed is not None
    yield "predicted  ms of a step, exposed: not hidden by computing; GPU-h/1e9: of a billion images"
    head = (
        *("GPU", "nodes", "GPUs", "engine", "GB", "step", "talks", "exposed", "images/s", "MFU"),
        *("h", "GPU-h", "kWh", "grant", "GPU-h/1e9", "at 224/98", "times"),
    )
    pairs = zip(plan.native.predictions, plan.fixed.predictions, strict=True)
    yield from aligned(head, [_prediction(ours, theirs) for ours, theirs in pairs])
    flops, gpus = plan.native.work.flops.total, dict.fromkeys(p.gpu for p in plan.native.predictions)
    stated = [
        f"{name} {_short(gpu_hours_at(flops, BILLION, plan.facts.gpu(name).peak_tflop_s.value, STATED_MFU))}"
        for name in gpus
    ]
    yield f"           at a stated MFU of {STATED_MFU:g}, GPU-h/1e9: {', '.join(stated)}"


def _prediction(ours: Prediction, theirs: Prediction) -> tuple[str, ...]:
    step, times = ours.step, theirs.gpu_hours_per_billion / ours.gpu_hours_per_billion
    engine = ours.engine if ours.fits else "does not fit"
    grant = "-" if ours.grant_share is None else f"{ours.grant_share:.1%}"
    return (
        *(ours.gpu, str(ours.nodes), str(ours.gpus), engine, _short(ours.memory.total / GIGA)),
        *(_short(seconds * 1e3) for seconds in (step.total_s, step.communication_s, step.exposed_s)),
        *(_short(ours.images_s), f"{ours.mfu:.3f}"),
        *(*map(_short, (ours.hours, ours.gpu_hours, ours.kwh)), grant),
        *(_short(ours.gpu_hours_per_billion), _short(theirs.gpu_hours_per_billion), f"{times:.2f}"),
    )


def _known(plan: Plan) -> Iterator[str]:
    """What the prediction rests on, and how that is known."""
    assert plan.native is not None
    for name in dict.fromkeys(p.gpu for p in plan.native.predictions):
        gpu = plan.facts.gpu(name)
        peak, product, copy = gpu.peak_tflop_s, gpu.product_tflop_s, gpu.copy_gb_s
        yield (
            f"{name:10} peak {peak.value:g} TFLOP/s ({peak.known}), product {product.value:g} "
            f"({product.known}), copy {copy.value:g} GB/s ({copy.known})"
        )
        yield from _wrapped("", f"assumed: {', '.join(plan.facts.assumed_of_gpu(name)) or 'nothing else'}")
    yield from _wrapped("assumed", f"of all: {', '.join(plan.facts.assumed_of_all())}")
    yield "           This is a model: no step of this run has been timed on these GPUs."


def _count(number: float, noun: str) -> str:
    told = f"{number:,.0f}"
    return f"{told} {noun}" if told == "1" else f"{told} {noun}s"


def _short(value: float | None) -> str:
    """Three digits, or whole thousands; what is not known is a dash."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def _wrapped(head: str, text: str) -> list[str]:
    return wrap(text, 110, initial_indent=f"{head:11}", subsequent_indent=" " * 11)


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns, the first to the left."""
    table = [tuple(head), *map(tuple, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    for row in table:
        first, *rest = row
        cells = [
            first.ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)),
        ]
        yield ("           " + "  ".join(cells)).rstrip()


def values(plan: Plan) -> dict[str, Any]:
    """For machines; seconds, bytes, operations, GPU-hours."""
    found: dict[str, Any] = {
        "images_total": plan.images_total,
        "blockers": list(plan.blockers),
        "notes": list(plan.notes),
        "facts": plan.facts.model_dump(mode="json"),
    }
    for name, costed in (("native", plan.native), ("fixed_224_98", plan.fixed)):
        if costed is None:
            continue
        work = costed.work
        flops = work.flops
        found[name] = {
            "tokens": asdict(work.tokens),
            "images_per_pack": work.images_per_pack,
            "images_per_step": work.images_per_step,
            "parameters": asdict(work.parameters) | {"total": work.parameters.total},
            "flops_per_image": {part: of.forward for part, of in vars(flops).items()}
            | {"total": flops.total},
            "bytes_per_pass": {pass_: of.ops for pass_, of in work.traffic().items()},
            "predictions": [_values_of(plan, work, prediction) for prediction in costed.predictions],
        }
    return found


def _values_of(plan: Plan, work: Workload, prediction: Prediction) -> dict[str, Any]:
    engines = {engine.name: memory_of(work, engine, prediction.gpus).total for engine in plan.engines}
    seconds = asdict(prediction.step) | {"total_s": prediction.step.total_s}
    return asdict(prediction) | {"step": seconds, "fits": prediction.fits, "memory_by_engine": engines}
