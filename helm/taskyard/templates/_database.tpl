{{/* How the database is reached and its certificate checked: variables, mounts, volumes. */}}
{{- define "taskyard.databaseEnv" -}}
{{- if .Values.postgres.enabled }}
- name: POSTGRES_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "taskyard.postgresSecret" . | quote }}
      key: password
- name: TASKYARD_DATABASE_URL
  value: postgres://taskyard:$(POSTGRES_PASSWORD)@{{ include "taskyard.fullname" . }}-postgres:5432/taskyard
{{- else }}
- name: TASKYARD_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.existingSecret | quote }}
      key: {{ .Values.database.key | quote }}
{{- end }}
{{- if .Values.database.ca.existingSecret }}
- name: PGSSLROOTCERT
  value: /run/taskyard/database-ca/ca.crt
# what the URL says of sslmode counts more
- name: PGSSLMODE
  value: verify-full
{{- end }}
{{- end -}}

{{- define "taskyard.databaseMounts" -}}
{{- if .Values.database.ca.existingSecret -}}
- {name: database-ca, mountPath: /run/taskyard/database-ca, readOnly: true}
{{- end }}
{{- end -}}

{{- define "taskyard.databaseVolumes" -}}
{{- with .Values.database.ca -}}
{{- if .existingSecret -}}
- name: database-ca
  secret:
    secretName: {{ .existingSecret | quote }}
    items:
      - {key: {{ .key | quote }}, path: ca.crt}
{{- end }}
{{- end }}
{{- end -}}

{{- define "taskyard.postgresSecret" -}}
{{- .Values.postgres.existingSecret | default (printf "%s-postgres" (include "taskyard.fullname" .)) -}}
{{- end -}}
