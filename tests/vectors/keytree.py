#!/usr/bin/python3
"""Makes keytree.json: known answers for common/keytree.c, from a computation of its own.

Written from the table in doc/format-keys.md, with nothing but the standard library.
Usage: tests/vectors/keytree.py > tests/vectors/keytree.json
"""
import json
import struct
import sys

MASK = 0xffffffff


def rotl(v, n):
    return ((v << n) | (v >> (32 - n))) & MASK


def quarter(s, a, b, c, d):
    for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = (s[x] + s[y]) & MASK
        s[z] = rotl(s[z] ^ s[x], n)


def hchacha20(key, data):
    s = list(struct.unpack('<16I', b'expand 32-byte k' + key + data))
    for _ in range(10):
        for column in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            quarter(s, *column)
        for diagonal in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(s, *diagonal)
    return struct.pack('<8I', *s[0:4], *s[12:16])


def step(node, n):
    return hchacha20(node, b'coffer-tree1' + struct.pack('<I', n))


def leaf(root, index):
    node = root
    for depth in range(64):
        node = step(node, index >> (63 - depth) & 1)
    return node


# draft-irtf-cfrg-xchacha, 2.2.1: this HChaCha20 is the right one
assert hchacha20(bytes(range(32)), bytes.fromhex('000000090000004a0000000031415927')).hex() == \
    '82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc'

ROOTS = [bytes(range(32)), bytes(32), bytes([255] * 32)]
LEAVES = [(0, 0, 0), (65535, 65535, 0xffffffff), (16, 2518, 77), (1, 2496, 0), (16, 2518, 0x12345678), (0, 1, 2)]

if __name__ == '__main__':
    json.dump([{'root': root.hex(), 'class': c, 'day': d, 'number': n, 'use': use,
                'key': step(leaf(root, c << 48 | d << 32 | n), 256 + use).hex()}
               for root in ROOTS for c, d, n in LEAVES for use in range(1, 6)],
              sys.stdout, indent=1)
    print()
