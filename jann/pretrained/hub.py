"""Models as the world publishes them: folders with a config.json and safetensors, read and written.

One module a family says how a configuration becomes a model and what its tensors are called; FAMILIES names them.
"""

import importlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jann.core import Model, check
from jann.parallel import gathered, shardings
from jann.pretrained.tables import WeightsError, load, unload
from jann.tensor_file import TensorFile, TensorFileError
from jann.trees import Tree, flatten

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
FILES_OF_USE = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "chat_template.jinja", "chat_template.json",
    "generation_config.json", "preprocessor_config.json", "processor_config.json",
)  # fmt: skip
TEMPLATES = "additional_chat_templates"  # a folder of them
FAMILIES = {
    "albert": "bert",
    "bart": "transformer",
    "bert": "bert",
    "camembert": "bert",
    "clip": "clip",
    "convnext": "convnext",
    "deberta-v2": "deberta",
    "dinov2": "vit",
    "distilbert": "bert",
    "electra": "bert",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3_text": "gemma",
    "gpt2": "gpt2",
    "gpt_neox": "gpt_neox",
    "llama": "llama",
    "mamba": "mamba",
    "opt": "opt",
    "marian": "transformer",
    "mbart": "transformer",
    "mistral": "llama",
    "mixtral": "llama",
    "mpnet": "bert",
    "pegasus": "transformer",
    "qwen2": "llama",
    "qwen3": "llama",
    "qwen3_moe": "llama",
    "roberta": "bert",
    "t5": "t5",
    "vit": "vit",
    "wav2vec2": "wav2vec2",
    "whisper": "whisper",
    "xlm-roberta": "bert",
}


class PretrainedError(ValueError):
    """A folder of published weights cannot be read or written as it is."""


def from_pretrained(
    folder: str | Path, dtype: Any = None, mesh: jax.sharding.Mesh | None = None, rules: dict | None = None
) -> tuple[Model, Tree]:
    """A Hugging Face folder (config.json, safetensors, perhaps in shards) -> (model, params).

    dtype:        of the parameters; by default as in the files
    mesh, rules:  place each parameter as `jann.shardings(model, mesh, rules)` says

    A name such as "gpt2" that is no folder here is fetched with the extra `jann[hub]`, where there is a network. Leaves
    are read one at a time, straight to their dtype and devices, so that memory peaks at the model and one leaf.

    Raises FileNotFoundError naming a missing file and where it comes from, PretrainedError naming an architecture or
    option that jann does not know, a quantised folder or a damaged file, WeightsError listing tensors that are missing
    or unexpected.
    """
    folder = local_folder(folder)
    config = read_config(folder)
    family = family_of(config)
    refuse_quantised(folder, config)

    def place(array, path):
        wanted = array.dtype if dtype is None or not jnp.issubdtype(array.dtype, jnp.floating) else dtype
        return jax.device_put(array.astype(wanted, copy=False), placed.get(path))

    with tensors(folder) as (names, read):
        model = family.from_config(config, names)
        placed = {} if mesh is None else flatten(shardings(model, mesh, rules or {}))
        table = family.table(model, names)
        try:
            return model, load(table, names, read, model, place, family.IGNORED)
        except WeightsError as error:
            if not config.get("architectures"):
                error.add_note(f"{CONFIG} names no architectures, such as LlamaModel: this one was taken to be meant")
            raise


def save_pretrained(folder: str | Path, model: Model, params: Tree, like: str | Path | None = None) -> None:
    """Writes config.json and model.safetensors, which PyTorch's transformers opens; the inverse of `from_pretrained`.

    like:  the folder (or repository) that the model comes from. What is there about its use comes along: files of the
           tokeniser, chat templates, options of generation; in config.json special tokens, what as many labels mean,
           and which of several names of one architecture it goes by

    An index there and the shards that it names, of which the one file takes the place, are removed. Of several
    processes all call it and the first writes.

    Raises PretrainedError for a model that no published family describes, ShapeError if the parameters do not fit it,
    FileNotFoundError where `like` is not.
    """
    from safetensors.flax import save_file

    check(model, params)
    family = family_for(model)
    config = family.to_config(model)
    if like is not None:
        like = local_folder(like)
        there = read_config(like)
        config |= use_of(there, len(config.get("id2label", ())))
        config |= family.as_in(config, there) if hasattr(family, "as_in") else {}
    params = gathered(params)
    if jax.process_index() != 0:
        return
    named = unload(family.table(model, ()), params, model)
    dtype = jnp.result_type(*named.values()).name
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards = set((shard_of(folder, INDEX) or {}).values())
    partial = folder / f".{WEIGHTS}.partial"
    save_file({name: jnp.asarray(array) for name, array in named.items()}, partial, {"format": "pt"})
    partial.replace(folder / WEIGHTS)
    (folder / INDEX).unlink(missing_ok=True)  # only now that the new file is whole
    for file in folder.glob("*.safetensors"):
        if file.name in shards - {WEIGHTS}:
            file.unlink()
    (folder / CONFIG).write_text(json.dumps({**config, "torch_dtype": dtype}, indent=2) + "\n")
    if like is not None and like.resolve() != folder.resolve():
        templates = (like / TEMPLATES).glob("*.jinja")
        for file in (*(like / name for name in FILES_OF_USE), *templates):
            if file.exists():
                there = folder / file.relative_to(like)
                there.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, there)


