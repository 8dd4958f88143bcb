"""Devices."""

import os

import jax


def cpu_devices(n: int | None = None) -> None:
    """Splits the CPU into n JAX devices (by default one a core), over which a sweep spreads its runs.

    Call it before JAX is first used. Accelerators are not affected. Raises RuntimeError when JAX has already started.
    """
    try:
        jax.config.update("jax_num_cpu_devices", n or os.cpu_count())
    except RuntimeError:
        raise RuntimeError("jann.cpu_devices() comes before JAX is first used: move it to the top") from None
