"""Cached equals uncached, a batch equals its rows, samples are distributed as the model says."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.stats import chisquare

import jann
from jann.generation import beam_search, beams, decoding, for_decoding, generate, growing, speculate, stream

PROMPTS = [[1, 2, 3, 4, 5], [7], [9, 8, 1]]
ATTENDING = ["gemma", "gpt2", "gpt_neox", "llama", "opt", "windows"]
names = pytest.mark.parametrize("name", [*ATTENDING, "mamba"])


@names
def test_in_pieces_with_a_cache_equals_the_whole(decoder, name):
    model, params = decoder(name)
    tokens = jax.random.randint(jax.random.key(1), (2, 12), 0, 11)

    @jax.jit
    def both(params, tokens):
        whole, pieces = model(params, tokens), []
        state = model.cache((2,), 16)
        for begin, end in ((0, 5), (5, 6), (6, 7), (7, 12)):
            logits, state = model.apply(params, tokens[:, begin:end], state=state)
            pieces.append(logits)
        return whole, jnp.concatenate(pieces, 1), state["length"]

    for form in (params, jann.core.listed(model, params)):
        whole, pieces, length = both(form, tokens)
        np.testing.assert_allclose(pieces, whole, rtol=1e-5, atol=1e-5)
        assert length.tolist() == [12, 12]


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("name", ATTENDING)
def test_beyond_the_caches_room_nothing_is_made_up(decoder, name, rows):
    model, params = decoder(name)
    tokens = jax.random.randint(jax.random.key(1), (rows, 7), 0, 11)
    want, run = jax.jit(model)(params, tokens), jax.jit(model.apply)
    state, steps = model.cache((rows,), 4), []
    with jax.debug_nans(False):
        for i in range(7):
            logits, state = run(params, tokens[:, i : i + 1], state=state)
            steps.append(np.asarray(logits))
        padded, longer = (
            np.asarray(run(params, tokens, lengths=jnp.full(rows, there), state=model.cache((rows,), 4))[0])
            for there in (4, 6)
        )
    steps = np.concatenate(steps, 1)
    for logits in (steps, padded, longer):
        np.testing.assert_allclose(logits[:, :4], want[:, :4], rtol=1e-5, atol=1e-5)
    assert np.isnan(steps[:, 4:]).all() and np.isnan(longer[:, 4:6]).all()
    assert np.isfinite(padded).all()  # it is padding that there is no room for
    with pytest.raises(ValueError, match="7 tokens are more than the 4 places of the state: begin with a longer cache"):
        model.apply(params, tokens, state=model.cache((rows,), 4))


@names
def test_documents_are_refused_beside_a_state(decoder, name):
    model, params = decoder(name)
    documents, positions = jnp.array([1, 1, 2, 2]), jnp.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="documents are told apart without a state only: read one after another"):
        model.apply(params, jnp.arange(4), None, positions, documents, state=model.cache((), 8))


@names
def test_no_token_sees_a_later_one(decoder, name):
    model, params = decoder(name)
    tokens = jnp.array([3, 1, 4, 1, 5, 9])

    def at(table, t):
        return model({**params, "tokens": {"table": table}}, tokens)[t].sum()

    rows = jax.nn.one_hot(tokens, 11, dtype=bool)
    for t in (0, 2):
        moved = np.abs(jax.grad(at)(params["tokens"]["table"], t)).sum(-1) > 0
        later = rows[t + 1 :].any(0) & ~rows[: t + 1].any(0)
        if not getattr(model, "tied", False):
            assert not moved[np.asarray(later)].any()
        changed = model(params, tokens.at[t + 1 :].set(7))
        np.testing.assert_allclose(changed[: t + 1], model(params, tokens)[: t + 1], rtol=1e-5, atol=1e-6)


@names
def test_packed_documents_and_padding_do_not_see_each_other(decoder, name):
    model, params = decoder(name)
    first, second = jnp.array([3, 1, 4]), jnp.array([1, 5, 9, 2])
    packed = jnp.concatenate([first, second, jnp.zeros(2, jnp.int32)])
    positions = jnp.array([0, 1, 2, 0, 1, 2, 3, -1, -1])
    documents = jnp.array([0, 0, 0, 1, 1, 1, 1, 2, 2])
    run = jax.jit(model)
    logits = run(params, packed, positions=positions, documents=documents)
    np.testing.assert_allclose(logits[:3], run(params, first), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(logits[3:7], run(params, second), rtol=1e-5, atol=1e-5)
    assert np.isfinite(logits).all()


@names
def test_a_batch_of_prompts_gives_what_each_gives_alone(decoder, name):
    model, params = decoder(name)
    together = generate(model, params, PROMPTS, 8)
    run = jax.jit(model)  # without a cache

    def whole(tokens):
        return run(params, jnp.array(tokens + [0] * (13 - len(tokens))), len(tokens))[: len(tokens)]

    for i, prompt in enumerate(PROMPTS):
        tokens = list(prompt)
        for _ in range(8):
            tokens.append(int(whole(tokens)[-1].argmax()))
        assert together.tokens[i].tolist() == tokens[len(prompt) :]
        scores = jax.nn.log_softmax(whole(tokens))
        want = [scores[len(prompt) - 1 + j, tokens[len(prompt) + j]] for j in range(8)]
        np.testing.assert_allclose(together.log_probabilities[i], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ATTENDING)
def test_caches_that_grow_give_what_one_of_full_size_gives(decoder, name, monkeypatch):
    model, params = decoder(name)
    options = {"repetition_penalty": 1.2, "stop": [3]}

    def found():
        decoding._generated.clear_cache()
        beams._searched.clear_cache()
        sampled = generate(model, params, PROMPTS, 21, key=jax.random.key(3), **options)
        return sampled, beam_search(model, params, PROMPTS, 21, beams=3, **options)

    want = found()
    sizes, cache_sizes = [], growing.cache_sizes

    def noted(*args):
        sizes.append(cache_sizes(*args))
        return sizes[-1]

    for option, value in {"LARGE": 0, "SHARE": 0, "MANY": 1, "cache_sizes": noted}.items():
        monkeypatch.setattr(growing, option, value)
    (sampled, (best, scores)), (sampled_before, (best_before, scores_before)) = found(), want
    assert sizes == [[16, 37]] * 2
    for now, before in ((sampled, sampled_before), (best, best_before)):
        np.testing.assert_array_equal(now.tokens, before.tokens)
        np.testing.assert_array_equal(now.lengths, before.lengths)
    np.testing.assert_allclose(sampled.log_probabilities, sampled_before.log_probabilities, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores, scores_before, rtol=1e-4, atol=1e-5)


def test_a_row_samples_alike_in_any_company_and_as_it_streams(decoder):
    model, params = decoder("llama")
    options = {"key": jax.random.key(3), "temperature": 0.7, "top_p": 0.9}
    alone = generate(model, params, PROMPTS[:1], 10, **options)
    together = generate(model, params, PROMPTS, 10, **options)
    np.testing.assert_array_equal(alone.tokens[0], together.tokens[0])
    assert list(stream(model, params, PROMPTS[0], 10, **options, dtype="float32")) == alone.tokens[0].tolist()
    assert not np.array_equal(alone.tokens, generate(model, params, PROMPTS[:1], 10, key=jax.random.key(4)).tokens)


def test_stop_tokens_end_a_row(decoder):
    model, params = decoder("gpt2")
    free = generate(model, params, PROMPTS, 10)
    stop = int(free.tokens[0, 3])
    stopped = generate(model, params, PROMPTS, 10, stop=[stop], pad=10)
    for row, whole, length in zip(stopped.tokens, free.tokens, stopped.lengths, strict=True):
        found = np.flatnonzero(whole == stop)
        assert length == (found[0] + 1 if len(found) else 10)
        np.testing.assert_array_equal(row[:length], whole[:length])
        assert (row[length:] == 10).all()
    assert list(stream(model, params, PROMPTS[0], 10, stop=[stop]))[-1] == stop
    for given in (stop, np.array([stop]), jnp.array(stop)):
        np.testing.assert_array_equal(generate(model, params, PROMPTS, 10, stop=given, pad=10).tokens, stopped.tokens)
        assert list(stream(model, params, PROMPTS[0], 10, stop=given))[-1] == stop
    with pytest.raises(TypeError, match="stop='</s>': give ids of tokens"):
        generate(model, params, PROMPTS, 10, stop="</s>")


def test_a_processor_of_ones_own_forbids_what_it_will(decoder):
    model, params = decoder("gpt2")
    traced = []

    def longer(least, logits, tokens, lengths):
        """No 0 and no 3 until there are so many tokens, then nothing but 3"""
        traced.append(tokens.shape)
        early, stop = (lengths < least)[:, None], jnp.arange(logits.shape[1]) == 3
        return jnp.where(jnp.where(early, stop | (jnp.arange(logits.shape[1]) == 0), ~stop), -jnp.inf, logits)

    def options(least):
        return {"logits_processor": Partial(longer, least), "stop": 3}

    for least in (7, 9):
        made = generate(model, params, PROMPTS, 12, **options(least))
        assert made.lengths.tolist() == [least - len(prompt) + 1 for prompt in PROMPTS]
        assert not (made.tokens[0, : int(made.lengths[0])] == 0).any()
        assert np.isfinite(made.log_probabilities).all()  # of the model itself, not of what was processed
    assert len(traced) == 1
    assert list(stream(model, params, PROMPTS[0], 12, **options(9))) == made.tokens[0, : int(made.lengths[0])].tolist()
    best, scores = beam_search(model, params, PROMPTS, 12, beams=3, **options(9))
    assert best.lengths.tolist() == made.lengths.tolist() and np.isfinite(scores).all()
    with pytest.raises(TypeError, match="logits_processor=1.3: give a function of \\(logits, tokens, lengths\\)"):
        generate(model, params, PROMPTS, 12, logits_processor=1.3)


def test_a_row_may_not_end_before_it_has_the_least(decoder):
    """As with a processor of one's own that forbids the stop tokens so long, in rows of any length."""
    model, params = decoder("gpt2")
    begin = jnp.array([len(prompt) for prompt in PROMPTS])

    def likelier(logits, tokens, lengths):
        return logits.at[:, 3].add(2.0)

    def later(begin, logits, tokens, lengths):
        early = (lengths - begin < 5)[:, None]
        return likelier(jnp.where(early, logits.at[:, jnp.array([3, 0])].set(-jnp.inf), logits), tokens, lengths)

    def both(make, rows, **options):
        own = Partial(later, jnp.repeat(begin, rows))
        found = make(model, params, PROMPTS, 12, logits_processor=likelier, stop=[3, 0], least=5, **options)
        want = make(model, params, PROMPTS, 12, logits_processor=own, stop=[3, 0], **options)
        jax.tree.map(np.testing.assert_array_equal, found, want)
        return found

    plain = generate(model, params, PROMPTS, 12, logits_processor=likelier, stop=[3, 0])
    made, (best, _) = both(generate, 1), both(beam_search, 3, beams=3)
    both(generate, 2, key=jax.random.key(1), samples=2)
    assert plain.lengths.min() < 5 < min(made.lengths.min(), best.lengths.min())
    for prompt, row, length in zip(PROMPTS, made.tokens, made.lengths, strict=True):
        streamed = stream(model, params, prompt, 12, logits_processor=likelier, stop=[3, 0], least=5)
        assert list(streamed) == row[: int(length)].tolist()
    assert (generate(model, params, PROMPTS, 12, stop=range(10), least=12).tokens == 10).all()
    for least in (-1, 13):
        with pytest.raises(ValueError, match=f"least={least}: at most new=12 tokens are made, so give 0 to 12"):
            stream(model, params, [1], 12, stop=3, least=least)
    with pytest.raises(TypeError, match="least=2.5: give a whole number"):
        generate(model, params, PROMPTS, 12, stop=3, least=2.5)


