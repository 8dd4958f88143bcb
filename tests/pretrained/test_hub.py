"""Published folders: both spellings, shards, half precision, and an error that says what is wrong with a folder."""

import dataclasses
import json
import re
import shutil
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import load_file, save_file

import jann
from jann.generation import generate
from jann.layers import exact_gelu
from jann.models import (
    BERT,
    CLIP,
    GPT2,
    OPT,
    T5,
    ConvNeXt,
    DeBERTa,
    Gemma,
    GPTNeoX,
    Llama,
    Mamba,
    Transformer,
    ViT,
    Wav2Vec2,
    Whisper,
)
from jann.pretrained import (
    PretrainedError,
    WeightsError,
    chat_prompt,
    from_pretrained,
    hub,
    save_pretrained,
    speech_tokens,
)
from jann.pretrained.gemma import from_config as gemma_of
from jann.pretrained.llama import from_config as llama_of

LLAMA = Llama(vocab=11, embed=8, layers=2, heads=2, hidden=12, key_value_heads=1)
SCALING = (("type", "yarn"), ("factor", 4.0), ("original", 16))
LONG = (
    ("type", "longrope"), ("factor", 4.0), ("long_factor", (2.0, 3.0)), ("original", 8), ("short_factor", (1.0, 1.5)),
)  # fmt: skip
LEARNED = {"positions": 6, "first_position": 2, "embedded_norm": True, "logits_bias": True}
MODELS = {
    "gpt2": GPT2(vocab=11, positions=6, embed=8, layers=2, heads=2, activation=jax.nn.relu),
    "gpt2_untied": GPT2(vocab=11, positions=6, embed=8, layers=1, heads=2, hidden=12, tied=False),
    "gpt2_scaled": GPT2(vocab=11, positions=6, embed=8, layers=2, heads=2, scaled=False, scaled_by_layer=True),
    "gpt2_labels": GPT2(vocab=11, positions=6, embed=8, layers=1, heads=2, labels=3),
    "gpt_neox": GPTNeoX(vocab=11, embed=12, layers=2, heads=2, hidden=10, rotary_share=0.5, attention_bias=False),
    "gpt_neox_tied": GPTNeoX(11, 8, 1, 2, rotary_share=1.0, rotary_scaling=SCALING, parallel=False, tied=True),
    "gpt_neox_labels": GPTNeoX(11, 8, 1, 2, hidden=12, rotary_share=0.5, labels=3),
    "llama": LLAMA,
    "llama_labels": Llama(vocab=11, embed=8, layers=2, heads=2, hidden=12, tied=True, labels=1),
    "llama_scaled": Llama(11, 8, 2, 2, 12, head=6, rotary_scaling=SCALING, qkv_bias=True, out_bias=True, mlp_bias=True),
    "llama_long": Llama(11, 8, 2, 2, 12, head=4, rotary_scaling=LONG),
    "mamba": Mamba(vocab=11, embed=8, layers=2, state=3, rank=2),
    "mamba_untied": Mamba(11, 8, 1, inner=24, state=2, window=3, bias=True, conv_bias=False, tied=False),
    "opt": OPT(vocab=11, positions=6, embed=8, layers=2, heads=2, hidden=12),
    "opt_narrow": OPT(11, 6, 8, 1, 2, table=6, activation=exact_gelu, norm_first=False, bias=False, tied=False),
    "opt_labels": OPT(11, 6, 8, 1, 2, hidden=12, labels=3),
    "mistral": Llama(vocab=11, embed=8, layers=2, heads=2, hidden=12, window=3),
    "qwen2": Llama(vocab=11, embed=8, layers=3, heads=2, hidden=12, window=(0, 4, 4), qkv_bias=True, tied=True),
    "qwen3": Llama(vocab=11, embed=8, layers=2, heads=2, hidden=12, head=6, query_key_norm=True),
    "mixtral": Llama(11, 8, 2, 2, 12, window=3, experts=3),
    "qwen3_moe": Llama(11, 8, 2, 2, 12, query_key_norm=True, tied=True, experts=4, chosen=3, chosen_sum_to_one=False),
    "gemma": Gemma(vocab=11, embed=8, layers=2, heads=2, hidden=12, head=6, activation=exact_gelu, attention_bias=True),
    "gemma2": Gemma(11, 8, 3, 2, 12, head=6, window=(4, 0, 4), query_scale=9.0, attention_cap=2.0, post_norms=True),
    "gemma2_labels": Gemma(11, 8, 1, 2, 12, head=4, query_scale=4, logit_cap=2.0, post_norms=True, labels=2),
    "gemma3": Gemma(11, 8, 2, 2, 12, head=4, query_scale=4, rotary_scaling=(("type", "linear"), ("factor", 2.0)),
                    window_base=50.0, window=(3, 0), query_key_norm=True, post_norms=True, tied=False),
    "bert": BERT(vocab=11, positions=6, embed=8, layers=2, heads=2, hidden=12, head="tokens", labels=5),
    "bert_untied": BERT(vocab=11, positions=6, embed=8, layers=1, heads=2, hidden=12, head="words", tied=False),
    "bert_features": BERT(vocab=11, positions=6, embed=8, layers=2, heads=2, hidden=12, head="features", pooler=True),
    "roberta": BERT(11, 6, 1, 8, 1, 2, 12, head="words", first_position=2, activation=jax.nn.relu,
                    words_activation=exact_gelu),
    "roberta_untied": BERT(11, 6, 1, 8, 1, 2, 12, head="words", first_position=2, tied=False),
    "roberta_sentence": BERT(11, 6, 1, 8, 1, 2, 12, head="sentence", first_position=1, labels=3),
    "mpnet": BERT(11, 6, 0, 8, 2, 2, 12, head="words", first_position=2, relative_buckets=8),
    "mpnet_features": BERT(11, 6, 0, 8, 1, 2, 12, head="features", first_position=2, relative_buckets=8, pooler=True),
    "roberta_features": BERT(11, 6, 2, 8, 1, 2, 12, head="features", first_position=2, pooler=True),
    "distilbert": BERT(11, 6, 0, 8, 1, 2, 12, head="words", activation=jax.nn.relu),
    "distilbert_sentence": BERT(11, 6, 0, 8, 1, 2, 12, head="sentence", pooler_activation=jax.nn.relu, labels=3),
    "albert": BERT(11, 6, 2, 8, 3, 2, 12, head="words", table=6, groups=1, activation=jax.nn.gelu),
    "albert_untied": BERT(11, 6, 2, 8, 3, 2, 12, head="words", table=8, groups=2, activation=jax.nn.relu, tied=False),
    "albert_features": BERT(11, 6, 2, 8, 2, 2, 12, head="features", table=6, groups=2, pooler=True),
    "albert_sentence": BERT(11, 6, 2, 8, 2, 2, 12, head="sentence", table=6, groups=1, labels=3),
    "electra": BERT(11, 6, 2, 8, 2, 2, 12, head="replaced", table=6, activation=jax.nn.relu),
    "electra_words": BERT(11, 6, 1, 8, 2, 2, 12, head="words", table=8, activation=jax.nn.relu,
                          words_activation=exact_gelu),
    "electra_untied": BERT(11, 6, 1, 8, 2, 2, 12, head="words", table=6, tied=False),
    "electra_sentence": BERT(11, 6, 2, 8, 1, 2, 12, head="sentence", table=6, pooler_activation=exact_gelu, labels=3),
    "electra_features": BERT(11, 6, 2, 8, 1, 2, 12, head="features", table=6),
    "deberta": DeBERTa(11, 0, 0, 8, 2, 2, 12, head="sentence", labels=3, buckets=4, furthest=9),
    "deberta_features": DeBERTa(11, 6, 2, 8, 1, 2, 12, head="features", table=6, buckets=0, furthest=3, shared=False,
                                relative_norm=False),
    "deberta_words": DeBERTa(11, 0, 0, 8, 2, 2, 12, head="words", furthest=200, position_to_content=False),
    "deberta_untied": DeBERTa(11, 0, 1, 8, 1, 2, 12, head="words", table=6, tied=False, content_to_position=False),
    "t5": T5(11, 8, 2, 2, 3, hidden=12, activation=exact_gelu, gated=True, tied=False, decoder_layers=1),
    "t5_encoder": T5(vocab=11, embed=8, layers=2, heads=2, head=3, hidden=12, decoder_layers=0),
    "t5_scaled": T5(vocab=11, embed=8, layers=1, heads=2, head=3, hidden=12, scaled=False),
    "marian": Transformer(11, 8, 2, 2, 12, 1, jax.nn.silu, epsilon=1e-5, begin_token=10, logits_bias=True),
    "bart": Transformer(11, 8, 1, 2, 12, 1, exact_gelu, epsilon=1e-5, begin_token=2, scaled=False, **LEARNED),
    "mbart": Transformer(11, 8, 1, 2, 12, 2, epsilon=1e-5, norm_first=True, **LEARNED),
    "pegasus": Transformer(11, 8, 1, 2, 12, 1, epsilon=1e-5, norm_first=True, logits_bias=True),
    "wav2vec2": Wav2Vec2(11, (4, 3), (3, 2), (2, 1), False, "group", jax.nn.relu, 8, 2, 2, 12, 4, 2, mask_token=True),
    "wav2vec2_features": Wav2Vec2(0, (4,), (3,), (2,), True, "layer", exact_gelu, 8, 1, 2, 12, 3, 1, True, blank=4),
    "whisper": Whisper(11, 3, 8, 1, 2, 12, 2, places=4, positions=6, activation=jax.nn.relu, begin_tokens=(5,)),
    "vit": ViT(size=4, patch=2, channels=1, embed=8, layers=2, heads=2, hidden=12, outputs=3, qkv_bias=False),
    "vit_wide": ViT(size=(4, 6), patch=(2, 3), channels=1, embed=8, layers=1, heads=2, hidden=12, outputs=3),
    "convnext": ConvNeXt(1, 3, (1, 2), (4, 6), 2, jax.nn.relu, drop_path=0.25),
    "convnext_features": ConvNeXt(2, 0, (2,), (4,), 3, layer_scale=0.0),
    "clip": CLIP(4, 2, 1, 8, 1, 2, 10, 11, 6, 6, 2, 3, 7, shared=5, end_token=None, activation=jax.nn.relu),
    "dinov2": ViT(4, 2, 1, 8, 2, 2, 16, 0, layer_scale=True, mask_token=True),
    "dinov2_labels": ViT(4, 2, 1, 8, 1, 2, 8, 3, layer_scale=True, mean_too=True, qkv_bias=False),
    "vit_features": ViT(size=4, patch=2, channels=1, embed=8, layers=2, heads=2, hidden=12, outputs=0, pooler=True),
}


