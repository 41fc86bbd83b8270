# What the job's container runs, with the shell that the courier lends it, in whatever image.
# Before this stand, for each attempt, its variables and its command: `export NAME='value'` and `set -- 'command' …`.
box=/rungraph/box
child=
early=
trap 'asked=1; if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null; else early=1; fi' TERM
trap '[ -z "$early" ] || exit 143' EXIT # a signal breaks off what it waits in, too, and that would be an exit with 2

# An engine that dies while it starts a container may start it again, or the node make another in the same pod, beside
# the first or after it. What may have run does not run twice: the pod's own volume keeps the mark of the first.
(set -C && : >"$box/begun") 2>/dev/null || {
    printf '%s' "its container was started a second time" >/dev/termination-log
    exit 125
}

export RUNGRAPH_INPUT=/mnt/input RUNGRAPH_OUTPUT=/mnt/output RUNGRAPH_SPOOL=/mnt/spool
export PYTHONUNBUFFERED=1 PYTHONPATH="/mnt/client${PYTHONPATH:+:$PYTHONPATH}"
[ -w "${HOME:-/}" ] || export HOME="$box/home"

found=
set -f
case $1 in
*/*) [ -f "$1" ] && [ -x "$1" ] && found=1 ;;
*)
    IFS=:
    for folder in $PATH; do
        [ -f "${folder:-.}/$1" ] && [ -x "${folder:-.}/$1" ] && found=1
    done
    unset IFS
    ;;
esac
set +f
[ -n "$found" ] || printf '%s' "there is no command $1 in $PWD or in $PATH" >"$box/rejected"

# Here it waits, until the courier reads: until every worker of the gang is there.
exec 3>"$box/stdout" 4>"$box/stderr"
[ -n "$found" ] || exit 127
. "$box/peers.sh"
[ -z "$early" ] || {
    echo 143 >"$box/exit"
    exit 143
}

(exec "$@") </dev/null >&3 2>&4 3>&- 4>&- &
child=$!
[ -z "$early" ] || kill -TERM "$child" # it came between the two
early=
exec 3>&- 4>&-
(while read -r signal; do kill -"$signal" "$child"; done) <"$box/control" >/dev/null 2>&1 &

while :; do
    asked=
    wait "$child"
    code=$?
    [ -n "$asked" ] || break
done
# A pod that is being deleted says nothing of its containers before all of them are gone; this does.
echo "$code" >"$box/exit"
exit "$code"
