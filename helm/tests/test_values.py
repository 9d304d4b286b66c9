"""What single values do, beside those of helm/ci."""

import re
import unittest

import kubernetes_validate
import yaml

from rendered import (
    CHART, MAJORS, OPERATORS, ROOT, containers, environment, helm, merged, objects, of_kind, pod, pods, template, title, values_of,
)


def with_both(values, **other):
    """The objects of each major of helm."""
    for major in MAJORS:
        yield major, template(values, major, **other)


def rendered(base="minimal", **changes):
    return template(merged(values_of(base), changes))


class Documentation(unittest.TestCase):
    def test_every_example_of_values_renders(self):
        page = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
        examples = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)]
        known = set(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))
        values = [one for one in examples if set(one) <= known]
        # the other is a part of auth.yaml
        self.assertEqual([list(one) for one in examples if one not in values], [["certificates"]])
        self.assertGreaterEqual(len(values), 2)
        for one in values:
            for major, documents in with_both(merged(values_of("minimal"), one)):
                for document in documents:
                    if not document["apiVersion"].startswith(OPERATORS):
                        with self.subTest(keys=list(one), major=major, object=title(document)):
                            kubernetes_validate.validate(document, "1.36", strict=True)


class Pools(unittest.TestCase):
    def test_a_pool_changes_parts_of_resources_and_strategy(self):
        pools = {"gpu": {
            "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"cpu": "2"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1}},
        }, "same": {"resources": {}}}
        for _, documents in with_both(merged(values_of("minimal"), {"pools": pools})):
            owner, _, spec = pod(documents, "worker", "gpu")
            self.assertEqual(spec["containers"][0]["resources"], {
                "requests": {"cpu": "2", "memory": "512Mi", "ephemeral-storage": "1Gi"},
                "limits": {"memory": "2Gi", "ephemeral-storage": "12Gi", "nvidia.com/gpu": "1"},
            })
            self.assertEqual(owner["spec"]["strategy"], {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}})
            _, _, same = pod(documents, "worker", "same")
            _, _, default = pod(documents, "worker", "default")
            self.assertEqual(same["containers"][0]["resources"], default["containers"][0]["resources"])

    def test_a_pool_that_is_null_is_none(self):
        values = merged(values_of("insecure"), {"pools": {"default": None, "gpu": None}})
        for _, documents in with_both(values):
            self.assertEqual([labels for _, labels, _ in pods(documents) if labels["app.kubernetes.io/component"] == "worker"], [])
            _, _, spec = pod(documents, "test")
            self.assertEqual(spec["containers"][0]["args"], ["sessions"])

    def test_a_strategy_without_rolling_says_nothing_of_it(self):
        values = merged(values_of("minimal"), {
            "server": {"strategy": {"type": "Recreate"}}, "pools": {"default": {"strategy": {"type": "Recreate"}}},
        })
        for _, documents in with_both(values):
            for deployment in of_kind(documents, "Deployment"):
                self.assertEqual(deployment["spec"]["strategy"], {"type": "Recreate"})

    def test_an_image_falls_back_part_by_part(self):
        digest = "sha256:" + "c" * 64
        worker = {"repository": "mirror.example/worker", "tag": "2.0", "digest": "sha256:" + "d" * 64}
        for image, expected in (
            ({}, "mirror.example/worker@" + worker["digest"]),
            ({"tag": "3.0"}, "mirror.example/worker:3.0"),
            ({"digest": digest}, "mirror.example/worker@" + digest),
            # of another repository, the tag is not that of the workers' image
            ({"repository": "tools"}, "tools:0.1.0"),
            ({"repository": "tools", "tag": "4"}, "tools:4"),
        ):
            _, _, spec = pod(rendered(image={"worker": worker}, pools={"default": {"image": image}}), "worker")
            self.assertEqual(spec["containers"][0]["image"], expected)

    def test_arguments_are_words_whatever_stands_in_them(self):
        pools = {"default": {
            "queues": ["default", "odd:"], "isolation": {"paths": ["/a b #c", "/d: e:"]}, "secretDirs": ["/run/x y: z"],
        }}
        for _, documents in with_both(merged(values_of("minimal"), {"pools": pools})):
            _, _, spec = pod(documents, "worker")
            for expected in ("--queues=default,odd:", "--isolation-paths=/a b #c,/d: e:", "--secret-dir=/run/x y: z"):
                self.assertIn(expected, spec["containers"][0]["args"])

    def test_the_test_runs_a_task_only_where_a_pool_takes_it(self):
        for kinds, expected in (([], "run"), (["command", "monitor"], "run"), (["monitor"], "sessions")):
            _, _, spec = pod(rendered("insecure", pools={"default": {"kinds": kinds}}), "test")
            self.assertEqual(spec["containers"][0]["args"][0], expected)

    def test_the_test_ends_before_its_pod_is_ended(self):
        _, _, spec = pod(rendered("insecure", test={"timeoutSeconds": 30}), "test")
        words = dict(word.split("=") for word in spec["containers"][0]["args"] if "=" in word)
        spent = sum(int(words[flag].removesuffix("s")) for flag in ("--start-deadline", "--timeout"))
        self.assertLess(spent, spec["activeDeadlineSeconds"])


