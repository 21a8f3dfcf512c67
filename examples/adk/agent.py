"""An agent whose code runs in Sandpool. Its model follows a script, so it needs no key and no network."""

import asyncio
from collections.abc import AsyncGenerator

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types
from sandpool.adk import SandpoolCodeExecutor

ANSWERS = [
    "```python\nsales = {'west': 2, 'east': 5}\nprint(sum(sales.values()))\n```",
    "The sum is 7.",
    "```python\nprint(sales['north'])\n```",
    "There is no north. I write down what there is:\n"
    "```python\nopen('sales.csv', 'w').writelines(f'{k},{v}\\n' for k, v in sales.items())\n```",
    "The table is in sales.csv.",
]


class ScriptedModel(BaseLlm):
    """Answers as it was told to, whatever it is asked."""

    model: str = "scripted"
    said: int = 0

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        part = types.Part(text=ANSWERS[self.said])
        self.said += 1
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


# The server is at SANDPOOL_ADDRESS, or at 127.0.0.1:50051. Moving over from Google's executor is this import instead of
# `from google.adk.code_executors import GkeCodeExecutor`.
executor = SandpoolCodeExecutor(stateful=True)

root_agent = LlmAgent(
    name="coder",
    model=ScriptedModel(),  # Of a real one its name stands here, such as "gemini-2.5-flash".
    instruction="Answer with Python code where that helps.",
    code_executor=executor,
)


def show(event) -> None:
    for part in event.content.parts if event.content else []:
        if part.executable_code:
            print(">", part.executable_code.code.replace("\n", "\n> "))
        elif part.code_execution_result:
            result = part.code_execution_result
            print("<", result.outcome.name, result.output.strip().splitlines()[-1])
        elif part.text and part.text.strip():
            print(part.text.strip())
    for name, version in event.actions.artifact_delta.items():
        print(f"[artifact {name}, version {version}]")


async def main() -> None:
    runner = InMemoryRunner(agent=root_agent, app_name="sales")
    session = await runner.session_service.create_session(app_name="sales", user_id="somebody")
    for question in ["What is the sum of the sales?", "What did the north sell? Write a table."]:
        print("==", question)
        message = types.Content(role="user", parts=[types.Part(text=question)])
        async for event in runner.run_async(
            user_id=session.user_id, session_id=session.id, new_message=message
        ):
            show(event)


if __name__ == "__main__":
    with executor:  # Deletes the sandboxes of its sessions in the end.
        asyncio.run(main())