def test_temperature_may_be_traced(decoder):
    model, params = decoder("gpt2")

    def made(temperature):
        return generate(model, params, PROMPTS, 5, key=jax.random.key(3), temperature=temperature).tokens

    np.testing.assert_array_equal(jax.jit(made)(0.7), made(0.7))


def joint(model, params, prompt):
    """The probability of each pair of tokens after the prompt, [vocab, vocab]."""
    first = jax.nn.softmax(model(params, jnp.array(prompt))[-1])
    after = jnp.array([[*prompt, token] for token in range(model.vocab)])
    return np.asarray(first)[:, None] * np.asarray(jax.nn.softmax(model(params, after)[:, -1]))


def fits(pairs, probabilities):
    counts = np.zeros_like(probabilities)
    np.add.at(counts, tuple(np.asarray(pairs).T), 1)
    expected = probabilities * len(pairs)
    often = expected > 5
    observed = [*counts[often], counts[~often].sum()]
    wanted = np.array([*expected[often], expected[~often].sum() + 1e-9])
    return chisquare(observed, wanted * sum(observed) / wanted.sum()).pvalue


def test_samples_are_distributed_as_the_model_says(decoder):
    model, params = decoder("gpt2", 3.0)
    made = generate(model, params, [[1, 2, 3]], 2, key=jax.random.key(0), samples=6000)
    assert fits(made.tokens, joint(model, params, [1, 2, 3])) > 1e-3