@pytest.fixture
def folder(tmp_path, drawn):
    save_pretrained(tmp_path, LLAMA, drawn(LLAMA))
    return tmp_path


def same(a, b):
    a, b = jann.flatten(a), jann.flatten(b)
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_read(name, tmp_path, drawn):
    model = MODELS[name]
    params = drawn(model)
    save_pretrained(tmp_path, model, params)
    again, read = from_pretrained(tmp_path)
    sizes = {f: getattr(again, f) for f in ("key_value_heads", "head", "decoder_layers") if hasattr(again, f)}
    assert again == model or jann.to_json(again)["fields"] | sizes == jann.to_json(again)["fields"]
    assert json.dumps(jann.pretrained.hub.family_of({"model_type": hub.read_config(tmp_path)["model_type"]}).to_config(
        again)) == json.dumps({k: v for k, v in hub.read_config(tmp_path).items() if k != "torch_dtype"})  # fmt: skip
    same(read, params)
    listed = jann.core.listed(model, params)
    save_pretrained(tmp_path, model, listed)
    same(from_pretrained(tmp_path)[1], params)


def test_shards_are_gathered_and_a_missing_one_is_named(folder, drawn):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    where = {name: file for file, part in parts.items() for name in part}
    (folder / hub.INDEX).write_text(json.dumps({"weight_map": where}))
    (folder / hub.WEIGHTS).unlink()
    edit(folder, pretraining_tp=None)  # as good as not there
    same(from_pretrained(folder)[1], drawn(LLAMA))
    (folder / "b.safetensors").rename(folder / "c.safetensors")
    with pytest.raises(FileNotFoundError, match=r"b\.safetensors is missing, though .* names it"):
        from_pretrained(folder)
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    with pytest.raises(PretrainedError, match=f"b.safetensors lacks {re.escape(names[5])}"):
        from_pretrained(folder)


