"""Writes a file as a C array: embed.py INPUT OUTPUT (the default policy is part of the program)."""
import sys

with open(sys.argv[1], "rb") as source:
    data = source.read()
with open(sys.argv[2], "w", encoding="ascii") as header:
    header.write("static const unsigned char builtin_policy[] = {\n")
    for at in range(0, len(data), 16):
        header.write("\t" + " ".join(f"{byte}," for byte in data[at:at + 16]) + "\n")
    header.write("};\n")
