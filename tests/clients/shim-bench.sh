#!/bin/bash
# Garth's shim beside containerd's with runc, in one run: the table of docs/benchmarks.md. SHIM is Garth's; on a quiet machine.
#   SHIM=.../containerd-shim-garth-v1 tests/clients/shim-bench.sh /usr/sbin/runc
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh" || exit 2

private_containerd
use_shim containerd-shim-garth-v1 || die "no SHIM"
start_containerd
import_image

/usr/bin/python3 - <<'END'
import os, statistics, subprocess, time
import grpc

IMAGE = 'localhost/testimage:latest'
KINDS = {'runc': 'io.containerd.runc.v2', 'garth': 'io.containerd.garth.v1'}
PROGRAM = {'runc': 'containerd-shim-runc-v2', 'garth': 'containerd-shim-garth-v1'}
channel = grpc.insecure_channel('unix:///run/test/sock')


def ctr(*words):
    ran = subprocess.run(['ctr', *words], capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"ctr {' '.join(words)}: exit code {ran.returncode}: {ran.stderr.strip()}")
    return ran.stdout


def run(kind, name, *words, flags=()):
    return ctr('run', '--runtime', KINDS[kind], *flags, IMAGE, name, *words)


def message(*fields):
    """Pairs of a number and a string or a message."""
    out = b''
    for number, value in fields:
        value = value.encode() if isinstance(value, str) else value
        out += bytes([number << 3 | 2]) + varint(len(value)) + value
    return out


def varint(number):
    out = b''
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def call(method, request):
    path = '/containerd.services.tasks.v1.Tasks/' + method
    metadata = (('containerd-namespace', 'default'),)
    return channel.unary_unary(path)(request, metadata=metadata, timeout=30)


def interleaved(rounds, one):
    figures = {kind: [] for kind in KINDS}
    for number in range(rounds + 1):
        for kind in KINDS if number % 2 else reversed(KINDS):
            figure = one(kind, f'{kind}-{number}')
            if number:
                figures[kind].append(figure)
    return figures


def timed(work):
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e3


def row(name, figures, unit):
    middle = {kind: statistics.median(values) for kind, values in figures.items()}

    def cell(kind):
        if len(figures[kind]) < 3:
            return f'{middle[kind]:.0f}'
        tenths = statistics.quantiles(figures[kind], n=10)
        return f'{middle[kind]:.1f} ({tenths[0]:.1f} to {tenths[-1]:.1f})'

    cells = [cell(kind) for kind in KINDS]
    print(f'| {name}, {unit} | {cells[0]} | {cells[1]} | {middle["garth"] / middle["runc"]:.2f} |', flush=True)


def tasks_api(kind, name):
    """The container and its snapshot exist; the clock is on for Create and Start alone."""
    ctr('container', 'create', '--runtime', KINDS[kind], IMAGE, name, 'true')
    # mount -t overlay overlay /rootfs -o index=off,...
    _, _, fs, source, _, _, options = ctr('snapshot', 'mounts', '/rootfs', name).split()
    mount = message((1, fs), (2, source), *((4, option) for option in options.split(',')))
    took = timed(lambda: (call('Create', message((1, name), (3, mount))), call('Start', message((1, name)))))
    call('Wait', message((1, name)))
    call('Delete', message((1, name)))
    ctr('container', 'rm', name)
    return took


def resident(kind):
    pids = subprocess.run(['pgrep', '-f', PROGRAM[kind] + '.* -id'], capture_output=True, text=True).stdout.split()
    total = 0
    for pid in pids:
        with open(f'/proc/{pid}/smaps_rollup') as rollup:
            total += next(int(line.split()[1]) for line in rollup if line.startswith('Rss'))
    return total / max(len(pids), 1)


def cpu(kind):
    """Seconds of processor time of the shims of a kind."""
    total = 0
    for pid in subprocess.run(['pgrep', '-f', PROGRAM[kind] + '.* -id'], capture_output=True, text=True).stdout.split():
        with open(f'/proc/{pid}/stat') as stat:
            fields = stat.read().rsplit(')', 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
    return total


print('| | containerd-shim-runc-v2 + runc | containerd-shim-garth-v1 | ratio |\n|---|---|---|---|')
row('`ctr run --rm IMAGE NAME true`', interleaved(40, lambda kind, name: timed(lambda: run(kind, name, 'true', flags=['--rm']))), 'ms')
row('Create and Start of a task, by the API', interleaved(40, tasks_api), 'ms')
for kind in KINDS:
    run(kind, 'box-' + kind, 'sleep', '1000', flags=['-d'])
row('`ctr task exec`', interleaved(40, lambda kind, name: timed(lambda: ctr('task', 'exec', '--exec-id', name, 'box-' + kind, 'true'))), 'ms')
time.sleep(2)
row('resident, a pod of one', {kind: [resident(kind)] for kind in KINDS}, 'kB')
for kind in KINDS:
    ctr('task', 'kill', '-s', 'KILL', 'box-' + kind)
    time.sleep(1)
    ctr('task', 'rm', 'box-' + kind)
    for number in range(10):
        # The annotation by which the containers of a pod share a shim.
        pod = '--annotation=io.containerd.runc.v2.group=pod-' + kind
        run(kind, f'pod-{kind}-{number}', 'sleep', '1000', flags=['-d', pod])
time.sleep(2)
row('resident, a pod of ten', {kind: [resident(kind)] for kind in KINDS}, 'kB')
LOUD = 'while :; do dd if=/dev/zero bs=64k count=800 2>/dev/null; sleep 0.9; done'
seconds = {}
for kind in KINDS:
    for number in range(10):
        ctr('task', 'kill', '-s', 'KILL', f'pod-{kind}-{number}')
    time.sleep(1)
    for number in range(10):
        ctr('task', 'rm', f'pod-{kind}-{number}')
    client = subprocess.Popen(['ctr', 'run', '--runtime', KINDS[kind], '--rm', IMAGE, 'loud-' + kind, 'sh', '-c', LOUD],
                              stdout=subprocess.DEVNULL)
    time.sleep(2)
    begun, before = time.time(), cpu(kind)
    time.sleep(6)
    seconds[kind] = [(cpu(kind) - before) / (time.time() - begun) * 1e3]
    ctr('task', 'kill', '-s', 'KILL', 'loud-' + kind)
    client.wait()
row('processor time of the shim at 50 MB of output a second', seconds, 'ms a second')
END
