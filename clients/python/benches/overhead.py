"""What the client adds to a call: client.run("print(1)") beside the raw stub, alternating.

Usage: python benches/overhead.py [ADDRESS [SAMPLES]], of a server whose sandboxes are warm.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import grpc

from sandpool import Client
from sandpool.aio import AsyncClient
from sandpool.v1 import execution_pb2 as pb
from sandpool.v1.execution_pb2_grpc import ExecutionServiceStub

START = pb.ExecutionSpec(code=pb.Code(language="python", source="print(1)"))
WARM_UP = 5  # Calls that are not counted.
IDLE = 1.0  # Seconds between two calls, in which the pool starts the next sandbox, and rests.


def raw(stub: ExecutionServiceStub) -> None:
    for message in stub.Execute(iter([pb.ExecuteRequest(start=START)])):
        if message.HasField("finished"):
            return


async def raw_async(stub: ExecutionServiceStub) -> None:
    call = stub.Execute(iter([pb.ExecuteRequest(start=START)]))
    async for message in call:
        if message.HasField("finished"):
            return


def shown(kind: str, ours: list[float], floor: list[float]) -> None:
    for name, tenths in (("p50", 5), ("p90", 9)):
        mine, theirs = (sorted(side)[len(side) * tenths // 10] * 1e3 for side in (ours, floor))
        more = mine - theirs
        print(f"{kind} {name}: client {mine:.2f} ms, stub {theirs:.2f} ms, {more:+.2f} ms")


def threads(address: str, samples: int) -> None:
    ours, floor = [], []
    with Client(address) as client, grpc.insecure_channel(address) as channel:
        stub = ExecutionServiceStub(channel)  # type: ignore[no-untyped-call]
        sides: list[tuple[list[float], Callable[[], object]]] = [
            (ours, lambda: client.run("print(1)")),
            (floor, lambda: raw(stub)),
        ]
        for sample in range(-WARM_UP, samples):
            for times, call in sides if sample % 2 else sides[::-1]:
                time.sleep(IDLE)
                begun = time.perf_counter()
                call()
                if sample >= 0:
                    times.append(time.perf_counter() - begun)
    shown("threads", ours, floor)


async def tasks(address: str, samples: int) -> None:
    ours, floor = [], []
    async with AsyncClient(address) as client, grpc.aio.insecure_channel(address) as channel:
        stub = ExecutionServiceStub(channel)  # type: ignore[no-untyped-call]
        sides: list[tuple[list[float], Callable[[], Awaitable[object]]]] = [
            (ours, lambda: client.run("print(1)")),
            (floor, lambda: raw_async(stub)),
        ]
        for sample in range(-WARM_UP, samples):
            for times, call in sides if sample % 2 else sides[::-1]:
                await asyncio.sleep(IDLE)
                begun = time.perf_counter()
                await call()
                if sample >= 0:
                    times.append(time.perf_counter() - begun)
    shown("asyncio", ours, floor)


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
    samples = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    threads(address, samples)
    asyncio.run(tasks(address, samples))
