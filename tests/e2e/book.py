"""Records in the ledger, read and written by doc/format-ledger.md alone ("Blocks")."""
import struct
import zlib

COLUMNS = ("time", "session", "op", "flags", "outcome", "path", "path2", "process", "file", "files", "size", "bytes_read",
           "bytes_written", "detail")
DIFFERENCES = {"time", "session", "path", "process"}
MASK = (1 << 64) - 1


def signed(v):
    return v - (1 << 64) if v >> 63 else v


def varints(data):
    v = shift = 0
    for b in data:
        v |= (b & 0x7f) << shift
        shift += 7
        if not b & 0x80:
            yield v
            v = shift = 0


def varint(v):
    out = bytearray()
    while v >= 0x80:
        out.append(v & 0x7f | 0x80)
        v >>= 7
    out.append(v)
    return bytes(out)


def unpack(data):
    """The records of one block, each a dict."""
    version, n, raw_n = struct.unpack_from("<BHI", data)
    raw = zlib.decompress(data[7:])
    assert version == 1 and len(raw) == raw_n
    columns, at = {}, 4 * len(COLUMNS)
    for name, length in zip(COLUMNS, struct.unpack_from("<14I", raw)):
        columns[name] = raw[at:at + length]
        at += length
    files = [columns["files"][i:i + 16] for i in range(0, len(columns["files"]), 16)]
    values = {}
    for name in COLUMNS:
        if name in ("op", "flags"):
            values[name] = list(columns[name])
        elif name in DIFFERENCES:
            last, values[name] = 0, []
            for v in varints(columns[name]):
                last = signed((last + (v >> 1 ^ -(v & 1))) & MASK)
                values[name].append(last)
        elif name == "file":
            values[name] = [files[i - 1] if i else None for i in varints(columns[name])]
        elif name == "detail":
            p, values[name] = 0, []
            while p < len(columns[name]):
                length = columns[name][p]
                values[name].append(columns[name][p + 1:p + 1 + length].decode())
                p += 1 + length
        elif name != "files":
            values[name] = [signed(v) for v in varints(columns[name])]
    assert all(len(v) == n for v in values.values())
    return [dict(zip(values, row)) for row in zip(*values.values())]


def pack(records):
    columns, files, lasts = {name: b"" for name in COLUMNS}, [], dict.fromkeys(DIFFERENCES, 0)
    for r in records:
        for name in COLUMNS:
            v = r.get(name)
            if name in ("op", "flags"):
                columns[name] += bytes([v])
            elif name in DIFFERENCES:
                d = signed((v - lasts[name]) & MASK)
                lasts[name] = v
                columns[name] += varint((d << 1 ^ d >> 63) & MASK)
            elif name == "file":
                if v is not None and v not in files:
                    files.append(v)
                columns[name] += varint(0 if v is None else files.index(v) + 1)
            elif name == "detail":
                columns[name] += bytes([len(v)]) + v.encode()
            elif name != "files":
                columns[name] += varint(v & MASK)
    columns["files"] = b"".join(files)
    raw = struct.pack("<14I", *(len(columns[name]) for name in COLUMNS)) + b"".join(columns[name] for name in COLUMNS)
    return struct.pack("<BHI", 1, len(records), len(raw)) + zlib.compress(raw, 1)


def read(db):
    """All records, in order of their ids, from 1 on."""
    records = []
    for first, n, data in db.execute("SELECT id, records, data FROM block ORDER BY id"):
        some = unpack(data)
        assert first == len(records) + 1 and len(some) == n
        records += some
    return records


def write(db, records):
    """Puts these in the place of all: fewer than a group."""
    assert len(records) <= 4096
    db.execute("DELETE FROM block")
    times = [r["time"] for r in records]
    db.execute("INSERT INTO block VALUES (1, ?, ?, ?, ?)", (len(records), min(times), max(times), pack(records)))
