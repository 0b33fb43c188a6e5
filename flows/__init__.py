"""Flows: what happens, in order, and their settings. `tasks` is imported first: it sets what Prefect's import reads."""

import tasks  # noqa: F401
