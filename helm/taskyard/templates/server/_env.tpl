{{/* What a server is told by variables. */}}
{{- define "taskyard.serverEnv" -}}
{{- include "taskyard.databaseEnv" . | trim }}
- name: TASKYARD_ADMIN_LISTEN
  value: {{ printf "%s:8276" .Values.server.listenAddress | quote }}
- name: TASKYARD_LOG
  value: {{ .Values.server.log | quote }}
- name: TASKYARD_DATA_DIR
  value: /tmp/taskyard
- name: TASKYARD_MAX_CONNECTION_AGE
  value: {{ .Values.server.maxConnectionAge | quote }}
{{- if ne .Values.tls.source "none" }}
- name: TASKYARD_TLS_CERT
  value: /run/taskyard/tls/tls.crt
- name: TASKYARD_TLS_KEY
  value: /run/taskyard/tls/tls.key
{{- if ne .Values.tls.clientAuth "none" }}
- name: TASKYARD_TLS_CLIENT_CA
  value: /run/taskyard/client-ca/ca.crt
- name: TASKYARD_TLS_CLIENT_AUTH
  value: {{ .Values.tls.clientAuth }}
{{- end }}
{{- end }}
{{- with .Values.auth.jwt }}
{{- if .jwksUrl }}
- name: TASKYARD_AUTH_JWKS
  value: {{ .jwksUrl | quote }}
{{- if or .ca.existingSecret .ca.existingConfigMap }}
- name: TASKYARD_AUTH_JWKS_CA
  value: /run/taskyard/jwks-ca/ca.crt
{{- end }}
{{- else if .jwks }}
- name: TASKYARD_AUTH_JWKS
  value: /run/taskyard/jwks/jwks.json
{{- end }}
{{- if or .jwksUrl .jwks }}
- name: TASKYARD_AUTH_ISSUER
  value: {{ .issuer | quote }}
- name: TASKYARD_AUTH_AUDIENCE
  value: {{ .audience | quote }}
{{- end }}
{{- end }}
{{- if .Values.auth.file.existingSecret }}
- name: TASKYARD_AUTH_FILE
  value: /run/taskyard/auth/auth.yaml
{{- end }}
{{- if .Values.secretKeys.existingSecret }}
- name: TASKYARD_SECRET_KEY_FILE
  value: /run/taskyard/secret-keys/secret.keys
{{- end }}
{{- with .Values.objectStore }}
{{- if .url }}
- name: TASKYARD_OBJECT_STORE
  value: {{ .url | quote }}
{{- with .region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .endpoint }}
- name: AWS_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if .allowHttp }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- end }}
{{- end }}
{{ include "taskyard.telemetryEnv" (dict "root" . "service" "taskyard-server") }}
{{- end -}}
