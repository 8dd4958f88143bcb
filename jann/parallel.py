"""Devices, and which of them holds which part of a parameter."""

import math
import os
import warnings

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import tree_map_with_path

from jann.core import Model, Spec, as_spec, check, in_form_of, is_param
from jann.process import run_side_by_side
from jann.trees import Node, Tree, flatten, path_name


def cpu_devices(n: int | None = None) -> None:
    """Splits the CPU into n JAX devices (by default one a core), over which a sweep spreads its runs.

    Call it before JAX is first used. Accelerators are not affected. Raises RuntimeError when JAX has already started.
    """
    try:
        jax.config.update("jax_num_cpu_devices", n or os.cpu_count())
    except RuntimeError:
        raise RuntimeError("jann.cpu_devices() comes before JAX is first used: move it to the top") from None
    run_side_by_side()


def shardings(
    model_or_spec: Model | Spec, mesh: Mesh, rules: dict[str, str | tuple[str, ...]], params: Tree | None = None
) -> Tree:
    """A NamedSharding for each parameter: `rules` maps logical axes to mesh axes, `{"embed": "data"}`.

    An axis that its mesh axes do not divide is replicated, with a warning that names it. The mesh's axes are taken as
    automatic: XLA decides how what is computed is split. `jax.sharding.Mesh` makes such axes; those of `jax.make_mesh`
    are explicit unless it is told, and a batch may not be split along them.

    params:  answer in their form: equal blocks stacked or listed, running statistics present or not, and low-rank
             kernels, whose factors are split along the axes that they share with the kernel

    Raises ValueError for a rule that names no axis of the mesh, ShapeError if `params` do not fit the model.
    """
    for name, wanted in rules.items():
        if unknown := set((wanted,) if isinstance(wanted, str) else wanted) - set(mesh.shape):
            there = ", ".join(mesh.shape)
            raise ValueError(f"rule {name!r}: the mesh has no axis {', '.join(unknown)}; it has {there}")
    mesh = Mesh(mesh.devices, mesh.axis_names) if isinstance(mesh, Mesh) else mesh
    spec = as_spec(model_or_spec) if params is None else _of_each_array(model_or_spec, params)

    whole = []

    def leaf(path, param):
        used: set[str] = set()
        parts = []
        for name, size in param.axes.items():
            wanted = rules.get(name, ())
            wanted = tuple(m for m in ((wanted,) if isinstance(wanted, str) else wanted) if m not in used)
            if wanted and size % math.prod(mesh.shape[m] for m in wanted):
                whole.append(f"{path_name(path)}: {name}={size} is not divisible over {wanted}, so it is replicated")
                wanted = ()
            used.update(wanted)
            parts.append(wanted[0] if len(wanted) == 1 else wanted or None)
        while parts and parts[-1] is None:  # as XLA writes it, so that the same is not taken for another
            parts.pop()
        return NamedSharding(mesh, PartitionSpec(*parts))

    found = tree_map_with_path(leaf, spec, is_leaf=is_param)
    for message in whole:
        warnings.warn(message, stacklevel=2)
    return found


def _of_each_array(model_or_spec: Model | Spec, params: Tree) -> Spec:
    """A Param for each array that params hold, also for those that a low-rank kernel is made of."""
    check(model_or_spec, params)
    declared = flatten(in_form_of(as_spec(model_or_spec), params))

    def leaf(path, value):
        param = declared[path_name(path)]
        return value.declared(param) if isinstance(value, Node) else param

    return tree_map_with_path(leaf, params, is_leaf=lambda value: isinstance(value, Node))


def together(tree: Tree, beside: Tree = ()) -> Tree:
    """Arrays that are bound to no device, put whole on all devices of those that are, in the tree or `beside` it; the
    rest as it is.

    So a step meets what it will return, and is compiled once: of a fresh train state with parameters that were restored
    or sharded, or with batches that are split, the step would return all bound.
    """
    arrays = [leaf for leaf in jax.tree.leaves((tree, beside)) if isinstance(leaf, jax.Array)]
    bound = [leaf.sharding for leaf in arrays if not isinstance(leaf, jax.core.Tracer) and leaf.committed]
    if not bound or len(bound) == len(arrays) or any(each.device_set != bound[0].device_set for each in bound):
        return tree
    meshes = [each.mesh for each in bound if isinstance(each, NamedSharding)]
    whole = NamedSharding(meshes[0], PartitionSpec()) if meshes else bound[0]
    return jax.tree.map(lambda leaf: leaf if getattr(leaf, "committed", False) else _put(leaf, whole), tree)


def _put(leaf: jax.Array, where: jax.sharding.Sharding) -> jax.Array:
    """jax.device_put, for keys too on devices of other processes."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.device_put(leaf, where)
    numbers = jax.device_put(jax.random.key_data(leaf), where)
    return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(leaf))


def gathered(tree: Tree) -> Tree:
    """The same, its arrays that are split over several processes whole in each; all of these call it."""

    def leaf(value):
        here = not isinstance(value, jax.Array) or value.is_fully_addressable or value.is_fully_replicated
        return value if here else multihost_utils.process_allgather(value, tiled=True)

    return jax.tree.map(leaf, tree)


def named_shardings(tree: Tree) -> tuple[NamedSharding | None, ...]:
    """How each leaf is split over a mesh, where it is bound to one of several devices; hashable."""
    found = []
    for leaf in jax.tree.leaves(tree):
        bound = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.committed
        split = bound and isinstance(leaf.sharding, NamedSharding) and leaf.sharding.num_devices > 1
        found.append(leaf.sharding if split else None)
    return tuple(found)


def kept_at(where: tuple[NamedSharding | None, ...], tree: Tree) -> Tree:
    """The same values, each leaf split as `named_shardings` said, not as XLA would choose."""
    leaves, structure = jax.tree.flatten(tree)
    for i, at in enumerate(where):
        if at is not None:
            leaves[i] = jax.lax.with_sharding_constraint(leaves[i], at)
    return structure.unflatten(leaves)
