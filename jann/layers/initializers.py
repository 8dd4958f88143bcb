"""How parameters start."""

import jax

lecun_normal = jax.nn.initializers.lecun_normal()
he_normal = jax.nn.initializers.he_normal()
small_normal = jax.nn.initializers.normal(0.02)
standard_normal = jax.nn.initializers.normal(1.0)
ones, zeros = jax.nn.initializers.ones, jax.nn.initializers.zeros
