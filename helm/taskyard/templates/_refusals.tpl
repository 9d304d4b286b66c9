{{/* What values.schema.json cannot say, because it depends on two places at once. Said before anything is rendered. */}}

{{- define "taskyard.refuse" -}}
{{- $fullname := include "taskyard.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
{{- fail (printf "the names of Services cannot begin with %q, as the release's name has it: set fullnameOverride" $fullname) -}}
{{- end -}}
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
{{- with $auth.jwt.ca -}}
{{- if and .existingSecret .existingConfigMap -}}
{{- fail "set auth.jwt.ca.existingSecret or auth.jwt.ca.existingConfigMap, not both" -}}
{{- end -}}
{{- if and (or .existingSecret .existingConfigMap) (not $auth.jwt.jwksUrl) -}}
{{- fail "auth.jwt.ca is for auth.jwt.jwksUrl, which is not set" -}}
{{- end -}}
{{- end -}}
{{- if and (eq (include "taskyard.migrationMode" .) "hook") .Values.postgres.enabled -}}
{{- fail "migrations.mode cannot be hook with the bundled Postgres: it is not there before the install" -}}
{{- end -}}
{{- if and .Values.postgres.enabled .Values.database.ca.existingSecret -}}
{{- fail "database.ca is for a database of your own: the bundled Postgres speaks no TLS" -}}
{{- end -}}
{{- with .Values.server.service -}}
{{- if and (ne .type "LoadBalancer") (or .loadBalancerClass .loadBalancerSourceRanges) -}}
{{- fail "server.service.loadBalancerClass and loadBalancerSourceRanges are for the type LoadBalancer" -}}
{{- end -}}
{{- if and (eq .type "ClusterIP") .externalTrafficPolicy -}}
{{- fail "server.service.externalTrafficPolicy is for the types NodePort and LoadBalancer" -}}
{{- end -}}
{{- end -}}
{{- if le (int .Values.server.terminationGracePeriodSeconds) (add (int .Values.server.preStopSleepSeconds) 20 | int) -}}
{{- fail "server.terminationGracePeriodSeconds must be more than server.preStopSleepSeconds + 20: a server ends its streams for up to 15 s after SIGTERM" -}}
{{- end -}}
{{- if and (eq .Values.server.autoscaling.type "hpa") (gt (int .Values.server.autoscaling.minReplicas) (int .Values.server.autoscaling.maxReplicas)) -}}
{{- fail "server.autoscaling.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- include "taskyard.refuseStandstill" (dict "name" "server" "strategy" .Values.server.strategy) -}}
{{- include "taskyard.refuseResources" (dict "name" "server" "of" .Values.server "volumes" (list "tmpSize")) -}}
{{- include "taskyard.refuseResources" (dict "name" "migrations" "of" .Values.migrations "volumes" list) -}}
{{- include "taskyard.refuseResources" (dict "name" "postgres" "of" .Values.postgres "volumes" list) -}}
{{- $queues := list -}}
{{- range $name, $pool := include "taskyard.pools" . | fromJson -}}
{{- $queues = concat $queues $pool.queues -}}
{{- include "taskyard.refuseStandstill" (dict "name" (printf "pools.%s" $name) "strategy" $pool.strategy) -}}
{{- include "taskyard.refuseResources" (dict "name" (printf "pools.%s" $name) "of" $pool "volumes" (list "stateSize" "tmpSize")) -}}
{{- $object := include "taskyard.poolName" (dict "root" $ "pool" $name) -}}
{{- if gt (len $object) 52 -}}
{{- fail (printf "%q is too long: it may have 52 characters, as other names are made of it. Shorten pools.%s, or set fullnameOverride" $object $name) -}}
{{- end -}}
{{- if and (eq $pool.isolation.min "restricted") (eq $pool.isolation.max "none") -}}
{{- fail (printf "pools.%s.isolation.min is more than max" $name) -}}
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
{{- if and (eq $.strategy.type "RollingUpdate") (hasKey . "maxUnavailable") (hasKey . "maxSurge") -}}
{{- if and (has (toString .maxUnavailable) (list "0" "0%")) (has (toString .maxSurge) (list "0" "0%")) -}}
{{- fail (printf "%s.strategy.rollingUpdate: maxUnavailable and maxSurge cannot both be 0" $.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Pods that could not be made, or would be evicted by what the chart itself gives them. Input: name, of (the values of
     server or pool), volumes (the keys with their size limits). */}}
{{- define "taskyard.refuseResources" -}}
{{- range $what, $limit := .of.resources.limits -}}
{{- $request := get $.of.resources.requests $what | default 0 -}}
{{- if gt (include "taskyard.amount" $request | float64) (include "taskyard.amount" $limit | float64) -}}
{{- fail (printf "%s.resources: requests.%s is %v, and limits.%s %v" $.name $what $request $what $limit) -}}
{{- end -}}
{{- end -}}
{{- $volumes := 0.0 -}}
{{- range .volumes -}}
{{- $volumes = addf $volumes (include "taskyard.amount" (get $.of .) | float64) -}}
{{- end -}}
{{- with get .of.resources.limits "ephemeral-storage" -}}
{{- if gt $volumes (include "taskyard.amount" . | float64) -}}
{{- fail (printf "%s: %s need more than resources.limits.ephemeral-storage, %v: a pod that uses more is evicted" $.name (join " and " $.volumes) .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A quantity as a number, to compare it. */}}
{{- define "taskyard.amount" -}}
{{- if kindIs "string" . -}}
{{- $units := dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- mulf (regexFind "^[0-9.]+" . | float64) (get $units (regexFind "[A-Za-z]+$" .) | default 1.0) -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}
