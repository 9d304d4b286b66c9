{{/* The container that brings the schema up to date, without its name. */}}
{{- define "taskyard.migrateContainer" -}}
image: {{ include "taskyard.image" (dict "root" . "image" .Values.image.server) }}
imagePullPolicy: {{ .Values.image.server.pullPolicy }}
args: [migrate]
env:
  {{- with include "taskyard.databaseEnv" . }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  - name: TASKYARD_LOG
    value: {{ .Values.server.log | quote }}
  - name: TASKYARD_DATA_DIR
    value: /tmp/taskyard
resources:
  {{- toYaml .Values.migrations.resources | nindent 2 }}
securityContext:
  {{- include "taskyard.containerSecurityContext" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- with include "taskyard.databaseMounts" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end -}}
