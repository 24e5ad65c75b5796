"""Run the notebooks of this folder and keep what they print and draw.

python docs/notebooks/execute.py [NAME.ipynb ...]

Each runs in a temporary folder. Nothing is kept that differs from run to run: no times, no paths.
Figures are kept in 256 colours, which takes a third of the room. A notebook that fails, or says
anything on its error output, stays as it was.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> None:
    """Run a notebook and write it back."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=600,
            record_timing=False,
            # What TensorFlow's libraries write as they start is no output of a cell.
            extra_arguments=["--IPKernelApp.capture_fd_output=False"],
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if output.get("name") == "stderr":
            raise SystemExit(f"{path.name} says on its error output:\n{output['text']}")
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = smaller(output.data["image/png"])
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.write(notebook, path)


def smaller(figure: str) -> str:
    """Reduce the colours of a PNG, given and returned as text."""
    kept = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(figure))) as image:
        # The other methods lose colours that few pixels have, such as that of a line.
        few = image.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=0)
        few.save(kept, format="PNG", optimize=True)
    return base64.b64encode(kept.getvalue()).decode() + "\n"


def main() -> None:
    """Run those that are named, or all."""
    os.environ.pop("MPLBACKEND", None)  # figures are drawn into the notebook
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(FOLDER.glob("*.ipynb")):
        execute(path)
        print(path.name, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
