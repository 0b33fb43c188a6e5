"""Flows: what happens, in order, and their settings. `tasks` comes first, as it makes the settings of Prefect's import."""

import tasks  # noqa: F401
