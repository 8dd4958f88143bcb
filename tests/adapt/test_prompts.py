"""Prompts of trained vectors: those of real tokens are what the tokens are, and only the vectors train."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jann
from jann.adapt import frozen, prompt_tuned
from jann.generation import beam_search, generate, speculate, stream
from jann.models import GPT2, OPT, Llama, Mamba

DECODERS = {
    "gpt2": GPT2(vocab=11, positions=40, embed=8, layers=2, heads=2),
    "llama": Llama(vocab=11, embed=8, layers=2, heads=2, hidden=12, key_value_heads=1),
    "mamba": Mamba(vocab=11, embed=8, layers=2, state=3),
    "opt": OPT(vocab=11, positions=40, embed=12, layers=1, heads=2, table=8),
}
TOKENS = np.array([[1, 4, 10, 7, 2], [3, 3, 9, 0, 5]])
decoders = pytest.mark.parametrize("base", DECODERS.values(), ids=DECODERS)


@decoders
def test_vectors_that_are_embeddings_do_what_their_tokens_do(base, drawn):
    model, params = prompt_tuned(base, drawn(base), tokens=[6, 2, 8])
    assert model.places == 3 and jann.count(model) == jann.count(base) + 24
    whole = np.concatenate([np.broadcast_to([6, 2, 8], (2, 3)), TOKENS], 1)
    run = jax.jit(model)
    wanted = jax.jit(base)(params["model"], whole)[:, 3:]
    np.testing.assert_allclose(run(params, TOKENS), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run(params, TOKENS[0]), wanted[0], rtol=1e-5, atol=1e-5)
    short = run(params, TOKENS, np.array([5, 2]))  # what stands behind the length is not seen
    np.testing.assert_allclose(short[1, :2], wanted[1, :2], rtol=1e-5, atol=1e-5)
    made = generate(model, params, [[1, 4, 10], [3]], 6)
    want = generate(base, params["model"], [[6, 2, 8, 1, 4, 10], [6, 2, 8, 3]], 6)
    np.testing.assert_array_equal(made.tokens, want.tokens)
    np.testing.assert_allclose(made.log_probabilities, want.log_probabilities, rtol=1e-4, atol=1e-5)


@decoders
def test_only_the_vectors_train(base, drawn, key):
    model, params = prompt_tuned(base, drawn(base), 4, key=key)
    train, rest = jann.partition(params, "^prompt$")
    optimizer = optax.adam(0.05)
    start = jann.TrainState.start(key, train, optimizer)
    assert {path: leaf.shape for path, leaf in jann.flatten(start.opt_state[0].mu).items()} == {"prompt": (4, 8)}
    step = jann.make_step(frozen(jann.objective(model, jann.language, "token"), rest), optimizer)
    batch = {"token": TOKENS[:, :-1], "label": TOKENS[:, 1:]}
    state, history = jann.train(step, jax.tree.map(lambda leaf: jnp.stack([leaf] * 60), batch), start, 60)
    assert history["loss"][-1] < history["loss"][0] - 0.05
    assert np.abs(state.params["prompt"] - params["prompt"]).max() > 0.1


def test_what_is_refused(drawn, key):
    base = DECODERS["gpt2"]
    params = drawn(base)
    with pytest.raises(ValueError, match="give one of the two"):
        prompt_tuned(base, params, 4)
    with pytest.raises(ValueError, match="give one of the two"):
        prompt_tuned(base, params, key=key, tokens=[1])
    with pytest.raises(ValueError, match=r"tokens=\[3, 11\]: ids are 0 .. 10"):
        prompt_tuned(base, params, tokens=[3, 11])
    with pytest.raises(ValueError, match=r"tokens is an array \[1, 2\] of int64: give a list"):
        prompt_tuned(base, params, tokens=[[3, 1]])
    model, params = prompt_tuned(base, params, 20, key=key)
    with pytest.raises(ValueError, match="3 tokens and 18 new ones .* 20 positions beside its 20 vectors: shorten"):
        generate(model, params, [[1, 2, 3], [1]], 18)


@decoders
def test_generation_knows_the_prompt_and_all_positions(base, drawn, key):
    """Vectors of tokens that the prompts have too: then what depends on the tokens so far is as without vectors."""
    model, params = prompt_tuned(base, jax.tree.map(lambda leaf: 4 * leaf, drawn(base)), tokens=[6, 2, 8])
    prompts = [[1, 8, 6, 4, 2], [6, 8, 2]]
    whole = [[6, 2, 8, *prompt] for prompt in prompts]
    penalised = {"repetition_penalty": 9.0, "no_repeat": 1}
    for make, new, options in ((generate, 5, penalised), (beam_search, 5, penalised), (generate, 32, {})):
        got, want = make(model, params, prompts, new, **options), make(base, params["model"], whole, new, **options)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)
    assert {int(token) for token in got.tokens[0]} <= set(range(11)) and (got.lengths == 32).all()
    allowed = generate(model, params, prompts, 5, no_repeat=1)
    for row, prompt in zip(allowed.tokens.tolist(), prompts, strict=True):
        assert len({*row, *prompt}) == 5 + len(prompt)
    assert list(stream(model, params, prompts[0], 8)) == got.tokens[0, :8].tolist()


@decoders
def test_a_draft_without_the_vectors_guesses_for_a_model_with_them(base, drawn):
    model, params = prompt_tuned(base, jax.tree.map(lambda leaf: 4 * leaf, drawn(base)), tokens=[6, 2, 8])
    prompts, pair = [[1, 8, 6, 4, 2], [6, 8, 2]], (base, params["model"])
    if isinstance(base, Mamba):
        with pytest.raises(ValueError, match=r"PromptTuned\(.*\) has a state that cannot be taken back"):
            speculate(model, params, *pair, prompts, 12)
    else:
        guessed, _ = speculate(model, params, *pair, prompts, 12)
        np.testing.assert_array_equal(guessed.tokens, generate(model, params, prompts, 12).tokens)


@decoders
def test_it_goes_on_from_its_state(base, drawn):
    model, params = prompt_tuned(base, drawn(base), tokens=[6, 2, 8])
    run, state, pieces = jax.jit(model.apply), model.cache((2,), 5), []
    for begin, end in ((0, 2), (2, 3), (3, 5)):
        logits, state = run(params, TOKENS[:, begin:end], state=state)
        pieces.append(logits)
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), run(params, TOKENS)[0], rtol=1e-5, atol=1e-5)
    assert state["length"].tolist() == [8, 8]
