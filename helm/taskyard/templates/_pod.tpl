{{/* What all pods share. Nothing here can be loosened by values. */}}

{{- define "taskyard.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.podSecurity }}
{{- if not (kindIs "invalid" .runAsUser) }}
runAsUser: {{ .runAsUser }}
{{- end }}
{{- if not (kindIs "invalid" .runAsGroup) }}
runAsGroup: {{ .runAsGroup }}
{{- end }}
{{- if not (kindIs "invalid" .fsGroup) }}
fsGroup: {{ .fsGroup }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "taskyard.containerSecurityContext" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Probes on the admin port: plain HTTP, as probes of gRPC know no TLS. Liveness does not depend on Postgres. */}}
{{- define "taskyard.probes" -}}
startupProbe:
  httpGet: {path: /startupz, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 3
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* Update strategy of a Deployment: of what Recreate knows nothing is left out. Input: the strategy. */}}
{{- define "taskyard.strategy" -}}
type: {{ .type }}
{{- if and (eq .type "RollingUpdate") .rollingUpdate }}
rollingUpdate:
  {{- toYaml .rollingUpdate | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Input: root, component, pool, spread. */}}
{{- define "taskyard.topologySpread" -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: {{ $.spread.whenUnsatisfiable }}
  labelSelector:
    matchLabels:
      {{- include "taskyard.selector" $ | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end -}}

{{/* Input: root, of (the values of server or pool). */}}
{{- define "taskyard.placement" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .of.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Logs, and OpenTelemetry by its own variables. Input: root, service, pool. */}}
{{- define "taskyard.telemetryEnv" -}}
{{- $telemetry := .root.Values.telemetry -}}
{{- $env := $telemetry.env -}}
{{- $attributes := list "service.instance.id=$(POD_NAME)" (printf "k8s.namespace.name=%s" .root.Release.Namespace) "k8s.pod.name=$(POD_NAME)" "k8s.node.name=$(NODE_NAME)" -}}
{{- with .pool }}{{ $attributes = append $attributes (printf "taskyard.pool=%s" .) }}{{ end -}}
{{- with $env.OTEL_RESOURCE_ATTRIBUTES }}{{ $attributes = append $attributes . }}{{ end -}}
- name: TASKYARD_LOG_FORMAT
  value: {{ $telemetry.logFormat }}
{{- if $telemetry.otlpEndpoint }}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- name: NODE_NAME
  valueFrom:
    fieldRef: {fieldPath: spec.nodeName}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ $telemetry.otlpEndpoint | quote }}
- name: OTEL_SERVICE_NAME
  value: {{ .service }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ join "," $attributes | quote }}
{{- $env = omit $env "OTEL_RESOURCE_ATTRIBUTES" }}
{{- with $telemetry.headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef: {name: {{ . | quote }}, key: headers}
{{- end }}
{{- end }}
{{- range $name, $value := $env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* How a caller reaches the server and shows who it is: variables, mounts, volumes. Input: root, token and
     certificate (name of a Secret, or empty). */}}
{{- define "taskyard.clientEnv" -}}
- name: TASKYARD_ENDPOINT
  value: {{ include "taskyard.endpoint" .root }}
{{- if ne .root.Values.tls.source "none" }}
- name: TASKYARD_CA
  value: /run/taskyard/ca/ca.crt
{{- end }}
{{- if .certificate }}
- name: TASKYARD_CLIENT_CERT
  value: /run/taskyard/client/tls.crt
- name: TASKYARD_CLIENT_KEY
  value: /run/taskyard/client/tls.key
{{- end }}
{{- if .token.existingSecret }}
- name: TASKYARD_TOKEN_FILE
  value: /run/taskyard/token/token
{{- end }}
{{- end -}}

{{- define "taskyard.clientMounts" -}}
{{- if ne .root.Values.tls.source "none" }}
- {name: ca, mountPath: /run/taskyard/ca, readOnly: true}
{{- end }}
{{- if .certificate }}
- {name: client-certificate, mountPath: /run/taskyard/client, readOnly: true}
{{- end }}
{{- if .token.existingSecret }}
- {name: token, mountPath: /run/taskyard/token, readOnly: true}
{{- end }}
{{- end -}}

{{- define "taskyard.clientVolumes" -}}
{{- if ne .root.Values.tls.source "none" }}
- name: ca
  secret:
    secretName: {{ include "taskyard.caSecret" .root | quote }}
    items:
      - {key: {{ .root.Values.tls.ca.key | quote }}, path: ca.crt}
{{- end }}
{{- if .certificate }}
- name: client-certificate
  secret:
    secretName: {{ .certificate | quote }}
    defaultMode: 0440
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
{{- end }}
{{- if .token.existingSecret }}
- name: token
  secret:
    secretName: {{ .token.existingSecret | quote }}
    defaultMode: 0440
    items:
      - {key: {{ .token.key | quote }}, path: token}
{{- end }}
{{- end -}}

{{- define "taskyard.endpoint" -}}
{{- $scheme := ternary "http" "https" (eq .Values.tls.source "none") -}}
{{- printf "%s://%s.%s.svc:8275" $scheme (include "taskyard.server" .) .Release.Namespace -}}
{{- end -}}

{{- define "taskyard.serverTlsSecret" -}}
{{- if eq .Values.tls.source "certManager" -}}
{{ include "taskyard.server" . }}-tls
{{- else -}}
{{ .Values.tls.existingSecret }}
{{- end -}}
{{- end -}}

{{- define "taskyard.caSecret" -}}
{{- .Values.tls.ca.existingSecret | default (include "taskyard.serverTlsSecret" .) -}}
{{- end -}}

{{/* Name of the Secret with a caller's certificate, or empty. Input: root, existing, name. */}}
{{- define "taskyard.clientCertificate" -}}
{{- with .root.Values.tls -}}
{{- if and (ne .source "none") (ne .clientAuth "none") -}}
{{- if $.existing -}}
{{ $.existing }}
{{- else if eq .source "certManager" -}}
{{ include "taskyard.fullname" $.root }}-{{ $.name }}-tls
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether `helm test` has something to show who it is; empty if not. */}}
{{- define "taskyard.testable" -}}
{{- $certificate := include "taskyard.testCertificate" . -}}
{{- $identified := or .Values.auth.insecure .Values.test.token.existingSecret (and $certificate .Values.auth.file.existingSecret) -}}
{{- $required := and (eq .Values.tls.clientAuth "required") (not $certificate) -}}
{{- if and .Values.test.enabled $identified (not $required) -}}yes{{- end -}}
{{- end -}}

{{/* Not empty if some pool takes commands from the test's queue. */}}
{{- define "taskyard.testHasWorkers" -}}
{{- range $name, $pool := include "taskyard.pools" . | fromJson -}}
{{- if and (has $.Values.test.queue $pool.queues) (or (not $pool.kinds) (has "command" $pool.kinds)) -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{- define "taskyard.testCertificate" -}}
{{- include "taskyard.clientCertificate" (dict "root" . "existing" .Values.test.clientCertificate.existingSecret "name" "test") -}}
{{- end -}}

{{- define "taskyard.kedaCertificate" -}}
{{- include "taskyard.clientCertificate" (dict "root" . "existing" .Values.keda.existingSecret "name" "keda") -}}
{{- end -}}
