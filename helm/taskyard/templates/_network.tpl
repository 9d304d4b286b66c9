{{/* Parts of NetworkPolicies. */}}

{{/* One egress rule. Input: to (peers; empty for anywhere), port. */}}
{{- define "taskyard.egressTo" -}}
- ports: [{port: {{ .port }}, protocol: TCP}]
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "taskyard.egressToDns" -}}
{{- with .Values.networkPolicy.dns -}}
- ports: [{port: {{ .port }}, protocol: UDP}, {port: {{ .port }}, protocol: TCP}]
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "taskyard.egressToServer" -}}
- ports: [{port: 8275, protocol: TCP}]
  to:
    - podSelector:
        matchLabels:
          {{- include "taskyard.selector" (dict "root" . "component" "server") | nindent 10 }}
{{- end -}}

{{- define "taskyard.ingressOfMonitoring" -}}
{{- with .Values.networkPolicy.monitoring }}
- ports: [{port: 8276, protocol: TCP}]
  from:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}
