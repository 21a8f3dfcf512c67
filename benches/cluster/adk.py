"""How long google-adk's GkeCodeExecutor takes for a program: prints milliseconds, one a line.

usage: adk.py NAMESPACE IMAGE PROGRAM COUNT   (KUBECONFIG names the cluster)
"""

import os
import sys
import time
from types import SimpleNamespace

from google.adk.code_executors.code_execution_utils import CodeExecutionInput
from google.adk.code_executors.gke_code_executor import GkeCodeExecutor

namespace, image, program, count = sys.argv[1:]
executor = GkeCodeExecutor(
    kubeconfig_path=os.environ["KUBECONFIG"], namespace=namespace, image=image
)
# All that it reads of it.
context = SimpleNamespace(invocation_id="bench")
for _ in range(int(count)):
    began = time.monotonic()
    result = executor.execute_code(context, CodeExecutionInput(code=program))
    took = time.monotonic() - began
    assert result.stdout == "1\n", result
    print(took * 1000, flush=True)
