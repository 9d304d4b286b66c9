{{/* Variables of a container, each named once: of two the later one counts. Those that are made of others come behind all
     that they may name. Input: a list. */}}
{{- define "taskyard.env" -}}
{{- $named := dict -}}
{{- $plain := list -}}
{{- $made := list -}}
{{- range reverse . -}}
{{- if hasKey $named .name -}}
{{- /* a later one has its place */ -}}
{{- else if contains "$(" (toString .value) -}}
{{- $made = prepend $made . -}}
{{- else -}}
{{- $plain = prepend $plain . -}}
{{- end -}}
{{- $_ := set $named .name true -}}
{{- end -}}
{{- concat $plain $made | toYaml -}}
{{- end -}}
