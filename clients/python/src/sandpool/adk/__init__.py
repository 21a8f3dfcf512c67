"""Runs the code of Google ADK's agents in Sandpool: a drop-in for `GkeCodeExecutor`.

    agent = LlmAgent(..., code_executor=SandpoolCodeExecutor(address="127.0.0.1:50051"))

It needs google-adk, which `sandpool[adk]` brings. docs/adk.md says how to move, and compares.
"""

try:
    import google.adk  # noqa: F401
except ImportError as error:
    raise ImportError(
        "sandpool.adk needs google-adk 2.13 or later: install sandpool[adk]"
    ) from error

from .executor import SandpoolCodeExecutor

__all__ = ["SandpoolCodeExecutor"]
