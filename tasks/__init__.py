"""One Prefect task per step: caching, progress and logging around what `cnn` does."""

import logging
import os

# Read by Prefect at its import. The pipeline calls no address except for what it was asked to download.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")  # `cnn` also works outside flows
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")  # the first start takes 30 s

from prefect.logging.handlers import APILogHandler

from cnn.support.memory import limit_arenas

_logger = logging.getLogger("cnn")
_logger.setLevel(logging.INFO)  # what an epoch came to is worth a line
_logger.addHandler(APILogHandler())  # Prefect's setting for this is read too early where a worker starts the run

for _variable in ("no_proxy", "NO_PROXY"):  # the embedded server is on this machine, and no proxy leads there
    os.environ[_variable] = ",".join(filter(None, [os.environ.get(_variable), "127.0.0.1,localhost"]))

limit_arenas()