def test_what_is_written_over_shards_is_what_is_read(folder, drawn):
    """As transformers reads the folder; what the index names elsewhere is no shard of it."""
    old, tensors = drawn(LLAMA), load_file(folder / hub.WEIGHTS)
    names, outside = sorted(tensors), folder.parent / "outside.safetensors"
    for file, part in ((folder / "a.safetensors", names[:5]), (outside, names[5:]), (folder / "b.safetensors", [])):
        save_file({name: tensors[name] for name in part}, file)
    where = dict.fromkeys(names[:5], "a.safetensors") | dict.fromkeys(names[5:], f"../{outside.name}")
    (folder / hub.INDEX).write_text(json.dumps({"weight_map": where}))
    (folder / hub.WEIGHTS).unlink()
    model, params = from_pretrained(folder)
    same(params, old)
    new = jax.tree.map(lambda leaf: leaf + 1, params)
    index = (folder / hub.INDEX).read_text()
    save_pretrained(folder, model, new, like=folder)
    same(from_pretrained(folder)[1], new)
    assert {f.name for f in folder.iterdir()} == {hub.CONFIG, hub.WEIGHTS, "b.safetensors"} and outside.exists()
    (folder / hub.INDEX).write_text(index)
    same(from_pretrained(folder)[1], new)


def test_half_precision_stays_or_becomes_what_is_asked(tmp_path, drawn):
    low = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), drawn(LLAMA))
    save_pretrained(tmp_path, LLAMA, low)
    assert hub.read_config(tmp_path)["torch_dtype"] == "bfloat16"
    same(from_pretrained(tmp_path)[1], low)
    wide = from_pretrained(tmp_path, dtype=jnp.float32)[1]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(wide)} == {"float32"}
    same(wide, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), low))


def test_leaves_go_straight_to_their_devices(folder):
    mesh = jax.make_mesh((1,), ("model",))
    _, params = from_pretrained(folder, mesh=mesh, rules={"heads": "model", "hidden": "model"})
    assert params["blocks"]["query"]["weight"].sharding.spec == jax.sharding.PartitionSpec(None, None, "model")
    assert params["blocks"]["down"]["weight"].sharding.spec == jax.sharding.PartitionSpec(None, "model")


def test_both_spellings_of_rotary_options():
    sizes = {"model_type": "llama", "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 1,
             "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 64}  # fmt: skip
    old = {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    new = {"rope_parameters": {"rope_theta": 500.0, "rope_type": "linear", "factor": 2.0}}
    assert llama_of(sizes | old) == llama_of(sizes | new)
    assert llama_of(sizes | old).rotary_base == 500.0
    assert llama_of(sizes | old).rotary_scaling == (("type", "linear"), ("factor", 2.0))
    with pytest.raises(PretrainedError, match="rotary scaling 'spiral' is not one that jann knows"):
        llama_of(sizes | {"rope_scaling": {"rope_type": "spiral", "factor": 2.0}})
    with pytest.raises(PretrainedError, match=r"no option alpha; it has factor, original \(rope_scaling or"):
        llama_of(sizes | {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0, "alpha": 1000.0}})
    with pytest.raises(PretrainedError, match="'default' has no option full_attention"):
        llama_of(sizes | {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}})