class Keda(unittest.TestCase):
    def test_a_pool_wakes_for_restricted_tasks_where_its_workers_may_run_them(self):
        plain = "pool=default,taskyard.dev/pool=default"
        restricted = plain + ",taskyard.dev/isolation=restricted"
        for isolation, expected in (
            # with Landlock, or without it: the node decides
            ({}, [plain, restricted]),
            ({"max": "restricted"}, [plain, restricted]),
            ({"min": "restricted"}, [restricted]),
            ({"max": "none"}, [plain]),
        ):
            scaled, = of_kind(rendered("keda-insecure", pools={"default": {"isolation": isolation}}), "ScaledObject")
            self.assertEqual([one["metadata"]["labels"] for one in scaled["spec"]["triggers"]], expected)


class Names(unittest.TestCase):
    """Words that YAML takes for something else, and long ones."""

    def test_what_looks_like_a_number_or_a_truth_stays_a_name(self):
        changes = {
            "fullnameOverride": "true", "nameOverride": "on",
            "database": {"existingSecret": "1", "key": "2", "ca": {"existingSecret": "10", "key": "0"}},
            "auth": {"file": {"existingSecret": "3", "key": "4"}},
            "tls": {"existingSecret": "5", "clientAuth": "optional", "ca": {"existingSecret": "6", "key": "7"}},
            "secretKeys": {"existingSecret": "8", "key": "9"},
            "objectStore": {"url": "s3://x", "existingSecret": "11"},
            "telemetry": {"otlpEndpoint": "http://c:4317", "headersSecret": "12"},
            "server": {"priorityClassName": "1", "runtimeClassName": "2", "serviceAccount": {"name": "3"}},
            "migrations": {"serviceAccountName": "4"},
            "workerServiceAccount": {"name": "5"},
            "poolDefaults": {"token": {"existingSecret": "13", "key": "14"}, "clientCertificate": {"existingSecret": "15"}},
            "pools": {"1": {}, "true": {}, "on": {"serviceAccountName": "6"}, "null": {}, "0x1f": {}},
            "test": {"token": {"existingSecret": "16", "key": "17"}, "clientCertificate": {"existingSecret": "18"}},
            "monitoring": {"serviceMonitor": {"enabled": True}},
        }
        for release in ("123", "true"):
            for major, documents in with_both(merged(values_of("minimal"), changes), release=release, namespace="123"):
                for document in documents:
                    with self.subTest(major=major, release=release, object=title(document)):
                        self.assertIsInstance(document["metadata"]["name"], str)
                        self.assertEqual(document["metadata"]["namespace"], "123")
                        self.assertEqual(document["metadata"]["labels"]["app.kubernetes.io/instance"], release)
                        if not document["apiVersion"].startswith(OPERATORS):
                            kubernetes_validate.validate(document, "1.36", strict=True)
                _, _, spec = pod(documents, "worker", "0x1f")
                self.assertEqual(environment(spec["containers"][0])["TASKYARD_WORKER_POOL"]["value"], "0x1f")
                for monitor in of_kind(documents, "ServiceMonitor", "PodMonitor"):
                    self.assertEqual(monitor["spec"]["namespaceSelector"], {"matchNames": ["123"]})

    def test_a_long_release_name_is_cut_and_stays_unique(self):
        begins = set()
        for release in ("a-release-name-that-is-rather-long", "a-release-name-that-is-rather-longer", "x" * 53):
            for _, documents in with_both(values_of("minimal"), release=release):
                service = next(one for one in of_kind(documents, "Service") if one["spec"].get("clusterIP") != "None")
                begins.add(service["metadata"]["name"].removesuffix("-server"))
                for document in documents:
                    self.assertLessEqual(len(document["metadata"]["name"]), 63)
                    self.assertTrue(document["metadata"]["name"].startswith(service["metadata"]["name"].removesuffix("-server")))
        self.assertEqual(len(begins), 3)
        self.assertEqual({len(name) <= 30 for name in begins}, {True})

    def test_a_release_name_that_makes_no_name_of_a_service_is_refused(self):
        for release in ("1-rel", "123", "a.b"):
            for major in MAJORS:
                done = helm(major, "template", release, CHART, values=values_of("minimal"))
                self.assertNotEqual(done.returncode, 0, release)
                self.assertIn("set fullnameOverride", done.stderr)


