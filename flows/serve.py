"""All deployments of prefect.yaml from this one process, without a work pool: python flows/serve.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, Python looks in flows/ only

from cnn.support.commandline import run
from flows.deployments import serve

if __name__ == "__main__":
    run(serve)
