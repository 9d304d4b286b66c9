"""What every rendering of the chart promises."""

import collections
import re
import unittest

from rendered import (
    CASES, CHART, MAJORS, containers, environment, helm, objects, of_kind, pod, pods, selects, template, title, values_of,
)

SECRET_WORDS = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|DATABASE_URL|HEADERS")


def each_rendering(check):
    def test(self):
        for case in CASES:
            with self.subTest(case=case):
                check(self, case, objects(case))
    return test


def each_pod(check):
    def test(self):
        for case in CASES:
            for owner, labels, spec in pods(objects(case)):
                with self.subTest(case=case, pod=title(owner)):
                    check(self, objects(case), owner, labels, spec)
    return test


class EveryRendering(unittest.TestCase):
    def test_both_majors_of_helm_make_the_same_objects(self):
        for case in CASES:
            by_major = [{title(document): document for document in objects(case, major)} for major in MAJORS]
            for one in by_major:
                drawn = one.get("Secret/release-taskyard-postgres")
                if drawn:
                    drawn["data"] = "drawn anew by each run"
            with self.subTest(case=case):
                self.assertEqual(by_major[0], by_major[1])

    @each_rendering
    def test_names_are_unique_and_short_enough(self, _case, documents):
        counts = collections.Counter(title(document) for document in documents)
        self.assertEqual([name for name, count in counts.items() if count > 1], [])
        for document in documents:
            self.assertLessEqual(len(document["metadata"]["name"]), 63)

    @each_rendering
    def test_every_object_names_its_release_and_namespace(self, _case, documents):
        for document in documents:
            labels = document["metadata"].get("labels")
            if labels is not None:  # extra objects are as they were given
                self.assertEqual(labels["app.kubernetes.io/instance"], "release", title(document))
                self.assertEqual(document["metadata"]["namespace"], "tenant", title(document))

    @each_pod
    def test_pods_are_restricted(self, _documents, _owner, labels, spec):
        self.assertIs(spec["securityContext"]["runAsNonRoot"], True)
        self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertIs(spec["automountServiceAccountToken"], False)
        self.assertIs(spec["enableServiceLinks"], False)
        for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
            self.assertNotIn(forbidden, spec)
        # one container each, so it is shared with nobody but the pod's own first process
        is_worker = labels["app.kubernetes.io/component"] == "worker"
        self.assertEqual((spec.get("shareProcessNamespace", False), len(spec["containers"])), (is_worker, 1))
        for container in containers(spec):
            context = container["securityContext"]
            self.assertIs(context["allowPrivilegeEscalation"], False)
            self.assertIs(context["readOnlyRootFilesystem"], True)
            self.assertIs(context["runAsNonRoot"], True)
            self.assertIs(context["privileged"], False)
            self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
            self.assertNotIn("hostPort", str(container.get("ports")))

    @each_pod
    def test_containers_have_an_image_requests_and_a_limit_of_memory(self, _documents, _owner, _labels, spec):
        for container in containers(spec):
            self.assertRegex(container["image"], r"^[\w./-]+(:[\w.-]+|@sha256:[0-9a-f]{64})$")
            self.assertNotRegex(container["image"], r":latest$")
            self.assertLessEqual({"cpu", "memory"}, set(container["resources"]["requests"]))
            self.assertIn("memory", container["resources"]["limits"])

    @each_pod
    def test_what_runs_on_has_all_three_probes_on_ports_that_it_has(self, _documents, owner, _labels, spec):
        if owner["kind"] in ("Job", "Pod"):
            return
        for container in spec["containers"]:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                named = container[probe].get("httpGet") or container[probe].get("tcpSocket")
                if named:
                    self.assertIn(named["port"], ports)

    @each_pod
    def test_volumes_are_bounded_there_and_used(self, _documents, owner, _labels, spec):
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        self.assertEqual(len(volumes), len(spec.get("volumes", [])))
        mounted = {mount["name"] for container in containers(spec) for mount in container.get("volumeMounts", [])}
        claimed = {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
        self.assertEqual(mounted, set(volumes) | claimed)
        for volume in volumes.values():
            self.assertNotIn("hostPath", volume)
            if "emptyDir" in volume:
                self.assertIn("sizeLimit", volume["emptyDir"], volume["name"])
        for container in containers(spec):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            self.assertEqual(len(paths), len(set(paths)))

    @each_pod
    def test_variables_are_named_once_and_their_sources_have_names(self, _documents, _owner, _labels, spec):
        for container in containers(spec):
            names = [variable["name"] for variable in container.get("env", [])]
            self.assertEqual(len(names), len(set(names)), names)
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference is not None:
                    self.assertTrue(reference["name"] and reference["key"], variable)

    @each_pod
    def test_variables_are_defined_before_they_are_referred_to(self, _documents, _owner, _labels, spec):
        for container in containers(spec):
            defined = set()
            for variable in container.get("env", []):
                for name in re.findall(r"\$\((\w+)\)", variable.get("value", "")):
                    self.assertIn(name, defined, variable)
                defined.add(variable["name"])

    @each_rendering
    def test_secrets_are_referred_to_and_never_made(self, case, documents):
        secrets = [title(document) for document in of_kind(documents, "Secret")]
        is_drawn = case == "bundled-postgres"
        self.assertEqual(secrets, ["Secret/release-taskyard-postgres"] if is_drawn else [])

    @each_pod
    def test_no_variable_holds_a_secret(self, _documents, _owner, _labels, spec):
        for container in containers(spec):
            for name, variable in environment(container).items():
                value = variable.get("value", "")
                is_reference = value.startswith("/") or "$(" in value
                self.assertFalse(SECRET_WORDS.search(name) and value and not is_reference, f"{name} holds a value")

    @each_rendering
    def test_selectors_find_exactly_their_own_pods(self, _case, documents):
        made = [(title(owner), labels) for owner, labels, _ in pods(documents)]
        for document in of_kind(documents, "Deployment", "StatefulSet"):
            found = [name for name, labels in made if selects(document["spec"]["selector"], labels)]
            self.assertEqual(found, [title(document)])
        for document in of_kind(documents, "Service"):
            found = [name for name, labels in made if selects({"matchLabels": document["spec"]["selector"]}, labels)]
            self.assertEqual(len(found), 1, title(document))
            _, _, spec = next(entry for entry in pods(documents) if title(entry[0]) == found[0])
            ports = {port["name"] for port in spec["containers"][0]["ports"]}
            self.assertLessEqual({port["targetPort"] for port in document["spec"]["ports"]}, ports)
        for document in of_kind(documents, "PodDisruptionBudget"):
            found = [name for name, labels in made if selects(document["spec"]["selector"], labels)]
            self.assertEqual(found, [f"Deployment/{document['metadata']['name']}"])
        for document in of_kind(documents, "ServiceMonitor"):
            services = of_kind(documents, "Service")
            found = [entry for entry in services if selects(document["spec"]["selector"], entry["metadata"]["labels"])]
            self.assertEqual(len(found), 1)
            self.assertIn("admin", {port["name"] for port in found[0]["spec"]["ports"]})
        for document in of_kind(documents, "PodMonitor"):
            found = {name for name, labels in made if selects(document["spec"]["selector"], labels)}
            workers = {name for name, labels in made if labels["app.kubernetes.io/component"] == "worker"}
            self.assertEqual(found, workers)

    @each_rendering
    def test_what_something_else_scales_has_no_replicas(self, case, documents):
        scaled = {
            document["spec"]["scaleTargetRef"]["name"]
            for document in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject")
        }
        deployments = {document["metadata"]["name"]: document for document in of_kind(documents, "Deployment")}
        self.assertLessEqual(scaled, set(deployments))
        left_out = {name for name, document in deployments.items() if "replicas" not in document["spec"]}
        outside = {
            "hpa": {"release-taskyard-worker-elsewhere"}, "keda-insecure": {"release-taskyard-server"},
        }.get(case, set())
        self.assertEqual(left_out, scaled | outside)

    @each_pod
    def test_accounts_exist_where_the_chart_makes_them(self, documents, _owner, _labels, spec):
        made = {document["metadata"]["name"] for document in of_kind(documents, "ServiceAccount")}
        given = {"default", "migrator", "sandbox"}  # by the cluster, and by full.yaml
        self.assertIn(spec["serviceAccountName"], made | given)

    @each_pod
    def test_graces_are_longer_than_what_they_wait_for(self, _documents, _owner, labels, spec):
        component = labels["app.kubernetes.io/component"]
        if component == "server":
            lifecycle = spec["containers"][0].get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})
            self.assertGreater(spec["terminationGracePeriodSeconds"], lifecycle["preStop"]["sleep"]["seconds"] + 20)
        if component == "worker":
            drain = next(word for word in spec["containers"][0]["args"] if word.startswith("--drain-grace="))
            seconds = int(drain.removeprefix("--drain-grace=").removesuffix("s"))
            self.assertGreaterEqual(spec["terminationGracePeriodSeconds"], seconds + 10)


