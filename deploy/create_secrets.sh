#!/bin/sh
# Creates the files that docker-compose.yml mounts as secrets, and leaves those that are there as they are.
# Usage: deploy/create_secrets.sh [folder]     Values are taken from the environment, else from .env, else made.
# Only this user can enter the folder. The files themselves are readable: a container's user is another one.
set -eu
folder=${1:-deploy/secrets}
if [ -f .env ]; then
    given=$(export -p)
    . ./.env
    eval "$given"
fi
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

create() { # name value
    [ -e "$folder/$1" ] || printf %s "$2" > "$folder/$1"
    chmod 644 "$folder/$1"
}
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

create postgres_password "${POSTGRES_PASSWORD:-$(random)}"
create grafana_password "${GRAFANA_PASSWORD:-$(random)}"
create headrace_kafka_config "${HEADRACE_KAFKA_CONFIG:-{\}}"
create headrace_schema_registry_config "${HEADRACE_SCHEMA_REGISTRY_CONFIG:-{\}}"
create headrace_storage_options "${HEADRACE_STORAGE_OPTIONS:-{\}}"
create headrace_spark_conf "${HEADRACE_SPARK_CONF:-{\}}"
create headrace_notify_url "${HEADRACE_NOTIFY_URL:-}"
create headrace_alerts_smtp_url "${HEADRACE_ALERTS_SMTP_URL:-}"
create headrace_alerts_url "${HEADRACE_ALERTS_URL:-}"
create headrace_spark_secret "${HEADRACE_SPARK_SECRET:-}"
create headrace_postgres_url "${HEADRACE_POSTGRES_URL:-}"
create headrace_openlineage_api_key "${HEADRACE_OPENLINEAGE_API_KEY:-}"
create registry.properties "apicurio.datasource.password=$(cat "$folder/postgres_password")"
if [ ! -e "$folder/object_store_identities" ]; then
    secret=$(random)
    create object_store_identities '{"identities": [{"name": "headrace", "actions": ["Admin"], "credentials":
  [{"accessKey": "headrace", "secretKey": "'"$secret"'"}]}]}'
    # What headrace_storage_options is to have where the tables lie in the stack's object store.
    create object_store_options '{"aws_endpoint_url": "http://object-store:8333", "aws_access_key_id": "headrace",
  "aws_secret_access_key": "'"$secret"'"}'
fi
echo "Secrets are in $folder. Edit the files there; docker-compose.yml mounts them."
