"""How many numbers a model holds: in all, and parameter by parameter."""

import dataclasses

from jann.core import Model, as_spec
from jann.trees import Tree, flatten


def count(model_or_params: Model | Tree) -> int:
    """How many numbers the parameters hold."""
    tree = as_spec(model_or_params) if isinstance(model_or_params, Model) else model_or_params
    return sum(leaf.size for leaf in flatten(tree).values())


@dataclasses.dataclass(frozen=True, repr=False)
class Summary:
    """What `summary` returns; prints as a table."""

    title: str
    rows: tuple[tuple[str, str, int, bool], ...]

    def __repr__(self):
        total, trained = sum(r[2] for r in self.rows), sum(r[2] for r in self.rows if r[3])
        counts = [(path, axes, f"{n:,}" if t else f"{n:,} *") for path, axes, n, t in self.rows]
        body = [("path", "axes", "parameters"), *counts]
        widths = [max(len(row[i]) for row in body) for i in range(3)]
        lines = [f"{p:<{widths[0]}}  {a:<{widths[1]}}  {n:>{widths[2]}}" for p, a, n in body]
        rule = "-" * len(lines[0])
        closing = f"{total:,} parameters, {4 * total / 2**20:.2f} MiB in float32"
        if trained != total:
            closing += f"; {trained:,} trained, * running statistics"
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule, closing])


def summary(model: Model) -> Summary:
    """A table of the model's parameters: path, axes with sizes, how many. Nothing is allocated."""
    rows = tuple((path, str(p), p.size, p.trained) for path, p in flatten(as_spec(model)).items())
    return Summary(repr(model), rows)
