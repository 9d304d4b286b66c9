{{/* Input: root, pool. */}}
{{- define "taskyard.poolName" -}}
{{- printf "%s-worker-%s" (include "taskyard.fullname" .root) .pool -}}
{{- end -}}

{{/* The labels of a pool's workers, KEY=VALUE,… in the order of their keys. Input: name, pool. */}}
{{- define "taskyard.poolLabels" -}}
{{- $all := merge (dict "pool" .name) .pool.labels -}}
{{- $words := list -}}
{{- range $key := keys $all | sortAlpha -}}
{{- $words = append $words (printf "%s=%s" $key (get $all $key)) -}}
{{- end -}}
{{- join "," $words -}}
{{- end -}}

{{/* What KEDA passes on to the server: the pool as its workers announce it. Input: name, pool. */}}
{{- define "taskyard.poolMetadata" -}}
{{- $isolation := .pool.isolation -}}
{{- $labels := include "taskyard.poolLabels" . -}}
{{- if or (eq $isolation.min "restricted") (eq $isolation.max "restricted") -}}
{{- /* the workers announce it themselves, and tasks that ask for it wait for workers that do */ -}}
{{- $labels = printf "%s,taskyard.dev/isolation=restricted" $labels -}}
{{- end -}}
queues: {{ join "," .pool.queues | quote }}
{{- with .pool.kinds }}
kinds: {{ join "," . | quote }}
{{- end }}
labels: {{ $labels | quote }}
targetPerReplica: {{ ternary .pool.slots .pool.autoscaling.targetPerReplica (eq (int .pool.autoscaling.targetPerReplica) 0) | int | quote }}
{{- end -}}

{{/* Not empty if some pool scales by KEDA. */}}
{{- define "taskyard.hasKeda" -}}
{{- range $name, $pool := include "taskyard.pools" . | fromJson -}}
{{- if eq $pool.autoscaling.type "keda" -}}yes{{- end -}}
{{- end -}}
{{- end -}}