def test_speculation_is_distributed_as_the_model_says_whatever_the_draft(decoder):
    model, params = decoder("gpt2", 3.0)
    draft, draft_params = decoder("llama", 3.0)
    prompts = [[1, 2, 3]] * 6000
    made, _ = speculate(model, params, draft, draft_params, prompts, 2, guesses=2, key=jax.random.key(1))
    assert fits(made.tokens, joint(model, params, [1, 2, 3])) > 1e-3


def test_speculation_without_a_key_is_greedy_and_takes_fewer_passes(decoder):
    model, params = decoder("llama")
    draft, draft_params = decoder("windows")
    want = generate(model, params, PROMPTS, 12)
    other, passes = speculate(model, params, draft, draft_params, PROMPTS, 12, guesses=3)
    np.testing.assert_array_equal(other.tokens, want.tokens)
    own, fewest = speculate(model, params, model, params, PROMPTS, 12, guesses=3)
    np.testing.assert_array_equal(own.tokens, want.tokens)
    assert fewest == 3 <= passes


@pytest.mark.parametrize(
    ("prompts", "drafts", "wide"),
    [
        ([[1, 2, 3] * 6], ["llama", "gpt2"], False),
        ([[1, 2, 3] * 6, [7]], ["gpt2"], False),
        ([[1, 2, 3] * 6], ["llama"], True),
    ],
    ids=["one", "two", "in 64 bits"],
)
def test_speculation_goes_up_to_the_models_last_position(decoder, prompts, drafts, wide):
    with jax.enable_x64(wide):
        model, params = decoder("gpt2")
        draft, draft_params = decoder("llama")
        want = generate(model, params, prompts, 22)
        for name in drafts:
            made, _ = speculate(model, params, *decoder(name), prompts, 22, guesses=5)
            np.testing.assert_array_equal(made.tokens, want.tokens)
        with pytest.raises(ValueError, match="18 tokens and 23 new ones are more than the model's 40 positions"):
            speculate(draft, draft_params, model, params, prompts, 23)


