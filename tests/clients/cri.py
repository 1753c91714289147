#!/usr/bin/python3
"""A client of the Container Runtime Interface, as much of one as kubelet is.

usage: cri.py SOCKET METHOD [JSON [FIELD]]
       cri.py SOCKET Exec|Attach|PortForward JSON [spdy|websocket [LINESxCOLUMNS]]

Calls METHOD of runtime.v1.RuntimeService with the message that JSON describes, and prints the answer as
JSON, or the one FIELD of it, a path as status.exit_code. Fails with what the service says. Exec and Attach
have our input and output, and the exit code is the program's; PortForward sends our input to each of its
ports and prints the answers. The messages are those of the interface's version 1, as far as the tests need
them, by the numbers of their fields.
"""

import json
import sys

import grpc

# Each field: its number and its type; in a list, or as the values of a map by text, many of it.
MESSAGES = {
    "Metadata": {"name": (1, str), "uid": (2, str), "namespace": (3, str), "attempt": (4, int)},
    "NamespaceOption": {"network": (1, int), "pid": (2, int), "ipc": (3, int), "target_id": (4, str)},
    "Int64Value": {"value": (1, int)},
    "SecurityProfile": {"profile_type": (1, int), "localhost_ref": (2, str)},
    "SandboxSecurity": {
        "namespace_options": (1, "NamespaceOption"), "run_as_user": (3, "Int64Value"),
        "readonly_rootfs": (4, bool), "privileged": (6, bool), "seccomp": (9, "SecurityProfile"),
    },
    "LinuxSandbox": {
        "cgroup_parent": (1, str), "security_context": (2, "SandboxSecurity"), "sysctls": (3, {str}),
    },
    "DnsConfig": {"servers": (1, [str]), "searches": (2, [str]), "options": (3, [str])},
    "PortMapping": {
        "protocol": (1, int), "container_port": (2, int), "host_port": (3, int), "host_ip": (4, str),
    },
    "SandboxConfig": {
        "metadata": (1, "Metadata"), "hostname": (2, str), "log_directory": (3, str),
        "dns_config": (4, "DnsConfig"), "port_mappings": (5, ["PortMapping"]), "labels": (6, {str}),
        "annotations": (7, {str}), "linux": (8, "LinuxSandbox"),
    },
    "ContainerMetadata": {"name": (1, str), "attempt": (2, int)},
    "Image": {"image": (1, str)},
    "KeyValue": {"key": (1, str), "value": (2, str)},
    "Mount": {"container_path": (1, str), "host_path": (2, str), "readonly": (3, bool)},
    "Resources": {
        "cpu_period": (1, int), "cpu_quota": (2, int), "cpu_shares": (3, int),
        "memory_limit_in_bytes": (4, int), "oom_score_adj": (5, int), "cpuset_cpus": (6, str),
    },
    "Capability": {"add_capabilities": (1, [str]), "drop_capabilities": (2, [str])},
    "Security": {
        "capabilities": (1, "Capability"), "privileged": (2, bool),
        "namespace_options": (3, "NamespaceOption"), "run_as_user": (5, "Int64Value"),
        "readonly_rootfs": (7, bool), "no_new_privs": (11, bool), "run_as_group": (12, "Int64Value"),
        "masked_paths": (13, [str]), "readonly_paths": (14, [str]), "seccomp": (15, "SecurityProfile"),
    },
    "LinuxContainer": {"resources": (1, "Resources"), "security_context": (2, "Security")},
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata"), "image": (2, "Image"), "command": (3, [str]),
        "args": (4, [str]), "working_dir": (5, str), "envs": (6, ["KeyValue"]),
        "mounts": (7, ["Mount"]), "labels": (9, {str}), "annotations": (10, {str}),
        "log_path": (11, str), "stdin": (12, bool), "stdin_once": (13, bool), "tty": (14, bool),
        "linux": (15, "LinuxContainer"),
    },
    "SandboxNetwork": {"ip": (1, str)},
    "SandboxStatus": {
        "id": (1, str), "metadata": (2, "Metadata"), "state": (3, int), "network": (5, "SandboxNetwork"),
        "runtime_handler": (9, str),
    },
    "ContainerStatus": {
        "id": (1, str), "metadata": (2, "ContainerMetadata"), "state": (3, int), "created_at": (4, int),
        "started_at": (5, int), "finished_at": (6, int), "exit_code": (7, int), "reason": (10, str),
        "message": (11, str),
    },
    "Usage": {"timestamp": (1, int), "used": (2, "Int64Value")},
    "Attributes": {"id": (1, str), "metadata": (2, "ContainerMetadata")},
    "Stats": {"attributes": (1, "Attributes"), "cpu": (2, "Usage"), "memory": (3, "Usage")},
    "Item": {"id": (1, str)},
}