class OneRendering(unittest.TestCase):
    def test_no_authentication_is_only_there_where_it_was_asked_for(self):
        for case in CASES:
            _, _, spec = pod(objects(case), "server")
            asked = values_of(case).get("auth", {}).get("insecure", False)
            with self.subTest(case=case):
                self.assertEqual("--insecure-listen" in spec["containers"][0]["args"], asked)
                has_tls = "TASKYARD_TLS_CERT" in environment(spec["containers"][0])
                is_plain = not asked and not has_tls
                self.assertEqual("--plaintext-listen" in spec["containers"][0]["args"], is_plain)

    def test_a_changed_key_set_replaces_the_servers(self):
        values = values_of("init-migrations")
        _, _, before = pod(objects("init-migrations"), "server")
        values["auth"]["jwt"]["jwks"] = '{"keys": []}'
        sums = []
        for documents in (objects("init-migrations"), template(values)):
            owner, _, _ = pod(documents, "server")
            sums.append(owner["spec"]["template"]["metadata"]["annotations"]["checksum/jwks"])
        self.assertNotEqual(*sums)
        mounted = {mount["name"] for mount in before["containers"][0]["volumeMounts"]}
        self.assertIn("jwks", mounted)

    def test_the_authority_of_the_key_set_is_mounted_from_where_it_is(self):
        for kind, source, name in (("existingSecret", "secret", "secretName"), ("existingConfigMap", "configMap", "name")):
            values = values_of("full")
            values["auth"]["jwt"]["ca"] = {kind: "private", "key": "root.pem"}
            _, _, spec = pod(template(values), "server")
            server = spec["containers"][0]
            (mount,) = (mount for mount in server["volumeMounts"] if mount["name"] == "jwks-ca")
            (volume,) = (volume for volume in spec["volumes"] if volume["name"] == "jwks-ca")
            with self.subTest(kind=kind):
                self.assertEqual(environment(server)["TASKYARD_AUTH_JWKS_CA"]["value"], mount["mountPath"] + "/ca.crt")
                self.assertEqual(volume[source][name], "private")
                self.assertEqual(volume[source]["items"], [{"key": "root.pem", "path": "ca.crt"}])
        _, _, spec = pod(objects("keda"), "server")
        self.assertNotIn("TASKYARD_AUTH_JWKS_CA", environment(spec["containers"][0]))

    def test_another_version_of_the_chart_alone_changes_no_pod(self):
        for owner, labels, _ in pods(objects("full")):
            if owner["kind"] == "Deployment":
                self.assertNotIn("helm.sh/chart", labels)
                self.assertNotIn("app.kubernetes.io/version", labels)

    def test_migrations_are_a_hook_before_install_and_upgrade(self):
        job, = of_kind(objects("minimal"), "Job")
        self.assertEqual(job["metadata"]["annotations"]["helm.sh/hook"], "pre-install,pre-upgrade")
        self.assertEqual(job["spec"]["backoffLimit"], 3)
        self.assertEqual(job["spec"]["activeDeadlineSeconds"], 600)
        # what it needs is there before: nothing of the release but what is a hook itself
        self.assertEqual(job["spec"]["template"]["spec"]["serviceAccountName"], "default")
        policy = next(one for one in of_kind(objects("minimal"), "NetworkPolicy") if one["metadata"]["name"].endswith("-migrate"))
        self.assertIn("helm.sh/hook", policy["metadata"]["annotations"])
        self.assertLess(
            int(policy["metadata"]["annotations"]["helm.sh/hook-weight"]), int(job["metadata"]["annotations"]["helm.sh/hook-weight"]),
        )

    def test_migrations_in_an_init_container_make_no_job(self):
        for case in ("init-migrations", "bundled-postgres"):
            self.assertEqual(of_kind(objects(case), "Job"), [])
            _, _, spec = pod(objects(case), "server")
            self.assertEqual([container["args"] for container in spec["initContainers"]], [["migrate"]])
            self.assertIn("TASKYARD_DATABASE_URL", environment(spec["initContainers"][0]))

    def test_a_digest_wins_over_a_tag_and_a_pool_over_the_rest(self):
        documents = objects("full")
        images = {
            labels.get("taskyard.dev/pool", labels["app.kubernetes.io/component"]): spec["containers"][0]["image"]
            for _, labels, spec in pods(documents)
        }
        self.assertEqual(images["server"], "taskyard/server@sha256:" + "a" * 64)
        self.assertEqual(images["test"], images["server"])
        self.assertEqual(images["default"], "mirror.example/taskyard/worker:1.2.3")
        self.assertEqual(images["sandboxed"], "mirror.example/tools@sha256:" + "b" * 64)

    def test_a_pool_has_what_it_says_and_the_defaults_for_the_rest(self):
        _, labels, spec = pod(objects("full"), "worker", "sandboxed")
        arguments = spec["containers"][0]["args"]
        for expected in (
            "--slots=4", "--queues=untrusted,web", "--kinds=command", "--labels=pool=sandboxed,tier=sandbox,zone=a",
            "--isolation-min=restricted", "--isolation-max=restricted", "--isolation-paths=/data", "--secret-env=CI_*",
            "--secret-dir=/run/secrets", "--drain-grace=3600s", "--cgroup=auto",
        ):
            self.assertIn(expected, arguments)
        self.assertEqual(labels["taskyard.dev/pool"], "sandboxed")
        self.assertEqual(spec["runtimeClassName"], "gvisor")
        self.assertIs(spec["hostUsers"], False)
        self.assertEqual(spec["terminationGracePeriodSeconds"], 3630)
        _, _, other = pod(objects("full"), "worker", "default")
        self.assertNotIn("runtimeClassName", other)
        self.assertEqual(other["terminationGracePeriodSeconds"], 330)

    def test_keda_is_told_of_a_pool_what_its_workers_announce(self):
        documents = objects("keda")
        scaled = {one["metadata"]["labels"]["taskyard.dev/pool"]: one["spec"] for one in of_kind(documents, "ScaledObject")}
        trigger, = scaled["gpu"]["triggers"]
        self.assertEqual(trigger["type"], "external-push")
        self.assertEqual(trigger["metadata"], {
            "scalerAddress": "release-taskyard-server.tenant.svc:8275", "queues": "slow,batch", "kinds": "command,subagent",
            "labels": "gpu=a100,pool=gpu,taskyard.dev/pool=gpu,taskyard.dev/isolation=restricted", "targetPerReplica": "1",
        })
        _, _, spec = pod(documents, "worker", "gpu")
        self.assertIn("--labels=gpu=a100,pool=gpu", spec["containers"][0]["args"])
        self.assertEqual(scaled["default"]["triggers"][0]["metadata"]["targetPerReplica"], "8")
        self.assertEqual(scaled["default"]["minReplicaCount"], 0)
        authentication, = of_kind(documents, "TriggerAuthentication")
        parameters = {one["parameter"] for one in authentication["spec"]["secretTargetRef"]}
        self.assertEqual(parameters, {"caCert", "tlsClientCert", "tlsClientKey"})
        self.assertEqual(trigger["authenticationRef"]["name"], authentication["metadata"]["name"])
        self.assertEqual(of_kind(objects("keda-insecure"), "TriggerAuthentication"), [])

    def test_every_certificate_that_is_used_is_made_or_given(self):
        documents = objects("mtls")
        made = {one["spec"]["secretName"] for one in of_kind(documents, "Certificate")}
        given = {"outside-certificate", "callers-ca", "taskyard-auth"}
        used = set()
        for _, _, spec in pods(documents):
            used |= {volume["secret"]["secretName"] for volume in spec.get("volumes", []) if "secret" in volume}
        self.assertLessEqual(used, made | given)
        self.assertLessEqual(made, used)
        server = next(one for one in of_kind(documents, "Certificate") if one["spec"]["usages"] == ["server auth"])
        self.assertIn("release-taskyard-server.tenant.svc", server["spec"]["dnsNames"])
        callers = {tuple(one["spec"]["dnsNames"]) for one in of_kind(documents, "Certificate") if one is not server}
        self.assertEqual(callers, {("worker-default.release-taskyard.tenant",), ("test.release-taskyard.tenant",)})

    def test_workers_and_tests_speak_tls_where_the_server_does(self):
        for case in CASES:
            _, _, server = pod(objects(case), "server")
            has_tls = "TASKYARD_TLS_CERT" in environment(server["containers"][0])
            service = next(one for one in of_kind(objects(case), "Service") if one["metadata"]["name"].endswith("-server"))
            expected = "https" if has_tls else "kubernetes.io/h2c"
            self.assertEqual(service["spec"]["ports"][0]["appProtocol"], expected, case)
            for _, labels, spec in pods(objects(case)):
                if labels["app.kubernetes.io/component"] in ("worker", "test"):
                    variables = environment(spec["containers"][0])
                    self.assertEqual(variables["TASKYARD_ENDPOINT"]["value"].startswith("https://"), has_tls, case)
                    self.assertEqual("TASKYARD_CA" in variables, has_tls, case)

    def test_the_test_runs_a_task_where_it_can_show_who_it_is(self):
        _, _, spec = pod(objects("init-migrations"), "test")
        self.assertEqual(spec["containers"][0]["args"][0], "run")
        self.assertIn("TASKYARD_TOKEN_FILE", environment(spec["containers"][0]))
        self.assertEqual(of_kind(objects("minimal"), "Pod"), [])
        _, _, spec = pod(objects("no-pools"), "test")
        self.assertEqual(spec["containers"][0]["args"], ["sessions"])

    def test_headless_discovery(self):
        headless = [one for one in of_kind(objects("minimal"), "Service") if one["spec"].get("clusterIP") == "None"]
        self.assertEqual([one["metadata"]["name"] for one in headless], ["release-taskyard-server-headless"])

    def test_extra_objects_are_rendered_as_templates(self):
        made = {one["metadata"]["name"]: one for one in of_kind(objects("full"), "ConfigMap")}
        self.assertEqual(made["more"]["data"], {"release": "release"})
        self.assertIn("release-text", made)

    def test_notes_warn_of_what_is_open(self):
        warnings = {
            "minimal": [], "insecure": ["auth.insecure"], "init-migrations": ["tls.plaintext"],
            "bundled-postgres": ["auth.insecure", "bundled Postgres"],
        }
        for case, expected in warnings.items():
            with self.subTest(case=case):
                # helm 4 only: helm 3 asks a cluster even then
                done = helm("helm4", "install", "release", CHART, "--dry-run=client", values=values_of(case))
                self.assertEqual(done.returncode, 0, done.stderr)
                notes = done.stdout.split("\nNOTES:\n")[1]
                found = [line for line in notes.splitlines() if line.startswith("WARNING: ")]
                self.assertEqual(len(found), len(expected), notes)
                for word, line in zip(expected, found):
                    self.assertIn(word, line)
