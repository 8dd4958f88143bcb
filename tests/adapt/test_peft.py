"""Adapter folders against what PEFT itself computes, written again as it wrote them, and refused where it must be."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import jann
from jann.adapt import load_adapter, low_rank, merge, save_adapter
from jann.adapt.peft import task_type
from jann.adapt.peft_config import targets_of
from jann.models import BERT, GPT2, MLP, T5, ViT
from jann.pretrained import PretrainedError, WeightsError, from_pretrained
from jann.trees import partition

FILE = Path(__file__).parents[1] / "goldens" / "adapters.safetensors"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ARRAYS = load_file(FILE)
with safe_open(FILE, "numpy") as file:
    CONFIGS = json.loads(file.metadata()["configs"])
GPT = GPT2(vocab=11, positions=8, embed=8, layers=2, heads=2)


def part(name):
    return {key[len(name) + 1 :]: value for key, value in ARRAYS.items() if key.startswith(f"{name}/")}


@pytest.fixture
def case(tmp_path):
    """name -> the base model, its folder and the adapter's, the inputs and what PEFT makes of them"""

    def load(name):
        for folder, config in CONFIGS[name].items():
            (tmp_path / folder).mkdir()
            kind = "" if folder == "base" else "adapter_"
            (tmp_path / folder / f"{kind}config.json").write_text(json.dumps(config))
            save_file(part(f"{name}/{folder}"), tmp_path / folder / f"{kind}model.safetensors", {"format": "pt"})
        model, params = from_pretrained(tmp_path / "base")
        inputs = part(f"{name}/inputs")
        x = np.moveaxis(inputs["pixel_values"], 1, -1) if "pixel_values" in inputs else inputs["input_ids"]
        x = (x, inputs["decoder_input_ids"]) if "decoder_input_ids" in inputs else (x,)
        return SimpleNamespace(
            model=model, params=params, folder=tmp_path / "adapter", inputs=x, logits=ARRAYS[f"{name}/logits"]
        )

    return load


def same_tensors(a, b):
    a, b = (load_file(folder / WEIGHTS) for folder in (a, b))
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes(), name


TABLES = ("embedding_saved", "tied_saved", "tied_head_saved")
SAVED = {"layers": "^head/|attention_norm", "classifier": "^head", "images": "^head"}
SAVED["embeddings_kept"] = "^tokens/|^head/"
SAVED |= dict.fromkeys(TABLES, "^tokens/")
PARTED = ("parted", "parted_saved")


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in PARTED])
def test_logits_are_those_of_peft_and_the_files_are_written_again(case, name, tmp_path):
    c = case(name)
    adapted = load_adapter(c.folder, c.model, c.params)
    run = jax.jit(c.model)
    assert np.abs(run(c.params, *c.inputs) - c.logits).max() > 0.02
    for params in (adapted, merge(adapted), jann.core.listed(c.model, adapted)):
        np.testing.assert_allclose(run(params, *c.inputs), c.logits, rtol=1e-5, atol=2e-5)
    again = load_adapter(c.folder, c.model, jann.core.listed(c.model, c.params))
    np.testing.assert_allclose(run(again, *c.inputs), c.logits, rtol=1e-5, atol=2e-5)
    for i, params in enumerate((adapted, again)):
        save_adapter(tmp_path / f"again{i}", c.model, params, also=SAVED.get(name), rank_stabilised=bool(i))
        same_tensors(tmp_path / f"again{i}", c.folder)
        reread = load_adapter(tmp_path / f"again{i}", c.model, c.params)
        np.testing.assert_allclose(run(reread, *c.inputs), c.logits, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("name", "base"), [("lora-gpt2", "gpt2"), ("lora-llama", "llama-gqa-untied")])