def test_an_encoder_decoder_does_not_speculate(decoder):
    model = jann.models.T5(11, 8, 1, 2, 3, 12)
    for pair in ((model, {}, *decoder("llama")), (*decoder("llama"), model, {})):
        with pytest.raises(ValueError, match=r"T5\(.*\) begins from inputs: .* GPT2 and Llama, use generate"):
            speculate(*pair, [[1]], 4)
    for pair in (("mamba", "llama"), ("llama", "mamba")):
        with pytest.raises(ValueError, match=r"Mamba\(.*\) has a state that cannot be taken back"):
            speculate(*decoder(pair[0]), *decoder(pair[1]), [[1]], 4)


def test_beam_search_is_exhaustive_where_there_are_beams_enough(decoder):
    model, params = decoder("gpt2", 3.0)
    prompt, vocab = [1, 2, 3], model.vocab
    every = np.array(list(itertools.product(range(vocab), repeat=3)))
    scores = jax.nn.log_softmax(jax.jit(model)(params, np.concatenate([np.tile(prompt, (len(every), 1)), every], 1)))
    total = sum(np.asarray(scores)[np.arange(len(every)), 2 + i, every[:, i]] for i in range(3))
    best = np.argsort(-total)[:4]
    made, found = beam_search(model, params, [prompt], 3, beams=vocab**2, results=4)
    np.testing.assert_array_equal(made.tokens, every[best])
    np.testing.assert_allclose(found, total[best] / 3, rtol=1e-5)
    one, _ = beam_search(model, params, [prompt], 6, beams=1)
    np.testing.assert_array_equal(one.tokens, generate(model, params, [prompt], 6).tokens)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_tokens_that_are_held_back_or_wanted_at_an_end(decoder, drawn, family):
    t5 = jann.models.T5(vocab=11, embed=8, layers=1, heads=2, head=4, hidden=12)
    model, params = decoder(family) if family == "gpt2" else (t5, drawn(t5))
    made = [generate(model, params, PROMPTS, 6)]
    never = sorted(set(made[0].tokens[:, 1:3].ravel().tolist()))
    options = {"never": never, "never_first": range(8), "begin_with": 4, "end_with": 9}
    for kept in (*({name: options[name]} for name in options), options):
        found = generate(model, params, PROMPTS, 6, **kept)
        made += [found, generate(model, params, PROMPTS, 6, key=jax.random.key(0), samples=2, **kept)]
        for prompt, row in zip(PROMPTS, found.tokens.tolist(), strict=True):
            assert list(stream(model, params, prompt, 6, **kept)) == row
        made.append(beam_search(model, params, PROMPTS, 6, beams=2, **kept)[0])
        free = 1 if "begin_with" in kept else 0
        for tokens in (np.asarray(one.tokens) for one in made[-3:]):
            if "begin_with" in kept:
                assert (tokens[:, 0] == 4).all()
            if "never_first" in kept:
                assert (tokens[:, free] >= 8).all()
            if "end_with" in kept:
                assert (tokens[:, -1] == 9).all()
            assert "never" not in kept or not np.isin(tokens[:, free : 6 - ("end_with" in kept)], never).any()
    assert len({one.tokens.tobytes() for one in made}) > 8
    for name, wrong in (("never", [3, 11]), ("begin_with", -1), ("never_first", 99)):
        with pytest.raises(ValueError, match=rf"{name}: there is no token .*, ids are 0 \.\. 10"):
            generate(model, params, PROMPTS, 6, **{name: wrong})
    with pytest.raises(TypeError, match=r"never='ab': give ids of tokens"):
        beam_search(model, params, PROMPTS, 6, never="ab")


