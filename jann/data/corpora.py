"""Texts for language models: to go on with, to translate, to judge, to summarise; code with its tests."""

import hashlib
import json
import sysconfig
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jann.data.files import altered, find, places, unpacked


@dataclass(frozen=True, eq=False, repr=False)
class Corpus:
    """Three splits of texts, each a list of strings, or of tuples where a text has a translation, a label ..."""

    name: str
    train: list[Any]
    validation: list[Any]
    test: list[Any]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(getattr(self, name)):,}" for name in ("train", "validation", "test"))
        return f"Corpus({self.name!r}: {sizes})"


class Problem(NamedTuple):
    """A task for programmers, code that solves it, and assertions that this code passes after `setup`."""

    task: str
    code: str
    tests: tuple[str, ...]
    setup: str = ""


def multi30k() -> Corpus:
    """(English, German) sentences about photographs: 29,000 train, 1,014 validation, 1,000 test (Flickr 2016).

    Elliott, Frank, Sima'an and Specia 2016, arXiv:1605.00459, task 1, raw text.
    """

    def split(name):
        sides = (contents(f"translation/{name}.{language}").splitlines() for language in ("en", "de"))
        return list(zip(*sides, strict=True))

    return Corpus("multi30k", split("train"), split("val"), split("test_2016_flickr"))


def sst2() -> Corpus:
    """(sentence of a film review, 1 where it praises, else 0): 6,920 train, 872 validation, 1,821 test.

    Socher et al. 2013, "Recursive deep models for semantic compositionality over a sentiment treebank"; whole sentences
    only, in small letters.
    """

    def split(name):
        rows = (line.split("\t") for line in contents(f"sentiment/SST2_{name}.tsv").splitlines())
        return [(sentence, int(label)) for sentence, label in rows]

    return Corpus("sst2", split("train"), split("dev"), split("test"))


def dialogsum() -> Corpus:
    """(dialogue, its summaries): 500 validation with one summary each, 500 test with three.

    Chen, Liu, Chen and Zhang 2021, arXiv:2105.06762. Its 12,460 dialogues for training are not among these files.
    """

    def split(name, *fields):
        rows = map(json.loads, contents(f"summarization/dialogsum.{name}.jsonl").splitlines())
        return [(row["dialogue"], tuple(row[field] for field in fields)) for row in rows]

    return Corpus("dialogsum", [], split("dev", "summary"), split("test", "summary1", "summary2", "summary3"))


def mbpp() -> Corpus:
    """`Problem`s in Python, by number as published: 374 train (601-974), 90 validation (511-600), 500 test (11-510).

    Austin et al. 2021, arXiv:2108.07732. The first ten, which the paper shows before a task, are in no split.
    """

    def problem(row):
        code = row["code"].replace("\r\n", "\n").replace("\r", "\n")
        return Problem(row["text"], code, tuple(row["test_list"]), row["test_setup_code"])

    rows = map(json.loads, contents("code/mbpp.jsonl").splitlines())
    problems = {row["task_id"]: problem(row) for row in rows}
    splits = (range(601, 975), range(511, 601), range(11, 511))
    return Corpus("mbpp", *([problems[number] for number in numbers] for numbers in splits))


def wikitext2() -> Corpus:
    """Articles of Wikipedia, in words and <unk>: 600 train, 60 validation, 60 test; 2.1 million words of train.

    Merity, Xiong, Bradbury and Socher 2016, arXiv:1609.07843.
    """

    def split(name):
        articles = []
        lines = contents(f"text/wikitext-2/{name}.txt").split("\n")
        for before, line, after in zip([" ", *lines], lines, [*lines[1:], " "], strict=False):
            # A title stands alone between blank lines, with one sign on either side; sections have more.
            title = line.startswith(" = ") and line.endswith(" = ") and not line.startswith(" = = ")
            if title and not before.strip() and not after.strip():
                articles.append([])
            if articles:
                articles[-1].append(line)
        return ["\n".join(article) for article in articles]

    return Corpus("wikitext2", split("train"), split("valid"), split("test"))