ID = {"id": (1, str)}
URL = {"url": (1, str)}
METHODS = {
    "Version": ({"version": (1, str)}, {"runtime_name": (2, str), "runtime_api_version": (4, str)}),
    "RunPodSandbox": ({"config": (1, "SandboxConfig"), "runtime_handler": (2, str)}, ID),
    "PodSandboxStatus": (ID, {"status": (1, "SandboxStatus")}),
    "StopPodSandbox": (ID, {}),
    "RemovePodSandbox": (ID, {}),
    "ListPodSandbox": ({}, {"items": (1, ["Item"])}),
    "CreateContainer": (
        {"sandbox": (1, str), "config": (2, "ContainerConfig"), "sandbox_config": (3, "SandboxConfig")},
        ID,
    ),
    "StartContainer": (ID, {}),
    "StopContainer": ({"id": (1, str), "timeout": (2, int)}, {}),
    "RemoveContainer": (ID, {}),
    "ListContainers": ({}, {"items": (1, ["Item"])}),
    "ContainerStatus": (ID, {"status": (1, "ContainerStatus")}),
    "ContainerStats": (ID, {"stats": (1, "Stats")}),
    "UpdateContainerResources": ({"id": (1, str), "linux": (2, "Resources")}, {}),
    "ExecSync": (
        {"id": (1, str), "cmd": (2, [str]), "timeout": (3, int)},
        {"stdout": (1, str), "stderr": (2, str), "exit_code": (3, int)},
    ),
    "Exec": (
        {
            "id": (1, str), "cmd": (2, [str]), "tty": (3, bool), "stdin": (4, bool), "stdout": (5, bool),
            "stderr": (6, bool),
        },
        URL,
    ),
    "Attach": (
        {"id": (1, str), "stdin": (2, bool), "tty": (3, bool), "stdout": (4, bool), "stderr": (5, bool)},
        URL,
    ),
    "PortForward": ({"id": (1, str), "port": (2, [int])}, URL),
}


def varint(number):
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def encode_one(number, kind, value):
    if kind in (int, bool):
        return varint(number << 3) + varint(int(value))
    data = value.encode() if kind is str else encode(MESSAGES[kind], value)
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode(fields, message):
    encoded = b""
    for name, value in message.items():
        number, kind = fields[name]
        if isinstance(kind, list):
            encoded += b"".join(encode_one(number, kind[0], item) for item in value)
        elif isinstance(kind, set):
            for key, item in value.items():
                encoded += encode_one(number, "KeyValue", {"key": key, "value": item})
        else:
            encoded += encode_one(number, kind, value)
    return encoded


def read_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def decode(fields, data):
    # Zero values are not sent.
    empty = {int: 0, bool: False, str: ""}
    message = {}
    for name, (_, kind) in fields.items():
        message[name] = [] if isinstance(kind, list) else empty.get(kind, {})
    names = {number: (name, kind) for name, (number, kind) in fields.items()}
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
            value -= (1 << 64) if value >> 63 else 0
        elif tag & 7 == 2:
            size, at = read_varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            at += 8 if tag & 7 == 1 else 4
            continue
        if tag >> 3 not in names:
            continue
        name, kind = names[tag >> 3]
        one = kind[0] if isinstance(kind, list) else kind
        if one is str:
            value = value.decode(errors="replace")
        elif isinstance(one, str):
            value = decode(MESSAGES[one], value)
        if isinstance(kind, list):
            message[name].append(value)
        else:
            message[name] = value
    return message


def main():
    socket, method = sys.argv[1:3]
    asks, answers = METHODS[method]
    request = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    # As much as kubelet takes in one message.
    limit = [("grpc.max_receive_message_length", 16 << 20)]
    with grpc.insecure_channel("unix://" + socket, limit) as channel:
        call = channel.unary_unary(
            "/runtime.v1.RuntimeService/" + method,
            request_serializer=lambda message: encode(asks, message),
            response_deserializer=lambda data: decode(answers, data),
        )
        try:
            answer = call(request, timeout=60)
        except grpc.RpcError as error:
            sys.exit(f"{method}: {error.code().name}: {error.details()}")
    if answers is URL:
        import cri_streams
        how, size = sys.argv[4:] + ["spdy", ""][len(sys.argv) - 4:]
        if method == "PortForward":
            sys.exit(cri_streams.forward(answer["url"], request["port"]))
        sys.exit(cri_streams.run(answer["url"], request, how, size))
    if len(sys.argv) <= 4:
        print(json.dumps(answer))
        return
    for name in sys.argv[4].split("."):
        answer = answer[name]
    if isinstance(answer, list):
        answer = "\n".join(item["id"] for item in answer)
    sys.stdout.write(f"{answer}\n" if answer != "" else "")


main()
