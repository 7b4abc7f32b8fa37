"""The bodies of the API's requests: which fields there are, of which type, which must be there."""

import json

NUMBER, TEXT, BOOL = (int, "an integer"), (str, "a string"), (bool, "a boolean")
OBJECT, LIST = (dict, "a map"), (list, "a sequence")

# Resource: field: type; those that must be there are listed in REQUIRED.
FIELDS = {
    "machine-config": {
        "vcpu_count": NUMBER,
        "mem_size_mib": NUMBER,
        "smt": BOOL,
        "track_dirty_pages": BOOL,
        "cpu_template": TEXT,
        "huge_pages": TEXT,
    },
    "boot-source": {"kernel_image_path": TEXT, "initrd_path": TEXT, "boot_args": TEXT},
    "drives": {
        "drive_id": TEXT,
        "partuuid": TEXT,
        "is_root_device": BOOL,
        "cache_type": TEXT,
        "is_read_only": BOOL,
        "path_on_host": TEXT,
        "rate_limiter": OBJECT,
        "io_engine": TEXT,
        "socket": TEXT,
    },
    "network-interfaces": {
        "iface_id": TEXT,
        "host_dev_name": TEXT,
        "guest_mac": TEXT,
        "mtu": NUMBER,
        "rx_rate_limiter": OBJECT,
        "tx_rate_limiter": OBJECT,
    },
    "vsock": {"guest_cid": NUMBER, "uds_path": TEXT, "vsock_id": TEXT},
    "actions": {"action_type": TEXT},
    "vm": {"state": TEXT},
    "snapshot/create": {"snapshot_type": TEXT, "snapshot_path": TEXT, "mem_file_path": TEXT},
    "snapshot/load": {
        "snapshot_path": TEXT,
        "mem_file_path": TEXT,
        "mem_backend": OBJECT,
        "enable_diff_snapshots": BOOL,
        "track_dirty_pages": BOOL,
        "resume_vm": BOOL,
        "network_overrides": LIST,
        "vsock_override": OBJECT,
        "clock_realtime": BOOL,
        "huge_pages": TEXT,
    },
    "mem_backend": {"backend_type": TEXT, "backend_path": TEXT},
    "network_overrides": {"iface_id": TEXT, "host_dev_name": TEXT},
    "vsock_override": {"uds_path": TEXT},
}

REQUIRED = {
    "machine-config": ("vcpu_count", "mem_size_mib"),
    "boot-source": ("kernel_image_path",),
    "drives": ("drive_id", "is_root_device"),
    "network-interfaces": ("iface_id", "host_dev_name"),
    "vsock": ("guest_cid", "uds_path"),
    "actions": ("action_type",),
    "vm": ("state",),
    "snapshot/create": ("snapshot_path", "mem_file_path"),
    "snapshot/load": ("snapshot_path",),
    "mem_backend": ("backend_type", "backend_path"),
    "network_overrides": ("iface_id", "host_dev_name"),
    "vsock_override": ("uds_path",),
}

VALUES = {
    "action_type": ("FlushMetrics", "InstanceStart", "SendCtrlAltDel"),
    "state": ("Paused", "Resumed"),
    "snapshot_type": ("Full", "Diff"),
    "backend_type": ("File", "Uffd"),
    "cache_type": ("Unsafe", "Writeback"),
    "io_engine": ("Sync", "Async"),
}


class Fault(Exception):
    """What is answered by 400."""


def read(resource, text):
    """A request's body as a dict in which all is as it must be."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise malformed(error) from error
    return check(resource, body)


def check(resource, body):
    if not isinstance(body, dict):
        raise malformed(f"invalid type: expected struct {resource}")
    for name, value in body.items():
        if name not in FIELDS[resource]:
            names = ", ".join(f"`{field}`" for field in FIELDS[resource])
            raise malformed(f"unknown field `{name}`, expected one of {names}")
        kind, called = FIELDS[resource][name]
        if type(value) is not kind:
            raise malformed(f"invalid type: {json.dumps(value)}, expected {called}")
        if name in VALUES and value not in VALUES[name]:
            values = ", ".join(f"`{value}`" for value in VALUES[name])
            raise malformed(f"unknown variant `{value}`, expected one of {values}")
    for name in REQUIRED[resource]:
        if name not in body:
            raise malformed(f"missing field `{name}`")
    return body


def malformed(why):
    return Fault(f"An error occurred when deserializing the json body of a request: {why}.")