def test_beams_that_never_end_early_find_what_is_worth_more_when_longer(decoder):
    model, params = decoder("gpt2", 10.0)

    def found(early, length_penalty):
        prompts, stop = [[i] for i in range(11)], [1, 2, 4, 6, 8]
        return beam_search(
            model, params, prompts, 16, beams=2, stop=stop, length_penalty=jnp.array(length_penalty), early=early
        )

    (plain, scores), (never, better) = found(False, 1.5), found("never", 1.5)
    assert (better >= scores).all() and (longer := better > scores + 1e-4).any()
    assert (never.lengths[longer] > plain.lengths[longer]).all()
    (plain, _), (never, _) = found(False, -1.0), found("never", -1.0)
    np.testing.assert_array_equal(plain.tokens, never.tokens)


def test_a_finished_beam_is_worth_its_own_length(decoder):
    model, params = decoder("gpt2", 3.0)
    prompt, vocab = [4, 2], model.vocab
    made, found = beam_search(model, params, [prompt], 3, beams=vocab**2, results=3, stop=[0], length_penalty=0.5)
    ended = [row for n in (1, 2, 3) for row in itertools.product(range(vocab), repeat=n)
             if 0 not in row[:-1] and (row[-1] == 0 or n == 3)]  # fmt: skip
    padded = np.array([[*prompt, *row, *[0] * (3 - len(row))] for row in ended])
    scores = np.asarray(jax.nn.log_softmax(jax.jit(model)(params, padded)))
    value = [sum(scores[i, 1 + j, token] for j, token in enumerate(row)) / len(row) ** 0.5
             for i, row in enumerate(ended)]  # fmt: skip
    best = np.argsort(value)[::-1][:3]
    for row, score, length, i in zip(made.tokens, found, made.lengths, best, strict=True):
        assert row[:length].tolist() == list(ended[i])
        np.testing.assert_allclose(score, value[i], rtol=1e-5)


