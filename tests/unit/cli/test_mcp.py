"""`hpo mcp`, asked by the client of the protocol's own library through a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.cli.programs.bounded import MOST_CHARACTERS, MOST_SIZE, bounded, page
from hpo.cli.programs.documents import text
from hpo.cli.programs.reading import Reading
from hpo.driver.steering.removal import removal
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger import attributes
from hpo.ledger.attributes import trial_from_frozen
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from tests.conftest import REPOSITORY, synthetic_spec
from tests.support.instant_study import train
from tests.support.markdown import blocks
from trainers.api import EpochMetrics

READING = ["list_studies", "get_status", "list_trials", "get_trial", "get_report"]
STEERING = ["stop_study", "stop_trial", "pause_study", "continue_study", "add_configuration", "change_settings"]
TRIALS = 40
Talk = Callable[[Any], Any]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home folder with a study of more trials than an answer holds."""
    home = Home.at(tmp_path_factory.mktemp("mcp") / "home").create()
    spec = synthetic_spec(budget={"trials": TRIALS})
    train(
        spec, home, lambda config, epoch: EpochMetrics(epoch=epoch, val_accuracy=config.extra["quality"] * epoch / 10)
    )
    return home


def talk(home: Home, *words: str, ask: Talk) -> Any:
    """What `ask` finds out from a client that is connected to `hpo mcp`."""
    mcp, anyio = pytest.importorskip("mcp"), pytest.importorskip("anyio")

    async def conversation() -> Any:
        command = mcp.StdioServerParameters(
            command=sys.executable,
            args=["-m", "hpo", "mcp", "--home", str(home.path), *words],
            env=dict(os.environ),
            cwd=REPOSITORY,
        )
        async with mcp.Client(command, read_timeout_seconds=120) as client:
            return await ask(client)

    return anyio.run(conversation)


async def call(client: Any, name: str, **arguments: Any) -> Any:
    """The answer of a tool, or the text of its error."""
    result = await client.call_tool(name, arguments)
    (content,) = result.content
    return content.text if result.is_error else json.loads(content.text)


def test_an_agent_reads_studies_trials_and_the_report_in_answers_of_a_bounded_size(recorded: Home) -> None:
    async def ask(client: Any) -> dict[str, Any]:
        tools = (await client.list_tools()).tools
        return {
            "tools": {tool.name: tool for tool in tools},
            "studies": await call(client, "list_studies"),
            "status": await call(client, "get_status"),
            "best": await call(client, "list_trials", study="synthetic"),
            "last": await call(client, "list_trials", study="synthetic", order="number", limit=1000, offset=35),
            "trial": await call(client, "get_trial", study="synthetic", trial=3),
            "report": await call(client, "get_report", study="synthetic"),
            "unknown": await call(client, "get_status", study="../../etc/passwd"),
            "no trial": await call(client, "get_trial", study="synthetic", trial=999),
            "no state": await call(client, "list_trials", study="synthetic", state="faild"),
            "no order": await call(client, "list_trials", study="synthetic", order="worst"),
            "no argument": await call(client, "list_trials", study="synthetic", sort="value"),
            "no permission": await call(client, "stop_study", study="synthetic"),
        }

    said = talk(recorded, ask=ask)
    assert list(said["tools"]) == READING
    assert all(tool.description and tool.annotations.read_only_hint for tool in said["tools"].values())
    assert [(one["study"], one["trials"]) for one in said["studies"]["studies"]] == [("synthetic", TRIALS)]
    assert (said["status"]["kind"], said["status"]["trials"]["total"]) == ("status", TRIALS)
    values = [row["value"] for row in said["best"]["trials"] if row["state"] == "complete"]
    assert values == sorted(values, reverse=True)
    assert (len(said["best"]["trials"]), said["best"]["rest"], said["best"]["next_offset"]) == (20, TRIALS - 20, 20)
    assert [row["trial"] for row in said["last"]["trials"]] == list(range(35, TRIALS))
    assert (said["last"]["rest"], said["last"]["next_offset"]) == (0, None)
    assert said["trial"]["number"] == 3
    assert (said["report"]["verdict"], said["report"]["page"]) == ("not confirmed", None)
    assert "passwd" in said["unknown"]
    assert "synthetic has no trial 999; trials: 0 to 39" in said["no trial"]
    assert "there is no state 'faild'; states: complete, pruned," in said["no state"]
    assert said["no order"] == "list_trials: order: Input should be 'number', 'newest' or 'best'"
    assert said["no argument"] == "list_trials takes no sort; it takes: study, order, state, limit, offset"
    assert "this server only reads: start it with --allow-steering" in said["no permission"]