def read_config(folder: Path, config: str = CONFIG, weights: str = WEIGHTS) -> dict[str, Any]:
    """The folder's config.json."""
    file = folder / config
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: give a folder as published, with {config} and {weights}")
    return read_json(file)


def read_json(file: Path, kind: type = dict) -> Any:
    """What a JSON file holds, which must be of that kind."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # also bytes that are no UTF-8
        raise PretrainedError(f"{file} is not whole JSON ({error}): copy it again") from None
    if not isinstance(found, kind):
        raise PretrainedError(f"{file} holds {found!r:.60}, which is no {kind.__name__}: copy it again")
    return found


def family_of(config: dict) -> Any:
    """The module that knows the configuration's architecture."""
    name = config.get("model_type")
    if name not in FAMILIES:
        raise PretrainedError(f"model_type {name!r} is not one that jann knows: {', '.join(sorted(FAMILIES))}")
    return _module(FAMILIES[name])


def family_for(model: Model) -> Any:
    """The module that knows the model's architecture."""
    families = {module.MODEL: module for module in map(_module, FAMILIES.values())}
    family = next((families[cls] for cls in type(model).__mro__ if cls in families), None)
    if family is None:
        raise PretrainedError(f"{type(model).__name__} belongs to no published family: jann.save(folder, ...) keeps it")
    return family


def _module(name: str) -> Any:
    return importlib.import_module(f"jann.pretrained.{name}")


def local_folder(name: str | Path) -> Path:
    """The folder of that name, or else the one into which the repository of that name is fetched (extra `jann[hub]`).

    Raises FileNotFoundError, which says how to get the folder.
    """
    if Path(name).is_dir():
        return Path(name)
    advice = f"download its {CONFIG}, tokenizer.json and *.safetensors into a folder and give that"
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise FileNotFoundError(
            f"{name} is no folder here. To fetch a repository of that name: pip install 'jann[hub]'; or {advice}"
        ) from None
    try:
        return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja"]))
    except Exception as error:  # huggingface_hub raises its own and those of its HTTP library
        raise FileNotFoundError(f"{name} is no folder here and cannot be fetched ({error}): {advice}") from error


@contextmanager
def tensors(folder: Path, weights: str = WEIGHTS) -> Iterator[tuple[list[str], Callable[[str], np.ndarray]]]:
    """-> (the names of all tensors, a function that reads one), from one file or the shards of an index.

    Where there are both, the one file counts, as for transformers: it is what was written last over a folder of shards.
    """
    index = f"{weights}.index.json"
    where = None if (folder / weights).exists() else shard_of(folder, index)
    if where is None and not (folder / weights).exists():
        pickles = [file.name for file in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]]
        found = f"; {', '.join(pickles)} would run code as it is read: convert it to safetensors" if pickles else ""
        raise FileNotFoundError(f"{folder} holds no {weights} and no {index}{found}")
    with ExitStack() as stack:

        def opened(name):
            if not (folder / name).exists():
                raise FileNotFoundError(f"{folder / name} is missing, though {index} names it: copy that shard too")
            try:
                return stack.enter_context(TensorFile(folder / name))
            except TensorFileError as error:
                raise PretrainedError(f"{folder / name} is damaged or truncated ({error}): copy it again") from None

        files = {name: opened(name) for name in ([weights] if where is None else sorted(set(where.values())))}
        where = where or dict.fromkeys(files[weights].keys(), weights)
        lost = [name for name, file in where.items() if name not in files[file].entries]
        if lost:
            raise PretrainedError(f"{folder / where[lost[0]]} lacks {lost[0]}, which {index} places there")
        names = {_present(name): name for name in where}
        yield list(names), lambda name: files[where[names[name]]].read(names[name])


