"""Classic problems of control, as pure functions of arrays, so that whole trainings can be jitted, vmapped and swept.

An environment is a frozen dataclass with

    observations               how many numbers an observation has
    actions                    how many there are to choose from; or, where `continuous`, how many numbers an action has
    continuous                 whether they are numbers
    limit                      after so many steps an episode is cut off (it is truncated, not terminated)
    reset(key)                 -> the state of a new episode
    observe(state)             -> [observations], or what else the model takes for one
    step(state, action, key)   -> (state, reward, terminated) of one episode, the state as `reset` gives it; the key is
                               for chance, of which there is none here
    joints(state)              -> [points, 2], where the body's parts meet, in metres: only for `jann.plots.motion`

Any object with these will do where jann.control takes one. Those here move as Gymnasium's do, step for step.
"""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class CartPole:
    """A pole on a cart that is pushed left (0) or right (1): 1 for each step that it stands. Gymnasium's CartPole-v1.

    The state [4] is the cart's position (m) and velocity (m/s), the pole's angle (radians) and angular velocity; it is
    what is observed. Terminates beyond 2.4 m or 12 degrees. Barto, Sutton and Anderson 1983, IEEE Transactions on
    Systems, Man and Cybernetics 13.
    """

    limit: int = 500
    gravity: float = 9.8
    cart: float = 1.0  # kg
    pole: float = 0.1
    half_length: float = 0.5  # m
    force: float = 10.0  # N
    seconds: float = 0.02  # a step

    observations, actions, continuous = 4, 2, False

    def reset(self, key):
        return jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)

    def observe(self, state):
        return state

    def step(self, state, action, key=None):
        x, speed, angle, turning = state
        force = jnp.where(action == 1, self.force, -self.force)
        cos, sin, mass = jnp.cos(angle), jnp.sin(angle), self.cart + self.pole
        push = (force + self.pole * self.half_length * turning**2 * sin) / mass
        torque = (self.gravity * sin - cos * push) / (self.half_length * (4 / 3 - self.pole * cos**2 / mass))
        change = jnp.stack([speed, push - self.pole * self.half_length * torque * cos / mass, turning, torque])
        state = state + self.seconds * change
        fell = (jnp.abs(state[0]) > 2.4) | (jnp.abs(state[2]) > jnp.deg2rad(12))
        return state, jnp.ones(()), fell

    def joints(self, state):
        cart = jnp.stack([state[0], jnp.zeros(())])
        return jnp.stack([cart, cart + 2 * self.half_length * _up(state[2])])


@dataclasses.dataclass(frozen=True)
class Acrobot:
    """Two links that hang; a torque of −1, 0 or 1 (actions 0, 1, 2) at the joint between them swings the lower end up.

    −1 for each step until the end is one link above the axle. Gymnasium's Acrobot-v1. The state [4] is the first
    link's angle from hanging, the second's relative to it (radians) and their velocities; observed are the cosine and
    sine of both, and the velocities. Sutton 1996, "Generalization in reinforcement learning", NeurIPS.
    """

    limit: int = 500
    gravity: float = 9.8
    seconds: float = 0.2

    observations, actions, continuous = 6, 3, False

    def reset(self, key):
        return jax.random.uniform(key, (4,), minval=-0.1, maxval=0.1)

    def observe(self, state):
        a, b, u, v = state
        return jnp.stack([jnp.cos(a), jnp.sin(a), jnp.cos(b), jnp.sin(b), u, v])

    def step(self, state, action, key=None):
        torque = jnp.asarray(action, state.dtype) - 1
        h, slope = self.seconds, lambda state: self._slope(state, torque)
        k1 = slope(state)  # Runge and Kutta's fourth order
        k2 = slope(state + h / 2 * k1)
        k3 = slope(state + h / 2 * k2)
        k4 = slope(state + h * k3)
        a, b, u, v = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        u, v = jnp.clip(u, -4 * jnp.pi, 4 * jnp.pi), jnp.clip(v, -9 * jnp.pi, 9 * jnp.pi)
        state = jnp.stack([_within_turn(a), _within_turn(b), u, v])
        up = -jnp.cos(state[0]) - jnp.cos(state[0] + state[1]) > 1
        return state, jnp.where(up, 0.0, -1.0), up

    def joints(self, state):
        elbow = -_up(-state[0])
        return jnp.stack([jnp.zeros(2), elbow, elbow - _up(-state[0] - state[1])])

    def _slope(self, state, torque):
        """Of links of 1 kg, 1 m and 1 kg m², whose mass is in their middle"""
        a, b, u, v = state
        d1 = 3.5 + jnp.cos(b)
        d2 = 1.25 + 0.5 * jnp.cos(b)
        phi2 = 0.5 * self.gravity * jnp.cos(a + b - jnp.pi / 2)
        phi1 = -0.5 * v**2 * jnp.sin(b) - v * u * jnp.sin(b) + 1.5 * self.gravity * jnp.cos(a - jnp.pi / 2) + phi2
        second = (torque + d2 / d1 * phi1 - 0.5 * u**2 * jnp.sin(b) - phi2) / (1.25 - d2**2 / d1)
        return jnp.stack([u, v, -(d2 * second + phi1) / d1, second])


@dataclasses.dataclass(frozen=True)
class Pendulum:
    """A pendulum that a torque of −2 to 2 Nm swings up and holds: costs angle² + 0.1 velocity² + 0.001 torque² a step.

    Gymnasium's Pendulum-v1; it never terminates. The state [2] is the angle from upright (radians) and its velocity,
    cut off at 8; observed are cosine, sine and velocity. An action [1] beyond the limits counts as the limit.
    """

    limit: int = 200
    gravity: float = 10.0
    seconds: float = 0.05
    torque: float = 2.0

    observations, actions, continuous = 3, 1, True

    def reset(self, key):
        return jax.random.uniform(key, (2,), minval=-1, maxval=1) * jnp.asarray([jnp.pi, 1.0])

    def observe(self, state):
        return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])

    def step(self, state, action, key=None):
        angle, velocity = state
        torque = jnp.clip(action[0], -self.torque, self.torque)
        cost = _within_turn(angle) ** 2 + 0.1 * velocity**2 + 0.001 * torque**2
        velocity = velocity + (1.5 * self.gravity * jnp.sin(angle) + 3 * torque) * self.seconds
        velocity = jnp.clip(velocity, -8, 8)
        return jnp.stack([angle + velocity * self.seconds, velocity]), -cost, jnp.zeros((), bool)

    def joints(self, state):
        return jnp.stack([jnp.zeros(2), _up(-state[0])])


def _up(angle):
    """One metre upwards, turned clockwise by the angle"""
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)])


def _within_turn(angle):
    """The same angle within [−π, π]"""
    return (angle + jnp.pi) % (2 * jnp.pi) - jnp.pi