def test_the_golden_adapters(goldens, name, base, tmp_path):
    model, params = from_pretrained(goldens / base)
    io, about = (goldens / name / f"io.{kind}" for kind in ("safetensors", "json"))
    io, about = load_file(io), json.loads(about.read_text())["outputs"]
    adapted, tokens = load_adapter(goldens / name, model, params), io["in.plain.input_ids"]
    bar = 20 * about["adapter.logits"]["max_abs_err_f32_vs_f64"]
    run = jax.jit(model)
    logits = run(adapted, tokens)
    np.testing.assert_allclose(run(params, tokens), io["out.base.logits"], rtol=0, atol=bar)
    np.testing.assert_allclose(logits, io["out.adapter.logits"], rtol=0, atol=bar)
    np.testing.assert_allclose(run(merge(adapted), tokens), io["out.merged.logits"], rtol=0, atol=bar)
    chances = jax.nn.log_softmax(logits[:, :-1])
    loss = -np.take_along_axis(np.asarray(chances), tokens[:, 1:, None], 2).mean()
    np.testing.assert_allclose(loss, io["out.loss.value"], rtol=0, atol=2e-5)
    save_adapter(tmp_path, model, adapted)
    same_tensors(tmp_path, goldens / name)


@pytest.mark.parametrize("model", ["classifier", "bare"])
def test_modules_of_vit_are_called_as_transformers_5_does(model, drawn, key, tmp_path):
    model = ViT(4, 2, 1, 8, 1, 2, 12, outputs=3 if model == "classifier" else 0)
    params = low_rank(model, drawn(model), key=key, targets="mlp_in", rank=1)
    save_adapter(tmp_path, model, params)
    prefix = "base_model.model.vit." if model.outputs else "base_model.model."
    assert set(load_file(tmp_path / WEIGHTS)) == {f"{prefix}layers.0.mlp.fc1.lora_{side}.weight" for side in "AB"}
    save_adapter(tmp_path, model, params)
    again = load_adapter(tmp_path, model, drawn(model))
    jax.tree.map(np.testing.assert_array_equal, again, params)


# what is refused


@pytest.fixture
def saved(drawn, key, tmp_path):
    """A folder with an adapter for GPT, and the base's parameters"""
    params = drawn(GPT)
    save_adapter(tmp_path, GPT, low_rank(GPT, params, key=key, targets="qkv|mlp_in", rank=2))
    return tmp_path, params


def edit(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("peft_type", "IA3", "peft_type='IA3' is not supported, only 'LORA'"),
        ("use_dora", True, "use_dora=True is not supported"),
        ("bias", "all", "bias='all' is not supported"),
        ("lora_bias", True, "lora_bias=True is not supported"),
        ("target_parameters", ["experts.weight"], "target_parameters=.* is not supported"),
        ("an_option_of_tomorrow", {"x": 1}, "an_option_of_tomorrow=.* is not supported"),
        ("init_lora_weights", "pissa", "init_lora_weights='pissa' is for a base that was changed as well"),
        ("r", None, "lacks r"),
    ],
)
def test_other_kinds_of_adapters_and_options_are_refused_by_name(saved, option, value, message):
    folder, params = saved
    edit(folder, **{option: value})
    with pytest.raises(PretrainedError, match=message):
        load_adapter(folder, GPT, params)


def test_a_module_named_in_full_is_adapted_in_whatever_layers():
    modules = [f"transformer.h.{i}.attn.{name}" for i in range(2) for name in ("c_attn", "c_proj")] + ["lm_head"]
    config = {"layers_to_transform": [1], "target_modules": ["c_attn", "transformer.h.0.attn.c_proj", "lm_head"]}
    assert targets_of(config, modules) == [modules[i] for i in (1, 2, 4)]


def test_an_adapter_for_another_base_is_noticed(saved, drawn):
    folder, _ = saved
    wide = GPT2(vocab=11, positions=8, embed=12, layers=2, heads=2)
    with pytest.raises(WeightsError, match=r"h\.0\.attn\.c_attn\.lora_A\.weight: got \[2, 8\], wanted \[2, 12\]"):
        load_adapter(folder, wide, drawn(wide))
    deep = GPT2(vocab=11, positions=8, embed=8, layers=3, heads=2)
    with pytest.raises(WeightsError, match=r"h\.2\.attn\.c_attn\.lora_B\.weight: missing"):
        load_adapter(folder, deep, drawn(deep))
    llama = jann.models.Llama(vocab=11, embed=8, layers=2, heads=2, hidden=12)
    with pytest.raises(WeightsError, match=r"transformer\.h\.1\.mlp\.c_fc\.lora_A\.weight: unexpected"):
        load_adapter(folder, llama, drawn(llama))
    with pytest.raises(PretrainedError, match="MLP belongs to no published family"):
        load_adapter(folder, MLP(2, (3,), 1), drawn(MLP(2, (3,), 1)))


