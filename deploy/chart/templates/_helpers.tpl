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

{{/* A quantity of the values (500m, 0.5, 64Mi, 1G) as a number. */}}
{{- define "overcommit.amount" -}}
{{- $units := dict "m" 0.001 "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 -}}
{{- /* Rounded, for 70 × 0.001 is not 0.07. */ -}}
{{- round (mulf (regexFind "^[0-9.]+" . | float64) (get $units (regexFind "[A-Za-z]*$" .))) 6 -}}
{{- end -}}

{{/* Nothing, or a refusal: no pod may request more than its limit. Called with (list request limit "name of the request"
"name of the limit"). */}}
{{- define "overcommit.within" -}}
{{- $request := index . 0 -}}{{- $limit := index . 1 -}}
{{- if gt (include "overcommit.amount" $request | float64) (include "overcommit.amount" $limit | float64) -}}
{{- printf "%s is %s, more than %s, which is %s: write %s or less, or a higher limit" (index . 2) $request (index . 3) $limit $limit | fail -}}
{{- end -}}
{{- end -}}

{{/* Nothing, or a refusal of what the API server would refuse and a schema cannot explain. Called with (list tolerations
"name of the value"). */}}
{{- define "overcommit.tolerations" -}}
{{- $name := index . 1 -}}
{{- range $at, $one := index . 0 -}}
{{- $this := printf "%s[%d]" $name $at -}}
{{- $operator := $one.operator | default "Equal" -}}
{{- if and (eq $operator "Exists") $one.value -}}
{{- printf "%s: operator Exists takes no value, and value is %q: leave the value out, or write operator: Equal" $this $one.value | fail -}}
{{- end -}}
{{- if and (ne $operator "Exists") (not $one.key) -}}
{{- printf "%s: operator %s needs a key: write the taint's key, or operator: Exists to tolerate every taint" $this $operator | fail -}}
{{- end -}}
{{- if and (hasKey $one "tolerationSeconds") (ne ($one.effect | default "") "NoExecute") -}}
{{- printf "%s: tolerationSeconds needs effect: NoExecute: write that, or leave tolerationSeconds out" $this | fail -}}
{{- end -}}
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
