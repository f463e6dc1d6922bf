{{- define "anneal.labels" -}}
app.kubernetes.io/name: anneal
app.kubernetes.io/part-of: anneal
{{- end }}
