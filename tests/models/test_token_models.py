"""What holds for every model of tokens: gradients, batches, stacked or listed blocks, JSON, dropout, and learning."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.analysis import check_gradients
from jann.generation import generate
from jann.models import (
    BERT,
    GPT2,
    OPT,
    T5,
    DeBERTa,
    Gemma,
    GPTNeoX,
    Llama,
    Mamba,
    TextCNN,
    Transformer,
    sentence_embedding,
)

MODELS = {
    "gpt2": (GPT2(vocab=7, positions=9, embed=8, layers=2, heads=2, hidden=10, epsilon=1e-3, dropout=0.5), 1),
    "llama": (
        Llama(7, 8, 2, 4, 10, key_value_heads=2, head=4, window=(0, 3), query_key_norm=True, epsilon=1e-3, dropout=0.5),
        1,
    ),
    "llama_yarn": (
        Llama(7, 8, 1, 2, 10, rotary_scaling=(("type", "yarn"), ("factor", 2.0), ("original", 4)), qkv_bias=True),
        1,
    ),
    "llama_mixture": (Llama(7, 8, 2, 2, 10, experts=3, chosen=2, mlp_bias=True, epsilon=1e-3, dropout=0.5), 1),
    "gpt_neox": (GPTNeoX(7, 8, 2, 2, 10, rotary_share=0.5, epsilon=1e-3, dropout=0.5), 1),
    "gpt_neox_serial": (GPTNeoX(7, 8, 1, 2, 10, rotary_share=0.75, parallel=False, tied=True, epsilon=1e-3), 1),
    "gemma": (
        Gemma(7, 8, 2, 4, 10, key_value_heads=2, head=4, window=(3, 0), window_base=50.0, query_scale=9.0, dropout=0.5,
              attention_cap=2.0, logit_cap=3.0, query_key_norm=True, post_norms=True, epsilon=1e-3), 1,
    ),
    "bert": (BERT(7, 9, 2, 8, 2, 2, 10, head="words", epsilon=1e-3, dropout=0.5), 1),
    "bert_relative": (BERT(7, 9, 0, 8, 2, 2, 10, first_position=2, relative_buckets=6, epsilon=1e-3), 1),
    "bert_shared": (BERT(7, 9, 2, 8, 5, 2, 10, table=6, groups=2, epsilon=1e-3, dropout=0.5), 1),
    "bert_replaced": (BERT(7, 9, 2, 8, 2, 2, 10, head="replaced", table=6, epsilon=1e-3), 1),
    "deberta": (DeBERTa(7, 0, 2, 8, 2, 2, 10, buckets=4, furthest=9, table=6, dropout=0.5, epsilon=1e-3), 1),
    "deberta_own": (DeBERTa(7, 9, 0, 8, 2, 2, 10, buckets=0, furthest=3, shared=False, epsilon=1e-3), 1),
    "bert_sentence": (BERT(7, 9, 2, 8, 2, 2, 10, head="sentence", labels=3, epsilon=1e-3), 1),
    "mamba": (Mamba(7, 6, 2, state=2, window=3, rank=2, epsilon=1e-3, dropout=0.5), 1),
    "mamba_untied": (Mamba(7, 6, 1, inner=5, state=2, bias=True, conv_bias=False, tied=False, epsilon=1e-3), 1),
    "opt": (OPT(7, 9, 8, 2, 2, 10, activation=jnp.tanh, dropout=0.5), 1),
    "opt_narrow": (OPT(7, 9, 8, 1, 2, table=6, activation=jnp.tanh, norm_first=False, bias=False, tied=False), 1),
    "text_cnn": (TextCNN(7, 8, 5, (2, 3), 3, dropout=0.5), 1),
    "t5": (T5(7, 8, 2, 2, 3, 10, activation=jax.nn.gelu, gated=True, tied=False, epsilon=1e-3, dropout=0.5), 2),
    "transformer": (Transformer(7, 8, 2, 2, 10, activation=jnp.tanh, epsilon=1e-3, dropout=0.5), 2),
    "transformer_learned": (
        Transformer(7, 8, 1, 2, 10, activation=jnp.tanh, epsilon=1e-3, scaled=False, positions=9, first_position=2,
                    embedded_norm=True, logits_bias=True), 2,
    ),
    "transformer_norm_first": (Transformer(7, 8, 1, 2, 10, activation=jnp.tanh, epsilon=1e-3, norm_first=True), 2),
}
names = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def made(name, drawn):
    model, inputs = MODELS[name]
    random = np.random.default_rng(0)
    return model, drawn(model), [random.integers(0, 7, (3, 6 - i)) for i in range(inputs)]


@names
def test_gradients(made, name):
    model, params, tokens = made
    weights = jax.random.normal(jax.random.key(3), jax.eval_shape(model, params, *tokens).shape)
    check_gradients(lambda p: (model(p, *tokens) * weights).sum(), params, tolerance=1e-4)


@names
def test_vmap_one_example_and_listed_blocks_agree_with_the_batch(made, name):
    model, params, tokens = made

    @jax.jit
    def each_way(params, tokens):
        one = [part[1] for part in tokens]
        mapped = jax.vmap(model, (None, *[0] * len(tokens)))(params, *tokens)
        return model(params, *tokens), mapped, model(params, *one), model(jann.core.listed(model, params), *tokens)

    batch, mapped, one, listed = each_way(params, tokens)
    for other in (mapped, listed):
        np.testing.assert_allclose(other, batch, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one, batch[1], rtol=1e-4, atol=1e-5)


@names
def test_json_noise_and_half_precision(made, name):
    model, params, tokens = made
    assert jann.from_json(json.loads(json.dumps(jann.to_json(model)))) == model
    key = jax.random.key(0)
    run = jax.jit(lambda params, key: model(params, *tokens, key=key))
    plain, noisy = run(params, None), run(params, key)
    np.testing.assert_array_equal(noisy, run(params, key))
    assert np.array_equal(plain, noisy) == (model.dropout == 0)
    with jax.numpy_dtype_promotion("strict"):
        low = run(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params), None)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), plain, rtol=0.2, atol=0.3)


@pytest.mark.parametrize("name", ["bert", "t5", "transformer"])
def test_padding_of_the_source_does_not_leak(made, name):
    model, params, tokens = made
    lengths = jnp.array([6, 4, 1])
    run = jax.jit(lambda first, *rest: model(params, first, *rest, lengths=lengths))
    changed = np.where(np.arange(6) < np.asarray(lengths)[:, None], tokens[0], 3)
    for i, length in enumerate(lengths):
        shown = slice(None) if len(tokens) > 1 else slice(int(length))
        found = run(changed, *tokens[1:])[i][shown]
        np.testing.assert_allclose(found, run(*tokens)[i][shown], rtol=1e-5, atol=1e-5)
        alone = model(params, tokens[0][i, :length], *(part[i] for part in tokens[1:]))
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["t5", "transformer"])
def test_the_decoder_is_causal_and_its_cache_equals_the_whole(made, name):
    model, params, (inputs, tokens) = made
    lengths = jnp.array([6, 4, 1])

    @jax.jit
    def both(params, inputs, tokens):
        whole = model(params, inputs, tokens, lengths=lengths)
        _, state = model.begin(params, inputs, lengths, 8)
        pieces = []
        for begin, end in ((0, 2), (2, 3), (3, 5)):
            x, state = model.features(params, tokens[:, begin:end], state=state)
            pieces.append(model.logits(params, x))
        return whole, jnp.concatenate(pieces, 1)

    whole, pieces = both(params, inputs, tokens)
    np.testing.assert_allclose(pieces, whole, rtol=1e-4, atol=1e-5)
    later = both(params, inputs, np.concatenate([tokens[:, :3], 6 - tokens[:, 3:]], 1))[0]
    np.testing.assert_allclose(later[:, :3], whole[:, :3], rtol=1e-5, atol=1e-6)
    assert np.abs(later[:, 3:] - whole[:, 3:]).max() > 1e-3


def test_a_transformer_learns_to_reverse(key):
    model = Transformer(vocab=8, embed=32, layers=1, heads=4, hidden=64)
    optimizer = optax.adam(3e-3)

    def draw(key):
        source = jax.random.randint(key, (64, 5), 2, 8)
        target = source[:, ::-1]
        return source, jnp.concatenate([jnp.ones((64, 1), jnp.int32), target[:, :-1]], 1), target

    def loss(params, batch, key, extra=None):
        source, shown, target = batch
        logits = model(params, source, shown)
        return optax.softmax_cross_entropy_with_integer_labels(logits, target).mean(), ({}, extra)

    def batches(step):
        return draw(jax.random.fold_in(key, step))

    step = jann.make_step(loss, optimizer)
    train = jax.jit(lambda state: jann.train(step, batches, state, 500))
    state, _ = train(jann.start(model, optimizer, key))
    source, _, target = draw(jax.random.key(99))
    made = generate(model, state.params, source[:16], 5)
    assert (np.asarray(made.tokens) == np.asarray(target[:16])).mean() > 0.95


def test_logits_at_some_places_are_those_of_all(drawn):
    model = BERT(7, 9, 2, 8, 2, 2, 10, epsilon=1e-3)
    params = drawn(model)
    tokens, lengths = jnp.array([[1, 2, 3, 4], [5, 6, 0, 0]]), jnp.array([4, 2])
    places = jnp.array([[3, 0, 3], [1, 0, 0]])
    some, everywhere = model(params, tokens, lengths, None, places), model(params, tokens, lengths)
    wanted = np.stack([everywhere[0, [3, 0, 3]], everywhere[1, [1, 0, 0]]])
    np.testing.assert_allclose(some, wanted, rtol=1e-5, atol=1e-6)
    whole = BERT(7, 9, 2, 8, 2, 2, 10, head="sentence")
    with pytest.raises(ValueError, match="speaks of the whole, not of places"):
        whole(drawn(whole), tokens, lengths, None, places)


@pytest.mark.parametrize(
    "model",
    [GPT2(7, 9, 8, 2, 2, labels=3), Llama(7, 8, 2, 2, 10, tied=True, labels=3), Gemma(7, 8, 2, 2, 10, labels=3)],
    ids=["gpt2", "llama", "gemma"],
)
def test_a_decoder_tells_labels_from_the_last_token_wherever_padding_is(model, drawn):
    params = drawn(model)
    right, lengths = jnp.array([[1, 2, 3, 4], [5, 6, 0, 0]]), jnp.array([4, 2])
    left, positions = jnp.array([[1, 2, 3, 4], [0, 0, 5, 6]]), jnp.array([[0, 1, 2, 3], [-1, -1, 0, 1]])
    found = model(params, right, lengths)
    assert found.shape == (2, 3)
    for row, logits in zip(([1, 2, 3, 4], [5, 6]), found, strict=True):
        x, _ = model.features(params, jnp.array(row))
        np.testing.assert_allclose(logits, x[-1] @ params["head"]["weight"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(params, left, positions=positions), found, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="tells 3 labels, not tokens"):
        generate(model, params, [[1, 2]], 3)
    with pytest.raises(ValueError, match="prompts go before tokens"):
        jann.adapt.PromptTuned(model).spec()


def test_an_encoder_does_not_generate(drawn):
    model = MODELS["bert"][0]
    with pytest.raises(ValueError, match="is no decoder: only one that tells the next token"):
        generate(model, drawn(model), [[1, 2]], 3)


def test_sentence_embeddings_are_unit_means_of_what_is_there(drawn):
    model = BERT(7, 9, 2, 8, 2, 2, 10, head="features", epsilon=1e-3)
    params = drawn(model)
    tokens = jnp.array([[1, 2, 3, 4], [5, 6, 0, 0]])
    found = sentence_embedding(model, params, tokens, jnp.array([4, 2]))
    for row, length, vector in zip(tokens, (4, 2), found, strict=True):
        mean = np.asarray(model(params, row[:length])).mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)


def test_sentence_embeddings_of_half_precision_are_rounded_once_and_of_nothing_zero(drawn):
    model = BERT(7, 9, 2, 8, 2, 2, 10, head="features", epsilon=1e-3)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), drawn(model))
    tokens, lengths = jnp.array([[1, 2, 3, 4], [5, 6, 0, 0]]), jnp.array([4, 0])
    found = sentence_embedding(model, half, tokens, lengths)
    mean = model(half, tokens[0]).astype(jnp.float32).mean(0)
    assert found.dtype == jnp.float16
    np.testing.assert_array_equal(found[0], (mean / jnp.linalg.norm(mean)).astype(jnp.float16))
    np.testing.assert_array_equal(found[1], 0)


def test_no_type_is_converted_unasked(drawn):
    """JAX's strictest promotion of types, in a loss, a decoding and an embedding"""
    scaling = ("type", "dynamic"), ("factor", 2.0), ("original", 4)
    decoder, encoder = Llama(7, 8, 1, 2, 10, rotary_scaling=scaling), BERT(7, 9, 2, 8, 1, 2, 10, head="features")
    tokens = jnp.array([[1, 2, 3, 4, 5], [5, 6, 0, 0, 0]])
    with jax.numpy_dtype_promotion("strict"):
        logits = decoder(params := drawn(decoder), tokens)
        loss, _ = jann.language(logits, {"label": tokens})["loss"]
        made = generate(decoder, params, [[1, 2], [3]], 3).tokens
        vectors = sentence_embedding(encoder, drawn(encoder), tokens, jnp.array([5, 2]))
    with jax.numpy_dtype_promotion("standard"):
        want, _ = jann.language(decoder(params, tokens), {"label": tokens})["loss"]
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    assert made.shape == (2, 3)
    np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_windows_of_layers_where_numbers_are_of_64_bits(made, name):
    model, params, (tokens,) = made
    want = model(params, tokens)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        found = model(params, jnp.asarray(tokens, jnp.int32))
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


