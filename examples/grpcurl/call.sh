# shellcheck shell=bash
# Calling Sandpool by grpcurl; sourced by the others. Reflection is there, so no proto files are needed.

# call METHOD REQUEST: prints the answer. A refused call fails, and prints its status instead, as JSON.
call() {
    # With TLS and a token: no -plaintext, but -cacert ca.crt -H "authorization: Bearer $SANDPOOL_TOKEN".
    grpcurl -plaintext -max-time 60 -format-error -d "$2" \
        "${SANDPOOL_ADDRESS:-127.0.0.1:50051}" "sandpool.v1.$1"
}

# run SPEC: runs a program whole. "text" asks for its output as text, since JSON shows bytes as base64.
run() {
    call ExecutionService/Run "{\"spec\": $1, \"text\": true}"
}

# bytes TEXT: as JSON has them.
bytes() {
    printf '%s' "$1" | base64 | tr -d '\n'
}

# python SOURCE: the same as a JSON object, {"language": "python", "source": ...}.
python() {
    jq --null-input --compact-output --arg source "$1" '{language: "python", $source}'
}
