"""Low-rank kernels: the products they give, what trains and what does not, in every form that blocks have."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.adapt import frozen, low_rank, merge, trainable
from jann.generation import generate
from jann.layers import LowRank, dropout, linear
from jann.models import GPT2, MLP, T5, VGG, Llama
from jann.pretrained import from_pretrained, save_pretrained
from jann.training.loops import _scanned

GPT = GPT2(vocab=11, positions=24, embed=8, layers=2, heads=2)
LLAMA = Llama(vocab=11, embed=8, layers=2, heads=2, hidden=12, key_value_heads=1)
TOKENS = np.array([[1, 4, 10, 7, 2], [3, 3, 9, 0, 5]])


def close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def moved(params):
    """params whose low-rank factors are no longer where they start"""
    def draw(path, leaf):
        random = np.random.default_rng(leaf.size)
        return leaf + np.float32(0.3 * random.normal(size=leaf.shape))

    train, rest = trainable(params)
    return jann.combine(rest, jax.tree_util.tree_map_with_path(draw, train))


@pytest.mark.parametrize(("inputs", "outputs"), [((5,), (3,)), ((5,), (2, 3)), ((2, 5), (4,)), ((2, 3), (2, 2))])
def test_linear_by_hand(inputs, outputs):
    random = np.random.default_rng(0)
    x, base, down, up, bias = (
        np.float32(random.normal(size=shape))
        for shape in ((6, *inputs), (*inputs, *outputs), (*inputs, 2), (2, *outputs), outputs)
    )
    kernel = LowRank(base, down, up, jnp.float32(0.5))
    n = len(inputs)
    flat = base.reshape(np.prod(inputs), -1) + 0.5 * down.reshape(-1, 2) @ up.reshape(2, -1)
    wanted = (x.reshape(6, -1) @ flat).reshape(6, *outputs) + bias
    close(linear({"weight": kernel, "bias": bias}, x, n), wanted)
    close(kernel.merged(), flat.reshape(base.shape))
    close(np.asarray(kernel), flat.reshape(base.shape))
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), kernel)  # a linear a row, by vmap
    mapped = jax.vmap(lambda kernel, x: linear({"weight": kernel}, x, n))(several, jnp.stack([x, x]))
    close(mapped[0], wanted - bias)
    close(mapped[1], linear({"weight": several.merged()[1]}, x, n), 1e-4)
    low = linear({"weight": kernel}, jnp.asarray(x, jnp.bfloat16), n)
    assert low.dtype == jnp.bfloat16
    with pytest.raises(jann.ShapeError, match=r"a weight of shape \[.*\] takes inputs"):
        linear({"weight": kernel}, x[..., :1], n)


@pytest.mark.parametrize("model", [GPT, LLAMA], ids=["gpt2", "llama"])
def test_stacked_listed_and_merged_compute_the_same_and_decode(model, drawn, key):
    params = drawn(model)
    adapted = low_rank(model, params, key=key, rank=3)
    run = jax.jit(model)
    np.testing.assert_array_equal(run(adapted, TOKENS), run(params, TOKENS))
    adapted = moved(adapted)
    logits = run(adapted, TOKENS)
    assert np.abs(logits - run(params, TOKENS)).max() > 0.1
    for form in (merge(adapted), jann.core.listed(model, adapted)):
        close(run(form, TOKENS), logits, 3e-5)
    assert not any(isinstance(leaf, LowRank) for leaf in jann.flatten(merge(adapted)).values())
    if model is LLAMA:
        made, wanted = (generate(model, form, [[1, 4, 10], [3]], 6) for form in (adapted, merge(adapted)))
        np.testing.assert_array_equal(made.tokens, wanted.tokens)
        close(made.log_probabilities, wanted.log_probabilities, 1e-4)


def test_factors_start_as_declared_stacked_as_listed(drawn, key):
    model = GPT2(vocab=11, positions=8, embed=64, layers=2, heads=2)
    params = drawn(model)
    adapted = low_rank(model, params, key=key, rank=16, alpha=8)
    qkv, out = (adapted["blocks"][name]["weight"] for name in ("qkv", "attention_out"))
    assert qkv.down.shape == (2, 64, 16) and qkv.up.shape == (2, 16, 3, 2, 32) and qkv.shape == (2, 64, 3, 2, 32)
    assert out.down.shape == (2, 2, 32, 16) and out.up.shape == (2, 16, 64)
    for kernel in (qkv, out):  # uniform within 1 / sqrt(64)
        assert 0.95 / 8 < np.abs(kernel.down).max() <= 1 / 8
        close(np.std(kernel.down), 1 / 8 / np.sqrt(3), 0.01)
        assert not kernel.up.any()
        np.testing.assert_array_equal(kernel.scale, [0.5, 0.5])
    assert np.abs(qkv.down[0] - qkv.down[1]).max() > 0.1
    listed = low_rank(model, jann.core.listed(model, params), key=key, rank=16, alpha=8)
    for block, want in zip(listed["blocks"], jann.unstacked(adapted["blocks"]), strict=True):
        jax.tree.map(np.testing.assert_array_equal, block, want)
    stabilised = low_rank(model, params, key=key, rank=16, alpha=8, rank_stabilised=True)
    np.testing.assert_array_equal(stabilised["blocks"]["qkv"]["weight"].scale, [2, 2])


def test_targets_choose_kernels_and_nothing_else(drawn, key):
    params = drawn(LLAMA)
    chosen = {path for path, leaf in jann.flatten(low_rank(LLAMA, params, key=key, targets="query|value")).items()
              if isinstance(leaf, LowRank)}  # fmt: skip
    assert chosen == {"blocks/query/weight", "blocks/value/weight"}
    with pytest.raises(ValueError, match="no kernel's path matches 'norm.tokens'; the kernels are: blocks/attention"):
        low_rank(LLAMA, params, key=key, targets="norm.tokens")
    with pytest.raises(ValueError, match="blocks/query/weight is of low rank already"):
        low_rank(LLAMA, low_rank(LLAMA, params, key=key, targets="query"), key=key, targets="query|key")
    with pytest.raises(ValueError, match="rank=0"):
        low_rank(LLAMA, params, key=key, rank=0)


def test_partition_takes_kernels_apart_and_combine_puts_them_back(drawn, key):
    params = low_rank(LLAMA, drawn(LLAMA), key=key, targets="blocks/(gate|down)", rank=2)
    train, rest = trainable(params, also="^norm")
    assert set(jann.flatten(train)) == {"norm/scale"} | {
        f"blocks/{name}/weight/{part}" for name in ("gate", "down") for part in ("down", "up")
    }
    assert jann.flatten(rest).keys() | {"norm/scale"} == jann.flatten(params).keys()
    assert rest["blocks"]["gate"]["weight"].down is None and "scale" in rest["blocks"]["gate"]["weight"].parts()
    for back in (jann.combine(train, rest), jann.combine(rest, train)):
        assert jax.tree.structure(back) == jax.tree.structure(params)
        jax.tree.map(np.testing.assert_array_equal, back, params)
    whole, others = jann.partition(params, "gate")
    assert isinstance(whole["blocks"]["gate"]["weight"], LowRank) and not others["blocks"]["gate"]
    ups, _ = jann.partition(params, "/up$")
    assert set(jann.flatten(ups)) == {"blocks/gate/weight/up", "blocks/down/weight/up"}
    assert jann.count(train) == 8 + 2 * 2 * (8 * 2 + 2 * 12)
    assert jann.count(params) == jann.count(LLAMA) + 2 * 2 * (8 * 2 + 2 * 12) + 4
    with pytest.raises(ValueError, match="there is no low-rank kernel"):
        trainable(drawn(LLAMA))


def test_only_the_factors_train_and_have_state(drawn, key):
    adapted = moved(low_rank(GPT, drawn(GPT), key=key, rank=2, targets="qkv|mlp"))
    train, rest = trainable(adapted)
    loss = jann.objective(GPT, jann.language, "token")
    optimizer = optax.adamw(1e-2, eps=1e-2, weight_decay=0.1, mask=jann.decay_mask(GPT))
    batch = {"token": TOKENS[:, :-1], "label": TOKENS[:, 1:]}
    start = jann.TrainState.start(key, train, optimizer)
    assert jann.count(start.opt_state[0].mu) == jann.count(train)

    @jax.jit
    def by_hand(params, opt_state):
        """Gradients of everything, of which only the factors' are used."""
        value, grads = jax.value_and_grad(lambda params: loss(params, batch, None)[0])(params)
        updates, opt_state = optimizer.update(trainable(grads)[0], opt_state, trainable(params)[0])
        return jann.combine(params, optax.apply_updates(trainable(params)[0], updates)), opt_state, value

    params, opt_state, losses = adapted, start.opt_state, []
    for _ in range(3):
        params, opt_state, value = by_hand(params, opt_state)
        losses.append(value)
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), batch)
    for accumulate in (1, 2):
        step = jann.make_step(frozen(loss, rest), optimizer, accumulate=accumulate)
        for state, history in jann.chunks(step, batches, start, 3, 3):
            close(history["loss"], losses)
            jax.tree.map(close, jann.combine(rest, state.params), params)


