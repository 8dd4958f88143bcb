"""Adapters as the PEFT library keeps them: a folder with adapter_config.json and adapter_model.safetensors.

Names and orders of axes follow from the family's weight table; a kernel of theirs, [outputs, inputs] or the other way
round, has lora_A[rank, inputs] and lora_B[outputs, rank], our down and up, transposed.
"""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jann.adapt.low_rank import is_kernel, plain_kernels, replaced
from jann.adapt.peft_config import is_saved, rank_and_scale, refuse_others, targets_of
from jann.core import Model, Param, check, in_form_of
from jann.layers import LowRank
from jann.parallel import gathered
from jann.pretrained.hub import PretrainedError, family_for, read_config, tensors
from jann.pretrained.tables import Axes, Table, WeightsError, in_our_order, in_their_order, sources_of
from jann.trees import Tree, flatten

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
HEAD = "lm_head"  # a decoder's: PEFT saves it with its own adapter too, and ties it to a table
TASKS = {"sentence": "SEQ_CLS", "tokens": "TOKEN_CLS", "span": "QUESTION_ANS"}  # of an encoder's head
HEADS = {"SEQ_CLS": ("classifier", "score"), "TOKEN_CLS": ("classifier", "score"), "QUESTION_ANS": ("qa_outputs",)}


class Place(NamedTuple):
    """Where a tensor of theirs is in our parameters: in which leaf, in which of its stacked blocks."""

    path: str
    block: int
    param: Param
    axes: Axes

    @property
    def shape(self) -> tuple[int, ...]:
        """Our shape of it."""
        return self.param.shape[len(self.param.stacked) :]

    @property
    def their_shape(self) -> tuple[int, ...]:
        return in_their_order(np.broadcast_to(np.zeros(()), self.shape), self.axes).shape

    @property
    def sizes(self) -> tuple[int, int]:
        """Of a kernel: (inputs, outputs)"""
        return self.param.fan_in, math.prod(self.shape) // self.param.fan_in

    @property
    def is_matrix(self) -> bool:
        """Whether PyTorch multiplies by it as a matrix, as low-rank adapters need."""
        axes = self.axes
        theirs = re.findall(r"\(.*?\)|\S+", axes.partition("->")[0]) if isinstance(axes, str) else axes
        return is_kernel(self.param) and len(self.shape if theirs is None else theirs) == 2

    @property
    def inputs_first(self) -> bool:
        """Whether their matrix lies as [inputs, outputs] ("fan in, fan out")."""
        if isinstance(self.axes, str):
            theirs, _, ours = self.axes.partition("->")
            return theirs.split()[0].strip("(") == ours.split()[0]
        return self.axes in (None, (0, 1))


