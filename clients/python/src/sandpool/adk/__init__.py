"""Runs the code of Google ADK's agents in Sandpool: a drop-in for `GkeCodeExecutor`.

    agent = LlmAgent(..., code_executor=SandpoolCodeExecutor(address="127.0.0.1:50051"))

It needs `pip install sandpool[adk]`. docs/adk.md says how to move, and compares.
"""

from .executor import SandpoolCodeExecutor

__all__ = ["SandpoolCodeExecutor"]
