{{- define "culling.name" -}}
{{- if contains .Chart.Name .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end }}

{{- define "culling.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "culling.secret" -}}
{{ .Values.secret.existing | default (include "culling.name" .) }}
{{- end }}

{{- define "culling.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "culling.labels" -}}
{{ include "culling.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "culling.pod" -}}
serviceAccountName: {{ include "culling.name" . }}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "culling.container" -}}
image: {{ include "culling.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* Where index and bytes lie: what every process of ours is told. */}}
{{- define "culling.store" -}}
- name: CULLING_STORE__URL
  valueFrom: { secretKeyRef: { name: {{ include "culling.secret" . }}, key: database-url } }
- name: CULLING_STORE__OBJECTS
  value: {{ .Values.bucket.objects | quote }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: { secretKeyRef: { name: {{ include "culling.secret" . }}, key: s3-key } }
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: { secretKeyRef: { name: {{ include "culling.secret" . }}, key: s3-secret } }
- name: AWS_REGION
  value: {{ .Values.bucket.region | quote }}
{{- with .Values.bucket.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- if .Values.bucket.allowHttp }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "culling.rayToken" -}}
- name: RAY_AUTH_MODE
  value: token
- name: RAY_AUTH_TOKEN
  valueFrom: { secretKeyRef: { name: {{ include "culling.secret" . }}, key: ray-token } }
{{- end }}

{{- define "culling.keyVolume" -}}
- name: keys
  secret:
    secretName: {{ include "culling.secret" .root }}
    # Root's, and the group's of the pod to read; the service refuses a key that anybody else may.
    defaultMode: 0440
    items:
      {{- range .keys }}
      - { key: {{ . }}, path: {{ . }} }
      {{- end }}
{{- end }}

{{- define "culling.keyMount" -}}
- { name: keys, mountPath: /keys, readOnly: true }
{{- end }}

{{- define "culling.mounts" -}}
- { name: data, mountPath: /var/lib/culling }
- { name: tmp, mountPath: /tmp }
{{- end }}

{{- define "culling.rayContainer" -}}
{{- include "culling.container" . }}
env:
  {{- include "culling.store" . | nindent 2 }}
  {{- include "culling.rayToken" . | nindent 2 }}
  # Ray would have its workers step back by 15, though nothing else runs there.
  - name: RAY_worker_niceness
    value: "0"
volumeMounts:
  {{- include "culling.mounts" . | nindent 2 }}
  - { name: shared-memory, mountPath: /dev/shm }
# Those that KubeRay would add need wget and Ray's dashboard.
readinessProbe:
  exec: { command: [/opt/culling/bin/ray, health-check] }
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 6
livenessProbe:
  exec: { command: [/opt/culling/bin/ray, health-check] }
  initialDelaySeconds: 60
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 12
{{- end }}

{{- define "culling.rayVolumes" -}}
- name: data
  emptyDir: { sizeLimit: {{ .Values.control.scratch }} }
- name: tmp
  emptyDir: { sizeLimit: 10Gi }
- name: shared-memory
  emptyDir: { medium: Memory, sizeLimit: 2Gi }
{{- end }}
