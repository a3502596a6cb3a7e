{{/* Prefix of all names: the release's name, with the chart's appended unless it is in there already. */}}
{{- define "overcommit.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 47 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 36 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{- define "overcommit.operator" -}}{{ include "overcommit.fullname" . }}-operator{{- end -}}
{{- define "overcommit.agent" -}}{{ include "overcommit.fullname" . }}-agent{{- end -}}
{{- define "overcommit.release" -}}{{ include "overcommit.fullname" . }}-release{{- end -}}

{{/* Labels that select pods; they never change. Called with (list . "component"). */}}
{{- define "overcommit.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ $.Chart.Name }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of every object. Called with (list . "component"). */}}
{{- define "overcommit.labels" -}}
{{- $ := index . 0 -}}
{{ include "overcommit.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: overcommit
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Reference of an image. Called with (list . .Values.X.image). */}}
{{- define "overcommit.image" -}}
{{- $ := index . 0 -}}{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* A duration of the values (90s, 4m, 1h) in seconds. */}}
{{- define "overcommit.seconds" -}}
{{- $number := regexFind "^[0-9]+" . | int -}}
{{- if hasSuffix "h" . -}}{{ mul $number 3600 }}
{{- else if hasSuffix "m" . -}}{{ mul $number 60 }}
{{- else -}}{{ $number }}
{{- end -}}
{{- end -}}
