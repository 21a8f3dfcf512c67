"""ADK's own flow: a runner and an agent whose model answers what a test tells it to."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

import pytest
from google.adk.sessions import InMemorySessionService
from google.genai import types

from sandpool import Client
from sandpool.adk import SandpoolCodeExecutor, sessions

from .conftest import MakeExecutor
from .scripted import Chat, outcomes, python, text_of

OK, FAILED = types.Outcome.OUTCOME_OK, types.Outcome.OUTCOME_FAILED


async def test_the_model_is_told_what_its_code_printed(make_executor: MakeExecutor) -> None:
    chat = Chat(make_executor(), python("print(6 * 7)"), "It is 42.")
    events = await chat.say("What is 6 * 7?")
    (outcome,) = outcomes(events)
    assert (outcome.outcome, outcome.output) == (OK, "Code execution result:\n42\n\n")
    assert chat.model.told(1) == "```tool_output\nCode execution result:\n42\n\n\n```"
    assert text_of(events[-1]) == "It is 42."


async def test_the_model_sees_what_a_success_wrote_to_stderr(make_executor: MakeExecutor) -> None:
    code = "import sys\nprint('out')\nprint('careful', file=sys.stderr)"
    chat = Chat(make_executor(), python(code), "Done.")
    (outcome,) = outcomes(await chat.say("Go."))
    assert outcome.outcome == OK
    assert "out\n--- stderr ---\ncareful\n" in chat.model.told(1)


async def test_an_error_is_fed_back_with_stdout_and_the_model_tries_again(
    make_executor: MakeExecutor,
) -> None:
    chat = Chat(make_executor(), python("print('so far')\n1/0"), python("print(1)"), "Done.")
    events = await chat.say("Go.")
    assert [outcome.outcome for outcome in outcomes(events)] == [FAILED, OK]
    assert "ZeroDivisionError" in chat.model.told(1)
    assert "so far" in chat.model.told(1)
    assert text_of(events[-1]) == "Done."


async def test_error_retry_attempts_end_the_tries(make_executor: MakeExecutor) -> None:
    chat = Chat(make_executor(error_retry_attempts=2), *[python("1/0")] * 5)
    events = await chat.say("Go.")
    assert [outcome.outcome for outcome in outcomes(events)] == [FAILED, FAILED]
    assert chat.model.calls == 3, "the third answer's code is not run"


async def test_a_service_that_is_not_there_is_told_to_the_model() -> None:
    with SandpoolCodeExecutor(address="127.0.0.1:1") as executor:
        chat = Chat(executor, python("print(1)"), "I cannot.")
        events = await chat.say("Go.")
    assert [outcome.outcome for outcome in outcomes(events)] == [FAILED]
    assert "cannot reach a Sandpool server" in chat.model.told(1)
    assert text_of(events[-1]) == "I cannot."


async def test_files_become_artifacts_with_their_bytes(make_executor: MakeExecutor) -> None:
    code = "open('table.csv', 'wb').write(b'a,\\xff\\n')\nopen('user:x', 'w').close()"
    chat = Chat(make_executor(), python(code), "See table.csv.")
    events = await chat.say("Make a table.")
    assert chat.model.told(1).count("Saved artifacts:\n`table.csv`,`user_x`") == 1
    saved = {n: v for event in events for n, v in event.actions.artifact_delta.items()}
    assert saved == {"table.csv": 0, "user_x": 0}
    artifact = await chat.artifacts.load_artifact(
        app_name="app", user_id="u", session_id="s", filename="table.csv"
    )
    assert artifact is not None
    assert artifact.inline_data is not None
    assert artifact.inline_data.data == b"a,\xff\n"
    assert artifact.inline_data.mime_type == "text/csv"


async def test_a_figure_becomes_an_artifact(make_executor: MakeExecutor) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    chat = Chat(make_executor(stateful=True), python(code), "Here.")
    await chat.say("Plot it.", session="figure")
    artifact = await chat.artifacts.load_artifact(
        app_name="app", user_id="u", session_id="figure", filename="figure-1-1.png"
    )
    assert artifact is not None
    assert artifact.inline_data is not None
    assert (artifact.inline_data.data or b"").startswith(b"\x89PNG")
    assert artifact.inline_data.mime_type == "image/png"


async def test_a_stateful_session_goes_on_from_turn_to_turn(make_executor: MakeExecutor) -> None:
    answers = [python("x = 20"), "Stored.", python("print(x + 1)"), "21.", python("x"), "No."]
    chat = Chat(make_executor(stateful=True), *answers)
    await chat.say("Store 20.", session="one")
    await chat.say("Add 1.", session="one")
    assert "21" in chat.model.told(3)
    await chat.say("What is x?", session="two")
    assert "NameError" in chat.model.told(5), "another session has its own"


async def test_a_stateful_session_tells_the_model_of_a_loss(
    make_executor: MakeExecutor, client: Client
) -> None:
    answers = [python("x = 20"), "Stored.", python("print(x)"), python("x = 20"), "Again."]
    chat = Chat(make_executor(stateful=True), *answers)
    await chat.say("Store 20.", session="loss")
    (sandbox,) = client.list_sandboxes(labels={"adk.agent.google.com/session-id": "loss"})
    sandbox.delete()
    events = await chat.say("Print it.", session="loss")
    assert "The session's sandbox was gone" in chat.model.told(3)
    assert "NameError" in chat.model.told(3)
    assert [outcome.outcome for outcome in outcomes(events)] == [FAILED, OK]


async def test_another_process_of_the_agent_tells_that_the_state_is_not_there(
    make_executor: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Chat(make_executor(stateful=True), python("x = 1"), "Stored.")
    await chat.say("Store it.")
    # As it is in another process, which has no executors but its own.
    monkeypatch.setattr(sessions, "_HERE", WeakValueDictionary())
    answers = [python("x"), python("x = 2"), python("print(x)"), "Here."]
    other = Chat(make_executor(stateful=True), *answers, sessions=chat.sessions)
    await other.say("Show it.")
    notice = "Earlier code of this session ran in another process of the agent"
    assert other.model.told(1).startswith(f"```tool_output\n{notice}")
    assert "NameError" in other.model.told(1)
    assert notice not in other.model.told(2) + other.model.told(3), "it is told once"


async def test_executors_of_one_session_have_a_state_each(make_executor: MakeExecutor) -> None:
    first = Chat(make_executor(stateful=True), python("x = 1"), "A.", python("print(x)"), "A.")
    answers = [python("x = 2"), "B.", python("print(x)"), "B."]
    second = Chat(make_executor(stateful=True), *answers, sessions=first.sessions)
    for chat, printed in ((first, ""), (second, ""), (first, "1\n"), (second, "2\n")):
        (outcome,) = outcomes(await chat.say("Go."))
        assert (outcome.outcome, outcome.output) == (OK, f"Code execution result:\n{printed}\n")


async def test_each_executor_of_another_process_tells_its_own_loss(
    make_executor: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = InMemorySessionService()

    def chats() -> list[Chat]:
        answers = [python("print(1)"), "Done."] * 3
        return [Chat(make_executor(stateful=True), *answers, sessions=kept) for _ in range(2)]

    async def losses(chats: list[Chat]) -> list[bool]:
        told = [outcomes(await chat.say("Go.")) for chat in chats]
        return ["in another process" in (outcome.output or "") for (outcome,) in told]

    here, elsewhere = chats(), []
    assert await losses(here * 2) == [False] * 4
    # As it is in another process, which has no executors but its own.
    of_here, of_elsewhere = sessions._HERE, WeakValueDictionary[str, sessions.Sessions]()
    monkeypatch.setattr(sessions, "_HERE", of_elsewhere)
    elsewhere = chats()
    assert await losses(elsewhere * 2) == [True, True, False, False]
    monkeypatch.setattr(sessions, "_HERE", of_here)
    assert await losses(here) == [True, True]


async def test_a_session_that_was_given_up_is_told(
    make_executor: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_MAX_SESSIONS", 1)
    answers = [python("x = 1"), "Stored.", python("1"), "Done.", python("print(x)"), "Gone."]
    chat = Chat(make_executor(stateful=True), *answers)
    for session in ("old", "new", "old"):
        await chat.say("Go.", session=session)
    assert "variables and files of earlier code are lost" in chat.model.told(5)


async def test_a_csv_in_the_message_is_explored_and_there_for_the_code(
    make_executor: MakeExecutor,
) -> None:
    for stateful in (False, True):
        executor = make_executor(optimize_data_file=True, stateful=stateful)
        read = "import pandas as pd\nprint(pd.read_csv('data_1_2.csv').amount.sum())"
        use = "print(data_1_2.amount.max())" if stateful else read
        chat = Chat(executor, python(read), "The sum is 7.", python(use), "That is it.")
        table = types.Part.from_bytes(data=b"region,amount\nwest,2\neast,5\n", mime_type="text/csv")
        events = await chat.say("Sum this up.", table, session=f"csv-{stateful}")
        explored, summed = outcomes(events)
        assert explored.outcome == OK
        assert "Total rows: 2" in (explored.output or "")
        assert "Total rows: 2" in chat.model.asked(0), "the model sees it before it answers"
        assert summed.output == "Code execution result:\n7\n\n"
        (following,) = outcomes(await chat.say("And more?", session=f"csv-{stateful}"))
        assert following.output == f"Code execution result:\n{5 if stateful else 7}\n\n"


async def test_fifty_sessions_of_one_agent_at_once(make_executor: MakeExecutor) -> None:
    # asyncio's own pool for to_thread has a few threads more than there are processors.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(50))
    executor = make_executor(queue_timeout_seconds=300)

    async def talk(number: int) -> str:
        chat = Chat(executor, python(f"print({number} * 2)"), "Done.")
        await chat.say("Go.", session=f"n{number}")
        return chat.model.told(1)

    said = await asyncio.gather(*(talk(number) for number in range(50)))
    assert all(f"\n{number * 2}\n" in text for number, text in enumerate(said))
