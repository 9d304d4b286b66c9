{{/* What values.schema.json cannot say, because it depends on two places at once. Said before anything is rendered. */}}

{{- define "taskyard.refuse" -}}
{{- $auth := .Values.auth -}}
{{- $needsIdentity := not $auth.insecure -}}
{{- if and $auth.insecure (or $auth.jwt.jwksUrl $auth.jwt.jwks $auth.file.existingSecret) -}}
{{- fail "auth.insecure is true, but auth.jwt or auth.file is set as well: decide for one" -}}
{{- end -}}
{{- if and .Values.tls.plaintext (ne .Values.tls.source "none") -}}
{{- fail "tls.plaintext is true, but tls.source is set as well: decide for one" -}}
{{- end -}}
{{- if and $auth.jwt.jwksUrl $auth.jwt.jwks -}}
{{- fail "set auth.jwt.jwksUrl or auth.jwt.jwks, not both" -}}
{{- end -}}
{{- if and (eq (include "taskyard.migrationMode" .) "hook") .Values.postgres.enabled -}}
{{- fail "migrations.mode cannot be hook with the bundled Postgres: it is not there before the install" -}}
{{- end -}}
{{- if le (int .Values.server.terminationGracePeriodSeconds) (add (int .Values.server.preStopSleepSeconds) 20 | int) -}}
{{- fail "server.terminationGracePeriodSeconds must be more than server.preStopSleepSeconds + 20: a server ends its streams for up to 15 s after SIGTERM" -}}
{{- end -}}
{{- if and (eq .Values.server.autoscaling.type "hpa") (gt (int .Values.server.autoscaling.minReplicas) (int .Values.server.autoscaling.maxReplicas)) -}}
{{- fail "server.autoscaling.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- include "taskyard.refuseStandstill" (dict "name" "server" "strategy" .Values.server.strategy) -}}
{{- $queues := list -}}
{{- range $name, $pool := include "taskyard.pools" . | fromJson -}}
{{- $queues = concat $queues $pool.queues -}}
{{- include "taskyard.refuseStandstill" (dict "name" (printf "pools.%s" $name) "strategy" $pool.strategy) -}}
{{- if gt (len (printf "%s-worker-%s" (include "taskyard.fullname" $) $name)) 52 -}}
{{- fail (printf "the name of pool %q is too long: with the release's it may have 52 characters, as other names are made of it" $name) -}}
{{- end -}}
{{- $certificate := include "taskyard.clientCertificate" (dict "root" $ "existing" $pool.clientCertificate.existingSecret "name" (printf "worker-%s" $name)) -}}
{{- if and $needsIdentity (not $pool.token.existingSecret) (not (and $certificate $auth.file.existingSecret)) -}}
{{- fail (printf "pool %q has nothing to show who it is: set pools.%s.token.existingSecret (or poolDefaults.token.existingSecret), or tls.clientAuth with an auth.file that names its certificate" $name $name) -}}
{{- end -}}
{{- if and (eq $.Values.tls.clientAuth "required") (not $certificate) -}}
{{- fail (printf "tls.clientAuth is required, and pool %q has no certificate: set pools.%s.clientCertificate.existingSecret" $name $name) -}}
{{- end -}}
{{- with $pool.autoscaling -}}
{{- if and (ne .type "none") (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "pools.%s.autoscaling.minReplicas is more than maxReplicas" $name) -}}
{{- end -}}
{{- if and (eq .type "hpa") (lt (int .minReplicas) 1) -}}
{{- fail (printf "pools.%s.autoscaling.minReplicas must be at least 1 with hpa: only keda starts from zero" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (include "taskyard.hasKeda" .) $needsIdentity (not (and (include "taskyard.kedaCertificate" .) $auth.file.existingSecret)) -}}
{{- fail "a pool scales by keda, which cannot send a bearer token: set tls.clientAuth, keda.existingSecret with its certificate (cert-manager makes one), and auth.file, which names it" -}}
{{- end -}}
{{- if and .Values.test.enabled $queues -}}
{{- if not (has .Values.test.queue $queues) -}}
{{- fail (printf "test.queue is %q, which no pool serves" .Values.test.queue) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Only a cluster would notice: with neither, no pod can be replaced. Input: name, strategy. */}}
{{- define "taskyard.refuseStandstill" -}}
{{- with .strategy.rollingUpdate -}}
{{- if and (hasKey . "maxUnavailable") (hasKey . "maxSurge") -}}
{{- if and (has (toString .maxUnavailable) (list "0" "0%")) (has (toString .maxSurge) (list "0" "0%")) -}}
{{- fail (printf "%s.strategy.rollingUpdate: maxUnavailable and maxSurge cannot both be 0" $.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
