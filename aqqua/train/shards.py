"""Which values of which parameter this rank keeps in float32, and what they are when put together.

DeepSpeed's stages cut parameters differently: 1 and 2 join all parameters of a group end to end and give
each rank one stretch, 3 cuts each parameter by itself. Here both become the same table: for a parameter, a
stretch of it, and where in one of this rank's flat float32 tensors that stretch lies. What follows from it
(gathering, setting, the teacher's following) is written once. Nothing of DeepSpeed is called, but its layout
is read: `_hp_mapping`, `grad_position` and `averaged_gradients`, fields of the pinned version, checked by
tests/train/test_zero.py.

Letters: F values of a flat tensor, P of a parameter.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aqqua.train.gradients import buckets
from aqqua.train.ranks import Ranks


@dataclass(frozen=True, eq=False)
class Shard:
    """A stretch of a parameter that this rank keeps; of no values where it keeps none."""

    flat_F: Float[Tensor, " F"]  # float32; what the optimizer moves
    at: int  # first value in flat_F
    first: int  # first value in the parameter, as one row
    values: int

    def of(self, like_F: Float[Tensor, " F"]) -> Tensor:
        """This stretch in a tensor laid out as flat_F, such as a moment."""
        return like_F[self.at : self.at + self.values]

    @property
    def master(self) -> Tensor:
        """The weights themselves, in float32."""
        return self.of(self.flat_F)


def shards_of(optimizer: Any, parameters: Iterable[nn.Parameter], ranks: Ranks) -> dict[nn.Parameter, Shard]:
    """The table, of DeepSpeed's optimizer of stage 1, 2 or 3."""
    find = _of_stage_3 if hasattr(optimizer, "fp32_partitioned_groups_flat") else _of_stage_1_or_2
    return {parameter: find(optimizer, parameter, ranks) for parameter in parameters}


def flats_of(optimizer: Any) -> list[tuple[int, Tensor]]:
    """(number of its parameter group, flat float32 tensor) of all that this rank's optimizer moves."""
    if hasattr(optimizer, "fp32_partitioned_groups_flat"):
        flats = enumerate(optimizer.fp32_partitioned_groups_flat)
        return [(optimizer.sub_group_to_group_id[number], flat_F) for number, flat_F in flats]
    return list(enumerate(optimizer.single_partition_of_fp32_groups))


def gradients_of(optimizer: Any, offloaded: bool) -> list[tuple[int, list[Tensor]]]:
    """(number of its parameter group, pieces of this rank's gradient) after the last backward of a step."""
    if offloaded:
        return [(group, [flat_F.grad]) for group, flat_F in flats_of(optimizer) if flat_F.grad is not None]
    averaged = optimizer.averaged_gradients
    return [(group, averaged[number]) for number, (group, _) in enumerate(flats_of(optimizer))]


def _of_stage_1_or_2(optimizer: Any, parameter: nn.Parameter, _ranks: Ranks) -> Shard:
    mapping: Any = parameter._hp_mapping  # type: ignore[attr-defined]
    if mapping is None:
        return Shard(optimizer.single_partition_of_fp32_groups[0], 0, 0, 0)
    flat_F = optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
    there, here = mapping.hp_fragment_address, mapping.lp_fragment_address
    return Shard(flat_F, there.start, here.start, here.numel)


def _of_stage_3(optimizer: Any, parameter: Any, ranks: Ranks) -> Shard:
    group, at, room = optimizer.grad_position[optimizer.get_param_id(parameter)]
    first = min(ranks.rank * parameter.ds_tensor.ds_numel, parameter.ds_numel)
    values = min(room, parameter.ds_numel - first)  # the last shards may be padded
    return Shard(optimizer.fp32_partitioned_groups_flat[group], at, first, values)


@torch.no_grad()
def put_together(
    stretches: Mapping[str, tuple[Shard, Tensor | None]], shapes: Mapping[str, torch.Size], ranks: Ranks
) -> Iterator[tuple[str, Tensor]]:
    """Whole tensors from the stretches of all ranks, in float32 on every rank, bucket by bucket.

    Args:
        stretches: by name, in the same order on all ranks: the shard, and a tensor laid out as its flat_F;
            None is zeros.
        shapes: of the parameters.
    """
    device = next(iter(stretches.values()))[0].flat_F.device
    empty = {name: torch.empty(shapes[name], device="meta") for name in stretches}
    name_of = {id(tensor): name for name, tensor in empty.items()}
    for bucket in buckets(list(empty.values())):
        names = [name_of[id(tensor)] for tensor in bucket]
        whole_P = torch.zeros(sum(shapes[name].numel() for name in names), device=device)
        parts = dict(zip(names, whole_P.split([shapes[name].numel() for name in names]), strict=True))
        for name in names:
            shard, like_F = stretches[name]
            if like_F is not None and shard.values:
                parts[name][shard.first : shard.first + shard.values] = shard.of(like_F)
        ranks.all_reduce(whole_P)
        yield from ((name, part.view(shapes[name])) for name, part in parts.items())