def load_adapter(folder: str | Path, model: Model, params: Tree) -> Tree:
    """A LoRA adapter of PEFT for this model -> params with `LowRank` kernels, and with what it saves whole replaced.

    Of every option that PEFT has: ranks and alphas by pattern, rank-stabilised or not, target modules as a list, an
    expression or "all-linear", some layers only, `modules_to_save`. What it holds of the base, such as the head that it
    adapts, takes that one's place. Where the blocks are stacked, layers of lower rank (or none) are filled up with
    zeros, which training leaves zero. `jann.adapt.merge` makes plain arrays of the result.

    Raises FileNotFoundError naming a missing file, PretrainedError naming an option that jann has not, a tied table
    that the adapter parts from the logits or a damaged file; WeightsError listing tensors that are missing, unexpected
    or of another shape, as those of an adapter for another model are; ValueError for a kernel of low rank already.
    """
    folder = Path(folder)
    check(model, params)
    config = read_config(folder, CONFIG, WEIGHTS)
    refuse_others(config)
    with tensors(folder, WEIGHTS) as (names, read):
        given = {name.removeprefix(PREFIX): read(name) for name in names}
    if tables := sorted({name.split(".lora_embedding_")[0] for name in given if ".lora_embedding_" in name}):
        raise PretrainedError(f"the adapter in {folder} corrects tables of embeddings, which jann has not: {tables}")
    family, leaves = family_for(model), flatten(params)
    places = places_of(model, params, family.table(model, list(given)))
    copies = copies_of(family, model)
    tied = tuple(f"{module_of(copy)}." for copy in copies)
    modules = {module_of(name): place for name, place in places.items() if place.is_matrix}
    modules = {module: modules[module] for module in targets_of(config, list(modules))}
    whole = {name: place for name, place in places.items() if is_saved(config, name)}
    whole |= bases_of(given, places, modules)

    wanted = {name: place.their_shape for name, place in whole.items()}
    for module, place in modules.items():
        rank, (inputs, outputs) = rank_and_scale(config, module)[0], place.sizes
        wanted |= {f"{module}.lora_A.weight": (rank, inputs), f"{module}.lora_B.weight": (outputs, rank)}
    problems = [f"{name}: missing" for name in wanted if name not in given]
    unknown = [name for name in sorted(given.keys() - wanted) if not name.startswith(tied)]
    problems += [f"{name}: unexpected" for name in unknown]
    problems += [
        f"{name}: got {list(given[name].shape)}, wanted {list(shape)}"
        for name, shape in wanted.items() if name in given and given[name].shape != shape
    ]  # fmt: skip
    if problems:
        more = [f"... and {len(problems) - 20} more"] if len(problems) > 20 else []
        lines = "\n  ".join(problems[:20] + more)
        raise WeightsError(f"the adapter in {folder} does not fit {model}:\n  {lines}")
    refuse_parted(model, leaves, places, copies, given)
    leaves |= plain_kernels(leaves, {place.path for place in modules.values()})
    factors: dict[str, dict[int, tuple]] = {}
    for module, place in modules.items():
        down, up = (given[f"{module}.lora_{side}.weight"].T for side in "AB")
        factors.setdefault(place.path, {})[place.block] = (down, up, rank_and_scale(config, module)[1])
    new = {}
    for name, place in whole.items():
        values = jnp.asarray(in_our_order(given[name], place.axes, place.shape))
        leaf = jnp.asarray(new.get(place.path, leaves[place.path]))
        rows = leaf.reshape(-1, *place.shape).at[place.block].set(values.astype(leaf.dtype))
        new[place.path] = rows.reshape(leaf.shape)
    params_of = {place.path: place.param for place in modules.values()}
    for path, found in factors.items():
        new[path] = filled(new.get(path, leaves[path]), params_of[path], found)
    return replaced(params, new)


def bases_of(given: dict, places: dict[str, Place], modules: dict[str, Place]) -> dict[str, Place]:
    """The names of what PEFT keeps of the base itself -> where it is. So it does with embeddings that it adapts or that
    have become more, and puts them in the base's place when it opens the folder.
    """
    plain = {name: name.replace(".base_layer.", ".") for name in given}
    return {
        name: places[found] for name, found in plain.items()
        if found in places and (found != name) == (module_of(found) in modules)
    }  # fmt: skip


def filled(base: Any, param: Param, found: dict[int, tuple]) -> LowRank:
    """A kernel, and (down[inputs, rank], up[rank, outputs], scale) of some of its blocks -> one of low rank"""
    depth, into = len(param.stacked), len(param.into)
    lead, inputs, outputs = param.shape[:depth], param.shape[depth : depth + into], param.shape[depth + into :]
    rank = max(up.shape[0] for _, up, _ in found.values())
    dtype = jnp.result_type(*(up.dtype for _, up, _ in found.values()))
    downs = np.zeros((math.prod(lead), math.prod(inputs), rank), dtype)
    ups = np.zeros((math.prod(lead), rank, math.prod(outputs)), dtype)
    scales = np.zeros(math.prod(lead), np.float32)
    for block, (down, up, scale) in found.items():
        downs[block, :, : len(up)], ups[block, : len(up)], scales[block] = down, up, scale
    down, up = downs.reshape(*lead, *inputs, rank), ups.reshape(*lead, rank, *outputs)
    return LowRank(base, jnp.asarray(down), jnp.asarray(up), jnp.asarray(scales.reshape(lead)))


