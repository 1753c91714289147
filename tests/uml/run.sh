#!/bin/bash
# Runs a command in User-Mode Linux: a second kernel, in a process, on this machine's own files.
#
#   tests/uml/run.sh [-m MEMORY] [-t SECONDS] [-w DIR] COMMAND [ARG...]
#
#   -m  memory of the guest, 512M
#   -t  give up after so many seconds, 120
#   -w  a directory that the command may write to; it keeps its path (default: none)
#
# The command is pid 2 or later of the guest, as root, in this working directory, with its output
# here and its exit code as ours. 124: it took too long. 125: the guest did not get that far.
# In the guest: the unified cgroup tree with cpu, cpuset, io, memory and pids on /sys/fs/cgroup;
# fresh /proc, /sys, /dev, /run, /tmp, /var/tmp and /var/lib; modprobe finds the guest's modules;
# all other files are this machine's, read-only. There is no network but loopback.
# One CPU, and system calls a hundred times slower: for function, never for timing.
#
# Needs: apt-get install user-mode-linux.
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
command -v linux.uml >/dev/null || { echo "run.sh: apt-get install user-mode-linux" >&2; exit 125; }

# The kernel keeps the guest's memory in a file under TMPDIR, which must be in memory and
# executable; and its control socket in HOME.
box=$(mktemp -d /dev/shm/garth-uml.XXXXXX)
trap 'rm -rf "$box"' EXIT
mkdir "$box/out"

# The first process of the guest. Quoted here, so that no argument passes through a shell twice
# or through the kernel's command line, which splits at blanks.
{
    echo '#!/bin/bash'
    printf 'command=('; printf ' %q' "$@"; printf ' )\n'
    printf 'here=%q out=%q writable=%q uid=%q\n' "$PWD" "$box/out" "$writable" "$(id -u)"
    cat <<'INIT'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
# What the command may write to is opened before anything is mounted over the way to it.
exec 3</
mount -t tmpfs tmpfs /run
mkdir /run/out /run/work
mount -t hostfs -o "$out" none /run/out
[ -z "$writable" ] || mount -t hostfs -o "$writable" none /run/work
for dir in /dev/shm /tmp /var/tmp /var/lib /var/log; do mount -t tmpfs -o mode=1777 tmpfs "$dir"; done
[ -z "$writable" ] || { mkdir -p "$writable" && mount --bind /run/work "$writable"; }
modules=/lib/modules/$(uname -r)
mount -t tmpfs tmpfs /lib/modules && mkdir "$modules" && mount --bind "/usr/lib/uml$modules" "$modules" ||
    mount --bind "/usr/lib/uml/modules/$(uname -r)" "$modules"
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
# A new line stays one, and the kernel's own remarks (who was killed for memory) stay out.
stty raw -echo 2>/dev/null
dmesg -n 1
cd "$here" 2>/dev/null || cd /
code=0
"${command[@]}" </dev/null || code=$?
echo "$code" >/run/out/code
sync
echo o >/proc/sysrq-trigger
sleep 60
INIT
} >"$box/init"
chmod +x "$box/init"

# An own process group, so that nothing of the kernel's many processes outlives this script.
code=0
TMPDIR=$box HOME=$box timeout -k 5 "$seconds" linux.uml mem="$memory" umid="garth$$" \
    root=/dev/root rootfstype=hostfs rootflags=/ ro init="$box/init" \
    con=null con0=fd:0,fd:1 ssl=null quiet </dev/null 2>"$box/err" || code=$?
if [ -s "$box/out/code" ]; then
    exit "$(cat "$box/out/code")"
fi
cat "$box/err" >&2
[ "$code" = 124 ] && { echo "run.sh: not done in $seconds s" >&2; exit 124; }
echo "run.sh: the guest ended before the command did" >&2
exit 125
