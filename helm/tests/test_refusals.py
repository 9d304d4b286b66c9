"""Values that are refused, and what helm says: a table in refusals.yaml, tried with both majors."""

import copy
import pathlib
import unittest

import yaml

from rendered import CHART, MAJORS, helm, values_of

TABLE = yaml.safe_load((pathlib.Path(__file__).parent / "refusals.yaml").read_text(encoding="utf-8"))


def merged(base, changes):
    whole = copy.deepcopy(base)
    for key, value in changes.items():
        both_are_maps = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = merged(whole[key], value) if both_are_maps else value
    return whole


class Refusals(unittest.TestCase):
    def test_bad_values_are_refused_with_a_reason(self):
        for row in TABLE:
            values = merged(values_of(row.get("base", "minimal")), row["values"])
            for major in MAJORS:
                with self.subTest(values=row["values"], major=major):
                    done = helm(major, "template", "release", CHART, values=values)
                    self.assertNotEqual(done.returncode, 0, "accepted")
                    said = done.stderr.replace("/", ".")
                    for word in row["says"]:
                        self.assertIn(word, said)

    def test_an_older_cluster_is_refused(self):
        for major in MAJORS:
            done = helm(major, "template", "release", CHART, "--kube-version", "1.29.9", values=values_of("minimal"))
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("kubeVersion: >=1.30.0-0", done.stderr)
