# What the cases use. Runs one of them: lib.sh FUNCTION. A case is a function whose commands all
# succeed; its output is shown if one does not, and lines that begin with "# " always.
set -euo pipefail
# Some sessions lack them.
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '# %s\n' "$*"; }
fail() { printf 'here: %s\n' "$*"; exit 1; }

# contains TEXT WORDS: fails, showing the text, if it does not.
contains() { case $1 in *"$2"*) ;; *) fail "no \"$2\" in: $1" ;; esac; }
lacks() { case $1 in *"$2"*) fail "\"$2\" in: $1" ;; esac; }
equals() { [ "$1" = "$2" ] || fail "\"$1\" is not \"$2\""; }

# fails COMMAND...: prints its output, if it fails.
fails() { if "$@" 2>&1; then fail "this succeeds: $*"; fi; }

# eventually COMMAND...: within 30 s, as the machine is slow.
eventually() {
    { set +x; } 2>/dev/null
    for _ in $(seq 150); do
        if "$@" >/dev/null 2>&1; then
            set -x
            return
        fi
        sleep 0.2
    done
    fail "not within 30 s: $*"
}

# unit [PROPERTY...] -- COMMAND...: as ExecStart of a unit, with its output and exit code.
unit() {
    local properties=()
    while [ "$1" != -- ]; do properties+=(-p "$1"); shift; done
    shift
    systemd-run ${USER_UNITS:+--user} --quiet --pipe --wait --collect "${properties[@]}" -- "$@" 2>&1
}

# unit_is UNIT PROPERTY VALUE
unit_is() { [ "$(systemctl show -P "$2" "$1")" = "$3" ]; }

# starts_under PROPERTY...: a sandbox starts as ExecStart of such a unit. So does bwrap's, or that
# is reported.
starts_under() {
    local output
    output=$(unit "$@" -- bwrap --ro-bind / / --dev /dev --unshare-pid true) || say "bwrap does not: $output"
    output=$(unit "$@" -- garth wrap -- readlink /proc/self) || fail "$*: $output"
    # The pid shows that it was a sandbox; a message about what was left out may precede it.
    equals "$(tail -n 1 <<<"$output")" 2
    unit "$@" -- garth wrap -- sh -c 'echo x >/dev/null; cat /dev/null; head -c 1 /dev/urandom >/dev/zero'
}

# daemon NAME CHECK -- WRAP...: it is started, answers, and ends when told to.
daemon() {
    local name=$1 check=$2
    shift 3
    garth wrap -d --name "$name" "$@"
    eventually bash -c "$check"
    garth kill "$name"
    eventually is_gone "$name"
}

# Of sandboxes, by name.
is_there() { garth ps -q | grep -qx "$1"; }
is_gone() { ! is_there "$1"; }

# tree NAME: the processes in the cgroups of a unit.
tree() { find "/sys/fs/cgroup$(systemctl show -P ControlGroup "$1")" -name cgroup.procs -exec grep -H . {} +; }

. "$CASES/cases.sh"
set -x
"$1"
