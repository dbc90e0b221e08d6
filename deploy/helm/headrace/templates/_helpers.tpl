{{- define "headrace.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (default .Chart.Name .Values.nameOverride) .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What a Service, a policy or a budget selects by; never changes for a release. */}}
{{- define "headrace.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "headrace.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "headrace.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "headrace.image" -}}
image: {{ printf "%s:%s" (required "image.repository must be set: there is no public image" .Values.image.repository) (default .Chart.AppVersion .Values.image.tag) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "headrace.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "headrace.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* The instance and the workspace, over an empty folder: Dagster makes folders of its own next to them. */}}
{{- define "headrace.instanceMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: postgresql-password, mountPath: /run/secrets/postgresql, readOnly: true}
- {name: dagster-home, mountPath: /opt/headrace/dagster}
- {name: instance, mountPath: /opt/headrace/dagster/dagster.yaml, subPath: dagster.yaml, readOnly: true}
- {name: instance, mountPath: /opt/headrace/dagster/workspace.yaml, subPath: workspace.yaml, readOnly: true}
{{- end }}

{{- define "headrace.instanceVolumes" -}}
- name: tmp
  emptyDir: {}
- name: dagster-home
  emptyDir: {}
{{ include "headrace.password" . }}
- name: instance
  configMap:
    name: {{ include "headrace.fullname" . }}-instance
{{- end }}

{{/* A file: all that runs in a container has its environment, down to Spark's workers. */}}
{{- define "headrace.password" -}}
- name: postgresql-password
  secret:
    secretName: {{ .Values.global.postgresqlSecretName }}
    defaultMode: 0440
    items:
      - {key: postgresql-password, path: postgresql-password}
{{- end }}

{{/* What each container of the platform's pod has: settings, secrets, the home. */}}
{{- define "headrace.platformEnvironment" -}}
envFrom:
  - configMapRef:
      name: {{ include "headrace.fullname" . }}-settings
env:
  # Each of the daemon's threads is heard of twice a minute. By default half an hour of silence counts as life.
  - {name: DAGSTER_DAEMON_HEARTBEAT_TOLERANCE, value: "120"}
  {{- if .Values.secrets.existingSecret }}
  - name: HEADRACE_SECRETS_DIR
    value: /run/secrets/headrace
  {{- end }}
  {{- if eq .Values.spark.mode "kubernetes" }}
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: HEADRACE_DRIVER_HOST
    value: $(POD_NAME).{{ include "headrace.fullname" . }}-code.{{ .Release.Namespace }}.svc
  {{- end }}
volumeMounts:
  {{- include "headrace.instanceMounts" . | nindent 2 }}
  - {name: home, mountPath: /var/lib/headrace}
  {{- if .Values.secrets.existingSecret }}
  - {name: secrets, mountPath: /run/secrets/headrace, readOnly: true}
  {{- end }}
{{- end }}

{{- define "headrace.dagsterYaml" -}}
{{ .Files.Get "files/instance.yaml" | replace "@HOST@" (required "postgresql.postgresqlHost must be set: the chart brings no database" .Values.postgresql.postgresqlHost) | replace "@PORT@" (toString .Values.postgresql.service.port) | replace "@DATABASE@" .Values.postgresql.postgresqlDatabase | replace "@USERNAME@" .Values.postgresql.postgresqlUsername }}
{{- end }}

{{- define "headrace.workspaceYaml" -}}
load_from:
  - grpc_server:
      host: {{ include "headrace.fullname" . }}-code
      port: 4000
      location_name: headrace
{{- end }}

{{- define "headrace.settings" -}}
{{- $found := dict }}
{{- range $name, $value := .Values.settings }}
{{- /* A million from a file of values is a float, which Go writes as 1e+06. */}}
{{- $text := toString $value }}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}{{ $text = printf "%.0f" $value }}{{ end }}
{{- $_ := set $found $name $text }}
{{- end }}
{{- if not (index $found "KAFKA_BOOTSTRAP_SERVERS") }}
{{- fail "settings.KAFKA_BOOTSTRAP_SERVERS must be set: the embedded broker is for one machine" }}
{{- end }}
{{- if gt (int (default 60 (index .Values.settings "HEADRACE_STOP_GRACE_SECONDS"))) 75 }}
{{- fail "settings.HEADRACE_STOP_GRACE_SECONDS must be at most 75: the code server's container waits no longer for streams" }}
{{- end }}
{{- with .Values.lakehouse.root }}{{ $_ := set $found "HEADRACE_LAKEHOUSE" . }}{{ end }}
{{- with .Values.lakehouse.backupPlace }}{{ $_ := set $found "HEADRACE_BACKUP_PLACE" . }}{{ end }}
{{- if .Values.metrics.enabled }}
{{- $_ := set $found "HEADRACE_METRICS_PORT" (toString .Values.metrics.port) }}
{{- $_ := set $found "HEADRACE_METRICS_ADDRESS" "0.0.0.0" }}
{{- end }}
{{- $conf := .Values.spark.conf }}
{{- if eq .Values.spark.mode "kubernetes" }}
{{- $name := include "headrace.fullname" . }}
{{- if not .Values.lakehouse.root }}{{ fail "lakehouse.root must be set for spark.mode kubernetes: executors see no volume of the platform's pod" }}{{ end }}
{{- $_ := set $found "HEADRACE_SPARK_MASTER" "k8s://https://kubernetes.default.svc" }}
{{- $_ := set $found "HEADRACE_EXECUTORS" (toString .Values.spark.executors) }}
{{- $_ := set $found "HEADRACE_EXECUTOR_CORES" (toString .Values.spark.executorCores) }}
{{- $_ := set $found "HEADRACE_EXECUTOR_MEMORY_MIB" (toString .Values.spark.executorMemoryMiB) }}
{{- $_ := set $found "HEADRACE_DRIVER_BIND_ADDRESS" "0.0.0.0" }}
{{- $_ := set $found "HEADRACE_DRIVER_PORT" (toString .Values.spark.driverPort) }}
{{- $_ := set $found "HEADRACE_DRIVER_BLOCK_MANAGER_PORT" (toString .Values.spark.driverBlockManagerPort) }}
{{- $kubernetes := dict
  "spark.kubernetes.namespace" .Release.Namespace
  "spark.kubernetes.container.image" (required "spark.executorImage must be set for spark.mode kubernetes" .Values.spark.executorImage)
  "spark.kubernetes.authenticate.serviceAccountName" $name
  "spark.kubernetes.driver.pod.name" (printf "%s-code-0" $name)
  "spark.kubernetes.executor.label.app.kubernetes.io/name" (printf "%s-executor" (default .Chart.Name .Values.nameOverride))
  "spark.kubernetes.executor.label.app.kubernetes.io/instance" .Release.Name
  "spark.blockManager.port" (toString .Values.spark.blockManagerPort) }}
{{- $conf = merge (deepCopy $conf) $kubernetes }}
{{- end }}
{{- if $conf }}{{ $_ := set $found "HEADRACE_SPARK_CONF" (toJson $conf) }}{{ end }}
{{- if .Values.networkPolicy.enabled }}
{{- $open := list (toString .Values.postgresql.service.port) }}
{{- range .Values.networkPolicy.egressPorts }}{{ $open = append $open (toString .) }}{{ end }}
{{- range $name := list "KAFKA_BOOTSTRAP_SERVERS" "HEADRACE_SCHEMA_REGISTRY_URL" "HEADRACE_OTLP_ENDPOINT" "HEADRACE_OPENLINEAGE_URL" "HEADRACE_MLFLOW_TRACKING_URI" }}
{{- range $address := splitList "," (get $found $name) }}
{{- $port := regexFind ":[0-9]+(/|$)" (trim $address) | trimPrefix ":" | trimSuffix "/" }}
{{- if not $port }}{{ $port = ternary "80" (ternary "443" "" (hasPrefix "https://" (trim $address))) (hasPrefix "http://" (trim $address)) }}{{ end }}
{{- if and $port (not (has $port $open)) }}
{{- fail (printf "settings.%s names port %s, which networkPolicy.egressPorts does not have: add it there" $name $port) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name := keys $found | sortAlpha }}
{{ $name }}: {{ get $found $name | quote }}
{{- end }}
{{- end }}

{{- define "headrace.dnsAndPostgres" -}}
- ports:
    - {port: {{ .Values.networkPolicy.dnsPort }}, protocol: UDP}
    - {port: {{ .Values.networkPolicy.dnsPort }}, protocol: TCP}
- ports:
    - {port: {{ .Values.postgresql.service.port }}}
{{- end }}
