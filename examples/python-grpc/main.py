"""Runs code in Sandpool with grpcio and generated stubs: streams, outcomes, refusals, cancelling."""

import os
import queue
import sys

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from grpc_status import rpc_status
from sandpool.v1 import execution_pb2 as sandpool
from sandpool.v1.execution_pb2_grpc import ExecutionServiceStub


def python(source, **options):
    """What to run: Python source, with any field of ExecutionSpec beside it."""
    return sandpool.ExecutionSpec(code=sandpool.Code(language="python", source=source), **options)


def describe(finished):
    """How an execution ended, in words. A call that was not refused always ends with one of these."""
    outcome = finished.WhichOneof("outcome")
    end = getattr(finished, outcome) if outcome else None
    match outcome:
        case "exited":
            return f"exited with code {end.code}"
        case "signaled":
            return f"ended by signal {end.signal} ({end.name})"
        case "timed_out":
            return f"timed out after {end.timeout.ToJsonString()}"
        case "out_of_memory":
            return f"out of memory at {end.memory_bytes >> 20} MiB"
        case "sandbox_lost":
            # BEFORE_START: no start was confirmed, so repeat it. Otherwise only you know whether that is safe.
            return f"sandbox lost, {sandpool.SandboxLost.Cause.Name(end.cause)}: {end.reason}"
        case _:  # disk_limit, output_limit, cancelled, not_started, and what is newer than this client
            return f"{outcome}: {end}"


def explain(error):
    """What a refused call's status says: its code, what is wrong with each field, and when to try again."""
    status = rpc_status.from_call(error)
    lines = []
    for detail in status.details if status else ():
        bad_request, retry = BadRequest(), RetryInfo()
        if detail.Unpack(bad_request):
            lines += [f"\n  {wrong.field}: {wrong.description}" for wrong in bad_request.field_violations]
        elif detail.Unpack(retry):
            lines.append(f"\n  try again in {retry.retry_delay.ToJsonString()}")
    return error.code().name + ("".join(lines) or f": {error.details()}")


def converse(executions):
    """Sends a line, waits for the answer, sends the next one: input and output go on side by side."""
    answered = queue.SimpleQueue()

    def requests():
        source = "import sys\nfor line in sys.stdin:\n    print(line.strip().upper())"
        yield sandpool.ExecuteRequest(start=python(source, stdin_open=True))
        for line in ("hello", "world"):
            print(">", line)
            yield sandpool.ExecuteRequest(stdin=f"{line}\n".encode())
            answered.get(timeout=30)
        yield sandpool.ExecuteRequest(close_stdin=sandpool.CloseStdin())

    output = b""
    # This deadline is the whole call's; limits.timeout is the program's own.
    for event in executions.Execute(requests(), timeout=30):
        match event.WhichOneof("event"):
            case "stdout":
                output += event.stdout
                while b"\n" in output:  # Pieces end anywhere, not only where lines do.
                    line, output = output.split(b"\n", 1)
                    print("<", line.decode(errors="replace"))
                    answered.put(line)
            case "stderr":
                print(event.stderr.decode(errors="replace"), end="", file=sys.stderr)
            case "finished":
                print(describe(event.finished))


def cancel(executions):
    """Gives up a program that runs. The server ends it and deletes its sandbox."""
    endless = python("import time\nprint('working')\ntime.sleep(600)", limits={"timeout": Duration(seconds=600)})
    call = executions.Execute(iter([sandpool.ExecuteRequest(start=endless)]))
    try:
        for event in call:
            if event.WhichOneof("event") == "stdout":
                print("<", event.stdout.decode().strip())
                call.cancel()
    except grpc.RpcError as error:
        print(error.code().name)


def main(executions):
    print("== a conversation")
    converse(executions)
    print("== outcomes")
    for spec in (
        python("raise SystemExit(3)"),
        python("import os\nos.kill(os.getpid(), 9)"),
        python("while True: pass", limits={"timeout": Duration(seconds=1)}),
        python("import time\nx = bytearray(200 << 20)\ntime.sleep(60)", limits={"memory_bytes": 100 << 20}),
    ):
        print(describe(executions.Run(sandpool.RunRequest(spec=spec), timeout=30).finished))
    print("== a cancelled call")
    cancel(executions)
    print("== a refused call")
    try:
        executions.Run(sandpool.RunRequest(spec=python("print(1)", working_directory="/etc", env={"A=B": ""})))
    except grpc.RpcError as error:
        print(explain(error))


with grpc.insecure_channel(os.environ.get("SANDPOOL_ADDRESS", "127.0.0.1:50051")) as channel:
    try:
        main(ExecutionServiceStub(channel))
    except grpc.RpcError as error:
        sys.exit(explain(error))