def test_fewer_sequences_than_results_leave_rows_empty(decoder):
    model, params = decoder("gpt2")
    made, scores = beam_search(model, params, [[1]], 1, beams=model.vocab + 2, results=model.vocab + 2, pad=3)
    assert sorted(made.tokens[:-2, 0].tolist()) == list(range(model.vocab))
    assert made.lengths.tolist() == [1] * model.vocab + [0, 0] and made.tokens[-2:].tolist() == [[3], [3]]
    assert scores[-2] < -1e29 < scores[-3]


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[]], {}, "prompt 0 is empty"),
        ([[1], [2, 11]], {}, r"prompt 1 has token 11: ids are 0 .. 10"),
        ([[-1]], {}, "token -1"),
        ([], {}, "there is no prompt"),
        ([5, 6, 7], {}, r"prompt 0 is 5, no list of token ids: a single prompt is given as \[ids\]"),
        (np.array([5, 6, 7]), {}, "prompt 0 is 5, no list of token ids"),
        ([[5, 6], [5.9, 6.2]], {}, r"prompt 1 is an array \[2\] of float64: give a list of token ids"),
        (np.ones((1, 2, 3), int), {}, r"prompt 0 is an array \[2, 3\] of int64"),
        ([[2**32 + 1]], {}, "prompt 0 has token 4294967297"),
        ([[1] * 30], {"new": 20}, "30 tokens and 20 new ones are more than the model's 40 positions"),
        ([[1]], {"new": 0}, "at least one token"),
        ([[1]], {"temperature": 0.5}, "temperature: sampling needs a key"),
        ([[1]], {"samples": 2}, "needs a key"),
        ([[1]], {"key": jax.random.key(0), "top_p": 1.5}, "top_p=1.5 must be above 0 and at most 1"),
        ([[1]], {"key": jax.random.key(0), "temperature": 0.0}, "temperature=0.0 must be above 0"),
        ([[1]], {"repetition_penalty": 0.0}, "repetition_penalty=0.0"),
        ([[1]], {"no_repeat": 0}, "no_repeat=0"),
        ([[1]], {"logits_processor": lambda logits, *_: logits[:, :3]}, r"gave \[1, 3\] for logits \[1, 11\]: it must"),
    ],
)
def test_what_cannot_be_generated_says_why(decoder, prompts, options, message):
    model, params = decoder("gpt2")
    with pytest.raises(ValueError, match=message):
        generate(model, params, prompts, **{"new": 4, **options})


