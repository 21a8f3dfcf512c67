"""Sandboxes that live on, their files and contexts."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest

from sandpool import (
    AlreadyExists,
    Client,
    Display,
    ExecutionFailed,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PathKind,
    Sandbox,
)


def test_a_sandbox_keeps_its_files_until_it_is_deleted(client: Client) -> None:
    with client.sandbox(
        lifetime=600, idle_timeout=60, env={"WHO": "me"}, files={"a": "1"}, labels={"of": "test"}
    ) as sandbox:
        assert sandbox.run("print(open('a').read()); open('b', 'w').write('2')").stdout == "1\n"
        assert sandbox.run_command(["sh", "-c", "cat b; echo $WHO"]).stdout == "2me\n"
        assert client.get_sandbox(sandbox.sandbox_id).labels == {"of": "test"}
        listed = client.list_sandboxes(labels={"of": "test"})
        assert sandbox.sandbox_id in [other.sandbox_id for other in listed]
        before = sandbox.expire_time
        assert sandbox.extend(1200) > before
    with pytest.raises(NotFound, match="deleted"):
        sandbox.run("1")


def test_leaving_a_sandbox_that_has_ended_is_no_error(client: Client) -> None:
    with client.sandbox() as sandbox:
        sandbox.delete()


def test_files_are_written_read_listed_moved_and_removed(client: Client) -> None:
    with client.sandbox() as sandbox:
        files = sandbox.files
        content = bytes(range(256)) * 4096
        written = files.write("large.bin", content, mode=0o600)
        assert (written.path, written.size, written.mode, written.kind) == (
            "/workspace/large.bin",
            len(content),
            0o600,
            PathKind.FILE,
        )
        assert files.read("large.bin") == content
        assert files.read("large.bin", offset=256, length=3) == b"\x00\x01\x02"
        files.write("parts", iter([b"a", b"b"]))
        files.write("text", "ü")
        with pytest.raises(AlreadyExists):
            files.write("text", "", replace=False)
        files.make_directory("in/side")
        files.move("text", "in/text")
        assert files.read("in/text").decode() == "ü"
        assert [path.path for path in files.list("in")] == [
            "/workspace/in/side",
            "/workspace/in/text",
        ]
        assert len(files.list("in", limit=1)) == 1
        with pytest.raises(FailedPrecondition):
            files.remove("in")
        files.remove("in", recursive=True)
        with pytest.raises(NotFound):
            files.stat("in")
        with pytest.raises(InvalidArgument) as refused:
            files.read("/etc/passwd")
        assert refused.value.violations[0].field == "path"


def test_content_that_cannot_be_had_is_the_callers_error_and_leaves_no_file(client: Client) -> None:
    def content() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the disk is gone")

    with client.sandbox() as sandbox:
        with pytest.raises(OSError, match="the disk is gone"):
            sandbox.files.write("half", content())
        sandbox.files.write("whole", bytearray(b"whole"))
        # What was written is taken away once the server hears that the call is cancelled.
        while [path.path for path in sandbox.files.list()] != ["/workspace/whole"]:
            pass
        assert sandbox.files.list(limit=0) == []


def test_a_context_is_found_again(client: Client) -> None:
    with client.sandbox() as sandbox:
        sandbox.context().run("x = 42")
        [told] = sandbox.list_contexts()
        again = client.get_sandbox(sandbox.sandbox_id).get_context(told.context_id)
        assert again.run("x").displays[0].text == "42"
        with pytest.raises(NotFound):
            sandbox.get_context("none")


def test_a_stream_that_is_left_is_cancelled(client: Client) -> None:
    with client.sandbox() as sandbox:
        sandbox.files.write("large", b"x" * 10_000_000)
        for chunk in sandbox.files.stream("large"):
            assert chunk
            break
        assert sandbox.run("print(1)").stdout == "1\n"


def test_archives_carry_directories(client: Client) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("dir/file")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    with client.sandbox() as sandbox:
        sandbox.files.upload_archive("to", packed.getvalue())
        got = io.BytesIO(b"".join(sandbox.files.download_archive("to")))
    with tarfile.open(fileobj=got) as archive:
        content = archive.extractfile("dir/file")
        assert content is not None
        assert content.read() == b"abc"


@pytest.fixture
def sandbox(client: Client) -> Sandbox:
    return client.sandbox(idle_timeout=60)


def test_a_context_keeps_its_variables(client: Client) -> None:
    with client.sandbox() as sandbox, sandbox.context(env={"WHO": "me"}) as context:
        context.run("import os; x = 40").check()
        result = context.run("print(os.environ['WHO']); x + 2")
        assert result.stdout == "me\n"
        assert [display.text for display in result.displays] == ["42"]
        assert result.displays[0].is_result
        assert result.execution_count == 2
        failed = context.run("1 / 0")
        assert failed.error is not None
        assert failed.error.name == "ZeroDivisionError"
        with pytest.raises(ExecutionFailed, match="division by zero"):
            failed.check()
        assert [told.context_id for told in sandbox.list_contexts()] == [context.context_id]
        context.run("import os; os._exit(3)")
        with pytest.raises(FailedPrecondition, match="code 3"):
            context.run("x")


def test_displays_are_shown_in_jupyter_without_a_strangers_code(client: Client) -> None:
    shows = (
        "class Shown:\n"
        "    def _repr_html_(self): return '<script>alert(1)</script>'\n"
        "    def _repr_png_(self): return b'\\x89PNG'\n"
        "    def __repr__(self): return 'shown'\n"
        "Shown()"
    )
    with client.sandbox() as sandbox, sandbox.context() as context:
        [display] = context.run(shows).displays
    assert isinstance(display, Display)
    assert display.data["image/png"] == b"\x89PNG"
    assert display._repr_mimebundle_() == {"text/plain": "shown", "image/png": "iVBORw=="}
    data, _metadata = display.trusted()._repr_mimebundle_()
    assert data["text/html"] == "<script>alert(1)</script>"


def test_a_result_shows_itself_in_ipython(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    with client.sandbox() as sandbox, sandbox.context() as context:
        result = context.run("print('said')\n6 * 7")
    assert shell.display_formatter is not None
    shell.display_formatter.format(result)  # type: ignore[no-untyped-call]
    assert capsys.readouterr().out == "said\n42\n"
