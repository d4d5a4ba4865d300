"""An image goes from `predict` to its overlay through few of our files, so that a reader can follow it."""

import subprocess
import sys
from pathlib import Path

FILES, MOVES = 69, 295
"""What is new on the way has to be worth it."""

SCRIPT = """
import sys
from pathlib import Path
import panoptic_deeplab
from panoptic_deeplab.cli import main

root = str(Path(panoptic_deeplab.__file__).parent)
photo, model, output = sys.argv[1:]
files, moves = set(), 0

def predict(name):
    try:
        main(["predict", photo, "--model", model, "--device", "cpu", "--output", f"{output}/{name}"])
    except SystemExit as ended:
        assert not ended.code

def count(frame, event, _):
    global moves
    here = frame.f_code.co_filename
    if event == "call" and here.startswith(root):
        files.add(here[len(root):])
        before = frame.f_back.f_code.co_filename if frame.f_back else ""
        moves += before.startswith(root) and before != here

predict("first")  # loads what is loaded once
sys.setprofile(count)
predict("second")
sys.setprofile(None)
print(moves, *sorted(files), file=sys.stderr)
"""


def test_few_files_and_few_moves(model_folder: Path, photo: Path, tmp_path: Path) -> None:
    """In a process without the type checks of the tests, whose calls lie between ours."""
    command = [sys.executable, "-c", SCRIPT, photo, model_folder, tmp_path]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    moves, *files = done.stderr.splitlines()[-1].split()
    assert 40 < len(files) <= FILES, (len(files), files)
    assert 100 < int(moves) <= MOVES
