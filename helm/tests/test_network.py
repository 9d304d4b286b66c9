"""Who may reach whom, by the NetworkPolicies as a cluster reads them."""

import unittest

from rendered import CASES, merged, objects, of_kind, pods, selects, template, title, values_of

SERVER, ADMIN, POSTGRES, DNS = 8275, 8276, 5432, 53
OPEN_CASES = {"bundled-postgres-own-password"}


def policies_for(documents, labels, direction):
    return [
        one for one in of_kind(documents, "NetworkPolicy")
        if direction in one["spec"]["policyTypes"] and selects(one["spec"]["podSelector"], labels)
    ]


def allows(documents, labels, direction, peer, port):
    """Whether the pod with `labels` may speak with a pod of the same namespace at a TCP port."""
    field, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    for policy in policies_for(documents, labels, direction):
        for rule in policy["spec"].get(field) or []:
            if port not in [entry["port"] for entry in rule["ports"] if entry["protocol"] == "TCP"]:
                continue
            named = rule.get(peers)
            here = [one for one in named or [] if "podSelector" in one and "namespaceSelector" not in one]
            if named is None or any(selects(one["podSelector"], peer) for one in here):
                return True
    return False


class Network(unittest.TestCase):
    def test_every_pod_is_closed_both_ways(self):
        for case in set(CASES) - OPEN_CASES:
            for owner, labels, _ in pods(objects(case)):
                with self.subTest(case=case, pod=title(owner)):
                    for direction in ("Ingress", "Egress"):
                        closed = [one for one in policies_for(objects(case), labels, direction)]
                        # one closes, another one says what is open
                        self.assertGreaterEqual(len(closed), 2)

    def test_no_rule_is_open_to_all_ports(self):
        for case in CASES:
            for policy in of_kind(objects(case), "NetworkPolicy"):
                for rule in (policy["spec"].get("ingress") or []) + (policy["spec"].get("egress") or []):
                    self.assertTrue(rule.get("ports"), title(policy))
                for rule in policy["spec"].get("ingress") or []:
                    self.assertTrue(rule.get("from"), f"{title(policy)} lets everybody in")

    def test_who_reaches_whom(self):
        for case in set(CASES) - OPEN_CASES:
            documents = objects(case)
            by_component = {}
            for _, labels, _ in pods(documents):
                by_component.setdefault(labels["app.kubernetes.io/component"], labels)
            server = by_component["server"]
            stranger = {"app": "stranger"}
            expected = {("worker", "server", SERVER): True, ("test", "server", SERVER): True, ("server", "postgres", POSTGRES): True}
            for source, source_labels in by_component.items():
                for target, target_labels in by_component.items():
                    for port in (SERVER, ADMIN, POSTGRES):
                        wanted = expected.get((source, target, port), False)
                        with self.subTest(case=case, source=source, target=target, port=port):
                            # the one who is called decides by itself, whatever the caller may send
                            self.assertEqual(allows(documents, target_labels, "Ingress", source_labels, port), wanted)
                            if wanted:
                                self.assertTrue(allows(documents, source_labels, "Egress", target_labels, port))
            for port in (SERVER, ADMIN):
                self.assertFalse(allows(documents, server, "Ingress", stranger, port), case)
            for _, labels, _ in pods(documents):
                component = labels["app.kubernetes.io/component"]
                if component == "worker":
                    self.assertFalse(allows(documents, labels, "Egress", stranger, POSTGRES), "a worker reaches the database")
                if component != "postgres":
                    open_to_dns = any(
                        DNS in [entry["port"] for entry in rule["ports"]]
                        for one in policies_for(documents, labels, "Egress") for rule in one["spec"].get("egress") or []
                    )
                    self.assertTrue(open_to_dns, component)

    def test_clients_with_the_label_reach_the_server(self):
        documents = objects("minimal")
        server = next(labels for _, labels, _ in pods(documents) if labels["app.kubernetes.io/component"] == "server")
        self.assertTrue(allows(documents, server, "Ingress", {"taskyard.dev/client": "true"}, SERVER))
        self.assertFalse(allows(documents, server, "Ingress", {"taskyard.dev/client": "true"}, ADMIN))

    def test_the_collector_is_open_only_where_there_is_one(self):
        for case, expected in (("minimal", False), ("full", True)):
            ports = {
                entry["port"] for policy in of_kind(objects(case), "NetworkPolicy")
                for rule in policy["spec"].get("egress") or [] for entry in rule["ports"]
            }
            self.assertEqual(4317 in ports, expected)

    def test_rules_open_the_ports_of_the_urls(self):
        def ports(changes, component):
            documents = template(merged(values_of("minimal"), changes))
            labels = next(labels for _, labels, _ in pods(documents) if labels["app.kubernetes.io/component"] == component)
            return {
                entry["port"] for policy in policies_for(documents, labels, "Egress")
                for rule in policy["spec"].get("egress") or [] for entry in rule["ports"]
            }

        store = {"url": "s3://bucket/prefix"}
        signed = {"issuer": "https://identity.example"}
        for changes, expected in (
            ({"objectStore": store}, 443),
            ({"objectStore": {**store, "endpoint": "http://minio:9000"}}, 9000),
            ({"objectStore": {**store, "endpoint": "http://minio"}}, 80),
            ({"objectStore": {**store, "endpoint": "http://[fd00::1]:9000/path"}}, 9000),
            ({"auth": {"jwt": {**signed, "jwksUrl": "https://identity.example/jwks"}}}, 443),
            ({"auth": {"jwt": {**signed, "jwksUrl": "https://identity.example:8443/jwks"}}}, 8443),
            ({"telemetry": {"otlpEndpoint": "http://c:4318"}}, 4318),
            ({"telemetry": {"otlpEndpoint": "https://c"}}, 443),
            # a Service whose pods listen elsewhere
            ({"telemetry": {"otlpEndpoint": "http://c:80"}, "networkPolicy": {"otlp": {"port": 14317}}}, 14317),
        ):
            with self.subTest(changes=changes):
                self.assertEqual(ports(changes, "server"), {POSTGRES, DNS, expected})
                if "telemetry" in changes:
                    self.assertEqual(ports(changes, "worker"), {SERVER, DNS, expected})
