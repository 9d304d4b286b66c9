"""Writes what a rendering says of its pods into files that a shell can read: rendering FOLDER.

For each component a folder with `args` and `env`, of entries that end with NUL, and `mounts`, lines of path in the
container, Secret and key. Values that come from a Secret stand in `env` as NAME=@SECRET/KEY.
"""

import pathlib
import sys

import yaml


def main(rendering, folder):
    for document in yaml.safe_load_all(pathlib.Path(rendering).read_text(encoding="utf-8")):
        spec = (document or {}).get("spec", {})
        if not document or document["kind"] not in ("Deployment", "Job", "Pod"):
            continue
        pod = spec if document["kind"] == "Pod" else spec["template"]["spec"]
        write(pathlib.Path(folder) / document["metadata"]["labels"]["app.kubernetes.io/component"], pod)


def write(folder, pod):
    container, = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    folder.mkdir(parents=True)
    (folder / "args").write_text("".join(f"{word}\0" for word in container["args"]), encoding="utf-8")
    (folder / "env").write_text("".join(f"{variable}\0" for variable in map(text_of, container["env"])), encoding="utf-8")
    lines = [
        f"{mount['mountPath']}/{item['path']} {volumes[mount['name']]['secret']['secretName']} {item['key']}\n"
        for mount in container["volumeMounts"] if "secret" in volumes[mount["name"]]
        for item in volumes[mount["name"]]["secret"]["items"]
    ]
    (folder / "mounts").write_text("".join(lines), encoding="utf-8")


def text_of(variable):
    if "value" in variable:
        return f"{variable['name']}={variable['value']}"
    reference = variable["valueFrom"]["secretKeyRef"]
    return f"{variable['name']}=@{reference['name']}/{reference['key']}"


main(*sys.argv[1:])
