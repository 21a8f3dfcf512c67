# shellcheck shell=bash
# A server with real sandboxes for a script's time; sourced. The script has `die`, and in `sandpool` and `agent` the programs.

# start_server FOLDER LINE...: warm, with these lines of configuration for its pool; FOLDER takes its configuration and
# log. Exports SANDPOOL_ADDRESS, and leaves its PID in `server`.
start_server() {
    local folder=$1 line
    shift
    printf '%s\n' 'listen = "127.0.0.1:0"' '[pools.default]' "$@" >"$folder/server.toml"
    # The client's own variables are not the server's.
    exec {said}< <(exec env -u SANDPOOL_ADDRESS SANDPOOL_AGENT="$agent" \
        "$sandpool" serve --config "$folder/server.toml" 2>"$folder/server.log")
    server=$!
    while read -r -t 60 -u "$said" line; do
        case $line in
        "listening on "*) export SANDPOOL_ADDRESS=${line#listening on } ;;
        ready) return ;;
        esac
    done
    cat "$folder/server.log" >&2
    die "the server did not start"
}
