"""Chat templates as Hugging Face's transformers renders them."""

import json
from datetime import datetime

import pytest

from jann.generation.choice import renormalised
from jann.pretrained import PretrainedError, begin_tokens, chat_prompt, generation_options, stop_tokens

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="session")
def rendered(goldens):
    return json.loads((goldens / "tokenizers/chat_templates.json").read_text())


def folder_with(folder, **options):
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    return folder


def test_conversations_are_put_as_transformers_puts_them(rendered):
    for case in rendered["cases"]:
        template = rendered["templates"][case["template"]]
        said = chat_prompt(template, case["messages"], case["add_generation_prompt"], **TOKENS)
        assert said == case["rendered"]


def test_a_template_that_refuses_says_why(rendered):
    wrong = rendered["must_raise"]
    with pytest.raises(PretrainedError, match="refuses these messages: Conversation roles must alternate"):
        chat_prompt(rendered["templates"][wrong["template"]], wrong["messages"], **TOKENS)
    with pytest.raises(PretrainedError, match="refuses these messages: can only concatenate"):
        chat_prompt("{{ messages[0]['content'] + 1 }}", HI)
    with pytest.raises(PretrainedError, match="line 2 of the chat template is wrong"):
        chat_prompt("\n{% for %}", HI)
    with pytest.raises(PretrainedError, match="refuses these messages: .*unsafe"):
        chat_prompt("{{ messages.__class__.__mro__ }}", HI)
    for odd in ("hi", [{"content": "hi"}], ["hi"]):
        with pytest.raises(PretrainedError, match="messages are a list such as"):
            chat_prompt("{{ messages }}", odd)


def test_what_is_none_is_not_there_and_reasoning_has_two_names():
    """As transformers 5.23 hands messages to a template."""
    called = [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]
    shown = "{% set said = messages[0] %}{{ said.content }}|{{ said.content is none }}|{{ said.reasoning_content }}."
    assert chat_prompt(shown, called) == "|False|."
    assert chat_prompt(shown, [{"role": "assistant", "content": "a", "thinking": "hm"}]) == "a|False|hm."
    said = [{"role": "assistant", "content": "a", "reasoning_content": "hm"}]
    assert chat_prompt("{{ messages[0].thinking }}", said) == "hm" and "thinking" not in said[0]


def test_an_answer_that_has_begun_is_continued():
    each = "{% for said in messages %}{{ said.role }}: {{ said.content }}</s>{% endfor %}"
    template = each + "{{ add_generation_prompt }}"
    said = [*HI, {"role": "assistant", "content": "The answer is "}]
    assert chat_prompt(template, said, continue_final_message=True) == "user: hi</s>assistant: The answer is "
    trimmed = template.replace("said.content", "said.content | trim")
    assert chat_prompt(trimmed, said, continue_final_message=True) == "user: hi</s>assistant: The answer is"
    assert chat_prompt(template, said) == "user: hi</s>assistant: The answer is </s>True"
    for wrong, message in (
        ([{"role": "assistant", "content": None}], "the last message has no content of text"),
        ([], "the last message has no content of text"),
        ([*said, {"role": "tool", "content": "x"}], "leaves out the final message"),
    ):
        with pytest.raises(PretrainedError, match=message):
            chat_prompt("{% for said in messages if said.role != 'tool' %}{{ said.content }}{% endfor %}", wrong,
                        continue_final_message=True)  # fmt: skip


def test_what_templates_may_use():
    """As in transformers: blocks leave no blank lines, JSON is not escaped for HTML, loops can be left."""
    lines = "  {%- for said in messages %}\n  {% if loop.index > 1 %}\n{% break %}\n  {% endif %}\n{{ said['role'] }}\n"
    assert chat_prompt(lines + "{% endfor %}\n.", [*HI, *HI]) == "user\n."
    tools = [{"name": "föhn", "arguments": {"b": "<&'>", "a": 1}}]
    assert chat_prompt("{{ tools | tojson }}", HI, tools=tools) == json.dumps(tools, ensure_ascii=False)
    assert chat_prompt("{{ tools[0] | tojson(indent=2) }}", HI, tools=tools) == json.dumps(
        tools[0], ensure_ascii=False, indent=2
    )
    assert chat_prompt("a{% generation %}{{ messages[0].content }}{% endgeneration %}b", HI) == "ahib"
    assert chat_prompt("{{ strftime_now('%Y') }}", HI) in {str(datetime.now().year), str(datetime.now().year - 1)}
    assert chat_prompt("{% if thinking is defined %}{{ thinking }}{% endif %}{{ documents }}", HI) == "None"
    assert chat_prompt("{{ thinking }}", HI, thinking="yes") == "yes"
    assert chat_prompt("{{ tools is none }}{{ add_generation_prompt }}", HI) == "TrueTrue"


def test_a_folders_template_and_special_tokens(tmp_path):
    tokens = {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "</s>", "unk_token": None}
    template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"
    folder = folder_with(tmp_path / "one", chat_template=template, **tokens)
    assert chat_prompt(folder, HI) == chat_prompt(str(folder), HI) == "<s>hi</s>"
    assert chat_prompt(folder, HI, eos_token="!") == "<s>hi!"
    (folder / "chat_template.jinja").write_text("{{ messages | length }}{{ eos_token }}")
    assert chat_prompt(folder, HI) == "1</s>"


