"""Options that several commands share, read and refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import pytest

from csc_xr.cli.options import computing
from csc_xr.errors import ParameterError
from csc_xr.fronts.settings import FrontSettings, read_front_settings
from csc_xr.workflow import ClassifySettings


def test_settings_in_words() -> None:
    for setting in fields(FrontSettings):
        kind = str(setting.type).split("[")[0]
        text, value = {
            "tuple": ("Open Water, 5,Mélange", ("Open Water", 5, "Mélange")),
            "float": ("2.5e1", 25.0),
            "int": ("7", 7),
            "bool": ("Yes", True),
        }[kind]
        found = read_front_settings([f"{setting.name} = {text}"])
        assert found == replace(FrontSettings(), **{setting.name: value})
    assert read_front_settings([]) == FrontSettings()
    for text, refine in (("true", True), ("no", False), ("False", False)):
        assert read_front_settings([f"refine={text}"]) == replace(FrontSettings(), refine=refine)
    assert read_front_settings(["margin_m=1", "closing_m=3", "margin_m=2"]) == FrontSettings(
        margin_m=2, closing_m=3
    )
    assert read_front_settings(["glacier=A=B"]).glacier == ("A=B",)


@pytest.mark.parametrize(
    "text",
    [
        "closing=3", "closing_m", "closing_m=", "closing_m=wide", "closing_m=3 m", "=3", "",
        "iterations=2.5", "iterations=many", "refine=perhaps", "refine", "Closing_m=3",
    ],
)  # fmt: skip
def test_words_that_are_no_settings(text: str) -> None:
    with pytest.raises(ParameterError, match="A front setting must be NAME=VALUE") as refused:
        read_front_settings([text])
    assert str(refused.value).endswith(f"got {text!r}.")
    assert " glacier, ocean, land, frame_m, " in str(refused.value)


@pytest.mark.parametrize("text", ["closing_m=-1", "frame_m=nan", "margin_m=inf", "iterations=-1"])
def test_settings_that_cannot_be(text: str) -> None:
    name = text.split("=")[0]
    with pytest.raises(
        ParameterError, match=f"^{name} must be (a whole number of )?0 or more, got"
    ):
        read_front_settings([text])


def start(scheduler: str, workers: int | None = None) -> None:
    settings = ClassifySettings()
    with computing(
        scheduler, workers=workers, memory_limit=None, scene=None, network=None, settings=settings
    ):
        pytest.fail("work began")


def test_no_workers_are_refused() -> None:
    with pytest.raises(ParameterError, match="--workers must be 1 or more, got 0"):
        start("threads", workers=0)


def test_what_only_this_machine_has_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"cluster at tcp://elsewhere:8786 were started"):
        start("tcp://elsewhere:8786", workers=2)


def test_workers_with_too_little_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of threads that lie on other machines none can be left idle from here."""

    @contextmanager
    def joined(*_: Any, **__: Any) -> Iterator[None]:
        yield None

    plan = SimpleNamespace(threads=2, limit=10**9)
    monkeypatch.setattr("csc_xr.runs.cluster.using_scheduler", joined)
    monkeypatch.setattr("csc_xr.runs.cluster.worker_limits", lambda _: (4, 10**9))
    monkeypatch.setattr("csc_xr.runs.memory.plan_memory", lambda *_, **__: plan)
    with pytest.raises(ParameterError, match=r"their 4 threads do at once, .* 1\.0 GB has for 2"):
        start("tcp://elsewhere:8786")
