#!/usr/bin/python3
"""The adversary: has every copy that was ever made, and tries to open what is in them.  Prints one JSON object.

usage: adversary.py [--slot DIR]... [--recovery KEY]... [--held DIR]... [--memory FILE]... [--passphrase TEXT]... COPY...

A COPY is a state directory or a part of one (store/, keyd/keys/, ledger/) of any time; a slot is the folder keyd/slot;
a recovery key is its secret's file, and what is held for it are copies of root keys in a folder; memory is an image of
processes.  Everything is tried with everything: each half of each slot, each 32 bytes of memory as a
root or client key, each ring under each root key, each tree under each client key, each file under each tree.

Written from doc/FORMAT.md and doc/format-keys.md alone, with what tests/vectors/read_store.py was written with; no code is
shared with the product.  What it does not care about: places, floors, the chain: an adversary takes what he can read."""
import argparse
import collections
import ctypes
import ctypes.util
import hashlib
import json
import os
import sqlite3
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors"))
import read_store  # noqa: E402
from read_store import Damage, NAME, blake, need, unbase64  # noqa: E402

import nacl.bindings  # noqa: E402
import nacl.exceptions  # noqa: E402

AUDIT = 4
slow_hchacha20 = read_store.hchacha20
sodium = ctypes.CDLL(ctypes.util.find_library("sodium"))


def hchacha20(key, nonce):
    out = ctypes.create_string_buffer(32)
    sodium.crypto_core_hchacha20(out, nonce, key, None)
    return out.raw


assert hchacha20(bytes(range(32)), bytes(16)) == slow_hchacha20(bytes(range(32)), bytes(16))
read_store.hchacha20 = hchacha20


def aead_open(key, nonce, ad, sealed):
    try:
        return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, ad, nonce, key)
    except (nacl.exceptions.CryptoError, ValueError):
        raise Damage("tag") from None


def box_keys(key, person):
    both = blake(512, key, person, b"")
    return both[:32], both[32:]


def box_open(raw, at, key, person):
    """A box that begins at `at`, with what stands before it as associated data."""
    inner, commitment = box_keys(key, person)
    need(raw[at + 24:at + 56] == commitment, "commitment")
    return aead_open(inner, raw[at:at + 24], raw[:at], raw[at + 56:])


class Trees:
    """All trees of one client, of all times: what any of them gives."""

    def __init__(self):
        self.trees = []
        self.known = {}

    def add(self, raw):
        if raw not in [t for t, _ in self.trees]:
            self.trees.append((raw, read_store.Tree(raw)))

    def node(self, tree, nodes, index):
        """The leaf, by way of the upper nodes that are known already."""
        for depth, prefix, node in nodes:
            if depth and index >> 64 - depth != prefix >> 64 - depth:
                continue
            for at in range(depth, 64):
                place = tree, at, index >> 63 - at
                if place not in self.known:
                    self.known[place] = hchacha20(node, b"coffer-tree1" + struct.pack("<I", index >> 63 - at & 1))
                node = self.known[place]
            return node
        return None

    def keys(self, index, use):
        seen = set()
        for i, (_, tree) in enumerate(self.trees):
            leaf = self.node(i, tree.nodes, index)
            if leaf and leaf not in seen:
                seen.add(leaf)
                yield hchacha20(leaf, b"coffer-tree1" + struct.pack("<I", 256 + use))


class One:
    """One key out of many, in the place of a tree: what read_store asks."""

    def __init__(self, key):
        self.tree, self.value = self, key

    def key(self, index, use):
        return self.value


class Loot(read_store.File):
    def read_place(self, parent_place, entry):
        pass


