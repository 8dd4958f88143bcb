"""Adapters that PEFT makes for tiny random models, and what the models compute with them: adapters.safetensors

    pip install peft transformers torch
    python tests/goldens/make_adapters.py

Made with peft 0.21.2, transformers 5.23.0, torch 2.13.0. Every case holds the base model's tensors, the adapter's,
inputs and logits: {case}/base/{name}, {case}/adapter/{name}, {case}/inputs, {case}/logits; configurations are metadata.
"""

import json
import tempfile
from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
FAMILIES = {
    "gpt2": (
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2),
    ),
    "llama": (
        transformers.LlamaForCausalLM,
        transformers.LlamaConfig(
            vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=12, head_dim=6,
        ),
    ),
    "llama_tied": (
        transformers.LlamaForCausalLM,
        transformers.LlamaConfig(
            vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            intermediate_size=12, head_dim=6, tie_word_embeddings=True,
        ),
    ),
    "bert": (
        transformers.BertForSequenceClassification,
        transformers.BertConfig(
            vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
            max_position_embeddings=8, num_labels=3,
        ),
    ),
    "t5": (
        transformers.T5ForConditionalGeneration,
        transformers.T5Config(
            vocab_size=11, d_model=8, d_kv=3, d_ff=12, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu",
            tie_word_embeddings=False, decoder_start_token_id=0,
        ),
    ),
    "vit": (
        transformers.ViTForImageClassification,
        transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, image_size=4, patch_size=2,
            num_channels=1, num_labels=3,
        ),
    ),
}  # fmt: skip
CASES = {
    "patterns": ("gpt2", {
        "target_modules": r".*\.(c_attn|c_fc)", "r": 3, "lora_alpha": 5, "use_rslora": True,
        "rank_pattern": {"h.1.attn.c_attn": 2, r"^transformer\.h\.0\.mlp\.c_fc": 1}, "alpha_pattern": {"c_fc": 7},
    }),
    "layers": ("llama", {
        "target_modules": ["q_proj", "o_proj", "down_proj"], "layers_to_transform": [1], "layers_pattern": "layers",
        "exclude_modules": ["mlp.down_proj"], "modules_to_save": ["lm_head", "input_layernorm"], "r": 2,
    }),
    "all_linear": ("llama", {"target_modules": "all-linear", "r": 2, "lora_alpha": 3}),
    "embedding_saved": ("llama", {"target_modules": ["k_proj"], "modules_to_save": ["embed_tokens"], "r": 2}),
    "tied_saved": ("llama_tied", {
        "target_modules": ["k_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True, "r": 2,
    }),
    "tied_head_saved": ("gpt2", {
        "target_modules": ["c_attn"], "modules_to_save": ["wte", "lm_head"], "ensure_weight_tying": True, "r": 2,
    }),
    "parted": ("gpt2", {
        "target_modules": ["c_attn"], "modules_to_save": ["wte"], "ensure_weight_tying": True, "r": 2,
    }),
    "parted_saved": ("llama_tied", {"target_modules": ["k_proj"], "modules_to_save": ["lm_head"], "r": 2}),
    "head_adapted": ("llama", {"target_modules": ["q_proj", "lm_head"], "r": 2}),
    "embeddings_kept": ("llama", {"target_modules": ["q_proj"], "r": 2}),
    "classifier": ("bert", {"target_modules": ["query", "output.dense"], "task_type": "SEQ_CLS", "r": 2}),
    "sequences": ("t5", {"target_modules": ["q", "v", "o", "wi_1"], "r": 2, "use_rslora": True}),
    "images": ("vit", {"target_modules": ["q_proj", "fc2"], "modules_to_save": ["classifier"], "r": 2}),
}  # fmt: skip
# What is no longer as in the base's folder, and so is kept with the adapter.
CHANGED = {"head_adapted": ["lm_head"], "embeddings_kept": ["lm_head", "model.embed_tokens"]}


def randomise(model, seed):
    """All parameters drawn, so that each of them matters."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=random)
            wide = parameter.ndim > 1
            parameter.copy_(draw * 0.4 if wide else 1 + draw * 0.2 if "norm" in name.lower() else draw * 0.2)


def inputs_of(kind):
    if kind == "vit":
        return {"pixel_values": torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))}
    tokens = torch.tensor([[1, 4, 10, 7, 2], [3, 3, 9, 0, 5]])
    return {"input_ids": tokens, "decoder_input_ids": tokens[:, :3]} if kind == "t5" else {"input_ids": tokens}


def main():
    arrays, configs = {}, {}
    for case, (kind, options) in CASES.items():
        build, config = FAMILIES[kind]
        model = build(config).eval()
        randomise(model, 0)
        inputs = inputs_of(kind)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(f"{folder}/base")
            for name in CHANGED.get(case, ()):
                model.get_submodule(name).weight.data *= 1.5
            adapted = peft.get_peft_model(model, peft.LoraConfig(**options)).eval()
            random = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for parameter in (p for p in adapted.parameters() if p.requires_grad):
                    parameter.copy_(0.4 * torch.randn(parameter.shape, generator=random))
                arrays[f"{case}/logits"] = adapted(**inputs).logits
            kept = True if case in CHANGED else "auto"
            adapted.save_pretrained(f"{folder}/adapter", save_embedding_layers=kept)
            again = peft.PeftModel.from_pretrained(build.from_pretrained(f"{folder}/base"), f"{folder}/adapter")
            torch.testing.assert_close(again.eval()(**inputs).logits, arrays[f"{case}/logits"])
            configs[case] = {
                part: json.loads(Path(folder, part, name).read_text())
                for part, name in (("base", "config.json"), ("adapter", "adapter_config.json"))
            }
            configs[case]["adapter"]["base_model_name_or_path"] = None
            for part, name in (("base", "model.safetensors"), ("adapter", "adapter_model.safetensors")):
                tensors = load_file(f"{folder}/{part}/{name}")
                arrays |= {f"{case}/{part}/{name}": tensor for name, tensor in tensors.items()}
        arrays |= {f"{case}/inputs/{name}": value for name, value in inputs.items()}
    arrays = {name: tensor.clone().contiguous() for name, tensor in arrays.items()}
    save_file(arrays, HERE / "adapters.safetensors", {"configs": json.dumps(configs)})


if __name__ == "__main__":
    main()
