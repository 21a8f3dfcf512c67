"""An agent that runs Python in Sandpool. Its model follows a script, so it needs no key and no network."""

from collections.abc import Iterator

import sandpool
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from sandpool_tool import Sessions, python_tool


class ScriptedModel(GenericFakeChatModel):
    """Takes tools, and answers as it was told to whatever it is asked."""

    def bind_tools(self, tools, **options):
        return self


def script() -> Iterator[AIMessage]:
    """What a model might say: for each call of the tool a message with its code, and an answer at the end."""
    for number, code in enumerate(
        [
            "sales = {'west': 2, 'east': 5}\nprint('read', len(sales), 'rows')",
            None,
            "sum(sales.values())",  # Of the same thread: `sales` is still there.
            "sales['north']",
            None,
            "sales",  # Of another thread: it has a sandbox of its own.
            None,
            "import os\nopen('sum.txt', 'w').write('7')\nos._exit(1)",  # Code may end its own Python, and only that.
            "open('sum.txt').read()",
            None,
        ]
    ):
        if code is None:
            yield AIMessage("done")
        else:
            call = {"name": "run_python", "args": {"code": code}, "id": f"call-{number}"}
            yield AIMessage("", tool_calls=[call])


def ask(agent, thread: str, question: str) -> None:
    print(f"== {thread}: {question}")
    config = {"configurable": {"thread_id": thread}}
    for update in agent.stream({"messages": [("user", question)]}, config, stream_mode="updates"):
        for step in update.values():
            for message in step["messages"]:
                for call in getattr(message, "tool_calls", []):
                    print(">", call["args"]["code"].replace("\n", "\n> "))
                if message.type == "tool":
                    print("<", message.content.splitlines()[-1])


with sandpool.Client() as client:
    sessions = Sessions(client)
    # Any chat model that calls tools can take the script's place.
    agent = create_agent(
        ScriptedModel(messages=script()), [python_tool(sessions)], checkpointer=InMemorySaver()
    )
    try:
        ask(agent, "thread-1", "read the sales")
        ask(agent, "thread-1", "what is their sum, and what did the north sell?")
        ask(agent, "thread-2", "show the sales")
        ask(agent, "thread-1", "stop, and go on")
    finally:
        sessions.close()
