"""Where shards run: what is refused, what is done again, and what ends a run."""

from pathlib import Path

import pytest
from prefect import flow
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import ValidationError

from cnn.support.errors import UserError
from cnn.support.references import Reference
from flows.settings import HotdogSettings
from tasks import runners
from tasks.runners import require_runner, run_shards, running_on
from tasks.steps import step

SERVER = "http://10.0.0.1:4200/api"


@pytest.mark.parametrize("runner", ["", "thread", "threads:2", "dask:", "dask 10.0.0.1", "dask: 10.0.0.1"])
def test_unknown_runner_is_refused(runner: str) -> None:
    with pytest.raises(ValidationError, match="expected threads, dask, or dask:ADDRESS"):
        HotdogSettings(runner=runner)


@pytest.mark.parametrize(
    ("runner", "server", "message"),
    [
        ("dask:tcp://10.0.0.1:8786", None, r"in PREFECT_API_URL, it is not set: start one with prefect server start"),
        ("dask:10.0.0.1:8786", "http://127.0.0.1:4200/api", r"http://127.0.0.1:4200/api is this machine alone: start"),
        ("dask:tcp://127.0.0.1:9", SERVER, r"expected the address of a Dask scheduler, .* nobody answers there as one"),
        ("dask:nonsense://a", SERVER, "expected the address of a Dask scheduler"),
    ],
)
def test_cluster_that_cannot_be_used_is_refused(
    runner: str, server: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="requirements/scale.txt is not installed")
    monkeypatch.setattr(runners, "_TIMEOUT_SECONDS", 0.5)
    with (
        temporary_settings({PREFECT_API_URL: server}),
        pytest.raises(UserError, match=f"^runner {runner}: .*{message}"),
    ):
        require_runner(runner)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "find_spec", lambda _: None)
    require_runner("threads")
    with pytest.raises(UserError, match=r"^runner dask: .* install requirements/scale.txt"):
        require_runner("dask")


@pytest.mark.usefixtures("prefect_server")
def test_each_process_is_told_to_use_one_thread() -> None:
    pytest.importorskip("prefect_dask", reason="requirements/scale.txt is not installed")
    assert runners._task_runner("dask").cluster_kwargs["env"]["OMP_NUM_THREADS"] == "1"  # type: ignore[attr-defined]


def run(shards: list[dict[str, object]], store: Path, lost: int = 0, wrong: str = "") -> tuple[list[Path], list[str]]:
    """Names written to files, of which the first ``lost`` disappear; the files, and the names in the order of work."""
    worked: list[str] = []

    @step("write {name}")
    def write(name: str, store: Path) -> Reference:
        worked.append(name)
        if name == wrong:
            raise UserError("a mistake")
        path = store / name
        path.write_text(name)
        reference = Reference.to(path)
        if len(worked) <= lost:
            path.unlink()
        return reference

    @flow
    def steps() -> list[Reference]:
        with running_on("threads"):
            return run_shards(
                write.with_options(cache_policy=NO_CACHE), [{"store": store} | shard for shard in shards], "writing"
            )

    try:
        return [each.path for each in steps()], worked
    except UserError as error:
        raise UserError(f"{worked}: {error}") from error


@pytest.mark.usefixtures("prefect_server")
def test_what_is_not_there_is_made_again(tmp_path: Path) -> None:
    shards: list[dict[str, object]] = [{"name": name} for name in "abc"]
    paths, worked = run(shards, tmp_path, lost=2)
    assert [path.read_text() for path in paths] == ["a", "b", "c"] and worked == ["a", "b", "c", "a", "b"]
    with pytest.raises(UserError, match=r"write 1 of 1: its workers died, or what they wrote is not here"):
        run([{"name": "d"}], tmp_path, lost=99)


@pytest.mark.usefixtures("prefect_server")
def test_a_mistake_ends_the_run_at_once(tmp_path: Path) -> None:
    shards: list[dict[str, object]] = [{"name": f"{number}"} for number in range(400)]
    with pytest.raises(UserError, match="a mistake") as raised:
        run(shards, tmp_path, wrong="0")
    assert "399" not in str(raised.value)  # those that had not begun never do
