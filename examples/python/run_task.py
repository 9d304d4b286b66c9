#!/usr/bin/env python3
"""Submits a task, follows its output and reads its result, with nothing but grpcio and generated stubs.

From the root of the repository, with a server from `make run`:

    python3 -m venv env && env/bin/pip install -r examples/python/requirements.txt
    mkdir -p stubs
    env/bin/python -m grpc_tools.protoc -I proto --python_out=stubs --grpc_python_out=stubs \
        proto/taskyard/v1/*.proto
    PYTHONPATH=stubs env/bin/python examples/python/run_task.py -- sh -c 'echo hello; exit 3'

Ends with the command's exit code; 125 where Taskyard cannot say how it ended.
"""

import argparse
import json
import sys
import time
import uuid

import grpc

from taskyard.v1 import output_pb2, session_task_pb2
from taskyard.v1 import session_task_service_pb2 as service
from taskyard.v1 import session_task_service_pb2_grpc as service_grpc

# Codes after which the same call may well succeed in a moment.
TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
TRIES = 5
LOST = 125


def main() -> int:
    arguments = parse_arguments()
    with grpc.insecure_channel(arguments.endpoint.removeprefix("http://")) as channel:
        tasks = service_grpc.SessionTaskServiceStub(channel)
        task = submit(tasks, arguments.session, arguments.command)
        follow(tasks, task.id)
        result = read_result(tasks, task.id)
    print("result:", result["state"], result["output"], flush=True)
    exit_code = result["exit"]["exit_code"]
    return LOST if exit_code is None else exit_code


def submit(tasks, session, argv):
    """Creates the task. The request id makes the call safe to repeat: at most one task comes of it."""
    request = service.CreateTaskRequest(
        session_id=session,
        request_id=str(uuid.uuid4()),
        task=service.TaskDefinition(
            spec=session_task_pb2.TaskSpec(command=session_task_pb2.CommandSpec(argv=argv)),
        ),
    )
    return retried(lambda: tasks.CreateTask(request, timeout=30)).task


def follow(tasks, task_id):
    """Copies the output as it comes. A broken stream is resumed where it broke, so no byte is lost or doubled."""
    sinks = {output_pb2.OUTPUT_STREAM_STDOUT: sys.stdout.buffer, output_pb2.OUTPUT_STREAM_STDERR: sys.stderr.buffer}
    offsets = dict.fromkeys(sinks, 0)
    run = 0

    def one_stream():
        nonlocal run
        request = service.TailOutputRequest(
            task=task_id,
            follow=True,
            positions=[output_pb2.OutputPosition(stream=stream, offset=offsets[stream]) for stream in sinks],
        )
        for item in tasks.TailOutput(request):
            match item.WhichOneof("item"):
                case "run_started" if item.run_started.run != run:
                    # Each run has its own output.
                    if run:
                        offsets.update(dict.fromkeys(sinks, 0))
                    run = item.run_started.run
                case "chunk":
                    sink = sinks[item.chunk.stream]
                    sink.write(item.chunk.data)
                    sink.flush()
                    offsets[item.chunk.stream] = item.chunk.offset + len(item.chunk.data)
                case "gap":
                    missing = item.gap.to_offset - item.gap.from_offset
                    print(f"[{missing} bytes were not kept]", file=sys.stderr, flush=True)
                    offsets[item.gap.stream] = item.gap.to_offset
                case "end":
                    return

    retried(one_stream)


def read_result(tasks, task_id):
    """Waits for the end, which comes with the last byte of output or a moment later, and reads result.json."""
    waited = service.WaitTasksRequest(tasks=[service.WaitedTask(task=task_id)])
    while retried(lambda: tasks.WaitTasks(waited, timeout=60)).timed_out:
        pass
    request = service.GetTaskRequest(task=task_id, include_result=True)
    return json.loads(retried(lambda: tasks.GetTask(request, timeout=30)).result_json)


def retried(call):
    for number in range(1, TRIES + 1):
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in TRANSIENT or number == TRIES:
                raise
            time.sleep(0.2 * 2**number)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Run a command as a Taskyard task.")
    parser.add_argument("--endpoint", default="http://127.0.0.1:8275")
    parser.add_argument("--session", default="python")
    parser.add_argument("command", nargs="+", help="the command, after --")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except grpc.RpcError as failure:
        print(f"{failure.code().name}: {failure.details()}", file=sys.stderr)
        sys.exit(LOST)