def test_missing_and_unexpected_tensors_and_ranks_are_named(saved):
    folder, params = saved
    edit(folder, rank_pattern={"h.1.mlp.c_fc": 3})
    with pytest.raises(WeightsError, match=r"h\.1\.mlp\.c_fc\.lora_A\.weight: got \[2, 8\], wanted \[3, 8\]"):
        load_adapter(folder, GPT, params)
    edit(folder, rank_pattern={}, target_modules=["c_attn"])
    with pytest.raises(WeightsError, match=r"c_fc\.lora_A\.weight: unexpected"):
        load_adapter(folder, GPT, params)
    edit(folder, target_modules="all-linear")
    with pytest.raises(WeightsError, match=r"h\.0\.mlp\.c_proj\.lora_A\.weight: missing"):
        load_adapter(folder, GPT, params)
    edit(folder, target_modules=["c_attn", "c_fc"], modules_to_save=["ln_f"])
    with pytest.raises(WeightsError, match=r"transformer\.ln_f\.weight: missing"):
        load_adapter(folder, GPT, params)


@pytest.mark.parametrize("name", PARTED)
def test_a_tied_table_that_peft_parts_is_for_an_untied_model(case, name):
    """Whatever `ensure_weight_tying` says: PEFT ties no table called wte."""
    c = case(name)
    with pytest.raises(PretrainedError, match=r"lm_head\.weight another array than .*tied=False\), and params"):
        load_adapter(c.folder, c.model, c.params)
    model, base = replace(c.model, tied=False), {**c.params, "head": {"weight": c.params["tokens"]["table"].T}}
    np.testing.assert_allclose(model(base, *c.inputs), c.model(c.params, *c.inputs), rtol=1e-5, atol=1e-6)
    adapted = load_adapter(c.folder, model, base)
    np.testing.assert_allclose(jax.jit(model)(adapted, *c.inputs), c.logits, rtol=1e-5, atol=2e-5)


def test_a_head_of_low_rank_is_for_an_untied_model(drawn, key, tmp_path):
    tied = GPT2(vocab=11, positions=8, embed=8, layers=1, heads=2)
    untied = replace(tied, tied=False)
    save_adapter(tmp_path, untied, low_rank(untied, drawn(untied), rank=2, targets="^head/weight", key=key))
    with pytest.raises(PretrainedError, match=r"the adapter makes lm_head\.weight another array than .*tied=False\)"):
        load_adapter(tmp_path, tied, drawn(tied))


