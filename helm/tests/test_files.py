"""Dashboard and alert rules, and the words that the chart takes from the program."""

import pathlib
import re
import shutil
import tempfile
import unittest

import yaml

from rendered import CASES, CHART, ROOT, containers, helm, objects, of_kind, pods, template, values_of

DOCUMENTED = "".join(
    page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "kubernetes.md"
)


class Program(unittest.TestCase):
    def test_variables_are_those_of_the_program(self):
        used = {
            variable["name"] for case in CASES for _, _, spec in pods(objects(case)) for container in containers(spec)
            for variable in container.get("env", []) if variable["name"].startswith("TASKYARD_")
        }
        unknown = {name for name in used if f"`{name}`" not in DOCUMENTED}
        self.assertEqual(unknown, set())

    def test_flags_are_those_of_the_program(self):
        # of `run`, in its own help
        known = {"--queue", "--start-deadline", "--timeout", "--"} | set(re.findall(r"(--[a-z-]+)", DOCUMENTED))
        for case in CASES:
            for _, _, spec in pods(objects(case)):
                for container in containers(spec):
                    for word in container.get("args", []):
                        if word.startswith("--"):
                            self.assertIn(word.split("=")[0], known)


    def test_keda_passes_on_what_the_server_reads(self):
        page = ROOT / "docs/autoscaling.md"
        if not page.exists():
            self.skipTest("docs/autoscaling.md is not there")
        read = set(re.findall(r"^\| `(\w+)`", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        for scaled in of_kind(objects("keda"), "ScaledObject"):
            told = set(scaled["spec"]["triggers"][0]["metadata"]) - {"scalerAddress"}
            self.assertLessEqual(told, read)


class Files(unittest.TestCase):
    """The templates read files of the chart; where these are not there yet, a copy of the chart gets a sample."""

    def chart_with(self, name, sample):
        if (CHART / "files" / name).exists():
            return CHART
        folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        shutil.copytree(CHART, folder / "taskyard")
        (folder / "taskyard/files").mkdir(exist_ok=True)
        (folder / "taskyard/files" / name).write_text(sample, encoding="utf-8")
        return folder / "taskyard"

    def test_alert_rules_become_a_prometheus_rule(self):
        sample = "groups:\n  - name: sample\n    rules:\n      - alert: Down\n        expr: up == 0\n" \
                 "        annotations: {summary: '{{ $labels.instance }} is down'}\n"
        chart = self.chart_with("taskyard.rules.yaml", sample)
        values = {**values_of("minimal"), "monitoring": {"prometheusRule": {"enabled": True, "labels": {"release": "p"}}}}
        rule, = of_kind(template(values, chart=chart), "PrometheusRule")
        written = yaml.safe_load((chart / "files/taskyard.rules.yaml").read_text(encoding="utf-8"))
        self.assertEqual(rule["spec"], written)
        self.assertEqual(rule["metadata"]["labels"]["release"], "p")

    def test_the_rules_lead_to_the_run_book_that_the_operator_names(self):
        monitoring = {"prometheusRule": {"enabled": True, "runbookUrl": "https://wiki.example/taskyard"}}
        rule, = of_kind(template({**values_of("minimal"), "monitoring": monitoring}), "PrometheusRule")
        rules = rule["spec"]["groups"][0]["rules"]
        for one in rules:
            url = f"https://wiki.example/taskyard#{one['alert'].lower()}"
            self.assertEqual(one["annotations"]["runbook_url"], url)

    def test_no_rule_and_no_panel_takes_the_label_that_the_monitors_set(self):
        # a scraped series has the Kubernetes namespace as `namespace`; that of Taskyard is another
        for name in ("taskyard.rules.yaml", "taskyard.json"):
            text = (CHART / "files" / name).read_text(encoding="utf-8")
            self.assertNotRegex(text, r"(?<!taskyard_)namespace(=|\)|,)", name)
            self.assertIn("taskyard_namespace", text)

    def test_the_dashboard_becomes_a_config_map(self):
        chart = self.chart_with("taskyard.json", '{"title": "sample", "panels": [{"legendFormat": "{{queue}}"}]}\n')
        values = {**values_of("minimal"), "monitoring": {"dashboard": {"enabled": True}}}
        made = [one for one in of_kind(template(values, chart=chart), "ConfigMap") if one["metadata"]["name"].endswith("-dashboard")]
        self.assertEqual(len(made), 1)
        written = (chart / "files/taskyard.json").read_text(encoding="utf-8")
        self.assertEqual(made[0]["data"]["taskyard.json"].strip(), written.strip())
        self.assertEqual(made[0]["metadata"]["labels"]["grafana_dashboard"], "1")

    def test_without_the_files_enabling_them_is_refused(self):
        for name, key in (("taskyard.rules.yaml", "prometheusRule"), ("taskyard.json", "dashboard")):
            if (CHART / "files" / name).exists():
                continue
            values = {**values_of("minimal"), "monitoring": {key: {"enabled": True}}}
            done = helm("helm4", "template", "release", CHART, values=values)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(f"without files/{name}", done.stderr)
