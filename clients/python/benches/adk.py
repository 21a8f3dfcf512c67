"""What a run of an agent's code takes: SandpoolCodeExecutor beside GkeCodeExecutor and a raw stub.

Usage: KUBECONFIG=... python benches/adk.py --server ADDRESS --namespace NS --image IMAGE

Each side runs print(1) and has its result; the sides take turns. The floor is the same program by
gRPC's own stub, to the same server. All sandboxes and pods should be on one cluster, and the server
near it. GkeCodeExecutor's pods want, on their node: the image's python3, 200m of processor and
256Mi of memory; a RuntimeClass called gvisor, which is written into it (--runtime-class has another
one written over it); no labels. They tolerate GKE Sandbox's taint (sandbox.gke.io/runtime=gvisor)
and no other. Who calls needs the rights that its docstring lists, and to make a namespace where NS
is not there.

It needs sandpool[adk] and kubernetes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import grpc
import kubernetes as k8s
from google.adk.code_executors.base_code_executor import BaseCodeExecutor
from google.adk.code_executors.code_execution_utils import CodeExecutionInput
from google.adk.code_executors.gke_code_executor import GkeCodeExecutor

from sandpool.adk import SandpoolCodeExecutor
from sandpool.v1 import execution_pb2 as pb
from sandpool.v1.execution_pb2_grpc import ExecutionServiceStub

SOURCE = "print(1)"
WARM_UP = 3  # Runs of Sandpool's sides that are not counted; of GkeCodeExecutor one.
FLOOR, FRESH, SESSION, GKE = (
    "floor: a raw stub's Execute",
    "SandpoolCodeExecutor",
    "SandpoolCodeExecutor, stateful",
    "GkeCodeExecutor",
)


class GkeWithRuntimeClass(GkeCodeExecutor):
    """The same with a RuntimeClass of another name."""

    runtime_class: str = "gvisor"

    def _create_job_manifest(self, *args: Any) -> Any:
        job: Any = super()._create_job_manifest(*args)
        job.spec.template.spec.runtime_class_name = self.runtime_class
        return job


def raw(stub: ExecutionServiceStub) -> str:
    stdout = b""
    spec = pb.ExecutionSpec(code=pb.Code(language="python", source=SOURCE))
    for message in stub.Execute(iter([pb.ExecuteRequest(start=spec)])):
        stdout += message.stdout
    return stdout.decode()


def executed(executor: BaseCodeExecutor, execution_id: str | None = None) -> str:
    context: Any = SimpleNamespace(app_name="bench", user_id="bench", invocation_id="bench")
    result = executor.execute_code(
        context, CodeExecutionInput(code=SOURCE, execution_id=execution_id)
    )
    return result.stdout if not result.stderr else f"stderr: {result.stderr}"


def timed(name: str, run: Callable[[], str], idle: float = 0.0) -> float:
    time.sleep(idle)
    begun = time.perf_counter()
    said = run()
    taken = time.perf_counter() - begun
    if said.strip() != "1":
        raise SystemExit(f"{name} did not run {SOURCE}: {said}")
    return taken


def make_namespace(name: str) -> bool:
    """Whether it was not there."""
    body = k8s.client.V1Namespace(metadata=k8s.client.V1ObjectMeta(name=name))
    try:
        k8s.client.CoreV1Api().create_namespace(body)
    except k8s.client.exceptions.ApiException as error:
        if error.status == 409:
            return False
        raise
    return True


def measure(
    sides: dict[str, Callable[[], str]], samples: int, gke_samples: int, idle: float
) -> dict[str, list[float]]:
    gke = sides.pop(GKE)
    timed(GKE, gke)
    for name, run in list(sides.items()) * WARM_UP:
        timed(name, run, idle)
    times: dict[str, list[float]] = {name: [] for name in (*sides, GKE)}
    for sample in range(samples):
        # Whoever comes first in a round changes with each.
        order = list(sides.items())
        for name, run in order[sample % len(order) :] + order[: sample % len(order)]:
            times[name].append(timed(name, run, idle))
        if (sample + 1) * gke_samples // samples > len(times[GKE]):
            times[GKE].append(timed(GKE, gke, idle))
    return times


def shown(times: dict[str, list[float]]) -> None:
    def at(name: str, share: float) -> float:
        return sorted(times[name])[int(len(times[name]) * share)]

    print("| to the result of print(1) | n | p50 ms | p99 ms | p50 over the floor | Sandpool's |")
    print("|---|---|---|---|---|---|")
    for name, side in times.items():
        p50 = at(name, 0.5)
        print(
            f"| {name} | {len(side)} | {p50 * 1e3:.2f} | {at(name, 0.99) * 1e3:.2f} "
            f"| {p50 / at(FLOOR, 0.5):.2f} | {p50 / at(FRESH, 0.5):.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", required=True, help="Sandpool's address")
    parser.add_argument("--namespace", required=True, help="where GkeCodeExecutor's jobs run")
    parser.add_argument("--image", required=True, help="the image of GkeCodeExecutor's pods")
    parser.add_argument("--runtime-class", default="gvisor", help="of GkeCodeExecutor's pods")
    parser.add_argument("--kubeconfig", default=os.environ.get("KUBECONFIG"))
    parser.add_argument("--samples", type=int, default=50, help="of each of Sandpool's sides")
    parser.add_argument("--gke-samples", type=int, default=10, help="at most as many")
    parser.add_argument(
        "--idle",
        type=float,
        default=1.5,
        help="seconds before each run, in which the pool starts the next sandbox: what still "
        "starts takes processor time from the run",
    )
    given = parser.parse_args()

    options: dict[str, Any] = {
        "kubeconfig_path": given.kubeconfig,
        "namespace": given.namespace,
        "image": given.image,
        "runtime_class": given.runtime_class,
    }
    jobs = GkeWithRuntimeClass(**options)
    is_new = make_namespace(given.namespace)
    try:
        with (
            SandpoolCodeExecutor(address=given.server) as fresh,
            SandpoolCodeExecutor(address=given.server, stateful=True) as stateful,
            grpc.insecure_channel(given.server) as channel,
        ):
            stub = ExecutionServiceStub(channel)  # type: ignore[no-untyped-call]
            sides: dict[str, Callable[[], str]] = {
                FLOOR: lambda: raw(stub),
                FRESH: lambda: executed(fresh),
                SESSION: lambda: executed(stateful, "bench"),
                GKE: lambda: executed(jobs),
            }
            gke_samples = min(given.gke_samples, given.samples)
            times = measure(sides, given.samples, gke_samples, given.idle)
    finally:
        if is_new:
            k8s.client.CoreV1Api().delete_namespace(given.namespace)
    shown(times)


if __name__ == "__main__":
    main()
