#!/usr/bin/python3
"""Reads a client's store with nothing but doc/FORMAT.md and the key tree: one JSON object a line.

usage: read_store.py STORE TREE

STORE is the client's folder, TREE a file with the serialised key tree in hex.  Written from the page, not from the
code, so that the page is known to be enough.  Exit status 1 if anything is damaged."""
import base64
import hashlib
import json
import os
import stat
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

WRAP, NAME, PLACE, LINK = 1, 2, 3, 5
SECTOR, DATA = 4096, 4032
HOLES, LINKED = 1, 2


class Damage(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Damage(what)


def unbase64(text):
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    need(base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text, "base64url")
    return raw


def blake(bits, key, person, message, salt=b""):
    return hashlib.blake2b(message, key=key, digest_size=bits // 8, person=person, salt=salt).digest()


def hchacha20(key, nonce):
    def rotate(v, n):
        return (v << n | v >> 32 - n) & 0xFFFFFFFF

    def quarter(a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & 0xFFFFFFFF
            s[z] = rotate(s[z] ^ s[x], n)

    s = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))
    for _ in range(10):
        for q in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                  (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*q)
    return struct.pack("<8I", *(s[:4] + s[12:]))


def aead_open(key, nonce, ad, sealed):
    inner = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    try:
        return inner.decrypt(bytes(4) + nonce[16:], sealed, ad)
    except InvalidTag:
        raise Damage("tag") from None


def siv_open(key, sealed):
    need(len(sealed) > 24, "short")
    keys = blake(512, key, b"coffer-pathseal1", b"")
    nonce, cipher = sealed[:24], sealed[24:]
    stream = Cipher(algorithms.ChaCha20(hchacha20(keys[32:], nonce[:16]), bytes(8) + nonce[16:]), None)
    text = stream.decryptor().update(cipher)
    need(blake(192, keys[:32], b"", bytes(8) + text) == nonce, "synthetic nonce")
    return text


class Tree:
    def __init__(self, raw):
        count = struct.unpack_from("<I", raw, 4)[0]
        need(raw[0] == 1 and len(raw) == 8 + 41 * count, "key tree")
        self.nodes = [(raw[at], struct.unpack_from("<Q", raw, at + 1)[0], raw[at + 9:at + 41])
                      for at in range(8, len(raw), 41)]

    def key(self, index, use):
        for depth, prefix, node in self.nodes:
            if depth == 0 or index >> 64 - depth == prefix >> 64 - depth:
                for at in range(depth, 64):
                    node = hchacha20(node, b"coffer-tree1" + struct.pack("<I", index >> 63 - at & 1))
                return hchacha20(node, b"coffer-tree1" + struct.pack("<I", 256 + use))
        raise Damage("destroyed")


class File:
    def __init__(self, store, path, parent_place, entry):
        self.path = path
        self.size, self.content = 0, b""
        with open(path, "rb") as f:
            self.raw = f.read()
        self.attributes = {}
        if not self.raw:
            return
        need(len(self.raw) >= SECTOR, "header")
        self.read_header(store)
        self.read_place(parent_place, entry)
        self.read_sectors()
        keys = blake(512, self.key, b"coffer-file-xatt", b"")
        self.attributes = read_attributes(path, keys, self.id)

    def read_header(self, store):
        h = self.raw[:SECTOR]
        need(h[:8] == b"COFFER\r\n" and h[8] == 1 and h[10:16] == b"\1\1" + bytes(4), "header")
        need(h[9] in (1, 2) and not any(h[144:512]) and not any(h[1536:]), "header")
        self.suite, self.id = h[9], h[16:32]
        wrap = blake(512, store.tree.key(struct.unpack_from("<Q", h, 32)[0], WRAP), b"coffer-file-wrap", b"")
        need(wrap[32:] == h[64:96], "commitment")
        self.key = aead_open(wrap[:32], h[40:64], h[:40], h[96:144])
        key = blake(256, self.key, b"coffer-file-recs", b"")
        best = (0,)
        for parity in (0, 1):
            r = h[512 + 512 * parity:1024 + 512 * parity]
            rec = struct.unpack_from("<QQIHH", r)
            good = blake(256, key, b"", self.id + r[:32]) == r[32:64] and not any(r[64:])
            if good and rec[0] & 1 == parity and rec[2] & ~3 == 0:
                best = max(best, rec)
        need(best[0] > 0, "records")
        _, self.floor, self.flags, self.origin_day, self.origin_class = best

    def read_place(self, parent_place, entry):
        if self.flags & LINKED:
            return
        mac = blake(128, parent_place, b"coffer-place-fil", self.id + entry.encode())
        try:
            value = os.getxattr(self.path, "user.coffer.place")
        except OSError:
            raise Damage("place") from None
        need(len(value) == 33 and value[0] == 1 and mac in (value[1:17], value[17:33]), "place")

    def sector(self, i):
        s = self.raw[SECTOR * (1 + i):SECTOR * (2 + i)]
        n = struct.unpack_from("<H", s, 24)[0]
        need(1 <= n <= DATA and not any(s[26:32]) and not any(s[48:64]) and not any(s[64 + n:]), "sector")
        subkey = blake(256, self.key, b"coffer-file-sect", b"", s[:16])
        ad = struct.pack("<BBHIQ", 1, self.suite, n, 0, i) + self.id
        sealed = s[64:64 + n] + s[32:48]
        if self.suite == 2:
            return aead_open(subkey, s[16:24] + bytes(16), ad, sealed)
        try:
            return AESGCM(subkey).decrypt(s[16:24] + bytes(4), sealed, ad)
        except InvalidTag:
            raise Damage("sector") from None

    def read_sectors(self):
        count = len(self.raw) // SECTOR - 1
        while count and not any(self.raw[SECTOR * count:SECTOR * (count + 1)]):
            count -= 1
        parts = []
        for i in range(count):
            if not any(self.raw[SECTOR * (1 + i):SECTOR * (2 + i)]):
                need(self.flags & HOLES, "hole")
                parts.append(bytes(DATA))
            else:
                part = self.sector(i)
                parts.append(part if i == count - 1 else part.ljust(DATA, b"\0"))
        self.content = b"".join(parts)
        self.size = len(self.content)
        need(self.size >= self.floor, "size")


def read_attributes(path, keys, owner):
    found = {}
    for stored in os.listxattr(path):
        if stored.startswith("user.coffer.x."):
            name = siv_open(keys[:32], unbase64(stored[14:])).decode("utf-8", "surrogateescape")
            value = os.getxattr(path, stored)
            found[name] = aead_open(keys[32:], value[:24], owner + stored.encode(), value[24:]).hex()
    return found


class Directory:
    def __init__(self, store, path, parent_place, entry):
        self.store, self.path = store, path
        for which in (".id", ".id+"):
            try:
                raw = unbase64(os.readlink(os.path.join(path, which)))
            except OSError:
                continue
            leaf = struct.unpack_from("<Q", raw)[0]
            self.place = store.tree.key(leaf, PLACE)
            mac = blake(128, parent_place or self.place, b"coffer-place-dir", raw[:16] + entry.encode())
            if len(raw) == 32 and leaf >> 48 == 0 and raw[16:] == mac:
                self.id, self.names = raw[:16], store.tree.key(leaf, NAME)
                return
        raise Damage("directory")

    def name(self, entry):
        if not entry.startswith("+"):
            return siv_open(self.names, unbase64(entry))
        sealed = unbase64(os.readlink(os.path.join(self.path, ".n" + entry[1:])))
        mark = base64.urlsafe_b64encode(blake(256, self.names, b"coffer-long-name", sealed)).rstrip(b"=")
        need("+" + mark.decode() == entry, "long name")
        return siv_open(self.names, sealed)

    def link(self, path):
        text = os.readlink(path)
        if text.startswith("="):
            length, side = text[1:].split(":")
            with open(os.path.join(self.path, side), encoding="ascii") as f:
                text = f.read()
        raw = unbase64(text)
        return siv_open(self.store.tree.key(struct.unpack_from("<Q", raw)[0], LINK), raw[8:])


class Store:
    def __init__(self, path, tree):
        self.tree = Tree(tree)
        self.damaged = 0
        self.walk(Directory(self, path, None, ""), "")

    def say(self, path, **what):
        print(json.dumps({"path": path, **what}, sort_keys=True))

    def entry(self, d, entry, below):
        path = os.path.join(d.path, entry)
        name = below + d.name(entry).decode("utf-8", "surrogateescape")
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            sub = Directory(self, path, d.place, entry)
            keys = blake(512, sub.names, b"coffer-dirs-xatt", b"")
            self.say(name, kind="directory", attributes=read_attributes(path, keys, sub.id))
            self.walk(sub, name + "/")
        elif stat.S_ISLNK(mode):
            self.say(name, kind="symlink", target=d.link(path).decode("utf-8", "surrogateescape"))
        elif stat.S_ISREG(mode):
            f = File(self, path, d.place, entry)
            self.say(name, kind="file", size=f.size, sha256=hashlib.sha256(f.content).hexdigest(),
                     attributes=f.attributes)
        else:
            self.say(name, kind="special")

    def walk(self, d, below):
        for entry in sorted(os.listdir(d.path)):
            if entry.startswith("."):
                continue
            try:
                self.entry(d, entry, below)
            except (Damage, OSError, ValueError) as e:
                self.damaged += 1
                self.say(below + entry, kind="damaged", what=str(e))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[2], encoding="ascii") as f:
        tree = bytes.fromhex(f.read())
    sys.exit(1 if Store(sys.argv[1], tree).damaged else 0)


if __name__ == "__main__":
    main()
