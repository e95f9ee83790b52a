{{- define "datafast.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The name of all objects. */ -}}
{{- define "datafast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "datafast.name" .) .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "datafast.name" .) | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "datafast.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "datafast.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ required "serviceAccount.name: say which one is to be used, or set serviceAccount.create" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- /* What the Deployment selects by; it can't change in an upgrade. A namespace has one operator: they would share the lease. */ -}}
{{- define "datafast.selector" -}}
app.kubernetes.io/name: {{ include "datafast.name" . }}
{{- end }}

{{- define "datafast.labels" -}}
{{ include "datafast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "datafast.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* The port that it listens on. */ -}}
{{- define "datafast.port" -}}
{{ regexFind "[0-9]+$" .Values.operator.listen }}
{{- end }}

{{- /* OpenShift gives each namespace a range of user ids, and refuses those that are none of it. */ -}}
{{- define "datafast.podSecurityContext" -}}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1" -}}
{{ omit .Values.podSecurityContext "runAsUser" "runAsGroup" "fsGroup" | toYaml }}
{{- else -}}
{{ toYaml .Values.podSecurityContext }}
{{- end -}}
{{- end }}
