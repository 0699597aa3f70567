"""The environment LXT runs in: a virtual environment of its own, made on demand in a folder that git ignores.

LXT 2.1 imports with transformers 4.52 to 4.57 only, so it can't share apportion's. Its own requirements (torchvision
through open_clip, bitsandbytes, zennit) serve models that this benchmark does not run, so LXT is installed without
them; `_lxt_worker.py` stands in for the one import that then fails.
"""

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent / ".lxt-venv"
LXT = "lxt==2.1"
TRANSFORMERS = "transformers==4.57.6"


class LxtUnavailable(RuntimeError):
    """LXT's environment could not be made."""


def lxt_python() -> Path:
    """The interpreter of LXT's environment, which is made first where it is missing or out of date.

    Raises:
        LxtUnavailable: A package could not be installed.
    """
    # The same torch on both sides, so that only the libraries differ. The local part (+cpu) is not a package version.
    torch = f"torch=={version('torch').partition('+')[0]}"
    wanted = f"{torch}\n{TRANSFORMERS}\n{LXT}\n"
    python = FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    # Written last, so an installation that was interrupted starts again.
    complete = FOLDER / "complete.txt"
    if not complete.exists() or complete.read_text() != wanted:
        shutil.rmtree(FOLDER, ignore_errors=True)
        _run(sys.executable, "-m", "venv", FOLDER)
        _run(python, "-m", "pip", "install", "--quiet", torch, TRANSFORMERS)
        _run(python, "-m", "pip", "install", "--quiet", "--no-deps", LXT)
        complete.write_text(wanted)
    return python


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise LxtUnavailable(reason[-1] if reason else f"exit code {done.returncode} of {command[0]}")


if __name__ == "__main__":
    print(lxt_python())
