"""The schedule of learning rates that most experiments share."""

import optax


def warmup_cosine(learning_rate: float, steps: int, part: int = 20) -> optax.Schedule:
    """From 0 up to `learning_rate` over 1/part of the steps, down to 0 as a cosine; one step alone is at the peak."""
    warm = min(max(1, steps // part), steps - 1)
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warm, steps)
