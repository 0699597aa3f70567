"""The environment Captum runs in: a virtual environment of its own that sees this one's torch and transformers.

Captum asks for an older numpy than apportion's environment has, though it runs with the newer one; so it is installed
without its requirements, beside ours and not among them. Git ignores the folder.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

FOLDER = Path(__file__).parent / ".captum-venv"
CAPTUM = "captum==0.9.0"


class CaptumUnavailable(RuntimeError):
    """Captum's environment could not be made."""


def captum_python() -> Path:
    """The interpreter of Captum's environment, which is made first where it is missing or out of date.

    Raises:
        CaptumUnavailable: The package could not be installed.
    """
    here = sysconfig.get_path("purelib")
    wanted = f"{CAPTUM}\n{here}\n"
    python = FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    # Written last, so an installation that was interrupted starts again.
    complete = FOLDER / "complete.txt"
    if not complete.exists() or complete.read_text() != wanted:
        shutil.rmtree(FOLDER, ignore_errors=True)
        _run(sys.executable, "-m", "venv", FOLDER)
        _run(python, "-m", "pip", "install", "--quiet", "--no-deps", CAPTUM)
        packages = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        (Path(packages) / "apportion-environment.pth").write_text(f"{here}\n")
        complete.write_text(wanted)
    return python


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise CaptumUnavailable(reason[-1] if reason else f"exit code {done.returncode} of {command[0]}")
    return done.stdout


if __name__ == "__main__":
    print(captum_python())