def test_a_table_of_low_rank_is_refused_by_name(saved):
    folder, params = saved
    arrays = load_file(folder / WEIGHTS)
    table = "base_model.model.transformer.wte.lora_embedding_A"
    save_file({**arrays, table: np.ones((2, 11))}, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(PretrainedError, match=r"corrects tables of embeddings, .*\['transformer\.wte'\]"):
        load_adapter(folder, GPT, params)


SIZES = {"vocab": 11, "embed": 8, "layers": 1, "heads": 2, "hidden": 12}
TIED = {
    "t5": (T5(**SIZES, head=3), "^tokens/", "decoder.embed_tokens encoder.embed_tokens lm_head shared"),
    "t5_untied": (T5(**SIZES, head=3, tied=False), "^tokens/", "decoder.embed_tokens encoder.embed_tokens shared"),
    "words": (
        BERT(**SIZES, positions=8, head="words"), "^tokens/",
        "bert.embeddings.word_embeddings cls.predictions.decoder",
    ),
    "words_and_head": (
        BERT(**SIZES, positions=8, head="words"), "^tokens/|^head/bias",
        "bert.embeddings.word_embeddings cls.predictions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TIED)
def test_what_is_one_with_a_saved_table_is_saved_beside_it(drawn, key, tmp_path, name):
    """As PEFT makes an array of its own of each, and would leave the others as they were."""
    model, also, modules = TIED[name]
    base = drawn(model)
    train, rest = partition(low_rank(model, base, rank=2, targets="query", key=key), also)
    params = jann.combine(jax.tree.map(lambda leaf: leaf + 1, train), rest)
    save_adapter(tmp_path, model, params, also=also)
    config, arrays = json.loads((tmp_path / CONFIG).read_text()), load_file(tmp_path / WEIGHTS)
    assert config["modules_to_save"] == modules.split()
    tables = [value for key, value in arrays.items() if value.shape == (11, 8)]
    assert len(tables) == (4 if name == "t5" else 3 if name == "t5_untied" else 2)
    for table in tables:
        np.testing.assert_array_equal(table, params["tokens"]["table"])
    jax.tree.map(np.testing.assert_array_equal, load_adapter(tmp_path, model, base), params)
    copy = next(name for name, value in arrays.items() if value.shape == (11, 8))
    save_file({**arrays, copy: arrays[copy] + 1}, tmp_path / WEIGHTS, {"format": "pt"})
    with pytest.raises(PretrainedError, match=r"the adapter makes .* another array than .*, which .* ties"):
        load_adapter(tmp_path, model, base)


def test_a_decoder_that_tells_labels_keeps_its_head_with_the_adapter(drawn, key, tmp_path):
    model = GPT2(vocab=11, positions=8, embed=8, layers=2, heads=2, labels=3)
    base = drawn(model)
    params = low_rank(model, base, rank=2, targets="qkv", key=key)
    params = {**params, "head": {"weight": base["head"]["weight"] + 1}}
    save_adapter(tmp_path, model, params)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config["task_type"] == "SEQ_CLS" and config["modules_to_save"] == ["score"]
    again = load_adapter(tmp_path, model, base)
    np.testing.assert_array_equal(again["head"]["weight"], params["head"]["weight"])


def test_a_t5_is_for_sequences_and_its_encoder_alone_for_none_of_their_tasks():
    whole = T5(vocab=11, embed=8, layers=2, heads=2, head=4, hidden=12)
    assert task_type(whole) == "SEQ_2_SEQ_LM" and task_type(replace(whole, decoder_layers=0)) is None


@pytest.mark.parametrize(
    ("head", "task", "module"),
    [
        ("sentence", "SEQ_CLS", "classifier"),
        ("tokens", "TOKEN_CLS", "classifier"),
        ("span", "QUESTION_ANS", "qa_outputs"),
    ],
)
def test_the_head_of_an_encoder_goes_with_the_adapter_whole(drawn, key, tmp_path, head, task, module):
    model = BERT(11, positions=8, embed=8, layers=2, heads=2, hidden=12, head=head, labels=3)
    base = drawn(model)
    params = low_rank(model, base, rank=2, targets="query|^head", key=key)
    factors = params["head"]["weight"]
    params["head"] = {"weight": replace(factors, up=jnp.ones_like(factors.up)), "bias": base["head"]["bias"] + 1}
    save_adapter(tmp_path, model, params)
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["task_type"], config["modules_to_save"], config["target_modules"]) == (task, [module], ["query"])
    tokens = np.array([[1, 4, 10, 7]])
    again = load_adapter(tmp_path, model, base)
    np.testing.assert_allclose(model(again, tokens), model(params, tokens), 1e-5, 1e-5)


def test_folders_that_lack_something_or_hold_a_pickle(saved):
    folder, params = saved
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PretrainedError, match=f"{WEIGHTS} is damaged or truncated"):
        load_adapter(folder, GPT, params)
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(FileNotFoundError, match=f"holds no {WEIGHTS}.*adapter_model.bin would run code as it is read"):
        load_adapter(folder, GPT, params)
    (folder / CONFIG).unlink()
    with pytest.raises(FileNotFoundError, match=f"{CONFIG} is missing"):
        load_adapter(folder, GPT, params)


def test_what_cannot_be_loaded_twice_or_saved(saved, drawn, key, tmp_path):
    folder, params = saved
    once = load_adapter(folder, GPT, params)
    with pytest.raises(ValueError, match="blocks/mlp_in/weight, blocks/qkv/weight is of low rank already"):
        load_adapter(folder, GPT, once)
    with pytest.raises(ValueError, match="there is no low-rank kernel to save"):
        save_adapter(tmp_path, GPT, params)
    with pytest.raises(ValueError, match="no parameter path matches also='score'"):
        save_adapter(tmp_path, GPT, once, also="score")
    vit = ViT(4, 2, 1, 8, 1, 2, 12, 3)
    with pytest.raises(PretrainedError, match="patches/weight is no matrix in PyTorch"):
        save_adapter(tmp_path, vit, low_rank(vit, drawn(vit), key=key, targets="patches"))