def test_rotary_options_count_as_in_transformers():
    yarn = {"rope_type": "yarn", "factor": 4.0}

    def scaling(**options):
        return dict(llama_of({"model_type": "llama", "max_position_embeddings": 64, **options}).rotary_scaling)

    inside = yarn | {"original_max_position_embeddings": 32}
    assert scaling(rope_scaling=inside)["original"] == 32
    assert scaling(rope_parameters=inside, original_max_position_embeddings=16)["original"] == 16
    long = {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
    assert scaling(rope_scaling=long, original_max_position_embeddings=16)["factor"] == 4
    both = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "rope_scaling": yarn}
    assert scaling(**both) == {"type": "yarn", "factor": 4.0, "original": 64}
    assert llama_of({"model_type": "llama", **both}).rotary_base == 10_000
    assert scaling(rope_scaling=yarn | {"truncate": None})["truncate"] is False
    kinds = {"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]}
    assert llama_of({"model_type": "mistral", **kinds}).window == (0, 4096)


def test_both_spellings_of_a_gemma_s_rotations():
    new = {"full_attention": {"rope_theta": 500.0, "rope_type": "linear", "factor": 2.0},
           "sliding_attention": {"rope_theta": 50.0, "rope_type": "default"}}  # fmt: skip
    old = {"rope_theta": 500.0, "rope_local_base_freq": 50.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    for options in ({"rope_parameters": new}, old):
        model = gemma_of({"model_type": "gemma3_text", **options})
        assert (model.rotary_base, model.window_base, dict(model.rotary_scaling)["factor"]) == (500.0, 50.0, 2.0)
    model = gemma_of({"model_type": "gemma3_text"})
    assert (model.rotary_base, model.window_base, model.window[:7]) == (1e6, 1e4, (*[4096] * 5, 0, 4096))
    assert gemma_of({"model_type": "gemma2"}).window[:3] == (4096, 0, 4096)
    assert gemma_of({"model_type": "gemma", "hidden_act": "gelu"}).activation is jax.nn.gelu
    assert gemma_of({"model_type": "gemma2", "hidden_activation": "gelu"}).activation is exact_gelu


@pytest.mark.parametrize(
    "options, message",
    [
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not supported"),
        ({"attn_logit_softcapping": 5.0}, "attn_logit_softcapping=5.0 is not supported"),
        ({"sliding_window": None}, "sliding_window=None: give the window's width"),
        ({"rope_parameters": {"rope_theta": 5.0}}, r"got \['rope_theta'\]"),
        ({"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}}, "not supported"),
        ({"layer_types": ["chunked_attention"]}, "layer_types chunked_attention is not one"),
    ],
)
def test_options_of_a_gemma_that_jann_does_not_know(options, message):
    with pytest.raises(PretrainedError, match=message):
        gemma_of({"model_type": "gemma3_text", **options})


def test_what_a_configuration_leaves_out_is_its_family_s_default():
    assert llama_of({"model_type": "llama"}) == Llama(32_000, 4096, 32, 32, 11_008)
    qwen = llama_of({"model_type": "qwen3", "hidden_size": 64})
    assert (qwen.vocab, qwen.hidden, qwen.sizes(), qwen.window) == (151_936, 22_016, (32, 128), 0)


def test_mixtures_by_their_family_s_names_and_those_that_are_none(tmp_path, drawn):
    qwen = llama_of({"model_type": "qwen3_moe"})
    assert (qwen.experts, qwen.chosen, qwen.hidden, qwen.chosen_sum_to_one) == (128, 8, 768, False)
    mixtral = llama_of({"model_type": "mixtral", "num_experts": 3})  # transformers takes either name
    assert (mixtral.experts, mixtral.chosen, mixtral.hidden, mixtral.chosen_sum_to_one) == (3, 2, 14_336, True)
    for options in ({"mlp_only_layers": [0]}, {"decoder_sparse_step": 2}):
        with pytest.raises(PretrainedError, match=f"qwen3_moe with {next(iter(options))}=.* is not supported"):
            llama_of({"model_type": "qwen3_moe", **options})
    odd = dataclasses.replace(MODELS["mixtral"], chosen_sum_to_one=False)
    with pytest.raises(PretrainedError, match="no published family has the options"):
        save_pretrained(tmp_path, odd, drawn(odd))


def test_names_that_transformers_takes_for_others_count():
    spelt = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 5}
    gpt2 = hub.family_of({"model_type": "gpt2"}).from_config({**spelt, "max_position_embeddings": 7})
    assert (gpt2.embed, gpt2.heads, gpt2.layers, gpt2.positions) == (24, 4, 5, 7)
    t5 = hub.family_of({"model_type": "t5"}).from_config({**spelt, "d_model": 16, "head_dim": 3})
    assert (t5.embed, t5.heads, t5.layers, t5.decoder_layers, t5.head) == (16, 4, 5, 5, 3)
    units = {"feed_forward_proj": "gated-gelu", "dense_act_fn": "silu", "is_gated_act": True}
    t5 = hub.family_of({"model_type": "t5"}).from_config(units)
    assert (t5.gated, t5.activation) == (True, jax.nn.silu)


def test_a_roberta_keeps_the_name_that_it_goes_by(tmp_path, drawn):
    model, there, back = MODELS["roberta_sentence"], tmp_path / "there", tmp_path / "back"
    save_pretrained(there, model, drawn(model))
    assert hub.read_config(there)["model_type"] == "roberta"
    edit(there, model_type="xlm-roberta", architectures=["XLMRobertaForTokenClassification"])
    save_pretrained(back, model, drawn(model), like=there)
    config = hub.read_config(back)
    assert (config["model_type"], config["architectures"]) == ("xlm-roberta", ["XLMRobertaForSequenceClassification"])
    assert from_pretrained(back)[0] == model
    save_pretrained(back, MODELS["bert"], drawn(MODELS["bert"]), like=there)
    assert hub.read_config(back)["model_type"] == "bert"


def test_what_no_kind_of_vit_has_is_not_written(tmp_path, drawn):
    for odd in (dict(mask_token=True), dict(mean_too=True), dict(layer_scale=True), dict(layer_scale=True, hidden=12)):
        odd = dataclasses.replace(MODELS["vit"], **odd)
        with pytest.raises(PretrainedError, match="no published family has the options"):
            save_pretrained(tmp_path, odd, drawn(odd))
    with pytest.raises(PretrainedError, match="dinov2 with use_swiglu_ffn=True is not supported"):
        hub.family_of({"model_type": "dinov2"}).from_config({"model_type": "dinov2", "use_swiglu_ffn": True})


def test_transformers_that_no_family_is_like_and_sides_that_differ(tmp_path, drawn):
    plain = Transformer(11, 8, 1, 2, 12)
    for odd in (plain, dataclasses.replace(plain, epsilon=1e-5, positions=6, logits_bias=True)):
        with pytest.raises(PretrainedError, match=r"no published family .*all have logits_bias=True, epsilon=1e-05"):
            save_pretrained(tmp_path, odd, drawn(odd))
    marian = hub.family_of({"model_type": "marian"}).from_config
    for options in ({"decoder_ffn_dim": 7}, {"decoder_vocab_size": 7}, {"share_encoder_decoder_embeddings": False}):
        name = next(iter(options))
        with pytest.raises(PretrainedError, match=f"marian with {name}={options[name]} is not supported"):
            marian({"model_type": "marian", **options})
    assert marian({"model_type": "marian"}).begin_token == 58_100


def test_what_whisper_is_told_to_do():
    names = ("startoftranscript", "en", "de", "transcribe", "translate", "notimestamps")
    ids = {f"<|{name}|>": i for i, name in enumerate(names)}
    tokenizer = SimpleNamespace(token_to_id=ids.get)
    assert speech_tokens(tokenizer) == (0, 1, 3, 5)
    assert speech_tokens(tokenizer, "de", "translate", timestamps=True) == (0, 2, 4)
    assert speech_tokens(tokenizer, None) == (0, 5)
    with pytest.raises(ValueError, match=r"the tokenizer has no <\|german\|>: languages have two letters"):
        speech_tokens(tokenizer, "german")
    whisper = hub.family_of({"model_type": "whisper"}).from_config
    with pytest.raises(PretrainedError, match="whisper with decoder_ffn_dim=1536 is not supported, only .*=64"):
        whisper({"model_type": "whisper", "encoder_ffn_dim": 64})


def test_learned_positions_have_an_end(drawn):
    bart, tokens = MODELS["bart"], np.ones((1, 7), int)
    params = drawn(bart)
    for inputs, written in ((tokens, tokens[:, :2]), (tokens[:, :2], tokens)):
        with pytest.raises(ValueError, match="7 tokens are more than the model's 6 positions: cut them"):
            bart(params, inputs, written)
    with pytest.raises(ValueError, match="a prompt of 7 tokens is more than the model's 6 positions"):
        generate(bart, params, tokens.tolist(), 3)
    with pytest.raises(ValueError, match="6 new tokens behind the first, 1, are more than the 6 positions"):
        generate(bart, params, [[1, 2]], 6)
    made = generate(bart, params, [[1, 2], [3] * 6], 5)  # padded beyond its positions
    want = jnp.argmax(bart(params, jnp.array([[1, 2]]), jnp.array([[2, *made.tokens[0, :4]]])), -1)
    np.testing.assert_array_equal(made.tokens[0], want[0])


def test_wav2vec2_of_older_files_of_pre_training_and_those_that_jann_does_not_know(tmp_path, drawn):
    model = MODELS["wav2vec2"]
    params = drawn(model)
    save_pretrained(tmp_path, model, params)
    tensors = load_file(tmp_path / hub.WEIGHTS)
    for number, letter in enumerate("gv"):
        part = tensors.pop(f"wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original{number}")
        tensors[f"wav2vec2.encoder.pos_conv_embed.conv.weight_{letter}"] = part
    save_file(tensors, tmp_path / hub.WEIGHTS)
    same(from_pretrained(tmp_path)[1], params)
    edit(tmp_path, architectures=["Wav2Vec2ForPreTraining"])
    with pytest.warns(UserWarning, match="not used, .*lm_head"):
        body, read = from_pretrained(tmp_path)
    assert body == dataclasses.replace(model, vocab=0)
    same(read, {name: part for name, part in params.items() if name != "head"})
    wav2vec2 = hub.family_of({"model_type": "wav2vec2"}).from_config
    for option, value in (("add_adapter", True), ("adapter_attn_dim", 16), ("feat_extract_norm", "batch")):
        with pytest.raises(PretrainedError, match=f"wav2vec2 with {option}={value!r} is not supported, only"):
            wav2vec2({"model_type": "wav2vec2", option: value})
    with pytest.raises(PretrainedError, match="wav2vec2 with 1 conv_dim, 7 conv_kernel and 7 conv_stride"):
        wav2vec2({"model_type": "wav2vec2", "conv_dim": [4]})
    with pytest.raises(PretrainedError, match="architecture 'Wav2Vec2ForXVector' is not one that jann knows"):
        wav2vec2({"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForXVector"]})


def test_convnexts_that_jann_does_not_know():
    convnext = hub.family_of({"model_type": "convnext"}).from_config
    with pytest.raises(PretrainedError, match="convnext with num_stages=4, depths=.* each stage has a depth"):
        convnext({"model_type": "convnext", "depths": [1, 2]})
    with pytest.raises(PretrainedError, match="patch_size=.2, 4. is not supported, only squares"):
        convnext({"model_type": "convnext", "patch_size": [2, 4]})
    assert convnext({"model_type": "convnext", "patch_size": [2, 2], "layer_scale_init_value": -1}).layer_scale == 0


def test_sides_of_clip_that_differ_are_named():
    clip = hub.family_of({"model_type": "clip"}).from_config
    with pytest.raises(PretrainedError, match="clip with hidden_act 'gelu' of texts and 'quick_gelu' of images"):
        clip({"model_type": "clip", "text_config": {"hidden_act": "gelu"}})
    assert clip({"text_config": {"vocab_size": 7}, "text_config_dict": {"vocab_size": 9}}).vocab == 9


def test_what_no_kind_of_bert_has_is_not_written(tmp_path, drawn):
    plain = BERT(vocab=11, positions=6, embed=8, layers=1, heads=2, hidden=12)
    one = dataclasses.replace(plain, segments=0)
    for odd in (
        dataclasses.replace(one, first_position=2), dataclasses.replace(one, epsilon=1e-5),
        dataclasses.replace(plain, words_activation=jnp.tanh), dataclasses.replace(plain, relative_buckets=8),
        dataclasses.replace(plain, groups=1), dataclasses.replace(plain, groups=1, table=4, head="replaced"),
        dataclasses.replace(plain, head="features", table=4, pooler=True), dataclasses.replace(one, table=4),
        DeBERTa(11, embed=8, layers=1, heads=2, hidden=12, head="replaced"),
    ):  # fmt: skip
        with pytest.raises(PretrainedError, match="no published family has the options"):
            save_pretrained(tmp_path, odd, drawn(odd))
    distilled = MODELS["distilbert"]
    with pytest.raises(ValueError, match="segments=0: this model does not tell kinds of sentences apart"):
        distilled(drawn(distilled), jnp.zeros((1, 3), int), segments=jnp.zeros((1, 3), int))


def test_options_that_albert_and_deberta_lack_are_named():
    with pytest.raises(PretrainedError, match="albert with inner_group_num=2 is not supported, only inner_group_num=1"):
        hub.family_of(albert := {"model_type": "albert", "inner_group_num": 2}).from_config(albert)
    deberta = {"model_type": "deberta-v2", "relative_attention": True, "pos_att_type": "p2c|c2p"}
    read = hub.family_of(deberta).from_config
    assert read(deberta | {"position_buckets": 256}).span == 256 and read(deberta).span == 512
    for odd, message in (
        ({"conv_kernel_size": 3}, "conv_kernel_size=3 is not supported, only conv_kernel_size=0"),
        ({"relative_attention": None}, "relative_attention=False is not supported"),
        ({"pos_att_type": ["c2p", "p2p"]}, r"pos_att_type=\['p2p'\]: jann knows c2p, p2c"),
        ({"pos_att_type": []}, r"pos_att_type=.*: jann knows c2p, p2c"),
        ({"pooler_hidden_size": 7}, "pooler_hidden_size=7 is not supported"),
    ):
        with pytest.raises(PretrainedError, match=message):
            read(deberta | odd)


def test_what_a_folder_says_of_its_use_comes_along(tmp_path, drawn):
    there, back = tmp_path / "there", tmp_path / "back"
    model = MODELS["bert"]
    save_pretrained(there, model, drawn(model))
    names = dict(enumerate(["O", "PER", "ORG", "LOC", "MISC"]))
    edit(there, id2label=names, label2id={name: i for i, name in names.items()}, pad_token_id=3, eos_token_id=[5, 6])
    edit(there, hidden_act="relu", _name_or_path="there", problem_type="single_label_classification")
    for file in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "notes.txt"):
        (there / file).write_text(file)
    (there / "additional_chat_templates").mkdir()
    (there / "additional_chat_templates/tool_use.jinja").write_text("tools{{ tools | length }}")
    save_pretrained(back, model, drawn(model), like=there)
    assert chat_prompt(back, [{"role": "user", "content": "hi"}], tools=[{}]) == "tools1"
    config = hub.read_config(back)
    assert {**config, "hidden_act": "relu", "_name_or_path": "there"} == hub.read_config(there)
    assert {f.name for f in back.iterdir()} == {f.name for f in there.iterdir()} - {"notes.txt"}
    assert (back / "chat_template.jinja").read_text() == "chat_template.jinja"
    fewer = BERT(vocab=11, positions=6, embed=8, layers=1, heads=2, hidden=12, head="sentence", labels=2)
    save_pretrained(there, fewer, drawn(fewer), like=there)
    config = hub.read_config(there)
    assert config["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"} and config["eos_token_id"] == [5, 6]
    assert "problem_type" not in config, "of labels that it no longer has"
    with pytest.raises(FileNotFoundError, match="elsewhere is no folder here"):
        save_pretrained(back, fewer, drawn(fewer), like=tmp_path / "elsewhere")
    assert from_pretrained(back)[0] == model, "nothing was written"


def edit(folder, **changes):
    config = hub.read_config(folder)
    (folder / hub.CONFIG).write_text(json.dumps(config | changes))


def test_an_unknown_architecture_or_option_is_named(folder):
    edit(folder, hidden_act="swoosh")
    with pytest.raises(PretrainedError, match="activation 'swoosh'"):
        from_pretrained(folder)
    edit(folder, model_type="mamba9")
    with pytest.raises(PretrainedError, match="model_type 'mamba9' is not one that jann knows: albert, bart, bert,"):
        from_pretrained(folder)
    edit(folder, model_type="llama", hidden_act="silu", architectures=["LlamaForTokenClassification"])
    with pytest.raises(PretrainedError, match="'LlamaForTokenClassification' is not one that jann knows: LlamaFor"):
        from_pretrained(folder)
    edit(folder, model_type="gpt2", architectures=None, add_cross_attention=True)
    with pytest.raises(PretrainedError, match="add_cross_attention=True is not supported"):
        from_pretrained(folder)


def test_a_quantised_folder_is_refused_and_not_read_as_if_its_codes_were_weights(folder, drawn):
    tensors = load_file(folder / hub.WEIGHTS)
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        scale = jnp.abs(tensors[name]).max() / 448
        tensors |= {name: (tensors[name] / scale).astype(jnp.float8_e4m3fn), f"{name}_scale_inv": scale[None, None]}
    save_file(tensors, folder / hub.WEIGHTS)
    edit(folder, quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})
    with pytest.raises(PretrainedError, match=r"is quantised \(quantization_config: fp8\).*in bfloat16 or float32"):
        from_pretrained(folder, dtype=jnp.float32)
    edit(folder, quantization_config={"load_in_4bit": True})
    with pytest.raises(PretrainedError, match=r"is quantised \(quantization_config: {'load_in_4bit': True}\)"):
        from_pretrained(folder)
    save_pretrained(folder, LLAMA, drawn(LLAMA), like=folder)
    same(from_pretrained(folder)[1], drawn(LLAMA))
    edit(folder, quantization_config=None)
    same(from_pretrained(folder)[1], drawn(LLAMA))


