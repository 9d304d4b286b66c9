"""The objects against the schemas of the Kubernetes versions that the chart is for, and the values against theirs."""

import functools
import json
import re
import unittest

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yaml

from rendered import CASES, CHART, OPERATORS, objects, title

VERSIONS = ("1.30", "1.32", "1.34", "1.36", "1.37")

# The package reads its definitions, some megabytes, for each object anew.
kubernetes_validate.utils.schema_contents = functools.lru_cache(maxsize=None)(kubernetes_validate.utils.schema_contents)


class Objects(unittest.TestCase):
    def test_objects_fit_the_schemas_of_all_versions(self):
        seen = {}
        for case in CASES:
            for document in objects(case):
                if not document["apiVersion"].startswith(OPERATORS):
                    seen.setdefault(json.dumps(document, sort_keys=True), (case, document))
        for case, document in seen.values():
            for version in VERSIONS:
                # a kind that is not there is an error as well: the program itself would only warn
                with self.subTest(case=case, object=title(document), version=version):
                    kubernetes_validate.validate(document, version, strict=True)

    def test_a_mistyped_field_and_a_removed_kind_would_be_found(self):
        document = next(one for one in objects("minimal") if one["kind"] == "PodDisruptionBudget")
        with self.assertRaises(kubernetes_validate.utils.ValidationError):
            kubernetes_validate.validate({**document, "specs": {}}, "1.37", strict=True)
        with self.assertRaises(kubernetes_validate.utils.SchemaNotFoundError):
            kubernetes_validate.validate({**document, "apiVersion": "policy/v1beta1"}, "1.37", strict=True)

    def test_the_oldest_version_is_the_one_that_the_chart_asks_for(self):
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        self.assertEqual(chart["kubeVersion"], f">={VERSIONS[0]}.0-0")

    def test_kinds_of_operators_are_the_known_ones(self):
        known = {
            "cert-manager.io/v1/Certificate", "keda.sh/v1alpha1/ScaledObject", "keda.sh/v1alpha1/TriggerAuthentication",
            "monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PodMonitor",
            "monitoring.coreos.com/v1/PrometheusRule",
        }
        found = {
            f"{document['apiVersion']}/{document['kind']}" for case in CASES for document in objects(case)
            if document["apiVersion"].startswith(OPERATORS)
        }
        self.assertLessEqual(found, known)


class Values(unittest.TestCase):
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def resolved(self, part):
        # of `allOf` the first says which keys there are, the others which of them must be
        while "$ref" in part or "allOf" in part and "properties" not in part:
            part = self.schema["definitions"][part["$ref"].removeprefix("#/definitions/")] if "$ref" in part else part["allOf"][0]
        return part

    def test_the_schema_is_one(self):
        jsonschema.Draft7Validator.check_schema(self.schema)

    def test_no_map_takes_keys_that_nobody_knows(self):
        def walk(part, path):
            if not isinstance(part, dict):
                return
            if part.get("type") == "object" and "$comment" not in part:
                self.assertIn("additionalProperties", part, path)
                self.assertIsNot(part["additionalProperties"], True, path)
            for key, below in part.items():
                if key in ("properties", "definitions"):
                    for name, one in below.items():
                        walk(one, f"{path}.{name}")
                elif key in ("items", "additionalProperties"):
                    walk(below, f"{path}.{key}")
                elif key in ("anyOf",):
                    for one in below:
                        walk(one, path)

        self.assertIs(self.schema["additionalProperties"], False)
        walk({key: value for key, value in self.schema.items() if key != "allOf"}, "values")

    def test_schema_and_values_know_the_same_keys(self):
        def walk(part, value, path):
            part = self.resolved(part)
            if "properties" not in part:
                return
            known = set(part["properties"]) - {"global", "claims"}
            if path.endswith((".strategy", ".certManager.issuerRef")) or not isinstance(value, dict):
                return
            self.assertEqual(set(value), known, path)
            for name, below in value.items():
                walk(part["properties"][name], below, f"{path}.{name}")

        walk(self.schema, self.values, "values")

    def test_patterns_are_read_by_both_of_helms_engines(self):
        # Go's regular expressions know no lookaround
        self.assertIsNone(re.search(r'"pattern": "[^"]*\(\?[=!<]', json.dumps(self.schema)))
