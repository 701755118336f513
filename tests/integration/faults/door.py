"""Passes connections on: ``door.py HOST PORT TARGET_PORT``. When it is killed, its clients' connections end."""

import socket
import sys
import threading
import time
from contextlib import suppress


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def main(host: str, port: int, target: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", target)).close()
            break
        except OSError:
            time.sleep(0.1)
    with socket.create_server((host, port), reuse_port=True) as listener:
        print("open", flush=True)
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", target))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