def test_which_sentence_follows_and_which_answer_is_chosen_are_heads_on_the_sentence(tmp_path, drawn):
    """Whatever the configuration says of labels; written again they are classifiers, which compute the same."""
    cases = ("NextSentencePrediction", "cls.seq_relationship", 2), ("MultipleChoice", "classifier", 1)
    for use, head, labels in cases:
        model = dataclasses.replace(MODELS["bert"], layers=1, head="sentence", labels=labels)
        save_pretrained(tmp_path, model, drawn(model))
        tensors = load_file(tmp_path / hub.WEIGHTS)
        renamed = {name.replace("classifier", head): tensor for name, tensor in tensors.items()}
        save_file(renamed, tmp_path / hub.WEIGHTS)
        edit(tmp_path, architectures=[f"BertFor{use}"], id2label={"0": "a", "1": "b", "2": "c"})
        again, params = from_pretrained(tmp_path)
        assert again == model
        same(params, drawn(model))
        save_pretrained(tmp_path, again, params, like=tmp_path)
        assert hub.read_config(tmp_path)["architectures"] == ["BertForSequenceClassification"]
        assert load_file(tmp_path / hub.WEIGHTS).keys() == tensors.keys()


@pytest.mark.parametrize("name", ["bert_features", "vit_features", "llama", "gpt2_untied"])
def test_bare_models_may_lack_a_pooler_or_a_head(name, tmp_path, drawn):
    """As transformers writes BertModel(config, add_pooling_layer=False), and every LlamaModel."""
    model, params = MODELS[name], drawn(MODELS[name])
    save_pretrained(tmp_path, model, params)
    lost = re.compile("^(model|transformer)[.]|^lm_head.*|.*pooler.*")
    tensors = {lost.sub("", name): tensor for name, tensor in load_file(tmp_path / hub.WEIGHTS).items()}
    tensors.pop("")
    save_file(tensors, tmp_path / hub.WEIGHTS)
    bare = {"llama": "LlamaModel", "gpt2_untied": "GPT2Model"}
    if name in bare:
        with pytest.raises(WeightsError, match="lm_head.weight: missing"):
            from_pretrained(tmp_path)
        edit(tmp_path, architectures=[bare[name]])
    found, read = from_pretrained(tmp_path)
    changed = {"tied": True} if name in bare else {"pooler": False}
    assert jann.to_json(found)["fields"].items() >= changed.items()
    same(read, {part: leaf for part, leaf in params.items() if part not in ("head", "pooler")})
    save_pretrained(tmp_path, found, read)
    again, reread = from_pretrained(tmp_path)
    assert again == found
    same(reread, read)


