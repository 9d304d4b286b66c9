{{/* Names and labels. A component is server, worker, migrate, test or postgres. */}}

{{- define "taskyard.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "taskyard.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "taskyard.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "taskyard.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "taskyard.server" -}}
{{- include "taskyard.fullname" . }}-server
{{- end -}}

{{/* What selectors go by. Input: root, component, and for workers pool. */}}
{{- define "taskyard.selector" -}}
app.kubernetes.io/name: {{ include "taskyard.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
taskyard.dev/pool: {{ . }}
{{- end }}
{{- end -}}

{{- define "taskyard.labels" -}}
{{ include "taskyard.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: taskyard
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: without the versions of chart and program, which would replace pods that are otherwise the same. */}}
{{- define "taskyard.podLabels" -}}
{{ include "taskyard.selector" . }}
app.kubernetes.io/part-of: taskyard
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Metadata of an object. Input: as above, and name, labels, annotations. */}}
{{- define "taskyard.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "taskyard.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge dict (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Input: root, image, and fallback, an image whose parts count where this one has none. */}}
{{- define "taskyard.image" -}}
{{- $image := .image -}}
{{- $from := ternary $image (.fallback | default $image) (not (empty $image.repository)) -}}
{{- if $from.digest -}}
{{- printf "%s@%s" $from.repository $from.digest -}}
{{- else -}}
{{- printf "%s:%s" $from.repository (default .root.Chart.AppVersion $from.tag) -}}
{{- end -}}
{{- end -}}

{{- define "taskyard.serverAccount" -}}
{{- with .Values.server.serviceAccount -}}
{{- if .name }}{{ .name }}{{ else if .create }}{{ include "taskyard.server" $ }}{{ else }}default{{ end -}}
{{- end -}}
{{- end -}}

{{- define "taskyard.workerAccount" -}}
{{- with .Values.workerServiceAccount -}}
{{- if .name }}{{ .name }}{{ else if .create }}{{ include "taskyard.fullname" $ }}-worker{{ else }}default{{ end -}}
{{- end -}}
{{- end -}}

{{/* The pools with their defaults filled in, as JSON: name to values. */}}
{{- define "taskyard.pools" -}}
{{- $pools := dict -}}
{{- range $name, $pool := .Values.pools -}}
{{- $_ := set $pools $name (mustMergeOverwrite (deepCopy $.Values.poolDefaults) (deepCopy ($pool | default dict))) -}}
{{- end -}}
{{- $pools | toJson -}}
{{- end -}}

{{- define "taskyard.migrationMode" -}}
{{- $mode := .Values.migrations.mode -}}
{{- if eq $mode "auto" -}}{{ ternary "initContainer" "hook" .Values.postgres.enabled }}{{- else -}}{{ $mode }}{{- end -}}
{{- end -}}
