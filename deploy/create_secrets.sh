#!/bin/sh
# Creates the files that docker-compose.yml mounts as secrets, and leaves those that are there as they are.
# Usage: deploy/create_secrets.sh [folder]     Values are taken from the environment, else from .env, else made.
# Of .env the lines of secrets alone are read, as Compose reads them, but that no $ is replaced. Nothing in it is run.
# Only this user can enter the folder. The files themselves are readable: a container's user is another one.
set -eu
folder=${1:-deploy/secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

find_value() { # variable; sets `value`, empty where nobody has set it
    eval "value=\${$1-}"
    if [ -n "$value" ] || [ ! -f .env ]; then return; fi
    value=$(sed -nE "s/^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=[[:space:]]*//p" .env | tail -n 1 | tr -d '\r')
    case $value in
    "'"*"'"*) value=$(printf %s "$value" | sed -E "s/^'([^']*)'.*/\1/") ;;
    '"'*'"'*) value=$(printf %s "$value" | sed -E 's/^"(([^"\]|\\.)*)".*/\1/; s/\\(["\])/\1/g') ;;
    [\'\"]*)
        echo "$1 in .env has more than one line: write its value into a file of its name in $folder instead." >&2
        exit 1
        ;;
    *) value=$(printf %s "$value" | sed -E 's/(^|[[:space:]]+)#.*//; s/[[:space:]]+$//') ;;
    esac
}

make_password() { # sets `value`
    value=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    if [ "${#value}" -ne 48 ]; then
        echo "No password could be made from /dev/urandom." >&2
        exit 1
    fi
}

create() { # name value
    if [ ! -e "$folder/$1" ]; then # whole or not at all: a full disk must leave no empty password behind
        printf %s "$2" > "$folder/.$1.new"
        mv "$folder/.$1.new" "$folder/$1"
    fi
    chmod 644 "$folder/$1"
}

for name in postgres_password grafana_password; do
    find_value "$(echo $name | tr '[:lower:]' '[:upper:]')"
    if [ -z "$value" ]; then make_password; fi
    create $name "$value"
done
for name in kafka_config schema_registry_config storage_options spark_conf; do
    find_value "HEADRACE_$(echo $name | tr '[:lower:]' '[:upper:]')"
    create headrace_$name "${value:-{\}}"
done
for name in notify_url alerts_url alerts_smtp_url spark_secret postgres_url openlineage_api_key; do
    find_value "HEADRACE_$(echo $name | tr '[:lower:]' '[:upper:]')"
    create headrace_$name "$value"
done
# A backslash begins an escape in such a file.
create registry.properties "apicurio.datasource.password=$(sed 's/\\/\\\\/g' "$folder/postgres_password")"
if [ ! -e "$folder/object_store_identities" ]; then
    make_password
    # What headrace_storage_options is to have where the tables lie in the stack's object store.
    rm -f "$folder/object_store_options"
    create object_store_options '{"aws_endpoint_url": "http://object-store:8333", "aws_access_key_id": "headrace",
  "aws_secret_access_key": "'"$value"'"}'
    create object_store_identities '{"identities": [{"name": "headrace", "actions": ["Admin"], "credentials":
  [{"accessKey": "headrace", "secretKey": "'"$value"'"}]}]}'
fi
echo "Secrets are in $folder. Edit the files there; docker-compose.yml mounts them."