class Adversary:
    def __init__(self):
        self.roots, self.clients, self.secrets = {}, set(), []
        self.rings, self.tree_files, self.stores, self.ledgers = [], [], [], []
        self.trees = collections.defaultdict(Trees)
        self.entries = collections.defaultdict(set)
        self.contents, self.found, self.names, self.links, self.paths, self.keys = {}, {}, set(), set(), set(), set()

    # -- what there is --
    def copy(self, top):
        for root, _, names in os.walk(top):
            for name in names:
                path = os.path.join(root, name)
                if name.startswith("ring."):
                    self.rings.append(read(path))
                elif name.endswith(".tree"):
                    self.tree_files.append(read(path))
                elif name == "ledger.db":
                    self.ledgers.append(path)
            if os.path.basename(root) == "store":
                self.stores.append(root)

    def slot(self, folder, passphrases):
        raw = read(os.path.join(folder, "root.slot"))
        key = read(os.path.join(folder, "root.key")) if os.path.exists(os.path.join(folder, "root.key")) else None
        for at in range(0, len(raw) - 4095, 4096):
            half = raw[at:at + 4096]
            if half[:10] != b"COFRSLOT\2\0":
                continue
            protectors = [key] if key else []
            passes, memory, salt = struct.unpack_from("<QQ16s", half, 16)
            if 0 < passes <= 64 and memory <= 1 << 32:
                protectors += [nacl.bindings.crypto_pwhash_alg(32, p.encode(), salt, passes, memory, 2) for p in passphrases]
            for p in protectors:
                try:
                    secret = box_open(half[:360], 256, p, b"coffer-wrap-slot")
                    plain = nacl.bindings.crypto_box_seal_open(half[368:456], half[48:80], secret)
                    self.roots[plain[8:]] = "slot"
                except (Damage, nacl.exceptions.CryptoError):
                    pass

    def recovery(self, path, passphrases):
        """The secret of a recovery key."""
        text = "".join(line for line in read(path).decode().splitlines(True) if not line.startswith("#") and line.strip())
        lines = dict(line.split(" ", 1) for line in text.splitlines())
        need(lines["coffer-recovery-key"] == "1", "version")
        public = unbase64(lines["public"][len("coffer-recovery1"):])
        need(blake(256, b"", b"coffer-recovery1", public[:32])[:4] == public[32:], "checksum")
        if "secret" in lines:
            secrets = [bytes.fromhex(lines["secret"])]
        else:
            kind, passes, memory, salt = lines["kdf"].split()
            need(kind == "argon2id", "kdf")
            head = text[:text.index("sealed ")].encode()
            protectors = [nacl.bindings.crypto_pwhash_alg(32, p.encode(), bytes.fromhex(salt), int(passes), int(memory), 2)
                          for p in passphrases]
            secrets = [box_open(head + bytes.fromhex(lines["sealed"]), len(head), p, b"coffer-wrap-rkey") for p in protectors]
        self.secrets += [(public[:32], secret) for secret in secrets]

    def held(self, folder):
        """Copies of root keys, each for one of the recovery keys."""
        for name in sorted(os.listdir(folder)):
            raw = read(os.path.join(folder, name))
            if raw[:8] != b"COFRRCPY":
                continue
            need(len(raw) == 208 and raw[176:] == blake(256, b"", b"", raw[:176]), "copy")
            for public, secret in self.secrets:
                if raw[40:72] == public:
                    inside = nacl.bindings.crypto_box_seal_open(raw[72:176], public, secret)
                    need(inside[:16] == raw[24:40] and inside[16:24] == raw[16:24], "inside")
                    self.roots[inside[24:]] = "recovery"

    def memory(self, path):
        """Each 32 bytes that look random, at each multiple of 8."""
        rings = {r[64:96] for r in self.rings}
        trees = {t[64:96] for t in self.tree_files}
        raw = read(path)
        words = struct.unpack(f"<{len(raw) // 8}Q", raw[:len(raw) // 8 * 8])
        dull = [w >> 40 == 0 or w & 0xffffff == 0 for w in words]
        for i in range(len(words) - 3):
            if dull[i] or dull[i + 1] or dull[i + 2] or dull[i + 3]:
                continue
            key = raw[8 * i:8 * i + 32]
            if box_keys(key, b"coffer-wrap-ring")[1] in rings:
                self.roots[key] = "memory"
            if box_keys(key, b"coffer-wrap-tree")[1] in trees:
                self.clients.add(key)

    # -- what opens --
    def open_keys(self):
        opened = 0
        for ring in self.rings:
            for root in self.roots:
                try:
                    plain = box_open(ring, 40, root, b"coffer-wrap-ring")
                except Damage:
                    continue
                opened += 1
                clients = struct.unpack_from("<I", ring, 32)[0]  # behind them: slots
                self.clients |= {plain[at + 24:at + 56] for at in range(32, 32 + 56 * clients, 56)}
        for raw in self.tree_files:
            for key in self.clients:
                try:
                    self.trees[raw[16:32].hex()].add(box_open(raw, 40, key, b"coffer-wrap-tree"))
                except Damage:
                    pass
        return opened

    def file(self, client, path, names):
        raw = read(path)
        what = hashlib.sha256(raw).digest()
        if what not in self.contents:
            self.contents[what] = self.file_content(client, path, raw)
        got = self.contents[what]
        if got:
            key = client, got["id"], got["sha256"]
            self.found.setdefault(key, {**got, "client": client, "names": set()})["names"] |= set(names)

    def file_content(self, client, path, raw):
        if len(raw) < 4096 or raw[:8] != b"COFFER\r\n":
            return None
        for key in self.trees[client].keys(struct.unpack_from("<Q", raw, 32)[0], read_store.WRAP):
            f = Loot.__new__(Loot)
            f.path, f.raw, f.size, f.content = path, raw, 0, b""
            try:
                f.read_header(One(key))
            except Damage:
                continue
            self.keys.add((client, f.id))
            try:
                f.read_sectors()
                attributes = read_store.read_attributes(path, blake(512, f.key, b"coffer-file-xatt", b""), f.id)
            except Damage:
                continue
            return {"id": f.id.hex(), "sha256": hashlib.sha256(f.content).hexdigest(), "size": f.size,
                    "attributes": attributes}
        return None

    def name_keys(self, client, path):
        for which in (".id", ".id+"):
            try:
                raw = unbase64(os.readlink(os.path.join(path, which)))
                yield from self.trees[client].keys(struct.unpack_from("<Q", raw)[0], NAME)
            except (OSError, Damage, ValueError, struct.error):
                pass

    def name(self, path, entry, keys):
        try:
            sealed = unbase64(os.readlink(os.path.join(path, ".n" + entry[1:])) if entry[0] == "+" else entry)
        except (OSError, Damage, ValueError):
            return
        for key in keys:
            try:
                yield read_store.siv_open(key, sealed).decode("utf-8", "surrogateescape")
            except Damage:
                pass

    def link(self, client, path):
        try:
            text = os.readlink(path)
            if text.startswith("="):
                text = read(os.path.join(os.path.dirname(path), text.split(":")[1])).decode()
            raw = unbase64(text)
            for key in self.trees[client].keys(struct.unpack_from("<Q", raw)[0], read_store.LINK):
                self.links.add(read_store.siv_open(key, raw[8:]).decode("utf-8", "surrogateescape"))
        except (OSError, Damage, ValueError, struct.error):
            pass

    def walk(self, client, top):
        for path, folders, files in os.walk(top):
            keys = list(self.name_keys(client, path))
            for entry in folders + files:
                full, names = os.path.join(path, entry), []
                if not entry.startswith("."):
                    names = list(self.name(path, entry, keys))
                    self.names |= {(client, n) for n in names}
                if os.path.islink(full) and not entry.startswith("."):
                    self.link(client, full)
                elif entry in files and os.path.isfile(full) and not os.path.islink(full):
                    self.file(client, full, names)

    def ledger(self, path):
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        for client, month, sealed in db.execute("SELECT j.client_id, p.month, p.sealed FROM path p JOIN journal j ON p.journal = j.id"):
            client = client.hex() if isinstance(client, bytes) else client
            for key in self.trees[client].keys(1 << 48 | month << 32, AUDIT):
                try:
                    self.paths.add((client, read_store.siv_open(key, sealed).decode("utf-8", "surrogateescape")))
                except Damage:
                    pass
        db.close()

    def loot(self):
        opened = self.open_keys()
        for store in self.stores:
            for client in sorted(os.listdir(store)):
                if len(client) == 32:
                    self.walk(client, os.path.join(store, client))
        for path in self.ledgers:
            self.ledger(path)
        return {"roots": sorted(collections.Counter(self.roots.values()).items()), "rings": opened,
                "trees": {c: len(t.trees) for c, t in self.trees.items() if t.trees}, "content_keys": len(self.keys),
                "files": [{**f, "names": sorted(f["names"])} for f in self.found.values()],
                "names": sorted(self.names), "links": sorted(self.links), "paths": sorted(self.paths)}


def read(path):
    with open(path, "rb") as f:
        return f.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--slot", "--recovery", "--held", "--memory", "--passphrase"):
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("copies", nargs="+")
    args = parser.parse_args()
    a = Adversary()
    for path in args.copies:
        a.copy(path)
    for folder in args.slot:
        a.slot(folder, args.passphrase)
    for path in args.recovery:
        a.recovery(path, args.passphrase)
    for folder in args.held:
        a.held(folder)
    for path in args.memory:
        a.memory(path)
    json.dump(a.loot(), sys.stdout)


if __name__ == "__main__":
    main()
