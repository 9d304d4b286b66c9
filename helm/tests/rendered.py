"""The chart as helm renders it. `scripts/chart` renders every values file of helm/ci with both majors beforehand."""

import copy
import functools
import os
import pathlib
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "helm/taskyard"
CI = ROOT / "helm/ci"
MAJORS = ("helm3", "helm4")
CASES = sorted(path.stem for path in CI.glob("*.yaml"))
# What the cluster itself knows; other kinds belong to operators and have no schema here.
OPERATORS = ("cert-manager.io/", "keda.sh/", "monitoring.coreos.com/")


@functools.lru_cache(maxsize=None)
def objects(case, major="helm4"):
    """The objects of one values file, in the order in which helm printed them."""
    path = pathlib.Path(os.environ["CHART_RENDERED"]) / major / f"{case}.yaml"
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def helm(major, *arguments, values=None):
    """Runs helm; `values` are given on standard input."""
    program = pathlib.Path(os.environ["CHART_TOOLS"]) / major
    extra = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [program, *map(str, arguments), *extra],
        input=None if values is None else yaml.safe_dump(values), capture_output=True, text=True, timeout=60, check=False,
    )


def template(values, major="helm4", chart=CHART, release="release", namespace="tenant"):
    """The objects of values that are given as a map."""
    done = helm(major, "template", release, chart, "--namespace", namespace, "--kube-version", "1.36.0", values=values)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def values_of(case):
    return yaml.safe_load((CI / f"{case}.yaml").read_text(encoding="utf-8"))


def merged(base, changes):
    """A map with others put into it, as helm merges values."""
    whole = copy.deepcopy(base)
    for key, value in changes.items():
        both_are_maps = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = merged(whole[key], value) if both_are_maps else value
    return whole


def of_kind(documents, *kinds):
    return [document for document in documents if document["kind"] in kinds]


def title(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def pods(documents):
    """Owner, labels and spec of every pod that the objects make."""
    for document in documents:
        if document["kind"] == "Pod":
            yield document, document["metadata"].get("labels", {}), document["spec"]
        elif document["kind"] in ("Deployment", "StatefulSet", "Job"):
            made = document["spec"]["template"]
            yield document, made["metadata"].get("labels", {}), made["spec"]


def pod(documents, component, pool=None):
    """The one pod of a component."""
    found = [
        (owner, labels, spec) for owner, labels, spec in pods(documents)
        if labels["app.kubernetes.io/component"] == component and (pool is None or labels.get("taskyard.dev/pool") == pool)
    ]
    assert len(found) == 1, f"{len(found)} pods of {component}"
    return found[0]


def containers(spec):
    return spec.get("initContainers", []) + spec["containers"]


def environment(container):
    return {variable["name"]: variable for variable in container.get("env", [])}


def selects(selector, labels):
    assert "matchExpressions" not in (selector or {}), "not understood here"
    return all(labels.get(key) == value for key, value in (selector or {}).get("matchLabels", {}).items())