def save_adapter(
    folder: str | Path,
    model: Model,
    params: Tree,
    *,
    also: str | None = None,
    rank_stabilised: bool = False,
    base: str | None = None,
) -> None:
    """Writes the low-rank corrections of params as PEFT does, which its `PeftModel.from_pretrained` opens.

    A head that tells classes, or where an answer is, is saved whole with them: PEFT does so, and refuses to open what
    lacks one. Of several processes all call it and the first writes.

    also:             a regular expression of the paths of what was trained besides, such as a norm's: modules with such
                      a parameter are saved whole too (`modules_to_save`), a tied table with what it is tied to
    rank_stabilised:  write alpha for alpha / sqrt(rank) instead of alpha / rank; what is computed is the same
    base:             where the model itself is found, for those who load both at once

    Raises ValueError where there is nothing to write, PretrainedError for a model of no published family or a kernel
    that PyTorch holds in a form to which PEFT's corrections do not apply.
    """
    from safetensors.flax import save_file

    check(model, params)
    params = gathered(params)
    if jax.process_index() != 0:
        return
    family = family_for(model)
    places = places_of(model, params, family.table(model, family.modules(model) if hasattr(family, "modules") else ()))
    leaves, arrays = flatten(params), {}
    if also and not any(re.search(also, place.path) for place in places.values()):
        raise ValueError(f"no parameter path matches also={also!r}; the paths are: {', '.join(leaves)}")
    task = task_type(model)
    chosen = {
        module_of(name) for name, place in places.items()
        if also and re.search(also, place.path) or module_of(name).startswith(HEADS.get(task, ()))
    }  # fmt: skip
    chosen = {module for module in chosen if not module.startswith(tuple(f"{above}." for above in chosen))}
    within = tuple(f"{module}." for module in chosen)
    ranks, alphas, first = {}, {}, set()
    for name, place in places.items():
        leaf = leaves[place.path]
        if not isinstance(leaf, LowRank) or name.startswith(within):
            continue
        if not place.is_matrix:
            raise PretrainedError(f"{place.path} is no matrix in PyTorch ({name}): PEFT has no such adapter")
        down, up, scale = block_of(leaf, place)
        rank = rank_of(down, up)
        if rank and scale:
            module = module_of(name)
            arrays[f"{module}.lora_A.weight"], arrays[f"{module}.lora_B.weight"] = down[:, :rank].T, up[:rank].T
            ranks[module], first = rank, first | {place.inputs_first}
            alphas[module] = _short(scale * (math.sqrt(rank) if rank_stabilised else rank))
            if module == HEAD:
                arrays[f"{module}.base_layer.weight"] = tensor_of({place.path: leaf.base}, place)
    if not ranks:
        raise ValueError("there is no low-rank kernel to save: make them with jann.adapt.low_rank")
    for name, place in places.items():
        if name.startswith(within):
            arrays[name] = tensor_of(leaves, place)
    copies, of_path = copies_of(family, model), {place.path: name for name, place in places.items()}
    together = {module_of(copy) for copy, path in copies.items() if of_path[path] in arrays}  # PEFT would part them
    arrays |= {
        copy: tensor_of(leaves, places[of_path[path]]) for copy, path in copies.items() if module_of(copy) in together
    }
    chosen |= {module for module in together if not module.startswith(within)}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    config = {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {module: value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {module: value for module, value in alphas.items() if value != alpha},
        "use_rslora": rank_stabilised,
        "target_modules": shortest(set(ranks), {module_of(name) for name, place in places.items() if place.is_matrix}),
        "modules_to_save": sorted(chosen) or None,
        **({"ensure_weight_tying": True} if together == {HEAD} else {}),  # of others, PEFT cannot
        "fan_in_fan_out": first == {True},
        "lora_dropout": 0.0,
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{WEIGHTS}.partial"
    save_file({PREFIX + name: jnp.asarray(array) for name, array in arrays.items()}, partial, {"format": "pt"})
    partial.replace(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def block_of(leaf: LowRank, place: Place) -> tuple[np.ndarray, np.ndarray, float]:
    """-> (down[inputs, rank], up[rank, outputs], scale) of one block"""
    inputs, outputs = place.sizes
    down = np.asarray(leaf.down).reshape(-1, inputs, leaf.rank)[place.block]
    up = np.asarray(leaf.up).reshape(-1, leaf.rank, outputs)[place.block]
    return down, up, float(np.asarray(leaf.scale).reshape(-1)[place.block])


def refuse_parted(model: Model, leaves: dict, places: dict[str, Place], copies: dict[str, str], given: dict) -> None:
    """Raises PretrainedError where an adapter makes two arrays of what is one in the model, as PEFT does where it saves
    or adapts a tied table: whatever its options say, the tensors that it wrote tell.
    """
    names = {place.path: name for name, place in places.items()}
    for copy, path in copies.items():
        name, within = names[path], f"{module_of(copy)}."
        adapted = any(each.startswith(within) and each not in copies for each in given)
        base = tensor_of(leaves, places[name]) if (copy in given) != (name in given) else None
        if adapted or not np.array_equal(given.get(copy, base), given.get(name, base)):
            mend = "" if hasattr(model, "begin") else (
                ": give dataclasses.replace(model, tied=False), and params with head/weight, the table transposed"
            )  # fmt: skip
            raise PretrainedError(f"the adapter makes {copy} another array than {name}, which {model} ties{mend}")


def rank_of(down: np.ndarray, up: np.ndarray) -> int:
    """The rank without the zeros that `load_adapter` filled up with."""
    used = np.flatnonzero((down != 0).any(0) | (up != 0).any(1))
    return int(used[-1]) + 1 if len(used) else 0


def shortest(chosen: set[str], modules: set[str]) -> list[str]:
    """The last parts of the chosen modules' names where these name no other module, else their whole names."""
    short = {module.rpartition(".")[2] for module in chosen}
    alike = {module for module in modules if module.rpartition(".")[2] in short}
    return sorted(short if alike == chosen else chosen)


def places_of(model: Model, params: Tree, table: Table) -> dict[str, Place]:
    """Their name of each tensor -> where it is in params."""
    spec = flatten(in_form_of(model.spec(), params))
    return {
        name: Place(path, block, param, axes)
        for path, param in spec.items()
        for block, (name, axes) in enumerate(sources_of(table, path, param))
    }


def tensor_of(leaves: dict[str, Any], place: Place) -> np.ndarray:
    """Theirs, of our leaf there."""
    return in_their_order(np.asarray(leaves[place.path]).reshape(-1, *place.shape)[place.block], place.axes)


def copies_of(family: Any, model: Model) -> dict[str, str]:
    """Their names of what is one with a parameter of ours, such as a tied head -> its path"""
    return family.copies(model) if hasattr(family, "copies") else {}


def module_of(name: str) -> str:
    """A tensor's name -> that of its module"""
    return name.rpartition(".")[0]


def task_type(model: Model) -> str | None:
    """PEFT's word for what the model does, where it is one of those that it has a class for"""
    if hasattr(model, "begin"):
        return "SEQ_2_SEQ_LM" if getattr(model, "writers", True) else None
    if not hasattr(model, "cache"):
        return TASKS.get(getattr(model, "head", None))
    return "SEQ_CLS" if getattr(model, "labels", 0) else "CAUSAL_LM"


def _short(alpha: float) -> float:
    """As it was written before float32 rounded it."""
    alpha = float(f"{alpha:.7g}")
    return int(alpha) if alpha == int(alpha) else alpha
