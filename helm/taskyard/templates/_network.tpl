{{/* Parts of NetworkPolicies. */}}

{{/* One egress rule. Input: to (peers; empty for anywhere), port. */}}
{{- define "taskyard.egressTo" -}}
- ports: [{port: {{ .port }}, protocol: TCP}]
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* The same for a URL that is set elsewhere. Its port counts where the rule has none. Input: rule (to, port), url. */}}
{{- define "taskyard.egressToUrl" -}}
{{- $url := urlParse .url -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "80" "443" (eq $url.scheme "http")) -}}
{{- include "taskyard.egressTo" (dict "to" .rule.to "port" (.rule.port | default $port | int)) -}}
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