def test_an_encoder_alone_gives_features_and_makes_no_tokens(drawn):
    model, whole = MODELS["t5_encoder"], MODELS["t5_scaled"]
    params, ids = drawn(model), np.array([[1, 5, 2]])
    np.testing.assert_array_equal(model(params, ids), model.encode(params, ids))
    with pytest.raises(TypeError, match="has 0 blocks in its decoder: it takes no tokens"):
        model(params, ids, ids)
    with pytest.raises(TypeError, match="give the decoder's tokens too, or call model.encode"):
        whole(drawn(whole), ids)
    with pytest.raises(ValueError, match="is an encoder alone: it makes no tokens"):
        generate(model, params, ids, 2)


def test_an_untied_head_of_words_has_a_copy_of_its_bias(tmp_path, drawn):
    model = MODELS["bert_untied"]
    save_pretrained(tmp_path, model, drawn(model))
    tensors = load_file(tmp_path / hub.WEIGHTS)
    save_file({**tensors, "cls.predictions.bias": tensors["cls.predictions.decoder.bias"]}, tmp_path / hub.WEIGHTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(from_pretrained(tmp_path)[1], drawn(model))


def test_the_configuration_of_another_family_is_noticed(folder):
    edit(folder, model_type="gpt2", n_embd=8, n_head=2, n_layer=2, vocab_size=11)
    with pytest.raises(PretrainedError, match="architecture 'LlamaForCausalLM' is not one that jann knows: GPT2LM"):
        from_pretrained(folder)
    edit(folder, architectures=None)
    with pytest.raises(WeightsError, match=r"wte\.weight: missing") as raised:
        from_pretrained(folder)
    assert "config.json names no architectures" in raised.value.__notes__[0]


def test_missing_tensors_are_errors_left_over_ones_warnings_other_shapes_named(folder, drawn):
    tensors = load_file(folder / hub.WEIGHTS)
    save_file({**tensors, "value_head.weight": jnp.ones(3)}, folder / hub.WEIGHTS)
    with pytest.warns(UserWarning, match="not used, .*value_head.weight"):
        same(from_pretrained(folder)[1], drawn(LLAMA))
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**tensors, name: jnp.ones((8, 7))}, folder / hub.WEIGHTS)
    with pytest.raises(WeightsError, match=rf"{re.escape(name)}: got \[7, 8\], wanted \[8, 12\]"):
        from_pretrained(folder)
    del tensors[name]
    save_file(tensors, folder / hub.WEIGHTS)
    with pytest.raises(WeightsError, match=re.escape(f"{name}: missing")):
        from_pretrained(folder)