def refused(model, part=None):
    params = model.init(jax.random.key(0))
    getattr(model, part)(params, jnp.zeros((4, 8))) if part else model(params, jnp.array([1, 2]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GPT2(vocab=7, embed=8, heads=3).spec(), "heads=3 must divide embed=8"),
        (lambda: Llama(7, 8, 1, 3, 10).spec(), "heads=3 must divide embed=8"),
        (lambda: Llama(7, 8, 1, 4, 10, key_value_heads=3).spec(), "key_value_heads=3 must divide heads=4"),
        (lambda: OPT(7, 9, 8, 1, 3).spec(), "heads=3 must divide embed=8"),
        (lambda: refused(Llama(7, 6, 1, 2, 10)), "head=3: rotary positions turn a head's features in pairs"),
        (lambda: refused(BERT(7, 9, 0, 8, 1, 2, 10, relative_buckets=3)), "3 buckets of relative positions: give at"),
        (lambda: refused(BERT(7, 9, 2, 8, 1, 2, 10), "pooled"), r"has no pooler: build or load it with pooler=True"),
        (lambda: GPTNeoX(7, 8, 1, 3).spec(), "heads=3 must divide embed=8"),
        (lambda: GPTNeoX(7, 8, 1, 2, rotary_share=0.2).spec(), "rotary_share=0.2 turns 0 of a head's 4 features"),
        (lambda: Gemma(7, 8, 1, 3, 10).spec(), "heads=3 must divide embed=8"),
        (lambda: Gemma(7, 8, 1, 4, 10, key_value_heads=3).spec(), "key_value_heads=3 must divide heads=4"),
        (lambda: BERT(groups=13).spec(), "groups=13 are more than layers=12"),
        (lambda: DeBERTa(groups=1).spec(), "first_position, relative_buckets and groups are BERT's own"),
        (lambda: DeBERTa(furthest=129).spec(), "buckets=256, furthest=129: give 0 or at least 2 buckets"),
        (lambda: DeBERTa(content_to_position=False, position_to_content=False).spec(), "this is a BERT, take that"),
        (lambda: BERT(head="nose").spec(), "head='nose': there are features, words"),
        (lambda: Transformer(7, 8, heads=8).spec(), "even parts"),
    ],
)
def test_sizes_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", [Llama, Gemma])
def test_a_window_for_each_layer(kind, drawn):
    params = drawn(kind(7, 8, 2, 2, 10))
    with pytest.raises(ValueError, match=r"window=\(3, 0, 1\) is of 3 layers, there are 2: one each"):
        kind(7, 8, 2, 2, 10, window=(3, 0, 1))(params, np.ones((1, 2), int))


