"""Face recognition: who it is of people who are known, and whether it is the same person of people never seen.

    python -m experiments.faces                        # drawn faces: no download
    python -m experiments.faces --data olivetti        # 40 people, 10 photographs of each

Identification: of each person `known` photographs, drawn at random, are learnt from, and the others are named, by the
nearest photograph (of pixels, of eigenfaces: Turk and Pentland 1991) and by a convolutional network. Verification: some
people are learnt from, others are validated on, and pairs of photographs of the rest are told apart by embeddings,
learnt with an angular margin (ArcFace, Deng et al. 2019) or of all triplets in a batch (Hermans et al. 2017: with the
hardest alone, all embeddings fell together here). Every seed is a draw of its own, the same for all methods. Learning
rate, margins and numbers of components are chosen on photographs or people that are neither learnt from nor tested.
Draws × learning rates, and draws × margins, are one compiled program each.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import numpy as np

import jann
from experiments import face_identification, face_verification
from experiments.face_figures import all_figures
from experiments.face_training import POINTS, Settings, prepared
from experiments.reporting import (
    at_least_one,
    below_one,
    command,
    more_than_zero,
    not_negative,
    plus_minus,
    save_figures,
    show_table,
    write_metrics,
    write_results,
)

SMALLEST = 8  # of which the network's three blocks leave one place

# On 92 × 112 pixels, by 5 photographs of each person, as a share of the other 5.
PUBLISHED = {
    "olivetti": "eigenfaces 10.5 %, self-organising map and convolutional network 3.8 % (Lawrence et al. 1997)",
    "synthetic_faces": "none: they are drawn",
}


def check_counts(images: np.ndarray, size: int, known: int, train_people: int, validation_people: int) -> None:
    """Raises SystemExit for what images[people, photographs, height, width, 1] are too few or too small for"""
    people, photographs, height, width, _ = images.shape
    if height % size or width % size or size < SMALLEST:
        raise SystemExit(
            f"--size {size}: give {SMALLEST} or more that divides that of the photographs, {height} × {width}"
        )
    if not 2 <= known < photographs:
        raise SystemExit(
            f"--known {known}: give from 2, as one is held out to choose by, to {photographs - 1} of {photographs}"
        )
    if photographs < face_verification.EACH:
        raise SystemExit(f"{photographs} photographs of each: verification takes {face_verification.EACH} in a batch")
    if min(train_people, validation_people) < 2 or people - train_people - validation_people < 2:
        raise SystemExit(
            f"--train-people {train_people} --validation-people {validation_people}: "
            f"give at least two each, and leave two or more of the {people} to test"
        )


def run(
    out: Path, faces: jann.data.Faces, *, size: int, known: int, people: tuple[int, int], embed: int,
    learning_rates: tuple[float, ...], learning_rate: float, margins: dict[str, tuple[float, ...]], scale: float,
    dropout: float, false_accepts: float, settings: Settings, seeds: int, seed: int,
) -> None:  # fmt: skip
    """Both tasks, each seed a draw; see `main`"""
    config = {name: value for name, value in locals().items() if name not in ("out", "faces")}
    check_counts(faces.images, size, known, *people)
    images = prepared(faces.images, size)
    folder = jann.open_run(out, {"data": faces.name, **config, "settings": dataclasses.asdict(settings)})
    print(f"{faces}\n")
    key = jax.random.key(seed)
    named, metrics, losses = face_identification.run(
        folder, images, known, learning_rates, dropout, settings, seeds, jann.fold(key, "identification")
    )
    pairs, more, verified = face_verification.run(
        folder, images, people, embed, margins, learning_rate, scale, dropout, false_accepts, settings, seeds,
        jann.fold(key, "verification"),
    )  # fmt: skip
    published = {"identification": PUBLISHED.get(faces.name, "none"), "verification": "none by this protocol"}
    rows = [{"data": faces.name, **row, "published": published[row["task"]]} for row in (*named, *pairs)]
    write_results(folder, rows)
    write_metrics(folder, metrics + more)
    save_figures(folder, **all_figures(faces.images, images, losses, verified, settings))
    show(faces, named, pairs, seeds, known, people, false_accepts)
    print(f"published, identification: {published['identification']}")
    first = folder / verified["best"].replace(" ", "_")
    print(f"wrote {folder}; jann.load({str(first)!r}) gives the embeddings' model of the first draw back")


def show(faces, named, pairs, seeds: int, known: int, people: tuple[int, int], false_accepts: float) -> None:
    """Prints a table of each task."""
    over = f"mean ± 95 % interval over {seeds} draws"
    show_table(
        [{"method": row["method"], "chosen": row["chosen"], "error, %": plus_minus(row["test_error_percent"], ".2f")}
         for row in named],
        f"{faces.name}, identification of {len(faces.images)} people by {known} photographs of each: {over}",
    )  # fmt: skip
    heads = ("ROC area", "equal error rate", f"true accepts at {100 * false_accepts:g} %", "one-shot accuracy")
    show_table(
        [{"method": row["method"], "chosen": row["chosen"],
          **{head: plus_minus(row[name]) for head, name in zip(heads, face_verification.SCORES, strict=True)}}
         for row in pairs],
        f"{faces.name}, verification of {len(faces.images) - sum(people)} people never seen: {over}",
    )  # fmt: skip


def main(
    data: Literal["synthetic_faces", "olivetti"] = "synthetic_faces",
    size: int = 32,
    known: int = 5,
    train_people: int = 20,
    validation_people: int = 8,
    learning_rates: tuple[float, ...] = (0.001, 0.003),
    learning_rate: float = 0.003,
    angular_margins: tuple[float, ...] = (0.0, 0.25, 0.5),
    triplet_margins: tuple[float, ...] = (0.2, 0.5),
    scale: float = 16.0,
    embed: int = 64,
    steps: int = 300,
    batch_size: int = 40,
    dropout: float = 0.0,
    weight_decay: float = 0.05,
    shift: int = 2,
    false_accepts: float = 0.01,
    seeds: int = 5,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Identifies people who are known, and verifies people who were never seen.

    Args:
        data: synthetic_faces are drawn and need no download; olivetti is found through JANN_DATA, or downloaded.
        size: Height and width to which photographs are averaged; it divides theirs (32 and 64).
        known: Photographs of each person that are learnt from, for identification; one is held out to choose by.
        train_people: How many people embeddings are learnt from, for verification.
        validation_people: How many of the others are used to choose by; the rest is tested.
        learning_rates: Peaks of the cosine schedule tried for identification, with every draw.
        learning_rate: The same for verification.
        angular_margins: Margins in radians tried for the angular margin loss; 0 is a softmax of cosines.
        triplet_margins: Margins tried for the triplet loss, in distances of embeddings of length 1.
        scale: What cosines are multiplied by in the angular margin loss.
        embed: Size of the embeddings.
        steps: Steps of each training; a multiple of 20.
        batch_size: Photographs in a step; for verification a multiple of 4, the photographs of each person in it.
        dropout: Rate before each fully connected layer.
        weight_decay: Decay of the kernels (AdamW).
        shift: By how many pixels a training photograph may be moved; half of them are mirrored.
        false_accepts: The share of pairs of different people at which true accepts are counted.
        seeds: Draws.
        seed: The number from which all random keys come.
        out: The run folder, by default runs/faces-DATA. The same command goes on with an interrupted run.
    """
    at_least_one(size=size, learning_rates=learning_rates, angular_margins=angular_margins, embed=embed, seeds=seeds)
    at_least_one(triplet_margins=triplet_margins)
    for rate in learning_rates:
        more_than_zero(learning_rates=rate)
    more_than_zero(learning_rate=learning_rate, scale=scale)
    for margin in angular_margins:
        not_negative(angular_margins=margin)
    for margin in triplet_margins:
        not_negative(triplet_margins=margin)
    not_negative(weight_decay=weight_decay, shift=shift)
    below_one(dropout=dropout, false_accepts=false_accepts)
    if max(angular_margins) > np.pi / 2:
        raise SystemExit(f"--angular-margins {max(angular_margins):g}: an angle in radians, at most 1.57")
    if steps < POINTS or steps % POINTS:
        raise SystemExit(f"--steps {steps}: give a multiple of {POINTS}, the points of a learning curve")
    each = face_verification.EACH
    if batch_size % each or not 2 * each <= batch_size <= each * train_people:
        raise SystemExit(
            f"--batch-size {batch_size}: {each} photographs of each of 2 to {train_people} people, so a multiple of "
            f"{each} from {2 * each} to {each * train_people}"
        )
    jann.cpu_devices()
    settings = Settings(steps, batch_size, weight_decay, shift)
    run(
        out or Path(f"runs/faces-{data}"), jann.data.load(data), size=size, known=known,
        people=(train_people, validation_people), embed=embed, learning_rates=learning_rates,
        learning_rate=learning_rate, margins={"angular margin": angular_margins, "triplet": triplet_margins},
        scale=scale, dropout=dropout, false_accepts=false_accepts, settings=settings, seeds=seeds, seed=seed,
    )  # fmt: skip


if __name__ == "__main__":
    command(main)
