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

{{/* What a worker is told by variables. Input: root, pool, token, certificate, and of (the values of the pool). */}}
{{- define "taskyard.workerEnv" -}}
{{- include "taskyard.clientEnv" . }}
- name: TASKYARD_ADMIN_LISTEN
  value: {{ printf "%s:8276" .root.Values.server.listenAddress | quote }}
- name: TASKYARD_WORKER_POOL
  value: {{ .pool | quote }}
- name: TASKYARD_LOG
  value: {{ .of.log | quote }}
{{ include "taskyard.telemetryEnv" (dict "root" .root "service" "taskyard-worker" "pool" .pool) }}
{{- end -}}

{{/* The labels of KEDA's triggers, as a JSON list: what the workers announce, of which each task asks for a part. Whether
     they announce `restricted` is the node's to say where `isolation` does not. Then there is a trigger for either case, as
     KEDA goes by the larger: for all tasks that may wait for them, and for what those run that announce nothing. */}}
{{- define "taskyard.triggerLabels" -}}
{{- $labels := printf "%s,taskyard.dev/pool=%s" (include "taskyard.poolLabels" .) .name -}}
{{- $all := list -}}
{{- if ne .pool.isolation.min "restricted" -}}
{{- $all = append $all $labels -}}
{{- end -}}
{{- if ne .pool.isolation.max "none" -}}
{{- $all = append $all (printf "%s,taskyard.dev/isolation=restricted" $labels) -}}
{{- end -}}
{{- $all | toJson -}}
{{- end -}}

{{/* What KEDA passes on to the server: the pool as its workers announce it. Input: pool, labels. */}}
{{- define "taskyard.poolMetadata" -}}
queues: {{ join "," .pool.queues | quote }}
{{- with .pool.kinds }}
kinds: {{ join "," . | quote }}
{{- end }}
labels: {{ .labels | quote }}
targetPerReplica: {{ ternary .pool.slots .pool.autoscaling.targetPerReplica (eq (int .pool.autoscaling.targetPerReplica) 0) | int | quote }}
{{- end -}}

{{/* Not empty if some pool scales by KEDA. */}}
{{- define "taskyard.hasKeda" -}}
{{- range $name, $pool := include "taskyard.pools" . | fromJson -}}
{{- if eq $pool.autoscaling.type "keda" -}}yes{{- end -}}
{{- end -}}
{{- end -}}
