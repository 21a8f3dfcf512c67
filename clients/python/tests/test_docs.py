"""What docs/python.md tells users to write runs as it stands there."""

from __future__ import annotations

import ast
import asyncio
import re
from typing import Any

import pytest
from servers import ROOT

from sandpool import Client

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)


def test_the_guide_runs_as_it_stands(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SANDPOOL_ADDRESS", server)
    with Client(server) as client:
        names: dict[str, Any] = {}
        for block in BLOCKS:
            # The first block's client is closed at its end.
            names["client"] = client
            source = block.replace("127.0.0.1:50051", server)
            code = compile(source, "docs/python.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)
            if asyncio.iscoroutine(running):
                asyncio.run(running)
    said = capsys.readouterr().out
    assert "['a'] typed\nexited with code 0\n" in said
    assert "too slow: 1.0\n" in said
    assert "Stdout(data=b'WORD\\n" in said
    assert said.endswith("'west'\n")
