"""Options of GkeCodeExecutor choose a pool or a limit, or name the setting that has their place."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from google.adk.code_executors.base_code_executor import BaseCodeExecutor
from google.adk.code_executors.gke_code_executor import GkeCodeExecutor
from servers import ROOT

from sandpool.adk import SandpoolCodeExecutor, placement

GKE_OPTIONS = {
    "optimize_data_file",
    "stateful",
    "error_retry_attempts",
    "code_block_delimiters",
    "execution_result_delimiters",
    "timeout_seconds",
    "namespace",
    "image",
    "executor_type",
    "cpu_requested",
    "mem_requested",
    "cpu_limit",
    "mem_limit",
    "kubeconfig_path",
    "kubeconfig_context",
    "sandbox_gateway_name",
    "sandbox_template",
}


def test_each_option_of_gke_code_executor_is_known() -> None:
    assert set(GkeCodeExecutor.model_fields) == GKE_OPTIONS, "ADK has a new option: place it"
    assert set(SandpoolCodeExecutor.model_fields) >= GKE_OPTIONS


def test_the_constructor_takes_what_that_of_gke_code_executor_takes() -> None:
    theirs = inspect.signature(GkeCodeExecutor.__init__).parameters
    ours = inspect.signature(SandpoolCodeExecutor.__init__).parameters
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]


def test_inherited_options_have_their_defaults() -> None:
    executor = SandpoolCodeExecutor()
    for name, field in BaseCodeExecutor.model_fields.items():
        if name != "timeout_seconds":
            assert getattr(executor, name) == field.default, name
    default = GkeCodeExecutor.model_fields["timeout_seconds"].default
    assert executor.timeout_seconds == default == 300


def test_an_option_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="node_selector"):
        SandpoolCodeExecutor(node_selector={})


@pytest.mark.parametrize(
    ("option", "value", "setting"),
    [
        ("namespace", "agents", "backend.kubernetes.namespace"),
        ("namespace", "default", "backend.kubernetes.namespace"),
        ("kubeconfig_path", "/k", "backend.kubernetes.kubeconfig"),
        ("kubeconfig_context", "c", "backend.kubernetes.kubeconfig"),
        ("sandbox_template", "t", "pools.NAME.pod"),
        ("sandbox_gateway_name", "g", "address="),
        ("executor_type", "sandbox", "pool='NAME'"),
        ("image", "i:1", "pools.NAME.pod.image"),
        ("cpu_requested", "200m", "pools.NAME.pod.cpus_requested"),
        ("mem_requested", "1Gi", "pools.NAME.pod.memory_requested"),
        ("cpu_limit", "2", "pools.NAME.cpus"),
    ],
)
def test_what_the_server_decides_is_an_error_that_names_its_setting(
    option: str, value: str, setting: str
) -> None:
    with pytest.raises(ValueError, match=option) as caught:
        SandpoolCodeExecutor(**{option: value})
    assert setting in str(caught.value)


def test_kubeconfigs_by_position_are_told_too() -> None:
    with pytest.raises(ValueError, match="kubeconfig_context='c'") as caught:
        SandpoolCodeExecutor("/k", "c")
    assert "kubeconfig_path='/k'" in str(caught.value)


def test_each_setting_that_an_error_names_is_documented() -> None:
    documented = (ROOT / "docs/configuration.md").read_text()
    for text in [*placement.SHAPE.values(), *placement.ELSEWHERE.values()]:
        for word in text.replace(",", " ").split():
            if word.startswith(("pools.", "backend.")) and not word.endswith("..."):
                assert f"`{word.rstrip('.')}`" in documented, word


def test_a_job_without_more_is_what_there_is() -> None:
    assert SandpoolCodeExecutor(executor_type="job", kubeconfig_path=None)._pool() == ""


@pytest.mark.parametrize(
    ("options", "pool"),
    [
        ({}, "usual"),
        ({"image": "python:3.11-slim"}, "slim"),
        ({"image": "python:3.11-slim", "cpu_limit": "2000m"}, "fast"),
        ({"cpu_limit": "2", "mem_requested": "0.5Gi"}, "bare"),
        ({"image": "big:1", "mem_limit": "1G"}, "big"),
        ({"image": "big:1", "mem_limit": "1Gi", "stateful": True}, "kept"),
    ],
)
def test_image_and_resources_choose_a_pool(options: dict[str, Any], pool: str) -> None:
    pools = {
        "python:3.11-slim": "slim",
        "python:3.11-slim cpu_limit=2": "fast",
        "mem_requested=512Mi cpu_limit=2": "bare",
        "big:1": "big",
        "big:1 mem_limit=1024Mi": "kept",
    }
    assert SandpoolCodeExecutor(pool="usual", pools=pools, **options)._pool() == pool


def test_an_error_tells_the_key_that_would_choose_a_pool() -> None:
    options: dict[str, Any] = {"image": "i:1", "cpu_limit": "500m", "mem_requested": "1Gi"}
    with pytest.raises(ValueError, match="no pool is named") as caught:
        SandpoolCodeExecutor(pools={"i:1": "other"}, **options)
    key = "i:1 mem_requested=1Gi cpu_limit=500m"
    assert f"pools={{'{key}': 'NAME'}}" in str(caught.value)
    assert SandpoolCodeExecutor(pools={key: "found"}, **options)._pool() == "found"


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ValueError, match="image='i:1'") as caught:
        SandpoolCodeExecutor(image="i:1", namespace="n", kubeconfig_path="/k")
    assert "namespace='n'" in str(caught.value)
    assert "kubeconfig_path='/k'" in str(caught.value)


@pytest.mark.parametrize("key", ["a b", "i:1 color=red", "cpu_limit=1 cpu_limit=2"])
def test_a_key_that_says_nothing_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="pools: "):
        SandpoolCodeExecutor(image="i:1", pools={key: "p"})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("512Mi", 512 << 20),
        ("1.5Gi", 3 << 29),
        ("1e9", 10**9),
        ("2E", 2 * 10**18),
        ("1Ei", 1 << 60),
        ("128974848000m", 128974848),
        ("5k", 5000),
        ("7", 7),
    ],
)
def test_quantities_are_those_of_kubernetes(text: str, number: int) -> None:
    assert placement.quantity("mem_limit", text) == number


@pytest.mark.parametrize("text", ["", "1KB", "-1", "1 Gi", "many", "1ki", "0x10"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="mem_limit="):
        placement.quantity("mem_limit", text)
