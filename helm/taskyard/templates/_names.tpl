{{/* Names and labels. A component is server, worker, migrate, test or postgres. */}}

{{- define "taskyard.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What the names of objects begin with. More is put behind it, so it is cut to 30 characters, the last of them a hash. */}}
{{- define "taskyard.fullname" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name -}}
{{- if not (or .Values.fullnameOverride (contains (include "taskyard.name" .) $name)) -}}
{{- $name = printf "%s-%s" $name (include "taskyard.name" .) -}}
{{- end -}}
{{- if and (gt (len $name) 30) (not .Values.fullnameOverride) -}}
{{- $name = printf "%s-%s" ($name | trunc 24 | trimSuffix "-") ($name | sha256sum | trunc 5) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "taskyard.server" -}}
{{- include "taskyard.fullname" . }}-server
{{- end -}}

{{/* What selectors go by. Input: root, component, and for workers pool. */}}
{{- define "taskyard.selector" -}}
app.kubernetes.io/name: {{ include "taskyard.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
taskyard.dev/pool: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Labels of objects. Input: as above, and labels that this one has more. */}}
{{- define "taskyard.labels" -}}
{{ include "taskyard.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: taskyard
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with merge dict (.labels | default dict) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of pods: without the versions of chart and program, which would replace pods that are otherwise the same. */}}
{{- define "taskyard.podLabels" -}}
{{ include "taskyard.selector" . }}
app.kubernetes.io/part-of: taskyard
{{- with merge dict (.labels | default dict) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Metadata of an object. Input: as above, and name, labels, annotations. */}}
{{- define "taskyard.metadata" -}}
name: {{ .name | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "taskyard.labels" . | nindent 2 }}
{{- with merge dict (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Input: root, image, and fallback, an image that counts for what this one does not say. A tag or digest of the fallback
     is one of its own repository only. */}}
{{- define "taskyard.image" -}}
{{- $fallback := .fallback | default .image -}}
{{- $repository := .image.repository | default $fallback.repository -}}
{{- $version := ternary .image $fallback (not (empty (coalesce .image.repository .image.tag .image.digest))) -}}
{{- if $version.digest -}}
{{- printf "%s@%s" $repository $version.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion $version.tag) -}}
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

{{/* The pools with their defaults filled in, as JSON: name to values. One that is null is none. */}}
{{- define "taskyard.pools" -}}
{{- $pools := dict -}}
{{- range $name, $pool := .Values.pools -}}
{{- if not (kindIs "invalid" $pool) -}}
{{- $_ := set $pools $name (mustMergeOverwrite (deepCopy $.Values.poolDefaults) (deepCopy $pool)) -}}
{{- end -}}
{{- end -}}
{{- $pools | toJson -}}
{{- end -}}

{{- define "taskyard.migrationMode" -}}
{{- $mode := .Values.migrations.mode -}}
{{- if eq $mode "auto" -}}{{ ternary "initContainer" "hook" .Values.postgres.enabled }}{{- else -}}{{ $mode }}{{- end -}}
{{- end -}}