def test_the_frozen_part_is_an_argument_of_the_program_not_a_constant(drawn, key):
    model = GPT2(vocab=11, positions=8, embed=64, layers=2, heads=2)
    train, rest = trainable(low_rank(model, drawn(model), key=key, rank=1, targets="qkv"))
    optimizer = optax.sgd(0.1)
    step = jann.make_step(frozen(jann.objective(model, jann.language, "token"), rest), optimizer)
    batch = {"token": TOKENS[None, :, :-1], "label": TOKENS[None, :, 1:]}
    text = _scanned.lower(step, batch, jann.TrainState.start(key, train, optimizer), 1, ()).as_text()
    assert len(text) < 400_000 and "tensor<2x64x3x2x32xf32>" in text
    before = _scanned._cache_size()
    for _, metrics in jann.chunks(step, lambda n: jax.tree.map(lambda leaf: leaf[0], batch),
                                  jann.TrainState.start(key, train, optimizer), 4, 2):  # fmt: skip
        assert np.isfinite(metrics["loss"]).all()
    assert _scanned._cache_size() == before + 1  # both chunks are one program


def test_a_run_of_factors_is_kept_and_goes_on(drawn, key, tmp_path):
    train, rest = trainable(low_rank(GPT, drawn(GPT), key=key, rank=2))
    optimizer = optax.adam(1e-2)
    step = jann.make_step(frozen(jann.objective(GPT, jann.language, "token"), rest), optimizer)
    batches = jann.data.contiguous(jnp.arange(40) % 11, 2, 4, key)
    start = jann.TrainState.start(key, train, optimizer)
    unbroken, _ = jann.fit(step, batches, start, 4, every=2, progress=False)
    jann.fit(step, batches, start, 2, every=2, progress=False, folder=tmp_path)
    resumed, history = jann.fit(step, batches, start, 4, every=2, progress=False, folder=tmp_path)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, unbroken.params)
    assert len(history["loss"]) == 2
    kept = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert set(jann.flatten(resumed.params)) == set(jann.flatten(train)) and kept < 400_000


