#!/bin/bash
# Runs a command in User-Mode Linux: a second kernel, in a process, on this machine's own files.
#
#   tests/uml/run.sh [-m MEMORY] [-t SECONDS] [-w DIR] COMMAND [ARG...]
#
#   -m  memory of the guest, 512M
# -t  give up after this many seconds, 120
#   -w  a directory that the command may write to; it keeps its path (default: none)
#
# The command is pid 2 or later of the guest, as root, in this working directory, with its output
# here and its exit code as ours. 124: it took too long. 125: the guest did not get that far.
# In the guest: the unified cgroup tree with cpu, io, memory and pids on /sys/fs/cgroup; fresh
# /proc, /sys, /dev, /run, /tmp, /var/tmp, /var/lib and /var/log; modprobe works; all other files
# are this machine's, read-only. There is no network except loopback.
# One CPU, and system calls a hundred times slower: for function, never for timing.
#
# Needs: apt-get install user-mode-linux kmod.
set -eu

memory=512M seconds=120 writable=
while getopts m:t:w: option; do
    case $option in
    m) memory=$OPTARG ;;
    t) seconds=$OPTARG ;;
    w) writable=$(realpath -- "$OPTARG") ;;
    *) exit 125 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { echo "run.sh: no command" >&2; exit 125; }
command -v linux.uml >/dev/null || { echo "run.sh: apt-get install user-mode-linux kmod" >&2; exit 125; }

# Not in /dev/shm, which the guest's own /dev hides. The kernel's control socket goes here too, and
# the guest's memory to a file, which must be in memory.
box=$(mktemp -d /tmp/garth-uml.XXXXXX)
memory_dir=$(mktemp -d /dev/shm/garth-uml.XXXXXX)
trap 'rm -rf "$box" "$memory_dir"' EXIT
mkdir "$box/out"

# The first process of the guest. Quoted here, so that no argument passes through a shell twice
# or through the kernel's command line, which splits at blanks.
{
    echo '#!/bin/bash'
    printf 'command=('; printf ' %q' "$@"; printf ' )\n'
    printf 'here=%q out=%q writable=%q\n' "$PWD" "$box/out" "$writable"
    cat <<'INIT'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
ln -s /proc/self/fd /dev/fd
for name in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${name#*:}" "/dev/${name%:*}"; done
mount -t tmpfs tmpfs /run
mkdir /run/out /run/work
mount -t hostfs -o "$out" none /run/out
[ -z "$writable" ] || mount -t hostfs -o "$writable" none /run/work
for dir in /dev/shm /tmp /var/tmp /var/lib /var/log; do mount -t tmpfs -o mode=1777 tmpfs "$dir"; done
[ -z "$writable" ] || { mkdir -p "$writable" && mount --bind /run/work "$writable"; }
# modprobe finds the guest's modules, whether called from here or by the kernel, although this
# machine's /lib/modules has none for it and is not writable.
mkdir -p /run/lib
ln -s /usr/lib/uml/modules /run/lib/modules
printf '#!/bin/sh\nexec /sbin/modprobe -d /run "$@"\n' >/run/modprobe
chmod +x /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
export MODPROBE_OPTIONS='-d /run'
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
# A console for each of the two outputs, where a newline stays one; they are terminals, so ask for
# plain text. Kernel messages go to the log on console 0.
exec >/dev/tty1 2>/dev/tty2
stty raw -echo <&1
stty raw -echo <&2
export TERM=dumb NO_COLOR=1
cd "$here" 2>/dev/null || cd /
code=0
"${command[@]}" </dev/null || code=$?
echo "$code" >/run/out/code
exec >/dev/console 2>&1
sync
echo o >/proc/sysrq-trigger
sleep 60
INIT
} >"$box/init"
chmod +x "$box/init"

# In the background, so that a signal to this script reaches the guest immediately: timeout passes
# it on.
TMPDIR=$memory_dir HOME=$box timeout -k 5 "$seconds" linux.uml mem="$memory" umid="garth$$" \
    root=/dev/root rootfstype=hostfs rootflags=/ ro init="$box/init" \
    con=null con0=null,fd:1 con1=null,fd:5 con2=null,fd:6 ssl=null quiet \
    5>&1 6>&2 >"$box/log" 2>&1 </dev/null &
guest=$!
trap 'kill "$guest" 2>/dev/null; wait "$guest" || true; exit 125' TERM INT HUP
code=0
wait "$guest" || code=$?
if [ -s "$box/out/code" ]; then
    exit "$(cat "$box/out/code")"
fi
tail -n 40 "$box/log" >&2
[ "$code" = 124 ] && { echo "run.sh: not done in $seconds s" >&2; exit 124; }
echo "run.sh: the guest ended before the command did" >&2
exit 125