class Variables(unittest.TestCase):
    def test_given_variables_take_the_place_of_the_charts_own(self):
        values = merged(values_of("full"), {
            "telemetry": {"env": {"OTEL_SERVICE_NAME": "mine", "OTEL_RESOURCE_ATTRIBUTES": "team=a,note=b: c"}},
            "server": {"extraEnv": [
                {"name": "TASKYARD_LOG", "value": "trace"}, {"name": "OTEL_SERVICE_NAME", "value": "last"},
                {"name": "PASSWORD_OF_IT", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "TASKYARD_DATABASE_URL", "value": "postgres://u:$(PASSWORD_OF_IT)@h/d"},
                {"name": "POD_NAME", "value": "other"},
            ]},
            "poolDefaults": {"extraEnv": [{"name": "TASKYARD_LOG", "value": "debug"}, {"name": "MINE", "value": "1"}]},
        })
        for _, documents in with_both(values):
            for component, pool in (("server", None), ("worker", "default")):
                _, _, spec = pod(documents, component, pool)
                for container in containers(spec):
                    names = [variable["name"] for variable in container["env"]]
                    self.assertEqual(len(names), len(set(names)), names)
                    for variable in container["env"]:
                        for named in re.findall(r"\$\((\w+)\)", variable.get("value", "")):
                            self.assertLess(names.index(named), names.index(variable["name"]))
            server = environment(pod(documents, "server")[2]["containers"][0])
            self.assertEqual(server["TASKYARD_LOG"]["value"], "trace")
            self.assertEqual(server["OTEL_SERVICE_NAME"]["value"], "last")
            self.assertEqual(server["TASKYARD_DATABASE_URL"]["value"], "postgres://u:$(PASSWORD_OF_IT)@h/d")
            self.assertEqual(server["POD_NAME"], {"name": "POD_NAME", "value": "other"})
            worker = environment(pod(documents, "worker", "default")[2]["containers"][0])
            self.assertEqual(worker["TASKYARD_LOG"]["value"], "debug")
            self.assertEqual(worker["OTEL_SERVICE_NAME"]["value"], "mine")
            self.assertEqual(worker["MINE"]["value"], "1")
            attributes = worker["OTEL_RESOURCE_ATTRIBUTES"]["value"]
            self.assertTrue(attributes.endswith(",team=a,note=b: c"), attributes)
            self.assertIn("k8s.namespace.name=tenant", attributes)

    def test_resource_attributes_without_a_collector_are_as_given(self):
        _, _, spec = pod(rendered(telemetry={"env": {"OTEL_RESOURCE_ATTRIBUTES": "team=a"}}), "server")
        self.assertEqual(environment(spec["containers"][0])["OTEL_RESOURCE_ATTRIBUTES"]["value"], "team=a")