def test_dropout_is_on_what_the_corrections_see_alone(drawn, key):
    random = np.random.default_rng(0)
    x, base, down, up = (np.float32(random.normal(size=shape)) for shape in ((6, 5), (5, 3), (5, 2), (2, 3)))
    noisy = LowRank(base, down, up, jnp.float32(0.5), key, jnp.float32(0.4))
    close(linear({"weight": noisy}, x), x @ base + 0.5 * dropout(x, 0.4, key) @ down @ up)
    assert set(noisy.parts()) == {"base", "down", "up", "scale"}

    params = moved(low_rank(LLAMA, drawn(LLAMA), key=key, rank=2, targets="query|value"))
    train, rest = trainable(params)
    batch = {"token": TOKENS[:, :-1], "label": TOKENS[:, 1:]}
    plain, seen = jann.objective(LLAMA, jann.language, "token"), []

    def loss(params, batch, key, extra=None):
        seen.extend(leaf.key for leaf in jann.flatten(params).values() if isinstance(leaf, LowRank))
        return plain(params, batch, key, extra)

    @jax.jit
    def values(rate, key):
        return frozen(loss, rest, low_rank_dropout=rate)(train, batch, key)[0]

    whole = plain(params, batch, None)[0]
    close(values(0.0, key), whole)
    assert [part.shape for part in seen] == [(2,), (2,)]  # query's and value's, a key for each of two blocks
    noise = jax.vmap(values, (None, 0))(0.5, jax.random.split(key, 64))
    assert len(np.unique(noise)) > 60 and abs(noise.mean() - whole) < 5 * noise.std()
    assert frozen(loss, rest, low_rank_dropout=0.5)(train, batch, None)[0] == whole  # no key: not training
    with pytest.raises(ValueError, match="low_rank_dropout=0.5: no kernel is of low rank, see jann.adapt.low_rank"):
        frozen(loss, merge(params), low_rank_dropout=0.5)
    with pytest.raises(ValueError, match="low_rank_dropout=5 is a share of what is dropped: give 0 to 1"):
        frozen(loss, rest, low_rank_dropout=jnp.array(5))

    listed = jann.core.listed(LLAMA, params)
    step = jann.make_step(frozen(plain, trainable(listed)[1], low_rank_dropout=0.1), optax.sgd(0.1))
    state = jann.TrainState.start(key, trainable(listed)[0], optax.sgd(0.1))
    assert np.isfinite(step(state, batch)[1]["loss"])


def test_what_is_saved_is_merged(drawn, key, tmp_path):
    adapted = moved(low_rank(GPT, drawn(GPT), key=key))
    jann.save(tmp_path / "ours", GPT, adapted)
    save_pretrained(tmp_path / "theirs", GPT, adapted)
    for _, params in (jann.load(tmp_path / "ours"), from_pretrained(tmp_path / "theirs")):
        jax.tree.map(np.testing.assert_array_equal, params, merge(adapted))


def test_other_models_and_other_layers(drawn, key):
    mlp = MLP(4, (5,), 3)
    adapted = moved(low_rank(mlp, drawn(mlp), key=key, targets="layers/1"))
    x = np.float32(np.random.default_rng(0).normal(size=(2, 4)))
    close(mlp(adapted, x), mlp(merge(adapted), x))
    t5 = T5(11, 8, 1, 2, 3, 12)
    adapted, run = moved(low_rank(t5, drawn(t5), key=key, targets="query|up|down")), jax.jit(t5)
    close(run(adapted, TOKENS, TOKENS), run(merge(adapted), TOKENS, TOKENS), 1e-4)
    vgg = VGG(2, 3, ((3,),), size=4)
    convolved = low_rank(vgg, drawn(vgg), key=key, targets="weight")
    with pytest.raises(AttributeError, match="a low-rank kernel has no 'astype': only `linear` multiplies one"):
        vgg(convolved, np.ones((1, 4, 4, 2), np.float32))