def test_more_tokens_than_positions(drawn):
    model = MODELS["bert"][0]
    with pytest.raises(ValueError, match="10 tokens are more than the model's 9 positions"):
        model(drawn(model), jnp.zeros((1, 10), jnp.int32))


def test_what_belongs_to_other_tokens_is_named():
    tokens, other, key = jnp.ones((3, 5), int), jnp.ones((4, 5), int), jax.random.key(0)
    small = {"vocab": 11, "embed": 16, "layers": 2, "heads": 2, "hidden": 32}

    def refused(model, message, *inputs, **options):
        with pytest.raises(ValueError, match=message):
            model(model.init(key), *inputs, **options)

    for model in (GPT2(**small, positions=8), Llama(**small)):
        refused(model, r"lengths of shape \[4\] do not fit the tokens' \[3\]", tokens, lengths=jnp.ones(4, int))
        refused(model, r"documents of shape \[4, 5\] do not fit", tokens, documents=other)
        refused(model, r"documents of shape \[3, 4\] do not fit", tokens, documents=other[:3, :4])
        refused(model, r"positions of shape \[3, 4\] do not fit", tokens, positions=other[:3, :4])
        refused(model, r"rows of a state of shape \[4\] do not fit", tokens, state=model.cache((4,), 8))
    bert = BERT(**small, positions=8)
    refused(bert, r"lengths of shape \[4\] do not fit", tokens, lengths=jnp.ones(4, int))
    refused(bert, r"segments of shape \[4, 5\] do not fit", tokens, segments=other)
    for model in (T5(**small), Transformer(**small)):
        refused(model, "attended to is of another batch", tokens, other)
    refused(Llama(**small, window=-1), "window=-1: a token sees at least itself", tokens)
