#!/usr/bin/python3
"""Prints the known answer of tests/unit/test_pathseal.c, from a computation of its own."""
import hashlib
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from keytree import hchacha20, quarter, MASK  # noqa: E402


def chacha20_block(key, counter, nonce8):
    start = list(struct.unpack('<16I', b'expand 32-byte k' + key + struct.pack('<Q', counter) + nonce8))
    s = list(start)
    for _ in range(10):
        for q in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                  (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(s, *q)
    return struct.pack('<16I', *((a + b) & MASK for a, b in zip(s, start)))


key, ad, text = bytes([1, 2, 3]) + bytes(29), b'ad', b'hello'
subkeys = hashlib.blake2b(key=key, person=b'coffer-pathseal1').digest()
nonce = hashlib.blake2b(struct.pack('<Q', len(ad)) + ad + text, key=subkeys[:32], digest_size=24).digest()
stream = chacha20_block(hchacha20(subkeys[32:], nonce[:16]), 0, nonce[16:])
print((nonce + bytes(a ^ b for a, b in zip(text, stream))).hex())