def test_an_agent_steers_only_where_that_is_allowed(recorded: Home) -> None:
    async def ask(client: Any) -> Any:
        names = [tool.name for tool in (await client.list_tools()).tools]
        added = await call(client, "add_configuration", study="synthetic", values={"extra.quality": 0.25})
        outside = await call(client, "add_configuration", study="synthetic", values={"extra.quality": 7})
        return names, added, outside, await call(client, "stop_study", study="synthetic")

    names, added, outside, stopped = talk(recorded, "--allow-steering", ask=ask)
    assert names == READING + STEERING
    assert (added["study"], added["state"], added["asks"]) == ("synthetic", "kept", "add extra.quality=0.25")
    assert "extra.quality" in outside
    assert "no driver runs synthetic" in stopped


def test_long_lists_and_texts_are_cut_and_the_rest_is_counted() -> None:
    said = bounded({"a": list(range(50)), "b": {"c": ["x" * 5000] * 30}, "d": float("nan")})
    assert (len(said["a"]), len(said["b"]["c"]), said["d"]) == (20, 20, None)
    assert max(len(text) for text in said["b"]["c"]) <= MOST_CHARACTERS
    assert said["left_out"] == {"a": 30, "b.c": 10}


def test_pages_follow_one_another_to_the_end() -> None:
    assert page(range(250), 1000, 100) == (range(100, 200), {"total": 250, "rest": 50, "next_offset": 200})
    assert page(range(250), 1000, 200) == (range(200, 250), {"total": 250, "rest": 0, "next_offset": None})
    assert page(range(5), -3, -1)[0] == range(0, 1)
    assert page([], 20, 7)[1] == {"total": 0, "rest": 0, "next_offset": None}


def test_a_page_has_only_rows_that_fit_and_at_least_one() -> None:
    rows = [{"reason": "x" * 3_000} for _ in range(50)]
    first, rest = page(rows, 50, 0)
    assert sum(len(text(row)) for row in first) <= MOST_SIZE < sum(len(text(row)) for row in rows)
    assert (len(first), rest["next_offset"], rest["rest"]) == (6, 6, 44)
    assert page([{"reason": "x" * MOST_SIZE}] * 2, 50, 1)[1]["next_offset"] is None


def test_an_agent_that_asks_again_reads_only_what_is_new(recorded: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[int]()

    def counting(trial: Any, late: Any) -> Any:
        read.append(trial.number)
        return trial_from_frozen(trial, late)

    monkeypatch.setattr(attributes, "trial_from_frozen", counting)
    reading = Reading(recorded)
    assert reading.get_status("synthetic")["trials"]["total"] == TRIALS
    assert len(read) == TRIALS
    reading.list_studies()
    reading.list_trials("synthetic", order="newest")
    assert reading.get_trial("synthetic", 0)["trial"] == 0
    assert len(read) == TRIALS


def test_a_study_that_was_removed_and_made_anew_is_read_anew(home: Home) -> None:
    reading, storage = Reading(home), open_storage(home.ledger_url)
    for trials in (5, 3):
        spec = synthetic_spec(budget={"trials": trials})
        Ledger.create(storage, spec, {"created": float(trials)}, study_sampler(spec)).close()
        train(spec, home, lambda *_: EpochMetrics(epoch=1, val_accuracy=0.1))
        assert reading.get_status("synthetic")["trials"]["total"] == trials
        with removal("synthetic", home) as remains:
            remains.remove()


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    for name in [name for name in sys.modules if name.startswith(("mcp.", "hpo.cli.programs.server"))]:
        monkeypatch.delitem(sys.modules, name)
    done = CliRunner().invoke(app, ["mcp"])
    assert isinstance(done.exception, UsageError)
    assert "pip install 'hpo-efficientnetv2[mcp]'" in str(done.exception)


def test_the_configuration_for_a_client_starts_the_server(recorded: Home) -> None:
    pytest.importorskip("mcp")
    (text,) = [block for block in blocks(REPOSITORY / "reports" / "docs" / "json.md", "json") if "mcpServers" in block]
    (entry,) = json.loads(text)["mcpServers"].values()
    assert entry["command"] == "hpo"
    assert entry["args"][0] == "mcp"
    words = [str(recorded.path) if Path(word).is_absolute() else word for word in entry["args"]]
    command = [sys.executable, "-m", "hpo", *words]
    done = subprocess.run(command, cwd=REPOSITORY, input="", capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
