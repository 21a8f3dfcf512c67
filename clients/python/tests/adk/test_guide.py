"""docs/adk.md: what it tells users to write runs, and what it refers to exists."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import google.adk
import pytest
from servers import ROOT

from sandpool.adk import SandpoolCodeExecutor

from .conftest import execute

GUIDE = (ROOT / "docs/adk.md").read_text()
ADK = Path(google.adk.__path__[0])
SOURCES = {
    "gke": "code_executors/gke_code_executor.py",
    "container": "code_executors/container_code_executor.py",
    "builtin": "code_executors/built_in_code_executor.py",
    "flow": "flows/llm_flows/extensions/_code_execution.py",
}


def test_its_python_runs(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDPOOL_ADDRESS", server)
    names: dict[str, Any] = {}
    made: list[SandpoolCodeExecutor] = []
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(block.replace("127.0.0.1:50051", server), names)
        if names["executor"] not in made:
            made.append(names["executor"])
    first, second = made
    assert names["agent"].code_executor is first
    with first:
        assert execute(first, "print(1)").stdout == "1\n"
    assert second._pool() == "large"
    asyncio.run(names["main"]())


def test_it_names_each_option() -> None:
    for option in SandpoolCodeExecutor.model_fields:
        assert f"`{option}`" in GUIDE, option


def test_each_test_that_it_refers_to_exists() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    named = re.findall(r"T: (test_\w+)", GUIDE)
    assert len(named) > 15
    for name in named:
        assert f"def {name}(" in tests, name


def test_each_function_of_adk_that_it_refers_to_exists() -> None:
    named = re.findall(r"(gke|container|builtin|flow): `(\w+)`", GUIDE)
    assert len(named) > 30
    for source, name in named:
        text = (ADK / SOURCES[source]).read_text()
        assert re.search(rf"(def|class) {name}\b|^{name} = ", text, re.MULTILINE), (source, name)