def test_parameters_of_another_model_are_refused(decoder):
    model, params = decoder("gpt2")
    draft = decoder("llama")
    tuned, prompted = jann.adapt.prompt_tuned(model, params, tokens=[1, 2])
    factors, _ = jann.adapt.trainable(jann.adapt.low_rank(model, params, key=jax.random.key(0)))
    smaller = jax.jit(dataclasses.replace(model, vocab=7).init)(jax.random.key(0))
    ways = {
        "generate": lambda model, params: generate(model, params, [[1]], 4),
        "stream": lambda model, params: stream(model, params, [1], 4),
        "beam_search": lambda model, params: beam_search(model, params, [[1]], 4),
        "speculate": lambda model, params: speculate(model, params, *draft, [[1]], 4),
        "draft": lambda model, params: speculate(*draft, model, params, [[1]], 4),
    }
    for make in ways.values():
        with pytest.raises(jann.ShapeError, match=r"tokens/table: wanted \[vocab=11, embed=16\], got \[7, 16\]"):
            make(model, smaller)
    for wrong, path in ((prompted, "prompt: unexpected"), (factors, "tokens/table: missing")):
        with pytest.raises(jann.ShapeError, match=path):
            generate(model, wrong, [[1]], 4)
    with pytest.raises(jann.ShapeError, match="prompt: missing"):
        generate(tuned, params, [[1]], 4)


def test_parameters_in_every_form_pass_also_within_a_program(decoder, key):
    model, params = decoder("gpt2")
    factors, rest = jann.adapt.trainable(jann.adapt.low_rank(model, params, key=key, targets="qkv"))
    adapted = jann.combine(rest, jax.tree.map(lambda leaf: leaf + 0.5, factors))

    def made(params):
        return generate(model, params, PROMPTS, 5).tokens

    for form in (params, jann.core.listed(model, params), for_decoding(model, params), adapted):
        want = made(form)
        np.testing.assert_array_equal(jax.jit(made)(form), want)
        both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), form)
        np.testing.assert_array_equal(jax.vmap(made)(both), [want, want])
    assert (want != made(params)).any()


def test_a_stream_refuses_what_generate_refuses_when_it_is_called(decoder, key):
    model, params = decoder("gpt2")
    for new in (0, -3):
        for made, prompt in ((generate, [[1]]), (stream, [1])):
            with pytest.raises(ValueError, match=f"new={new}: {made.__name__} makes at least one token"):
                made(model, params, prompt, new)
    with pytest.raises(ValueError, match="temperature=-1 must be above 0"):
        stream(model, params, [1], 4, key=key, temperature=-1)
    with pytest.raises(ValueError, match="more than the model's 40 positions"):
        stream(model, params, [1], 40)
    with pytest.raises(TypeError, match="stream has no option topk"):
        stream(model, params, [1], 4, topk=3)


def test_unknown_options_and_other_vocabularies_are_errors(decoder):
    model, params = decoder("gpt2")
    for made, options, message in (
        (generate, {"new": 3.0}, "new=3.0: give a whole number"),
        (generate, {"key": jax.random.key(0), "top_k": 5.0}, "top_k=5.0: give a whole number"),
        (generate, {"no_repeat": 2.0}, "no_repeat=2.0: give a whole number"),
        (generate, {"pad": None}, "pad=None: give a whole number"),
        (beam_search, {"early": "always"}, "early='always': give True, False or 'never'"),
    ):
        with pytest.raises(TypeError, match=message):
            made(model, params, [[1]], **{"new": 4, **options})
    with pytest.raises(ValueError, match="length_penalty=nan: give a finite number"):
        beam_search(model, params, [[1]], 4, length_penalty=float("nan"))
    with pytest.raises(TypeError, match="topk"):
        generate(model, params, [[1]], 4, topk=3)
    for made in (generate, beam_search, lambda *args, **options: stream(*args[:2], [1], 4, **options)):
        with pytest.raises(TypeError, match="dtype=int8: a cache holds floating numbers"):
            made(model, params, [[1]], 4, dtype="int8")
        with pytest.raises(TypeError, match="a model comes first, then its parameters: got dict in the model's place"):
            made(params, model, [[1]], 4)
    other = jann.models.GPT2(vocab=12, positions=40, embed=16, layers=1, heads=2)
    with pytest.raises(ValueError, match="the draft has 12 tokens and the model 11"):
        speculate(model, params, other, params, [[1]], 4)
