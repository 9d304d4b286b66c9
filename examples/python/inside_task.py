#!/usr/bin/env python3
"""What runs inside a task speaks for it: reports progress, starts a task below itself and awaits it.

With the stubs of run_task.py, run as a task:

    taskyard run --env PYTHONPATH=$PWD/stubs -- env/bin/python examples/python/inside_task.py
"""

import os
import sys

import grpc

from taskyard.v1 import session_task_pb2
from taskyard.v1 import session_task_service_pb2 as service
from taskyard.v1 import session_task_service_pb2_grpc as service_grpc
from taskyard.v1 import task_agent_service_pb2 as agent_service
from taskyard.v1 import task_agent_service_pb2_grpc as agent_grpc

# grpcio makes an authority of the socket's path that no HTTP/2 server may accept, so it is told another one.
OPTIONS = [("grpc.default_authority", "localhost")]


def main() -> int:
    socket = os.environ.get("TASKYARD_SOCKET")
    if not socket:
        print("not inside a task: $TASKYARD_SOCKET is not set", file=sys.stderr)
        return 2
    with grpc.insecure_channel(f"unix:{socket}", options=OPTIONS) as channel:
        agent = agent_grpc.TaskAgentServiceStub(channel)
        tasks = service_grpc.SessionTaskServiceStub(channel)
        myself = agent.GetSelf(agent_service.GetSelfRequest(), timeout=30).task
        print(f"t{myself.ordinal} of {myself.session_id}", flush=True)
        progress = session_task_pb2.Progress(current=0, total=1, label="waiting for a child")
        agent.ReportProgress(agent_service.ReportProgressRequest(progress=progress), timeout=30)
        child = start_child(tasks, ["sh", "-c", "exit 3"])
        print("the child ended with", exit_code(tasks, child), flush=True)
    return 0


def start_child(tasks, argv):
    """Starts a task below this one; on a later run the key finds the same child again."""
    spec = session_task_pb2.TaskSpec(command=session_task_pb2.CommandSpec(argv=argv))
    request = service.CreateTaskRequest(task=service.TaskDefinition(spec=spec, key="child"))
    return tasks.CreateTask(request, timeout=30).task.id


def exit_code(tasks, task_id):
    """Waits for the end of a task; this one gives its slot back meanwhile."""
    waited = service.WaitTasksRequest(tasks=[service.WaitedTask(task=task_id)])
    while True:
        answer = tasks.WaitTasks(waited, timeout=60)
        if not answer.timed_out:
            return answer.tasks[0].exit.exit_code


if __name__ == "__main__":
    sys.exit(main())