def python_sources(characters: int = 4_000_000) -> Corpus:
    """Files of Python's standard library without its tests, up to about `characters`; 2 in 20 validate and test.

    They come with Python, so nothing is downloaded, and another version of Python has other text: compare results of
    one version only. Which files, in which order and split, follows from their names alone.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
    left_out |= {"encodings", "pydoc_data"}  # tables of characters, and a book in quotes
    files = {file.relative_to(library).as_posix(): file for file in library.rglob("*.py")}
    names = [name for name in files if not left_out & set(Path(name).parts)]
    splits, total = ([], [], []), 0
    for number, name in sorted((zlib.crc32(name.encode()), name) for name in names):
        text = files[name].read_text(encoding="utf-8", errors="replace")
        if not text.strip():
            continue
        splits[max(0, number % 20 - 17)].append(text)
        total += len(text)
        if total >= characters:
            break
    return Corpus("python_sources", *splits)


def contents(relative: str) -> str:
    """The text of a file of FILES, which may be packed (.gz) where it is found; DataError where it is another text."""
    sha256, url = FILES[relative]
    packed = f"{relative}.gz"
    if url.endswith(".gz") or any((folder / packed).is_file() for folder in places()):
        return unpacked(find(packed, url if url.endswith(".gz") else None), sha256).decode("utf-8")
    path = find(relative, url, f"sha256:{sha256}")
    raw = path.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        raise altered(path, f"has sha256 {found}", sha256)
    return raw.decode("utf-8")


GITHUB = "https://raw.githubusercontent.com"
MULTI30K = f"{GITHUB}/multi30k/dataset/HEAD/data/task1/raw"
SST2 = f"{GITHUB}/clairett/pytorch-sentiment-classification/HEAD/data/SST2"
DIALOGSUM = f"{GITHUB}/cylnlp/dialogsum/HEAD/DialogSum_Data"
WIKITEXT2 = f"{GITHUB}/pytorch/examples/HEAD/word_language_model/data/wikitext-2"
# The sha256 of the text, unpacked, and where it is published.
FILES = {
    "translation/train.en": (
        "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6", f"{MULTI30K}/train.en.gz"),
    "translation/train.de": (
        "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72", f"{MULTI30K}/train.de.gz"),
    "translation/val.en": (
        "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227", f"{MULTI30K}/val.en.gz"),
    "translation/val.de": (
        "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660", f"{MULTI30K}/val.de.gz"),
    "translation/test_2016_flickr.en": (
        "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182", f"{MULTI30K}/test_2016_flickr.en.gz"),
    "translation/test_2016_flickr.de": (
        "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16", f"{MULTI30K}/test_2016_flickr.de.gz"),
    "sentiment/SST2_train.tsv": (
        "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920", f"{SST2}/train.tsv"),
    "sentiment/SST2_dev.tsv": (
        "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359", f"{SST2}/dev.tsv"),
    "sentiment/SST2_test.tsv": (
        "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7", f"{SST2}/test.tsv"),
    "summarization/dialogsum.dev.jsonl": (
        "436721e0a3571eef7072964f80e042fb151d8c6178db1a688ce8f803bbf0a13f", f"{DIALOGSUM}/dialogsum.dev.jsonl"),
    "summarization/dialogsum.test.jsonl": (
        "6de36eca7e7b9b10975fd5ea3f47391df172d8b3c15d03d84d763cbaab015fda", f"{DIALOGSUM}/dialogsum.test.jsonl"),
    "code/mbpp.jsonl": (
        "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
        f"{GITHUB}/OckBench/OckBench/HEAD/data/mbpp.jsonl"),
    "text/wikitext-2/train.txt": (
        "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f", f"{WIKITEXT2}/train.txt"),
    "text/wikitext-2/valid.txt": (
        "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8", f"{WIKITEXT2}/valid.txt"),
    "text/wikitext-2/test.txt": (
        "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0", f"{WIKITEXT2}/test.txt"),
}  # fmt: skip
