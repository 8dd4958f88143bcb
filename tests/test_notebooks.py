"""Every notebook runs from top to bottom in a kernel of its own; python -m tests.test_notebooks stores its outputs."""

import sys
import zlib
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.usefixtures("optimised")

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def run(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": path.parent}}).execute()
    return notebook


def sources(notebook):
    """A number that another source of any cell of code would change"""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return f"{zlib.crc32(code.encode()):08x}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path):
    pictures = [
        output for cell in run(path).cells if cell.cell_type == "code" for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]  # fmt: skip
    assert len(pictures) >= 4, "a notebook shows pictures"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_shows_is_of_its_present_source(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.get("stored_of") == sources(notebook), f"python -m tests.test_notebooks {path.stem}"


if __name__ == "__main__":
    for path in NOTEBOOKS:
        if path.stem in (sys.argv[1:] or [each.stem for each in NOTEBOOKS]):
            notebook = run(path)
            for cell in notebook.cells:
                cell.metadata.pop("execution", None)  # times of day
            notebook.metadata["stored_of"] = sources(notebook)
            nbformat.write(notebook, path)