def test_special_tokens_of_their_own_file(tmp_path):
    """As transformers 5 reads it: before tokenizer_config.json, unless that lists the added tokens."""
    template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}"
    folder = folder_with(tmp_path, chat_template=template, eos_token="<e>", pad_token="<p>")
    file = folder / "special_tokens_map.json"
    file.write_text(json.dumps({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}}))
    assert chat_prompt(folder, HI) == "<s>hi</s><p>"
    folder_with(tmp_path, chat_template=template, eos_token="<e>", added_tokens_decoder={})
    assert chat_prompt(folder, HI) == "hi<e>"
    file.write_text("{")
    assert chat_prompt(folder, HI) == "hi<e>"
    folder_with(tmp_path, chat_template=template)
    with pytest.raises(PretrainedError, match="special_tokens_map.json is not whole JSON"):
        chat_prompt(folder, HI)


def test_what_begins_a_text_hangs_on_the_class_of_the_tokenizer(tmp_path):
    """Folders of model_type llama with GPT-2's tokenizer (SmolLM) have a bos_token_id that begins no text."""
    for model, options, begin in (
        ("llama", {}, [1]),
        ("mistral", {"tokenizer_class": "LlamaTokenizerFast"}, [1]),
        ("llama", {"tokenizer_class": "GPT2Tokenizer"}, []),
        ("llama", {"tokenizer_class": "PreTrainedTokenizerFast"}, []),
        ("llama", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, []),
        ("qwen2", {}, []),
        ("gpt2", {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}, [1]),
    ):
        folder_with(tmp_path, **options)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model, "bos_token_id": 1}))
        assert begin_tokens(tmp_path) == begin
    folder_with(tmp_path)
    config = {"model_type": "llama", "bos_token_id": 1, "tokenizer_class": "GPT2Tokenizer"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert begin_tokens(tmp_path) == []


def test_options_of_generation_under_our_names(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"eos_token_id": 5, "repetition_penalty": 1.2}))

    def options(beams=False, **said):
        (tmp_path / "generation_config.json").write_text(json.dumps(said))
        return generation_options(tmp_path, beams)

    sampled = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.9, "min_p": 0.05}
    assert options(eos_token_id=[2, 3], **sampled) == {
        "stop": [2, 3], "temperature": 0.6, "top_k": 20, "top_p": 0.9, "min_p": 0.05
    }  # fmt: skip
    assert options(**{**sampled, "do_sample": False, "repetition_penalty": 1.1}) == {
        "stop": [5], "repetition_penalty": 1.1
    }  # fmt: skip
    assert options(do_sample=True, top_k=0, top_p=1.0, min_p=None) == {"stop": [5], "temperature": 1.0}
    assert options(no_repeat_ngram_size=3, min_new_tokens=4) == {"stop": [5], "no_repeat": 3, "least": 4}
    assert options(repetition_penalty=1.0, no_repeat_ngram_size=0, min_new_tokens=0, num_beams=1) == {"stop": [5]}
    held = {"suppress_tokens": [7, 8], "begin_suppress_tokens": [9], "bad_words_ids": [[8], [4]]}
    forced = {"forced_bos_token_id": 1, "forced_eos_token_id": 5}
    assert options(**held, **forced) == {
        "stop": [5], "never": [4, 7, 8], "never_first": [9], "begin_with": 1, "end_with": 5
    }  # fmt: skip
    assert options(suppress_tokens=[], bad_words_ids=[], begin_suppress_tokens=None) == {"stop": [5]}
    with pytest.warns(UserWarning, match=r"bad_words_ids=\[\[1, 2\]\], num_beams=4 of its use, which is not"):
        assert options(num_beams=4, bad_words_ids=[[1, 2]], length_penalty=2.0) == {"stop": [5]}
    with pytest.warns(UserWarning, match=r"min_length=6 of its use"):  # of a decoder, which counts its prompt
        assert options(min_length=6) == {"stop": [5]}
    assert options(is_encoder_decoder=True, min_length=6) == {"stop": [5], "least": 5}
    assert options(is_encoder_decoder=True, min_length=6, min_new_tokens=2) == {"stop": [5], "least": 2}
    search = {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True, **sampled}
    found = options(beams=True, **search)
    assert found == {"stop": [5], "beams": 4, "length_penalty": 2.0, "early": True}
    assert options(beams=True, renormalize_logits=True)["logits_processor"] is renormalised
    (tmp_path / "generation_config.json").unlink()
    assert generation_options(tmp_path) == {"stop": [5], "repetition_penalty": 1.2}
    config.unlink()
    for read in (generation_options, stop_tokens, begin_tokens):
        with pytest.raises(FileNotFoundError, match=r"config\.json is missing: give a folder as published"):
            read(tmp_path)


def test_several_templates_of_a_folder(tmp_path):
    named = [{"name": "default", "template": "d{{ 1 }}"}, {"name": "tool_use", "template": "t{{ tools | length }}"}]
    folder = folder_with(tmp_path / "named", chat_template=named)
    assert chat_prompt(folder, HI) == "d1"
    assert chat_prompt(folder, HI, tools=[{}, {}]) == "t2"
    assert chat_prompt(folder, HI, name="tool_use", tools=[]) == "t0"
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/rag.jinja").write_text("r{{ documents | length }}")
    assert chat_prompt(folder, HI, name="rag", documents=["a"]) == "r1"
    with pytest.raises(PretrainedError, match="no chat template 'mine', but default, rag, tool_use: give name="):
        chat_prompt(folder, HI, name="mine")


def test_a_folder_without_a_template(tmp_path):
    for folder in (folder_with(tmp_path / "empty", bos_token="<s>"), tmp_path / "no_such_folder"):
        with pytest.raises(FileNotFoundError, match=f"{folder.name} has no chat template"):
            chat_prompt(folder, HI)
    (tmp_path / "empty/tokenizer_config.json").write_text("{")
    with pytest.raises(PretrainedError, match="not whole JSON"):
        chat_prompt(tmp_path / "empty", HI)
