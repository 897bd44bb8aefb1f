"""The notebook of the documentation: it runs, and is committed with its outputs."""

from pathlib import Path

import nbclient
import nbformat
import pytest

PATH = Path(__file__).resolve().parents[2] / "docs" / "quantize_your_network.ipynb"


def printed(notebook) -> str:
    """Return all that a notebook prints."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def check(notebook) -> None:
    text = printed(notebook)
    assert "same logits: True" in text and "'QLinearConv': 5" in text and "'Conv'" not in text
    assert any("image/png" in output.get("data", ()) for cell in notebook.cells for output in cell.get("outputs", ()))


def test_it_is_committed_with_its_outputs():
    notebook = nbformat.read(PATH, as_version=4)
    check(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.slow
def test_it_runs(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PATH.parents[1]))
    notebook = nbformat.read(PATH, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    check(notebook)
