"""`python -m apportion`: the command line without its script."""

from apportion.cli import app

if __name__ == "__main__":
    app(prog_name="apportion")
