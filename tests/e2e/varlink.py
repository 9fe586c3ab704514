"""A client that says what it likes: for tests, and (its text) for programs that run as a user."""
import json
import socket


class Connection:
    def __init__(self, path):
        self.sock, self.rest = socket.socket(socket.AF_UNIX), b""
        self.sock.settimeout(60)
        self.sock.connect(path)

    def send(self, method, parameters):
        self.sock.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")

    def receive(self):
        while b"\0" not in self.rest:
            data = self.sock.recv(1 << 20)
            if not data:
                raise EOFError
            self.rest += data
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.send(method, parameters)
        return self.receive()
