"""Values that are refused, and what helm says: a table in refusals.yaml, tried with both majors."""

import pathlib
import unittest

import yaml

from rendered import CHART, MAJORS, helm, merged, values_of

TABLE = yaml.safe_load((pathlib.Path(__file__).parent / "refusals.yaml").read_text(encoding="utf-8"))


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