def shard_of(folder: Path, index: str) -> dict[str, str] | None:
    """The file of each tensor, by an index; without the index, None."""
    if not (folder / index).exists():
        return None
    found = read_json(folder / index).get("weight_map")
    if not isinstance(found, dict):
        raise PretrainedError(f"{folder / index} has no weight_map of the tensors' files: copy it again")
    return found


def _present(name: str) -> str:
    """The name as it is spelt today: the oldest files call a norm's scale gamma and its bias beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


# what configurations have in common


def activation(name: str) -> Callable:
    """Their name of an activation -> the function."""
    from jann.layers import exact_gelu, quick_gelu, squared_relu

    known = {
        "gelu": exact_gelu, "gelu_python": exact_gelu, "gelu_new": jax.nn.gelu, "gelu_pytorch_tanh": jax.nn.gelu,
        "gelu_fast": jax.nn.gelu, "gelu_accurate": jax.nn.gelu, "gelu_python_tanh": jax.nn.gelu,
        "quick_gelu": quick_gelu, "relu": jax.nn.relu, "relu6": jax.nn.relu6, "silu": jax.nn.silu,
        "swish": jax.nn.silu, "mish": jax.nn.mish, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid,
        "leaky_relu": jax.nn.leaky_relu, "relu2": squared_relu, "hardswish": jax.nn.hard_swish,
    }  # fmt: skip
    if name not in known:
        raise PretrainedError(f"the activation {name!r} is not one that jann knows: {', '.join(sorted(known))}")
    return known[name]


def activation_name(function: Callable) -> str:
    """The inverse of `activation`, in the spelling that published configurations use."""
    from jann.layers import exact_gelu, quick_gelu, squared_relu

    names = {
        exact_gelu: "gelu", jax.nn.gelu: "gelu_new", quick_gelu: "quick_gelu", jax.nn.relu: "relu",
        jax.nn.relu6: "relu6", jax.nn.silu: "silu", jax.nn.mish: "mish", jnp.tanh: "tanh",
        jax.nn.sigmoid: "sigmoid", jax.nn.leaky_relu: "leaky_relu",
        squared_relu: "relu2", jax.nn.hard_swish: "hardswish",
    }  # fmt: skip
    if function not in names:
        raise PretrainedError(f"published configurations have no name for the activation {function}")
    return names[function]


def architecture(config: dict, *known: str) -> str:
    """The first of the configuration's architectures, which must be known; without any, the first that is known."""
    name = (config.get("architectures") or known)[0]
    if name not in known:
        raise PretrainedError(f"architecture {name!r} is not one that jann knows: {', '.join(known)}")
    return name


def respelt(config: dict, **others: str) -> dict:
    """The configuration with the family's own name for what stands under another that transformers takes for it."""
    return {**{own: config[other] for other, own in others.items() if other in config}, **config}


def lack(names: Sequence[str], part: str) -> bool:
    """Whether tensors of these names, where they are known, are without that part."""
    return bool(names) and not any(part in name for name in names)


def labels_of(config: dict) -> int:
    """How many classes a head has."""
    return len(config["id2label"]) if config.get("id2label") else config.get("num_labels", 2)


def use_of(config: dict, labels: int) -> dict:
    """What a configuration says of a model's use: special tokens, and what its labels mean where it has so many."""
    kept = {name for name in config if name.endswith("_token_id")} - {"decoder_start_token_id"}  # a model's field
    kept |= {"tokenizer_class"}
    if labels and len(config.get("id2label") or ()) == labels:
        kept |= {"id2label", "label2id", "problem_type"}
    return {name: value for name, value in config.items() if name in kept}


def label_names(count: int) -> dict:
    """So many classes -> what a configuration says of them; nothing of none"""
    names = [f"LABEL_{i}" for i in range(count)]
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}} if count else {}


def refuse_quantised(folder: Path, config: dict) -> None:
    """Raises PretrainedError where the tensors are codes of the weights, and scales, by whatever method."""
    for name in ("quantization_config", "compression_config"):
        if config.get(name):
            method = config[name].get("quant_method", config[name]) if isinstance(config[name], dict) else config[name]
            raise PretrainedError(
                f"{folder} is quantised ({name}: {method}), which jann does not read: take the model's folder in "
                "bfloat16 or float32, or load this one with transformers, dequantise it there and save it"
            )


def refuse(config: dict, **supported: Any) -> None:
    """Raises PretrainedError naming an option that is set to something other than what jann has."""
    for name, only in supported.items():
        if config.get(name) not in (None, only):
            kind = config.get("model_type")
            raise PretrainedError(f"{kind} with {name}={config[name]!r} is not supported, only {name}={only!r}")