def test_damaged_and_missing_files(folder):
    whole = (folder / hub.WEIGHTS).read_bytes()
    (folder / hub.WEIGHTS).write_bytes(whole[:-10])
    with pytest.raises(PretrainedError, match="damaged or truncated"):
        from_pretrained(folder)
    (folder / hub.WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(FileNotFoundError, match="pytorch_model.bin would run code as it is read"):
        from_pretrained(folder)
    (folder / hub.INDEX).write_text("{}")
    with pytest.raises(PretrainedError, match=f"{hub.INDEX} has no weight_map of the tensors' files"):
        from_pretrained(folder)
    for text, message in (("{", "not whole JSON"), ("[1]", r"config.json holds \[1\], which is no dict")):
        (folder / hub.CONFIG).write_text(text)
        with pytest.raises(PretrainedError, match=message):
            from_pretrained(folder)
    (folder / hub.CONFIG).unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        from_pretrained(folder)


def test_a_name_that_is_no_folder_says_how_to_get_one(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(FileNotFoundError, match=r"gpt2-tiny is no folder here.*pip install 'jann\[hub\]'"):
        from_pretrained("gpt2-tiny")


def test_what_no_family_describes_is_not_written(tmp_path, drawn):
    with pytest.raises(PretrainedError, match="MLP belongs to no published family"):
        save_pretrained(tmp_path, jann.models.MLP(2, (3,), 1), drawn(jann.models.MLP(2, (3,), 1)))
    odd = Llama(vocab=11, embed=8, layers=2, heads=2, hidden=12, query_key_norm=True, mlp_bias=True)
    with pytest.raises(PretrainedError, match="no published family has the options"):
        save_pretrained(tmp_path, odd, drawn(odd))
    for odd in (dict(query_key_norm=True), dict(post_norms=True, window=(3, 5)), dict(logit_cap=2.0)):
        odd = Gemma(vocab=11, embed=8, layers=2, heads=2, hidden=12, **odd)
        with pytest.raises(PretrainedError, match="no published family has the options"):
            save_pretrained(tmp_path, odd, drawn(odd))
    for window in ((3, 5), (0, 3, 5)):
        odd = Llama(vocab=11, embed=8, layers=len(window), heads=2, hidden=12, window=window, qkv_bias=True)
        with pytest.raises(PretrainedError, match=r"window=\(.*3, 5\): published .* have one width besides 0"):
            save_pretrained(tmp_path, odd, drawn(odd))
    stretched = (("type", "dynamic"), ("factor", 4.0), ("original", 16))
    odd = dataclasses.replace(LLAMA, positions=64, rotary_scaling=stretched)
    with pytest.raises(PretrainedError, match=r"original=16, positions=64: .* give the model positions=16"):
        save_pretrained(tmp_path, odd, drawn(odd))
    assert not (tmp_path / hub.WEIGHTS).exists()


def test_configurations_say_what_transformers_reads_so():
    span = BERT(vocab=11, positions=6, embed=8, layers=1, heads=2, hidden=12, head="span", labels=5)
    assert len(hub.family_for(span).to_config(span)["id2label"]) == 2, "where an answer begins and ends"
    for activation, name in ((exact_gelu, "gated-gelu_python"), (jax.nn.gelu, "gated-gelu")):
        t5 = dataclasses.replace(MODELS["t5"], activation=activation)
        assert hub.family_for(t5).to_config(t5)["feed_forward_proj"] == name