class Database(unittest.TestCase):
    def test_the_authority_of_the_database_is_there_for_servers_and_migrations(self):
        for mode, component in (("hook", "migrate"), ("initContainer", "server")):
            values = merged(values_of("minimal"), {
                "database": {"ca": {"existingSecret": "database-ca", "key": "bundle.pem"}}, "migrations": {"mode": mode},
            })
            for _, documents in with_both(values):
                for one in {component, "server"}:
                    _, _, spec = pod(documents, one)
                    volume = next(volume for volume in spec["volumes"] if volume["name"] == "database-ca")
                    self.assertEqual(volume["secret"]["secretName"], "database-ca")
                    self.assertEqual(volume["secret"]["items"], [{"key": "bundle.pem", "path": "ca.crt"}])
                    for container in containers(spec):
                        mount = next(mount for mount in container["volumeMounts"] if mount["name"] == "database-ca")
                        variables = environment(container)
                        self.assertEqual(variables["PGSSLROOTCERT"]["value"], mount["mountPath"] + "/ca.crt")
                        self.assertEqual(variables["PGSSLMODE"]["value"], "verify-full")
        for _, _, spec in pods(objects("minimal")):
            for container in containers(spec):
                self.assertNotIn("PGSSLMODE", environment(container))


class Metadata(unittest.TestCase):
    def test_pods_of_hooks_have_their_labels_and_annotations(self):
        own = {"podAnnotations": {"sidecar.istio.io/inject": "false"}, "podLabels": {"mesh": "none"}}
        documents = rendered("insecure", migrations=own, test=own)
        job, = of_kind(documents, "Job")
        test, = of_kind(documents, "Pod")
        for made in (job["spec"]["template"], test):
            self.assertEqual(made["metadata"]["annotations"]["sidecar.istio.io/inject"], "false")
            self.assertEqual(made["metadata"]["labels"]["mesh"], "none")
        self.assertEqual(test["metadata"]["annotations"]["helm.sh/hook"], "test")

    def test_labels_of_one_object_win_over_common_ones(self):
        changes = {
            "commonLabels": {"team": "a"}, "server": {"podLabels": {"team": "b"}},
            "monitoring": {"serviceMonitor": {"enabled": True, "labels": {"team": "c"}}},
        }
        for major in MAJORS:
            done = helm(major, "template", "release", CHART, "--kube-version", "1.36.0", values=merged(values_of("minimal"), changes))
            self.assertEqual(done.returncode, 0, done.stderr)
            for block in done.stdout.split("\n---\n"):
                for map_of in re.findall(r"labels:\n((?: +[\w./-]+: .*\n)+)", block):
                    keys = [line.split(":")[0].strip() for line in map_of.splitlines()]
                    self.assertEqual(keys.count("team"), 1, map_of)
        documents = rendered(**changes)
        self.assertEqual(pod(documents, "server")[1]["team"], "b")
        self.assertEqual(pod(documents, "worker")[1]["team"], "a")
        self.assertEqual(of_kind(documents, "ServiceMonitor")[0]["metadata"]["labels"]["team"], "c")

    def test_a_service_is_exposed_as_it_is_asked_for(self):
        service = {
            "type": "LoadBalancer", "ipFamilyPolicy": "PreferDualStack", "externalTrafficPolicy": "Local",
            "loadBalancerClass": "example.com/internal", "loadBalancerSourceRanges": ["10.0.0.0/8", "fd00::/8"],
        }
        for _, documents in with_both(merged(values_of("minimal"), {"server": {"service": service}})):
            made = {one["metadata"]["name"]: one for one in of_kind(documents, "Service")}
            spec = made["release-taskyard-server"]["spec"]
            self.assertEqual({key: spec[key] for key in service}, service)
            headless = made["release-taskyard-server-headless"]["spec"]
            self.assertEqual(headless["ipFamilyPolicy"], "PreferDualStack")
            self.assertNotIn("externalTrafficPolicy", headless)
            for one in made.values():
                kubernetes_validate.validate(one, "1.30", strict=True)
